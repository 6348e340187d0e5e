"""train_models: a refresh of the champion or a contest of five families, compared and registered in MLflow."""

from datetime import timedelta

from airflow.sdk import Param, TriggerRule, dag, get_current_context, task

from riskwatch_airflow.assets import CANDIDATE_MODEL, RETRAIN_REQUEST
from riskwatch_airflow.wiring import ALONE, common, heartbeat, moments_or

LONGEST, LONGEST_RUN = timedelta(hours=4), timedelta(hours=6)

DOC = """
### Train models

**Owner**: riskwatch. **Reads** `validated/` (the newest `history_days`), `config/inventory.json`, the champion's
artifact, the newest document under `contests/`.
**Writes** `training/<id>/rows.parquet`, `candidates/<id>/<family>.zip` with figures beside it, one MLflow run per
training with a child per family, `contests/<id>.json` after a contest, and what should serve next as a registered
version with the alias `challenger`. **Announces** `candidate_model`. Runs daily, and when `retrain_request` asks.

Of a history that does not fit into 4.5 GB of a `train` task `prepare` leaves whole days out, evenly and for every
instance others; its log and the parameter `left_out` in MLflow say how much.

A **refresh** fits the champion's family and settings to the newest rows: that is the daily run. A **contest** fits all
five families: weekly, on a retrain request, where there is no champion, with the param `contest`, or where the champion
cannot be refreshed (the catalogue names other metrics, another version packed it). A challenger takes over after three
contests won in a row, at once where there is no champion or one that cannot go on. A champion that the guards veto
takes part with settings chosen anew, and its win is a change that waits for an approval like any other. Which of both a
run was, and why, is in the log of `prepare` and `choose` and on the training in MLflow. A family that fails does not
stop the others; where it is the champion's, what serves stays.

Wins count against the champion that serves and in a row: a contest without a clear lead starts them anew, and so does
an approval that nobody gave. With promotion `off` or `dry_run` there is no champion, so every daily run is a contest of
five families: pause this DAG where nothing shall ever be promoted.

**When it fails**
- *no rows to train on*: run or backfill `export_metrics`; a scheduled run is skipped until there are rows.
- *no family was trained* or *the champion failed to train*: memory or storage; the logs of the `train` tasks say which,
  the parameter `memory_gb` of the training in MLflow how much memory each takes, about.
- *no family may serve*: every candidate was vetoed; the description of the training in MLflow lists the reasons. A
  vetoed refresh does not fail: `choose` skips and `request_contest` asks for a contest at once.
- *the artifact of the champion is gone*: restore it from the bucket's versions, or promote another model.
- a single `train` task: its log names the rows or metric that the family could not use.
"""


@dag(
    schedule=moments_or("train_models", RETRAIN_REQUEST),
    tags=["riskwatch", "model"],
    doc_md=DOC,
    params={"contest": Param(False, type="boolean", title="contest", description="Fit all families, not the champion")},
    **common(LONGEST_RUN),
)
def train_models() -> None:
    """Wire prepare, one train per family, choose, the request for a contest after a vetoed refresh, the heartbeat."""

    @task(**ALONE)
    def prepare() -> dict:
        from riskwatch_airflow.tasks import train as body

        return body.prepare(get_current_context())

    @task
    def contestants(training: dict) -> list[str]:
        return training["families"]

    # Two at a time: a family takes a core and, by `python -m bench.fit`, half a gigabyte for a million rows of ten
    # metrics (28 days of 120 instances), at most 4.5 GB: `prepare` leaves days out of a longer history.
    @task(map_index_template="{{ family }}", max_active_tis_per_dag=2, execution_timeout=LONGEST)
    def train(training: dict, family: str) -> dict:
        from riskwatch_airflow.tasks import train as body

        get_current_context()["family"] = family
        return body.train(training, family)

    @task(outlets=[CANDIDATE_MODEL], trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS, **ALONE)
    def choose(training: dict, trained: list[dict]) -> dict:
        from riskwatch_airflow.tasks import choose as body

        return body.choose(get_current_context(), training, trained)

    @task(outlets=[RETRAIN_REQUEST], trigger_rule=TriggerRule.NONE_FAILED)
    def request_contest() -> dict:
        from riskwatch_airflow.tasks import choose as body

        return body.request(get_current_context())

    training = prepare()
    trained = train.partial(training=training).expand(family=contestants(training))
    chosen, requested = choose(training, trained), request_contest()
    chosen >> requested
    [chosen, requested] >> heartbeat()


train_models()
