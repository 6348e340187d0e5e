"""watch_model: what the live model says, hour by hour, against what it learned from."""

from datetime import timedelta

from airflow.sdk import Param, dag, get_current_context, task

from riskwatch_airflow.assets import RETRAIN_REQUEST
from riskwatch_airflow.wiring import ALONE, common, heartbeat, moments

DOC = """
### Watch model

**Owner**: riskwatch. **Reads** `labelled/arrived/`, the episodes in DynamoDB, the champion's artifact.
**Writes** `labelled/rows/` (one row per instance and time, the first verdict stands) and a report under `watch/`.
**Announces** `retrain_request`, which starts `train_models`: when two of the last three reports, the newest among
them, show that the mix of levels moved away from the training, at most once a day whatever models served; or at once
with the parameter `retrain`. A model whose rows do not yet cover 20 hours of the day is not judged.

**When it is skipped**: no model is in service yet (`measure`), or no retrain is asked for (`request_retrain`).

**When it fails**
- *artifact of the champion*: it was deleted; restore it from the bucket's versions or promote another model.
- `compact` can be cleared at any time: it finds what it has done already. `measure` writes the report of its run again.
"""


@dag(
    schedule=moments("watch_model"),
    params={"retrain": Param(False, type="boolean", title="retrain", description="ask for a training now")},
    tags=["riskwatch", "model"],
    doc_md=DOC,
    **common(timedelta(hours=1)),
)
def watch_model() -> None:
    """Wire compaction, report, request and the heartbeat."""

    @task(**ALONE)
    def compact() -> dict:
        from riskwatch_airflow.tasks import watch

        return watch.compact()

    @task
    def measure() -> dict:
        from riskwatch_airflow.tasks import watch

        return watch.measure(get_current_context())

    @task(outlets=[RETRAIN_REQUEST])
    def request_retrain(report: dict) -> dict:
        from riskwatch_airflow.tasks import watch

        return watch.request(get_current_context(), report)

    report = measure()
    compact() >> report
    [report, request_retrain(report)] >> heartbeat()


watch_model()
