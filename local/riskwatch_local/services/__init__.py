"""The processes of a local system: embedded AWS, MLflow and Airflow."""
