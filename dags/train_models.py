"""train_models: five families on the newest validated rows, compared in MLflow, the winner registered as challenger."""

from airflow.sdk import TriggerRule, dag, get_current_context, task

from riskwatch_airflow.assets import CANDIDATE_MODEL, RETRAIN_REQUEST
from riskwatch_airflow.wiring import COMMON, moments_or

# The names in ml.families.FAMILIES, which a DAG file cannot import: it brings scikit-learn with it.
FAMILIES = ["kmeans", "kmedoids", "dbscan", "hierarchical", "ensemble"]

DOC = """
### Train models

**Owner**: riskwatch. **Reads** `validated/` (the newest `history_days`), `config/inventory.json`.
**Writes** `training/<id>/rows.parquet`, `candidates/<id>/<family>.zip` with figures beside it, one MLflow run per
training with a child per family, and the winner as a registered version with the alias `challenger`.
**Announces** `candidate_model`. Runs daily, and when `retrain_request` asks for it.

A family that fails does not stop the others.

**When it fails**
- *no rows to train on*: run or backfill `export_metrics`.
- *no family may serve*: every candidate was vetoed; the description of the training in MLflow lists the reasons.
- a single `train` task: its log names the rows or metric that the family could not use.
"""


@dag(
    schedule=moments_or("train_models", RETRAIN_REQUEST),
    tags=["riskwatch", "model"],
    doc_md=DOC,
    **COMMON,
)
def train_models() -> None:
    """Wire prepare, one train per family and choose."""

    @task
    def prepare() -> dict:
        from riskwatch_airflow.tasks import train as body

        return body.prepare(get_current_context())

    # Two at a time: a family on 28 days of a fleet takes a core and up to a gigabyte.
    @task(map_index_template="{{ family }}", max_active_tis_per_dagrun=2)
    def train(training: dict, family: str) -> dict:
        from riskwatch_airflow.tasks import train as body

        get_current_context()["family"] = family
        return body.train(training, family)

    @task(outlets=[CANDIDATE_MODEL], trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS)
    def choose(training: dict, trained: list[dict]) -> dict:
        from riskwatch_airflow.tasks import train as body

        return body.choose(get_current_context(), training, trained)

    training = prepare()
    choose(training, train.partial(training=training).expand(family=FAMILIES))


train_models()
