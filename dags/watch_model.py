"""watch_model: compare the live model's labels with its training, hour by hour."""

from datetime import timedelta

from airflow.sdk import Param, dag, get_current_context, task

from riskwatch_airflow.assets import RETRAIN_REQUEST
from riskwatch_airflow.wiring import ALONE, common, heartbeat, moments

# A killed compaction goes on where it was, and the report of the hour still has its time.
LONGEST_COMPACTION = timedelta(minutes=30)

DOC = """
### Watch model

**Owner**: riskwatch. **Reads** `labelled/arrived/`, the episodes in DynamoDB, the artifact that the alias serves.
**Writes** `labelled/rows/` (one row per instance and time; the first verdict counts) and a report under `watch/`.
**Updates the asset** `retrain_request`, which starts `train_models`, in three cases. First, if two of the last three
reports, including the newest, show that the mix of levels moved away from the training; this happens at most once a day
for all models of a kind together. Second, at once and for all kinds with the parameter `retrain`. Third, for a refresh
of the champion, once for each episode that has been open for `new_normal_hours`: the refresh learns it as the new
normal of its instance. A model with rows for less than 20 hours of the day is not evaluated.

With several kinds of resource, each part of the model is measured by itself. The report has the first kind at its top
level and the others under `kinds`; a request names the kinds that it concerns.

`measure` also compares alias, MLflow and ledger. An alias on the placeholder goes back to the model that the ledger
names. Any other disagreement is a finding of the report, and so is a model that labelled no row of the last 24 hours,
unless no instance of its kind reports and another kind has rows.

**When it is skipped**: no model is in service yet (`measure`), or no retrain is requested (`request_retrain`).

**When it fails**
- *artifact of the champion*: the artifact was deleted; restore it from the object versions of the bucket, or promote
  another model.
- `compact` can be cleared at any time: it recognises its earlier work. `measure` writes the report of its run again.
"""


@dag(
    schedule=moments("watch_model"),
    params={"retrain": Param(False, type="boolean", title="retrain", description="request a training now")},
    tags=["riskwatch", "model"],
    doc_md=DOC,
    **common(timedelta(hours=1)),
)
def watch_model() -> None:
    """Wire compact, measure, request_retrain and the heartbeat."""

    @task(execution_timeout=LONGEST_COMPACTION, **ALONE)
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
