"""The model registry (MLflow), and the release of an artifact into service."""
