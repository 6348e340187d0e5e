"""Labelled row: the stored form of a verdict, which all downstream readers use.

Only this module rounds floats: scores to 6 decimals, numbers of reasons to 4 significant digits or more.
"""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING, cast

from riskwatch_lambda.clock import iso
from riskwatch_lambda.scoring.reasons import VALUE

if TYPE_CHECKING:
    from typing import NotRequired, TypedDict

    from riskwatch_lambda.scoring.reasons import Reason
    from riskwatch_lambda.scoring.records import Record
    from riskwatch_lambda.scoring.scorer import Verdict

    class ReasonDocument(TypedDict):
        """A reason as a JSON object, with numbers in catalogue units: ``value`` lies outside of ``low`` to ``high``.

        ``share`` is the part of the metric in the whole deviation, ``direction`` is up or down. With ``aspect``
        (change, mean or deviation) the three numbers are not those of the value but of its change since the row
        before, or of its mean or deviation over ``rows`` rows. In rows of earlier releases the value may be missing or
        lie within its range.
        """

        feature: str
        value: float | None
        low: float
        high: float
        share: float
        direction: str
        aspect: NotRequired[str]
        rows: NotRequired[int]

    class RefusedValueDocument(TypedDict):
        """An impossible value as a JSON object, in catalogue units, with the reason of its refusal."""

        feature: str
        value: float
        reason: str

    class LabelledRow(TypedDict):
        """A labelled row.

        It also has one key per feature of the model, with a number or None. ``timestamp`` and ``arrived`` are ISO 8601
        text in UTC. ``score`` is None without enough rows before it. ``missing`` are the features without a value,
        those of ``refused_values`` included: the verdict says nothing about them. Rows of earlier releases have neither
        key. ``resource_kind`` is None, or absent in rows of earlier releases, for the first kind of the installation.
        """

        instance_id: str
        service: str
        role: str
        resource_kind: str | None
        timestamp: str
        score: float | None
        level: str
        risk: str
        unusual: bool
        alert: bool
        episode_id: str | None
        context: bool
        model_id: str
        model_version: str
        reasons: list[ReasonDocument]
        missing: list[str]
        refused_values: list[RefusedValueDocument]
        arrived: str | None


CRITICAL = "Critical"
RISKS = ("Idle", "Normal", "High Load", CRITICAL)


def rounded_score(score: float) -> float | None:
    """Return a score rounded for output, None for NaN."""
    return None if isnan(score) else round(score, 6)


def risk_of(level: str, episode_id: str | None) -> str:
    """Return the risk of a row: Critical in an open episode, else its level."""
    return level if episode_id is None else CRITICAL


def reason_document(reason: Reason) -> ReasonDocument:
    """Return a reason as a JSON object with rounded numbers."""
    value, low, high = _apart(reason.value, reason.low, reason.high)
    document: ReasonDocument = {
        "feature": reason.feature,
        "value": value,
        "low": low,
        "high": high,
        "share": significant(reason.share),
        "direction": reason.direction,
    }
    if reason.aspect != VALUE:
        document["aspect"] = reason.aspect
    if reason.rows:
        document["rows"] = reason.rows
    return document


def _apart(value: float, low: float, high: float) -> tuple[float, float, float]:
    """Return the numbers of a reason with four significant digits, or with so many that the value stays outside."""
    for digits in (4, 6, 9):
        rounded, at_least, at_most = (float(f"{number:.{digits}g}") for number in (value, low, high))
        if not at_least <= rounded <= at_most:
            return rounded, at_least, at_most
    return value, low, high


def labelled_row(
    record: Record,
    verdict: Verdict,
    features: tuple[str, ...],
    *,
    model_id: str,
    model_version: str,
    episode_id: str | None = None,
    arrived_ms: int | None = None,
) -> LabelledRow:
    """Return the labelled row of a record's newest row.

    ``episode_id`` is None if the row is no alert.
    """
    row = {
        "instance_id": record.instance_id,
        "service": record.service,
        "role": record.role,
        "resource_kind": record.resource_kind or None,
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
        "missing": list(verdict.missing),
        "refused_values": [value._asdict() for value in record.refused_values.get(record.ts[-1], ())],
        "arrived": None if arrived_ms is None else iso(arrived_ms),
    }
    return cast("LabelledRow", row)


def significant(value: float) -> float:
    """Return a number rounded to four significant digits."""
    return float(f"{value:.4g}")
