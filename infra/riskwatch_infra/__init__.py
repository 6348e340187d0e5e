"""AWS side: the CloudFormation template and its deployment.

Both serve an AWS account and the embedded AWS.
"""
