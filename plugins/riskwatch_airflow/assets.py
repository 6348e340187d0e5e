"""The assets that link the DAGs: what one DAG makes and another one waits for."""

from airflow.sdk import Asset

VALIDATED_METRICS = Asset(name="validated_metrics", uri="riskwatch://validated_metrics/")
CANDIDATE_MODEL = Asset(name="candidate_model", uri="riskwatch://candidate_model/")
LIVE_MODEL = Asset(name="live_model", uri="riskwatch://live_model/")
RETRAIN_REQUEST = Asset(name="retrain_request", uri="riskwatch://retrain_request/")
