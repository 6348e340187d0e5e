"""What Riskwatch adds to Airflow: a CloudWatch metrics hook, assets, schedules and the bodies of the tasks."""
