"""Metrics from CloudWatch and from CSV files."""
