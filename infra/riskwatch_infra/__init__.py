"""The AWS side: one CloudFormation template and its deployment, for an account and for the embedded AWS alike."""
