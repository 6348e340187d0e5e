"""Inference function: decode records, score them, follow episodes, notify.

Every artifact contains this package beside the model that it serves. The package uses the standard library and boto3
and imports no other package of the project, so an approval of an artifact covers all the code that runs.
"""
