"""Rows that make it hard for two implementations to agree, and the count of rows on which they do not."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import deployed
from riskwatch_ml.artifact import archive
from riskwatch_ml.model import explain
from riskwatch_ml.model.fleet_model import FleetModel

if TYPE_CHECKING:
    import pandas as pd

    from riskwatch_ml.schema.inventory import Instance

LABELS = ("level", "unusual", "pages", "context", "known")
SCORE = 1e-9


def awkward(rows: pd.DataFrame, features: list[str], seed: int = 0) -> pd.DataFrame:
    """Metric rows with values missing, whole rows missing, spikes, lost rows, and gaps that cut the context."""
    rng = np.random.default_rng(seed)
    rows = rows.sort_values(["instance_id", "timestamp"]).reset_index(drop=True)
    values = rows[features].to_numpy(float, copy=True)
    values[rng.random(values.shape) < 0.03] = np.nan
    values[rng.random(len(values)) < 0.005] = np.nan
    spikes = rng.random(values.shape) < 0.01
    values[spikes] = np.minimum(values[spikes] * rng.uniform(0, 4, int(spikes.sum())), 100.0)
    rows[features] = values
    lost = rng.random(len(rows)) < 0.02
    for start in np.flatnonzero(rng.random(len(rows)) < 0.008):
        lost[start : start + 8] = True
    return rows[~lost].reset_index(drop=True)


def differences(zip_bytes: bytes, rows: pd.DataFrame, inventory: dict[str, Instance], python: str) -> dict[str, Any]:
    """Count the rows on which training's scorer and the deployed artifact differ, by what they differ in.

    ``score`` counts scores farther apart than 1e-9, ``reasons`` the rows with other main features, or other numbers of
    them than four digits tell.
    """
    document, arrays = archive.unpack(zip_bytes)
    expected = explain.label_rows(document, arrays, rows, inventory)
    data = deployed.one_row_records(FleetModel.load(document, arrays), rows, inventory)
    with tempfile.TemporaryDirectory() as folder:
        given = deployed.verdicts(zip_bytes, data, Path(folder), python)
    counts = dict.fromkeys([*LABELS, "score", "reasons"], 0)
    for want, got in zip(expected.to_dict("records"), given, strict=True):
        for name in LABELS:
            counts[name] += want[name] != got[name]
        both_missing = math.isnan(want["score"]) and math.isnan(got["score"])
        counts["score"] += not both_missing and not abs(want["score"] - got["score"]) <= SCORE
        counts["reasons"] += not _same_reasons(want["reasons"], got["reasons"])
    return {
        "rows": len(expected),
        "unusual": int(expected["unusual"].sum()),
        "without_context": int((~expected["context"]).sum()),
        "unseen": int((~expected["known"]).sum()),
        "differences": counts,
    }


def _same_reasons(want: list[dict[str, Any]], got: list[dict[str, Any]]) -> bool:
    names = [[(reason["feature"], reason["direction"]) for reason in kind] for kind in (want, got)]
    return names[0] == names[1] and all(
        expected[key] is given[key] or math.isclose(expected[key], given[key], rel_tol=1e-3, abs_tol=1e-12)
        for expected, given in zip(want, got, strict=True)
        for key in ("value", "low", "high", "share")
    )
