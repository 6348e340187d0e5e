"""The processes of the demo: embedded AWS, MLflow, Airflow."""
