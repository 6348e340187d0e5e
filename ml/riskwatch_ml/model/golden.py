"""Golden records: stream records and their verdicts, packed with the model.

A new Lambda version must reproduce these verdicts before it may serve. So the records cover all kinds: ordinary and
unusual rows, a short context, missing values, instances known only by their role, and unknown instances. The artifact
must stay small with several kinds, so a kind of few instances has fewer records, and values have few digits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from riskwatch_lambda.scoring.record_form import ONE_ROW
from riskwatch_ml.features.table import MetricTable
from riskwatch_ml.model.explain import score_table
from riskwatch_ml.schema import inventory as fleet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from riskwatch_ml.core.arrays import BoolArray, FloatArray, IntArray
    from riskwatch_ml.model.document import Golden, GoldenVerdict, StreamRecord
    from riskwatch_ml.model.fleet_model import FleetModel
    from riskwatch_ml.schema.inventory import Instance

RECORDS = 12
RECORDS_OF_INSTANCE = 2
STRANGER = "golden-stranger"
VARIANTS = ("ordinary", "missing", "short", "role", "fleet")


def golden_records(
    model: FleetModel, table: MetricTable, score: FloatArray, inventory: Mapping[str, Instance], seed: int
) -> Golden:
    """Return records of training rows, and the verdict that each must get.

    There are two records for each instance, but at least one of each variant and at most 12. ``score`` (n,) are the
    scores of the rows. A third of the records have the highest scores; the others are drawn at random, alternating
    between the roles. The variants alternate over all records.
    """
    count = min(RECORDS, max(len(VARIANTS), RECORDS_OF_INSTANCE * len(table.instances)))
    usable = np.flatnonzero(_within(table.values, model.bounds))
    highest = usable[np.argsort(-score[usable], kind="stable")][: count // 3]
    rest = np.setdiff1d(usable, highest)
    rng = np.random.default_rng(seed)
    drawn = _in_turn(rng.permutation(rest), table, inventory)[: count - len(highest)]
    records = [
        _vary(_brief(record_of(table, int(row), model.context_rows, inventory)), VARIANTS[i % len(VARIANTS)], i)
        for i, row in enumerate([*highest, *np.sort(drawn)])
    ]
    return {"records": records, "expected": expected(model, records)}


def _in_turn(rows: IntArray, table: MetricTable, inventory: Mapping[str, Instance]) -> IntArray:
    """Sort rows so that every role has one before any role has two.

    Each role has a separate map.
    """
    roles = np.array([fleet.lookup(inventory, name).role for name in table.instances])[table.code[rows]]
    turn = np.empty(len(rows), np.int64)
    for role in np.unique(roles):
        turn[roles == role] = np.arange((roles == role).sum())
    return rows[np.argsort(turn, kind="stable")]


def expected(model: FleetModel, records: Sequence[StreamRecord]) -> list[GoldenVerdict]:
    """Return the verdict that the newest row of each record must get."""
    if not records:
        return []
    counts = [len(record["ts"]) for record in records]
    code = np.repeat(np.arange(len(records)), counts)
    ms = np.concatenate([record["ts"] for record in records]).astype(np.int64)
    values = np.array([[np.nan if v is None else v for v in row] for record in records for row in record["rows"]])
    gaps = np.diff(ms, prepend=ms[0]) > model.max_gap_s * 1000
    segment = np.cumsum((np.diff(code, prepend=0) != 0) | gaps)
    names = tuple(record["instance_id"] for record in records)
    table = MetricTable(model.features, names, code, ms, segment, values)
    index = [
        model.baselines.index([record["instance_id"]], {record["instance_id"]: record["role"]})[0] for record in records
    ]
    scored = score_table(model, table, np.array(index, np.int64)[code])
    return [
        {
            "score": round(float(scored.score[row]), 6),
            "level": model.level_names[scored.label[row]],
            "unusual": bool(scored.unusual[row]),
        }
        for row in np.cumsum(counts) - 1
    ]


def record_of(table: MetricTable, row: int, context_rows: int, inventory: Mapping[str, Instance]) -> StreamRecord:
    """Return the stream record with ``row`` as its newest row.

    It holds up to ``context_rows`` rows of the same segment.
    """
    first = row - min(int(table.position[row]), context_rows - 1)
    instance = fleet.lookup(inventory, table.instances[table.code[row]])
    rows = [[None if value != value else value for value in line] for line in table.values[first : row + 1].tolist()]
    return {
        "v": ONE_ROW,
        "service": instance.service,
        "role": instance.role,
        "instance_id": instance.instance_id,
        "ts": table.ms[first : row + 1].tolist(),
        "rows": rows,
    }


def _brief(record: StreamRecord) -> StreamRecord:
    """Return the record with four significant digits per value.

    This keeps the artifact small. The verdict is that of the rounded values.
    """
    rows = [[None if value is None else float(f"{value:.4g}") for value in row] for row in record["rows"]]
    return {**record, "rows": rows}


def _vary(record: StreamRecord, variant: str, number: int) -> StreamRecord:
    """Return the record as its variant changes it.

    ``number`` selects the value that a variant removes.
    """
    if variant == "missing":
        newest = list(record["rows"][-1])
        newest[number % len(newest)] = None
        return {**record, "rows": [*record["rows"][:-1], newest]}
    if variant == "short":
        return {**record, "ts": record["ts"][-1:], "rows": record["rows"][-1:]}
    if variant == "role":
        return {**record, "instance_id": STRANGER}
    if variant == "fleet":
        return {**record, "instance_id": STRANGER, "role": STRANGER}
    return record


def _within(values: FloatArray, bounds: FloatArray) -> BoolArray:
    """Return a mask of the rows without a value out of bounds, (n,)."""
    lower, upper = bounds[:, 0], bounds[:, 1]
    inside: BoolArray = np.asarray(~((values < lower) | (values > upper)).any(axis=1))
    return inside
