"""Tasks choose and request of train_models: what serves next, and the contest that follows a vetoed refresh."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, cast

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from riskwatch_airflow import agreement, clients, last_day
from riskwatch_airflow.assets import CANDIDATE_MODEL, RETRAIN_REQUEST, announce
from riskwatch_airflow.tasks.train import finite
from riskwatch_ml.core import clock, settings
from riskwatch_ml.schema import catalogue
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from riskwatch_airflow.handoff import RetrainRequest
    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.selection.contest import Contest, Decision
    from riskwatch_ml.selection.handoff import (
        CandidateSummary,
        Challenger,
        LastDayEntry,
        RankedCandidate,
        RankingDocument,
        TrainedFamily,
        TrainingPlan,
        Winner,
    )
    from riskwatch_ml.selection.ranking import Choice, SelectionError
    from riskwatch_ml.storage.bucket import Store

AGAIN = "again"  # XCom of choose: why a contest must follow this refresh

_log = logging.getLogger(__name__)


def choose(context: Context, training: TrainingPlan, trained: Sequence[Sequence[TrainedFamily] | None]) -> Challenger:
    """Decide what serves next by the policy of `selection.contest`, and register it as challenger of its kind.

    `trained` has the families of each task; a task that failed is None or absent, and so is a family that failed. They
    do not take part.

    Raises AirflowSkipException if the guards veto a refresh; the reason is left for `request`, because a contest must
    follow. Raises AirflowFailException if no family may serve, with every veto in MLflow, or if the champion's own
    family failed to train. What serves stays in both cases. Raises DisagreementError, before anything is registered, if
    alias, MLflow and ledger have come to disagree during the training.
    """
    from riskwatch_ml.selection import ranking
    from riskwatch_ml.selection.contest import Contest

    config = settings.load()
    store = clients.store(config)
    agreement.required(config, store)
    candidates = [candidate for group in trained if group for candidate in group]
    summaries: dict[str, CandidateSummary] = {item["family"]: store.get_json(item["key"]) for item in candidates}
    figures = {family: _figures(summary) for family, summary in summaries.items()}
    if not figures:
        raise AirflowFailException("no family was trained: the logs of the tasks train say why; what serves stays")
    unusable_because = next(filter(None, (summary.get("given_up", "") for summary in summaries.values())), "")
    try:
        choice = ranking.choose(figures)
    except ranking.SelectionError as error:
        _close_without_winner(config, training, summaries, error)
        if training["kind"] == "contest":
            _decide(store, training, Contest(figures, None, unusable_because=unusable_because))
            raise AirflowFailException(str(error)) from error
        if training["in_vain"]:
            raise AirflowSkipException(
                f"what serves stays, and no contest follows: the guards vetoed every family of the last one ({error})"
            ) from error
        context["ti"].xcom_push(key=AGAIN, value=f"the guards vetoed the refresh of the champion: {error}")
        raise AirflowSkipException(f"what serves stays, and a contest follows: {error}") from error
    decision = _decide(store, training, Contest(figures, choice, unusable_because=unusable_because))
    return _register(config, store, training, _ranked(choice, summaries), decision)


def tell(context: Context, challengers: Sequence[Challenger | None]) -> None:
    """Announce the challengers of all kinds with one event, so that one run of promote_model decides on them.

    A kind without a challenger is None or absent. Raises AirflowSkipException if no kind has one.
    """
    chosen = [challenger for challenger in challengers if challenger]
    if not chosen:
        raise AirflowSkipException("no kind has a new challenger")
    announce(context, CANDIDATE_MODEL, {"challengers": chosen})


def request(context: Context, kind: str, first: str) -> RetrainRequest:
    """Announce a retrain request for a kind if its refresh was vetoed, which starts a contest at once; skip otherwise.

    `first` is the first kind, the tasks of which are in no group.
    """
    reason = context["ti"].xcom_pull(task_ids="choose" if kind == first else f"{kind}.choose", key=AGAIN)
    if not reason:
        raise AirflowSkipException("no contest must follow")
    retrain_request: RetrainRequest = {"reason": reason, "resource_kinds": [kind]}
    announce(context, RETRAIN_REQUEST, retrain_request)
    return retrain_request


def _close_without_winner(
    config: Settings, training: TrainingPlan, summaries: Mapping[str, CandidateSummary], error: SelectionError
) -> None:
    """Close the training in MLflow with the vetoes of each family."""
    from riskwatch_ml.registry import mlflow_registry
    from riskwatch_ml.selection import guards

    vetoed = [_row(summary, guards.vetoes(_figures(summary))) for summary in summaries.values()]
    mlflow_registry.close_training(config, training["run_id"], vetoed, why=str(error))


def _decide(store: Store, training: TrainingPlan, contest: Contest) -> Decision:
    """Return the decision: a refresh that passed the guards serves, a contest counts the wins so far.

    A contest is recorded.
    """
    from riskwatch_ml.selection import contest_log
    from riskwatch_ml.selection.contest import REFRESH, Decision, Policy

    family = training["champion"]["family"] if training["champion"] else None
    if training["kind"] == REFRESH:
        return Decision(family, REFRESH, training["why"])
    policy = Policy(family, dict(training["wins"]))
    decision = policy.decide(contest)
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


def _ranked(choice: Choice, summaries: Mapping[str, CandidateSummary]) -> list[RankedCandidate]:
    """Return the candidates, best first, then those with vetoes."""
    rows = [_row(summaries[family], []) for family in choice.ranking]
    rows += [_row(summaries[family], reasons) for family, reasons in choice.vetoes.items()]
    for number, row in enumerate(rows, 1):
        _log.info("%d. %s %s", number, row["family"], "; ".join(row["vetoes"]) or row["figures"])
    return rows


def _chosen(
    config: Settings, store: Store, ranked: Sequence[RankedCandidate], decision: Decision
) -> tuple[RankedCandidate, bytes]:
    """Return the candidate of the decision and its artifact; fail if it did not train, or its artifact is gone."""
    row = next((row for row in ranked if row["family"] == decision.family), None)
    if row is None:
        raise AirflowFailException(f"{decision.why}: see the log of its task train, and trigger again with contest")
    _log.info("%s: %s", decision.kind, decision.why)
    zip_bytes = store.get_bytes(row["s3_key"])
    if zip_bytes is None:
        raise AirflowFailException(
            f"s3://{config.bucket}/{row['s3_key']} is gone: clear the tasks train to write it again"
        )
    return row, zip_bytes


def _register(
    config: Settings, store: Store, training: TrainingPlan, ranked: list[RankedCandidate], decision: Decision
) -> Challenger:
    """Write the ranking, register the family of the decision as challenger and return it."""
    from riskwatch_ml.registry import mlflow_registry

    row, zip_bytes = _chosen(config, store, ranked, decision)
    changes, comparison = last_day.compared(config, store, training, zip_bytes)
    ask = "; ".join(filter(None, (_ask(decision, row["figures"]), changes)))
    document: RankingDocument = {
        "ranking": ranked,
        "family": decision.family,
        "kind": decision.kind,
        "why": decision.why,
        "ask": ask,
        "last_day": None if comparison is None else cast("LastDayEntry", asdict(comparison)),
    }
    store.put_json(keys.ranking(training["training_id"]), finite(document))
    winner: Winner = {
        **row,
        "kind": decision.kind,
        "why": decision.why,
        "refreshes": _refreshes(training, decision),
        "ask": ask,
    }
    metrics = catalogue.of_kind(training.get("resource_kind", ""), catalogue.load_all(config.catalogue))
    version = mlflow_registry.register(
        *(config, training["run_id"], training["training_id"]),
        ranking=ranked,
        winner=winner,
        zip_bytes=zip_bytes,
        metrics=metrics,
    )
    return {
        "resource_kind": metrics.kind,
        "training_id": training["training_id"],
        "family": winner["family"],
        "version": version,
        "digest": winner["digest"],
        "key": winner["s3_key"],
        "kind": decision.kind,
        "why": decision.why,
    }


def _ask(decision: Decision, figures: Mapping[str, float]) -> str:
    """Return why even a refresh waits for an approval because of its levels, or an empty text if it does not."""
    from riskwatch_ml.selection.contest import MAX_CHURN, REFRESH

    churn = figures.get("label_churn")
    if decision.kind != REFRESH or (churn is not None and churn <= MAX_CHURN):
        return ""
    if churn is None:
        return "the share of rows that would change their level is unknown"
    return f"{churn:.1%} of the rows would change their level, more than {MAX_CHURN:.0%}"


def _refreshes(training: TrainingPlan, decision: Decision) -> str:
    """Return the id of the model that this one refreshes, or an empty text for a change.

    A champion of an earlier release is known by its digest alone.
    """
    from riskwatch_ml.selection.contest import REFRESH

    champion = training["champion"]
    if champion is None or decision.kind != REFRESH:
        return ""
    return champion.get("model_id") or champion["digest"]


def _figures(summary: CandidateSummary) -> dict[str, float]:
    return {name: float("nan") if value is None else value for name, value in summary["figures"].items()}


def _row(summary: CandidateSummary, vetoes: Sequence[str]) -> RankedCandidate:
    figures = {name: value for name, value in summary["figures"].items() if value is not None}
    return {**summary, "figures": figures, "vetoes": list(vetoes)}
