"""promote_model: puts a challenger into service, by itself or after an approval."""

from datetime import timedelta

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import TriggerRule, dag, get_current_context, task

from riskwatch_airflow.assets import CANDIDATE_MODEL, LIVE_MODEL
from riskwatch_airflow.wiring import common

# Shorter than the daily training: an approval that nobody gives does not hold up the next challenger.
RESPONSE_TIMEOUT = timedelta(hours=20)

DOC = """
### Promote model

**Owner**: riskwatch. **Reads** the challenger in MLflow, its artifact under `candidates/`.
**Writes** a published version of the function, the alias `live`, `artifacts/<digest>.zip`, the alias `champion` in
MLflow, one entry under `ledger/`. **Announces** `live_model`. Runs when `candidate_model` is announced.

The setting `promotion` decides: `off` does nothing, `dry_run` records what would happen, `approval` waits for Approve
under *Required Actions* (Reject after 20 hours), `auto` releases at once. A refresh of the champion, with its family
and settings, needs no approval in either of the last two, unless it would change the level of more than a tenth of the
rows, or the model it refreshes was replaced meanwhile: then it waits for one in both.

**When it fails**
- *failed its self-test*: the alias has not moved; train again.
- *somebody else changed the function*: the alias is where the other one put it; read `ledger/`, then clear `release`.
- *the object was changed*: the artifact is not the one that was approved; train again.
- a step after the move of the alias: the alias went back, unless the version was in service before; clear `release`.

**To go back** to an earlier model, move the alias `challenger` of the model in MLflow to its version and trigger this
DAG. Where that takes too long, point the alias `live` of the function to the `previous_version` that the newest entry
under `ledger/` names (`aws lambda update-alias`) first: MLflow and the ledger do not notice that by themselves.
"""
SUBJECT = "Promote {{ ti.xcom_pull(task_ids='decide', key='candidate')['family'] }} to live?"
BODY = """
{% set c = ti.xcom_pull(task_ids='decide', key='candidate') %}
Version [{{ c['version'] }}]({{ c['link'] }}), family **{{ c['family'] }}**, training {{ c['training_id'] }},
digest `{{ c['digest'][:12] }}`, replaces {{ 'version ' ~ c['replaces']['version'] if c['replaces'] else 'nothing' }}.

{{ c['kind'] | capitalize }}: {{ c['why'] }}{{ '. Asks because ' ~ c['ask'] if c['ask'] else '' }}.

| figure | value |
|---|---|
{% for name, value in c['figures'].items() | sort %}| {{ name }} | {{ value }} |
{% endfor %}
"""


@dag(
    schedule=[CANDIDATE_MODEL],
    tags=["riskwatch", "model"],
    doc_md=DOC,
    # Two releases at once would undo each other, and an older approval must not come after a newer release.
    **common(RESPONSE_TIMEOUT + timedelta(hours=2), runs=1),
)
def promote_model() -> None:
    """Wire the decision, the approval and the release."""

    @task.branch
    def decide() -> str:
        from riskwatch_airflow.tasks import promote

        return promote.decide(get_current_context())

    approval = ApprovalOperator(
        task_id="approval",
        subject=SUBJECT,
        body=BODY,
        defaults="Reject",
        response_timeout=RESPONSE_TIMEOUT,
        execution_timeout=None,
    )

    @task(outlets=[LIVE_MODEL], trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)
    def release() -> dict:
        from riskwatch_airflow.tasks import promote

        return promote.put_live(get_current_context())

    decision, released = decide(), release()
    decision >> approval >> released
    decision >> released


promote_model()
