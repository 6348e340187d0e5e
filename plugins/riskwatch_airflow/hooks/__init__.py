"""Airflow hooks that read CloudWatch metrics."""
