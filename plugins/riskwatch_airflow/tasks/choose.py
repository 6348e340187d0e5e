"""Tasks choose and request of train_models: what serves next, and the contest that follows a vetoed refresh."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from riskwatch_airflow import clients
from riskwatch_airflow.assets import CANDIDATE_MODEL, RETRAIN_REQUEST
from riskwatch_airflow.tasks.train import finite
from riskwatch_ml.core import clock, settings
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from riskwatch_ml.selection.contest import Contest, Decision
    from riskwatch_ml.storage.bucket import Store

AGAIN = "again"  # XCom of choose: why a contest must follow this refresh

_log = logging.getLogger(__name__)


def choose(
    context: Mapping[str, Any], training: Mapping[str, Any], trained: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Decide what serves next by the policy of `selection.contest`, register it as challenger and announce it.

    A family that failed to train does not take part. Fails for good where none may serve, with every veto in MLflow,
    and where the champion's own family failed to train: what serves stays. Skips where the guards veto a refresh, and
    leaves the reason for `request`: a contest must follow.
    """
    from riskwatch_ml.registry import mlflow_registry
    from riskwatch_ml.selection import guards
    from riskwatch_ml.selection import ranking as selection_ranking
    from riskwatch_ml.selection.contest import Contest

    config = settings.load()
    store = clients.store(config)
    by_family = {item["family"]: store.get_json(item["key"]) for item in trained if item}
    figures = {family: _figures(summary) for family, summary in by_family.items()}
    if not figures:
        raise AirflowFailException("no family was trained: the logs of the tasks train say why; what serves stays")
    given_up = next(filter(None, (summary.get("given_up", "") for summary in by_family.values())), "")
    try:
        choice = selection_ranking.choose(figures)
    except selection_ranking.SelectionError as error:
        vetoed = [_row(by_family[family], guards.vetoes(figures[family])) for family in by_family]
        mlflow_registry.close_training(config, training["run_id"], vetoed, why=str(error))
        if training["kind"] == "contest":
            _decide(store, training, Contest(figures, None, given_up=given_up))
            raise AirflowFailException(str(error)) from error
        if training["in_vain"]:
            raise AirflowSkipException(f"what serves stays, and the last contest was in vain: {error}") from error
        context["ti"].xcom_push(key=AGAIN, value=f"the guards vetoed the refresh of the champion: {error}")
        raise AirflowSkipException(f"what serves stays, and a contest follows: {error}") from error
    decision = _decide(store, training, Contest(figures, choice, given_up=given_up))
    if decision.family not in by_family:
        raise AirflowFailException(f"{decision.why}: see the log of its task train, and trigger again with contest")
    ranking = [_row(by_family[family], []) for family in choice.ranking]
    ranking += [_row(by_family[family], why) for family, why in choice.vetoes.items()]
    for place, row in enumerate(ranking, 1):
        _log.info("%d. %s %s", place, row["family"], "; ".join(row["vetoes"]) or row["figures"])
    _log.info("%s: %s", decision.kind, decision.why)
    told = {**asdict(decision), "ask": _ask(decision, figures)}
    store.put_json(keys.ranking(training["training_id"]), finite({"ranking": ranking, **told}))
    winner = next(row for row in ranking if row["family"] == decision.family)
    zip_bytes = store.get_bytes(winner["s3_key"])
    if zip_bytes is None:
        raise AirflowFailException(
            f"s3://{config.bucket}/{winner['s3_key']} is gone: clear the tasks train to write it again"
        )
    version = mlflow_registry.register(
        config,
        training["run_id"],
        training["training_id"],
        ranking=ranking,
        winner={**winner, **told, "refreshes": _refreshes(training, decision)},
        zip_bytes=zip_bytes,
    )
    announced = {
        "training_id": training["training_id"],
        "family": winner["family"],
        "version": version,
        "digest": winner["digest"],
        "key": winner["s3_key"],
        "kind": decision.kind,
        "why": decision.why,
    }
    context["outlet_events"][CANDIDATE_MODEL].extra.update(announced)
    return announced


def request(context: Mapping[str, Any]) -> dict[str, Any]:
    """Announce a retrain request where the refresh was vetoed, which holds a contest at once; skip otherwise."""
    reason = context["ti"].xcom_pull(task_ids="choose", key=AGAIN)
    if not reason:
        raise AirflowSkipException("no contest must follow")
    told = {"reason": reason}
    context["outlet_events"][RETRAIN_REQUEST].extra.update(told)
    return told


def _decide(store: Store, training: Mapping[str, Any], contest: Contest) -> Decision:
    """A refresh that passed the guards serves; a contest is settled against the wins so far, and recorded."""
    from riskwatch_ml.selection import contest_log
    from riskwatch_ml.selection.contest import REFRESH, Decision, Policy

    family = training["champion"]["family"] if training["champion"] else None
    if training["kind"] == REFRESH:
        return Decision(family, REFRESH, training["why"])
    policy = Policy(family, dict(training["wins"]))
    decision = policy.settle(contest)
    contest_log.write(
        store,
        training["training_id"],
        dag_run=training["dag_run"],
        at=clock.parse(training["at"]),
        champion=policy.champion,
        wins=policy.wins,
        decision=asdict(decision),
    )
    return Decision(decision.family, decision.kind, f"Contest ({training['why']}): {decision.why}")


def _ask(decision: Decision, figures: Mapping[str, Mapping[str, float]]) -> str:
    """Why even a refresh waits for an approval; empty where it does not."""
    from riskwatch_ml.selection.contest import MOST_CHURN, REFRESH

    churn = figures[str(decision.family)].get("label_churn", float("nan"))
    if decision.kind != REFRESH or churn <= MOST_CHURN:
        return ""
    if churn != churn:
        return "nobody could tell how many rows would change their level"
    return f"{churn:.1%} of the rows would change their level, more than {MOST_CHURN:.0%}"


def _refreshes(training: Mapping[str, Any], decision: Decision) -> str:
    """The digest of the model that this one refreshes; empty for a change."""
    from riskwatch_ml.selection.contest import REFRESH

    return training["champion"]["digest"] if decision.kind == REFRESH else ""


def _figures(summary: Mapping[str, Any]) -> dict[str, float]:
    return {name: float("nan") if value is None else value for name, value in summary["figures"].items()}


def _row(summary: Mapping[str, Any], vetoes: Sequence[str]) -> dict[str, Any]:
    figures = {name: value for name, value in summary["figures"].items() if value is not None}
    return {**summary, "figures": figures, "vetoes": list(vetoes)}
