"""The bucket: partitions of rows and documents."""
