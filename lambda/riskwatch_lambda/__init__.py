"""The inference function: decodes stream records, scores them, follows episodes and writes verdicts.

The package travels in every artifact next to the model it serves. It needs the standard library and boto3, and imports
no other package of the project, so that the code which was approved is all the code which runs.
"""
