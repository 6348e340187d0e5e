"""The S3 bucket: keys, hourly tables, labelled rows, known instances."""
