"""The labelled row: a verdict in the form in which it is stored and read by everything downstream.

Floats are rounded here and nowhere before: scores to 6 decimals, the numbers of reasons to 4 significant ones.
"""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING, Any

from riskwatch_lambda.clock import iso

if TYPE_CHECKING:
    from riskwatch_lambda.scoring.records import Record
    from riskwatch_lambda.scoring.scorer import Reason, Verdict

CRITICAL = "Critical"
RISKS = ("Idle", "Normal", "High Load", CRITICAL)


def rounded_score(score: float) -> float | None:
    """Round a score for output; None where there is none."""
    return None if isnan(score) else round(score, 6)


def risk_of(level: str, episode_id: str | None) -> str:
    """Give the risk of a row: Critical where it lies in an open episode, else its level."""
    return level if episode_id is None else CRITICAL


def reason_document(reason: Reason) -> dict[str, Any]:
    """Give a reason as a JSON object with rounded numbers."""
    return {
        "feature": reason.feature,
        "value": None if reason.value is None else significant(reason.value),
        "low": significant(reason.low),
        "high": significant(reason.high),
        "share": significant(reason.share),
        "direction": reason.direction,
    }


def labelled_row(
    record: Record,
    verdict: Verdict,
    features: tuple[str, ...],
    *,
    model_id: str,
    model_version: str,
    episode_id: str | None = None,
    arrived_ms: int | None = None,
) -> dict[str, Any]:
    """Give the labelled row of a record's newest row; ``episode_id`` is None where the row is no alert."""
    return {
        "instance_id": record.instance_id,
        "service": record.service,
        "role": record.role,
        "timestamp": iso(record.ts[-1]),
        **dict(zip(features, record.rows[-1], strict=True)),
        "score": rounded_score(verdict.score),
        "level": verdict.level,
        "risk": risk_of(verdict.level, episode_id),
        "unusual": verdict.unusual,
        "alert": episode_id is not None,
        "episode_id": episode_id,
        "context": verdict.context,
        "model_id": model_id,
        "model_version": model_version,
        "reasons": [reason_document(reason) for reason in verdict.reasons],
        "arrived": None if arrived_ms is None else iso(arrived_ms),
    }


def significant(value: float) -> float:
    """Round a number to four significant digits, for people."""
    return float(f"{value:.4g}")
