"""Read metrics from CloudWatch and from CSV files."""
