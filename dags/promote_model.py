"""promote_model: put a challenger into service, automatically or after approval."""

from datetime import timedelta

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param, dag, get_current_context, task

from riskwatch_airflow.assets import CANDIDATE_MODEL, LIVE_MODEL
from riskwatch_airflow.wiring import ALONE, common, kinds, tasks_of

# Shorter than the period of the training: an unanswered approval does not delay the next challenger.
RESPONSE_TIMEOUT = timedelta(hours=20)
# Runs that may be active at a time; most of them wait for an approval.
RUNS = 16

DOC = """
### Promote model

**Owner**: riskwatch. **Reads** the challenger in MLflow and its artifact under `candidates/`.
**Writes** a published version of the Lambda function, the alias `live`, `artifacts/<checksum>.zip`, the alias
`champion` in MLflow, and one entry under `ledger/`. **Updates the asset** `live_model`. Runs when
`candidate_model` is updated.

The setting `promotion` decides: `off` does nothing, `dry_run` records what would happen, `approval` waits for Approve
under *Required Actions* (Airflow rejects after 20 hours), `auto` releases at once. With `approval` and `auto`, a
refresh of the champion (same family, same settings) needs no approval, with two exceptions: it would change the level
of more than a tenth of the rows, or another model has replaced the model that it refreshes. In these cases both wait
for an approval.

**Kinds of resources.** One artifact serves all kinds. A release puts the new parts of some kinds on those of the others
that serve, and tests all of them. The challengers that need no approval are released together, with `release`. Each of
the others waits for its own approval, with `approval` and `release_approved`, which are in a group with the name of the
kind for all kinds but the first. The first release of an installation takes all kinds together.

**What serves is one fact**: the alias, the champion in MLflow and the newest entry of the ledger must name the same
artifact. If they do not (the alias was moved by hand, the champion was moved in MLflow), `decide` and `train_models`
fail and change nothing, and one message goes to the operations topic. Trigger this DAG with the parameter `action`:
`confirm` makes what the alias serves the champion; `restore` moves the alias, and the champion, back to what the ledger
says. Both run the self-test first and write a ledger entry. An alias on the placeholder of the stack, while the ledger
names a model, is put back without a question.

**When it fails**
- *failed its self-test*: the alias has not moved; train again.
- *it has no baseline of ... instances*: the training lacked rows of instances that report; run `train_models`.
- *alias ... while the ledger says ...*, or *MLflow has ... as champion*: trigger with `action`, see above.
- *was decided on before this change*: another model, another alias or another `promotion` since. Trigger the DAG again.
- *another user changed the function*: the alias has the value of the other change; read `ledger/`.
- *the object was changed*: the artifact is not the approved one; train again.
- `complete`: the named challengers were refused, while those of other kinds were released.
- a step after the move of the alias: the alias was moved back, unless the version was in service before; clear
  `release`.

**To roll back** to an earlier model, move the alias `challenger` of the model in MLflow to its model version and
trigger this DAG. For one further kind alone, move `challenger-<kind>` to a candidate of it. If that takes too long,
point the alias `live` of the function to the `previous_version` in the newest entry under `ledger/` (`aws lambda
update-alias`), then trigger this DAG with `action` = `confirm`. No refresh undoes the change in between."""
# KIND stands for the kind of the bundle, SEVERAL for whether the installation has several kinds.
SUBJECT = """\
{% set bundle = ti.xcom_pull(task_ids='decide', key='bundle:KIND') -%}
Promote {% for c in bundle -%}
{{ c['family'] }}{{ ' (' ~ c['resource_kind'] ~ ')' if SEVERAL else '' }}{{ '' if loop.last else ', ' }}
{%- endfor %} to live?"""
BODY = """
{% for c in ti.xcom_pull(task_ids='decide', key='bundle:KIND') %}
Model version [{{ c['version'] }}]({{ c['link'] }}), family **{{ c['family'] }}**, training {{ c['training_id'] }},
checksum `{{ c['digest'][:12] }}`,
replaces {{ 'model version ' ~ c['replaces']['version'] if c['replaces'] else 'nothing' }}.

{{ c['kind'] | capitalize }}: {{ c['why'] }}{{ '. It needs an approval because ' ~ c['ask'] if c['ask'] else '' }}.

| figure | value |
|---|---|
{% for name, value in c['figures'].items() | sort %}| {{ name }} | {{ value }} |
{% endfor %}
{% endfor %}
"""


@dag(
    schedule=[CANDIDATE_MODEL],
    tags=["riskwatch", "model"],
    doc_md=DOC,
    params={
        "action": Param(
            "promote",
            enum=["promote", "confirm", "restore"],
            title="action",
            description="promote the challenger; or end a disagreement: confirm the alias, restore the ledger",
        )
    },
    # A run that waits for an approval must not delay the others. A release checks that what it replaces still serves,
    # so an older approval never undoes a newer release.
    **common(RESPONSE_TIMEOUT + timedelta(hours=2), runs=RUNS),
)
def promote_model() -> None:
    """Wire the decision, the release, the approvals with their releases, and the settlement."""

    @task.branch
    def decide() -> str:
        from riskwatch_airflow.tasks import promote

        return promote.decide(get_current_context())

    @task(outlets=[LIVE_MODEL], **ALONE)
    def release() -> dict:
        from riskwatch_airflow.tasks import promote

        return promote.put_live(get_current_context())

    @task(outlets=[LIVE_MODEL])
    def settle() -> dict:
        from riskwatch_airflow.tasks import promote

        return promote.settle(get_current_context())

    @task
    def complete() -> None:
        from riskwatch_airflow.tasks import promote

        promote.complete(get_current_context())

    decision, names = decide(), kinds()
    decision >> [release(), settle()]
    for kind in names:
        with tasks_of(kind, names[0]):
            decision >> approved(kind, len(names) > 1)
    if len(names) > 1:
        decision >> complete()


def approved(kind: str, is_one_of_several: bool) -> ApprovalOperator:
    """Wire the approval of a kind's bundle and its release; return the approval."""
    subject, body = (text.replace("KIND", kind).replace("SEVERAL", str(is_one_of_several)) for text in (SUBJECT, BODY))
    approval = ApprovalOperator(
        task_id="approval",
        subject=subject,
        body=body,
        defaults="Reject",
        response_timeout=RESPONSE_TIMEOUT,
        execution_timeout=None,
    )

    @task(outlets=[LIVE_MODEL], **ALONE)
    def release_approved() -> dict:
        from riskwatch_airflow.tasks import promote

        return promote.put_live(get_current_context(), kind)

    approval >> release_approved()
    return approval


promote_model()
