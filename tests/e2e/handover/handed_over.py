"""A DAG whose tasks write down what Airflow hands them; `test_handover.py` runs it."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Asset, Param, TriggerRule, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

ASSET = Asset(name="announced", uri="riskwatch://announced/")


def note(name, **values):
    (Path(os.environ["AIRFLOW_HOME"]) / f"{name}.json").write_text(json.dumps(values))


@dag(schedule=None, start_date=datetime(2025, 1, 1, tzinfo=UTC), params={"start": Param(None, type=["null", "string"])})
def handed_over() -> None:
    """Wire a mapped task of which one fails, a task that pushes and skips, and an approval."""

    @task(retries=0)
    def fetch(shard):
        if shard == "bad":
            raise AirflowFailException("no")
        return {"shard": shard, "pair": (1, 2)}

    @task(trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS)
    def join(fetched):
        note("join", type=type(fetched).__name__, shards=[item["shard"] for item in fetched], length=len(fetched))

    @task(outlets=[ASSET])
    def choose():
        get_current_context()["ti"].xcom_push(key="again", value="why")
        raise AirflowSkipException("what serves stays")

    @task(trigger_rule=TriggerRule.NONE_FAILED, outlets=[ASSET])
    def request():
        context = get_current_context()
        run, events = context["dag_run"], context["triggering_asset_events"]
        context["outlet_events"][ASSET].extra.update(reason="why")
        pull = context["ti"].xcom_pull
        note(
            "request",
            again=pull(task_ids="choose", key="again"),
            nothing=pull(task_ids="choose"),
            params=[type(context["params"]).__name__, context["params"]],
            events=[type(events).__name__, len(events), list(events.get(ASSET, ()))],
            run=[type(run).__name__, str(run.run_type.value), repr(run.start_date.tzinfo)],
            interval=type(context["data_interval_start"]).__name__,
        )

    @task(trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)
    def release():
        answer = get_current_context()["ti"].xcom_pull(task_ids="approval")
        note("release", answer={**answer, "responded_at": type(answer["responded_at"]).__name__})

    join(fetch.expand(shard=["x", "bad", "y"]))
    choose() >> request()
    approval = ApprovalOperator(
        task_id="approval", subject="go?", defaults="Reject", response_timeout=timedelta(hours=1)
    )
    approval >> release()


found = handed_over()
