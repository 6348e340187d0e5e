"""Self-test event: score golden and given records, without side effects."""

from __future__ import annotations

from collections.abc import Mapping
from math import isclose
from typing import TYPE_CHECKING, Any

from riskwatch_lambda.model.document import SCHEMA, Model
from riskwatch_lambda.model.row_schema import RecordError
from riskwatch_lambda.scoring.labelled_row import labelled_row, rounded_score
from riskwatch_lambda.scoring.records import parse
from riskwatch_lambda.scoring.scorer import Verdict, score

if TYPE_CHECKING:
    from typing import TypedDict

    from riskwatch_lambda.scoring.labelled_row import LabelledRow

    class GoldenResult(TypedDict):
        """Number of golden records, and of those that this code labels differently."""

        rows: int
        differences: int

    class Refusal(TypedDict):
        """Reason for which a record would be quarantined."""

        reason: str

    class PartAnswer(TypedDict):
        """Facts of the part of the model for one kind."""

        model_id: str
        features: list[str]
        context_rows: int
        max_gap_s: int
        period_s: int

    class SelfTestAnswer(PartAnswer):
        """Facts of the model, result of its golden records, and labels.

        The facts are those of the first part, ``resource_kind`` is its kind, None if it has no name. ``kinds`` has the
        facts of the other parts by kind. ``golden`` counts the records of all parts. There is one label per record of
        the request.
        """

        schema: str
        family: str
        resource_kind: str | None
        kinds: dict[str, PartAnswer]
        golden: GoldenResult
        labels: list[LabelledRow | Refusal]


# Two implementations of one sum may round the sixth decimal differently; all else must be equal.
SCORE_TOLERANCE = 2e-6


class SelfTestError(ValueError):
    """The content of a self-test event is invalid."""


def run(request: object, model: Model, model_version: str) -> SelfTestAnswer:
    """Answer a self-test with facts of the model, golden differences and labels.

    The request is ``{}`` or ``{"records": [...]}``. ``labels`` has one labelled row per record, or ``{"reason": text}``
    for a record that would be quarantined. Episodes are not read, so no row is an alert. Raises SelfTestError for
    another request.
    """
    records = request.get("records", []) if isinstance(request, Mapping) else None
    if not isinstance(records, list):
        raise SelfTestError('selftest must be {} or {"records": [...]}')
    parts = model.parts.values()
    return {
        **_facts(model),
        "schema": SCHEMA,
        "family": model.family,
        "resource_kind": model.resource_kind or None,
        "kinds": {kind: _facts(part) for kind, part in model.parts.items() if part is not model},
        "golden": {
            "rows": sum(len(part.golden) for part in parts),
            "differences": sum(golden_differences(part) for part in parts),
        },
        "labels": [_label(model, record, model_version) for record in records],
    }


def _facts(part: Model) -> PartAnswer:
    return {
        "model_id": part.model_id,
        "features": list(part.row_schema.features),
        "context_rows": part.row_schema.context_rows,
        "max_gap_s": part.max_gap_s,
        "period_s": part.period_s,
    }


def golden_differences(model: Model) -> int:
    """Return how many golden records of one part this code and the training label differently."""
    return sum(not _agrees(model, record, expected) for record, expected in model.golden)


def _agrees(model: Model, document: object, expected: Mapping[str, Any]) -> bool:
    try:
        verdict = score(model, parse(document, model.row_schema))
    except RecordError:
        return False
    is_same = verdict.level == expected.get("level") and verdict.unusual == expected.get("unusual")
    return is_same and _same_score(verdict, expected.get("score"))


def _same_score(verdict: Verdict, expected: float | None) -> bool:
    rounded = rounded_score(verdict.score)
    if rounded is None or expected is None:
        return rounded is expected
    return isclose(rounded, expected, rel_tol=SCORE_TOLERANCE, abs_tol=SCORE_TOLERANCE)


def _label(model: Model, document: object, model_version: str) -> LabelledRow | Refusal:
    try:
        record = parse(document, model.row_schema, model.further_schemas)
    except RecordError as error:
        return {"reason": str(error)}
    part = model.parts[record.resource_kind]
    verdict = score(part, record)
    return labelled_row(record, verdict, part.row_schema.features, model_id=part.model_id, model_version=model_version)
