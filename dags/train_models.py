"""train_models: refresh the champion or run a contest of the five families."""

from datetime import timedelta

from airflow.sdk import Param, TriggerRule, dag, get_current_context, task

from riskwatch_airflow.assets import CANDIDATE_MODEL, RETRAIN_REQUEST
from riskwatch_airflow.wiring import ALONE, common, heartbeat, kinds, moments_or, tasks_of

LONGEST, LONGEST_RUN = timedelta(hours=4), timedelta(hours=6)
NAMES = kinds()

DOC = """
### Train models

**Owner**: riskwatch. Each kind of resource is trained on its own: the tasks of all kinds but the first are in a group
with the name of the kind. A kind with too few rows is skipped, and a kind that fails stops no other.

**Reads** `validated/` (the newest `history_days`), `config/inventory.json`, the artifact of the champion, the newest
document under `contests/`, the episodes in the table. **Writes** `training/<id>/rows.parquet`,
`candidates/<id>/<family>.zip` with its figures, one MLflow run per training with a child run per family,
`contests/<id>.json` after a contest, and the next model to serve as a registered model version with the alias
`challenger` (a further kind: `challenger-<kind>`). **Updates the asset** `candidate_model`. Runs daily, and when
`retrain_request` is updated.

If the history does not fit into the 4.5 GB of a `train` task, `prepare` omits whole days, evenly and different days for
each instance. It also omits the rows of open episodes, and learns an episode that is open for `new_normal_hours` as the
new normal of its instance. Its log and the parameter `left_out` in MLflow say how much it omits. `choose` labels the
last 24 hours with champion and candidate. If open episodes would close, or the number of episodes would change by half
and by more than five, the candidate waits for an approval.

A **refresh** fits the family and settings of the champion to the newest rows: this is the daily run. A **contest** fits
all five families. It runs weekly, on a retrain request, with the parameter `contest`, without a champion, or if the
champion cannot be refreshed (the catalogue has other metrics, or another version of Riskwatch packed it). A challenger
takes over after three contests won in a row, or at once if there is no champion that can continue. A champion that the
guards veto takes part with new settings; if it wins, that is a change and waits for an approval like any other. The
logs of `prepare` and `choose` and the training in MLflow say which kind a run was, and why. Families have a task each,
or one together if there are at most 5,000 rows. A family that fails does not stop the others; if it is the family of
the champion, the model in service stays.

Wins count against the champion in service and in a row: a contest without a clear lead resets them, and so does an
approval that is not given. With promotion `off` or `dry_run` there is no champion, so every daily run is a contest of
five families: pause this DAG if no model is ever to be promoted.

**When it fails**
- *alias ... while the ledger says ...*, or *MLflow has ... as champion* (`prepare`, `choose`): what serves is
  unclear, so nothing is refreshed or registered; trigger `promote_model` with `action` = `confirm` or `restore`.
- *no rows to train on*: run or backfill `export_metrics`; a scheduled run is skipped until there are rows.
- *all rows lie in open episodes*: nothing can be learned without learning the incident; the model in service stays.
- *no family was trained* or *the champion failed to train*: memory or storage. The logs of the `train` tasks say which;
  the parameter `memory_gb` of the training in MLflow is the approximate memory of each task.
- *no family may serve*: the guards vetoed every candidate; the description of the training in MLflow lists the reasons.
  A vetoed refresh does not fail: `choose` skips and `request_contest` requests a contest at once.
- *the artifact of the champion is gone*: restore it from the object versions of the bucket, or promote another model.
- a single `train` task: its log names the rows or the metric that the family could not use.
"""


@dag(
    schedule=moments_or("train_models", RETRAIN_REQUEST),
    tags=["riskwatch", "model"],
    doc_md=DOC,
    params={
        "contest": Param(False, type="boolean", title="contest", description="fit all families, not the champion alone")
    },
    # Two tasks at a time in a run, whatever their kind; see `train`.
    max_active_tasks=2,
    **common(LONGEST_RUN * len(NAMES)),
)
def train_models() -> None:
    """Wire the training of each kind, the announcement of the challengers and the heartbeat."""

    # One event for all kinds: a promotion then releases them together.
    @task(outlets=[CANDIDATE_MODEL], trigger_rule=TriggerRule.ALL_DONE)
    def announce(challengers: list[dict]) -> None:
        from riskwatch_airflow.tasks import choose

        choose.tell(get_current_context(), challengers)

    choices, requests = [], []
    for kind in NAMES:
        with tasks_of(kind, NAMES[0]):
            choice, requested = one_kind(kind)
        choices.append(choice)
        requests.append(requested)
    [*choices, *requests, announce(choices)] >> heartbeat()


def one_kind(kind: str) -> tuple:
    """Wire prepare, train (once per group of families), choose and request_contest of one kind; return the last two."""

    @task(**ALONE)
    def prepare() -> dict:
        from riskwatch_airflow.tasks import train

        return train.prepare(get_current_context(), kind)

    @task
    def contestants(training: dict) -> list[list[str]]:
        return training["groups"]

    # Two at a time in a run: a family uses one core and, as `python -m bench.fit` measures, half a gigabyte for a
    # million rows of ten metrics (28 days of 120 instances). 4.5 GB is the limit: `prepare` omits days of a longer
    # history.
    @task(map_index_template="{{ families }}", max_active_tis_per_dag=2, execution_timeout=LONGEST)
    def train(training: dict, group: list[str]) -> list[dict]:
        from riskwatch_airflow.tasks import train as train_task

        context = get_current_context()
        context["families"] = ", ".join(group)
        return train_task.train(context, training, group)

    @task(trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS, **ALONE)
    def choose(training: dict, trained: list[dict]) -> dict:
        from riskwatch_airflow.tasks import choose as choose_task

        return choose_task.choose(get_current_context(), training, trained)

    @task(outlets=[RETRAIN_REQUEST], trigger_rule=TriggerRule.NONE_FAILED)
    def request_contest() -> dict:
        from riskwatch_airflow.tasks import choose

        return choose.request(get_current_context(), kind, NAMES[0])

    training = prepare()
    trained = train.partial(training=training).expand(group=contestants(training))
    choice, requested = choose(training, trained), request_contest()
    choice >> requested
    return choice, requested


train_models()
