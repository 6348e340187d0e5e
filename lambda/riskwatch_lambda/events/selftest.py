"""The self-test: scores the model's golden records, and records sent along, and touches nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from math import isclose
from typing import Any

from riskwatch_lambda.model.document import SCHEMA, Model
from riskwatch_lambda.model.row_schema import RecordError
from riskwatch_lambda.scoring.labelled_row import labelled_row, rounded_score
from riskwatch_lambda.scoring.records import parse
from riskwatch_lambda.scoring.scorer import Verdict, score

# Two implementations of one sum may round the sixth decimal differently; nothing else may differ.
SCORE_TOLERANCE = 2e-6


class SelfTestError(ValueError):
    """The self-test event is not understood."""


def run(request: object, model: Model, model_version: str) -> dict[str, Any]:
    """Answer ``{}`` or ``{"records": [...]}`` with what the model is, its golden differences, and labels.

    ``labels`` has one labelled row a record sent, or ``{"reason": text}`` for a record that would be quarantined. No
    episodes are looked up, so no row is an alert. Raises SelfTestError for another request.
    """
    records = request.get("records", []) if isinstance(request, Mapping) else None
    if not isinstance(records, list):
        raise SelfTestError('selftest must be {} or {"records": [...]}')
    return {
        "model_id": model.model_id,
        "schema": SCHEMA,
        "family": model.family,
        "features": list(model.layout.features),
        "context_rows": model.layout.context_rows,
        "max_gap_s": model.max_gap_s,
        "period_s": model.period_s,
        "golden": {"rows": len(model.golden), "differences": golden_differences(model)},
        "labels": [_label(model, record, model_version) for record in records],
    }


def golden_differences(model: Model) -> int:
    """Count the golden records that this code labels otherwise than the training code did."""
    return sum(not _agrees(model, record, expected) for record, expected in model.golden)


def _agrees(model: Model, document: object, expected: Mapping[str, Any]) -> bool:
    try:
        verdict = score(model, parse(document, model.layout))
    except RecordError:
        return False
    same = verdict.level == expected.get("level") and verdict.unusual == expected.get("unusual")
    return same and _same_score(verdict, expected.get("score"))


def _same_score(verdict: Verdict, expected: float | None) -> bool:
    score_ = rounded_score(verdict.score)
    if score_ is None or expected is None:
        return score_ is expected
    return isclose(score_, expected, rel_tol=SCORE_TOLERANCE, abs_tol=SCORE_TOLERANCE)


def _label(model: Model, document: object, model_version: str) -> dict[str, Any]:
    try:
        record = parse(document, model.layout)
    except RecordError as error:
        return {"reason": str(error)}
    verdict = score(model, record)
    return labelled_row(record, verdict, model.layout.features, model_id=model.model_id, model_version=model_version)
