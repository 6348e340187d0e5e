"""Label differences between training's scorer and the deployed artifact.

`awkward` makes rows on which two implementations are likely to differ.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from bench import deployed
from riskwatch_ml.artifact import archive
from riskwatch_ml.model import explain
from riskwatch_ml.model.fleet_model import FleetModel

if TYPE_CHECKING:
    import pandas as pd

    from riskwatch_ml.schema.inventory import Instance

LABELS = ("level", "unusual", "opens", "context")
SCORE = 1e-9


class Parity(TypedDict):
    """Numbers of rows, by property and by kind of difference."""

    rows: int
    unusual: int
    without_context: int
    unseen: int
    differences: dict[str, int]


def awkward(rows: pd.DataFrame, features: list[str], seed: int = 0) -> pd.DataFrame:
    """Return metric rows with missing values, spikes, lost rows and gaps.

    Some gaps cut the context of later rows.
    """
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


def differences(zip_bytes: bytes, rows: pd.DataFrame, inventory: dict[str, Instance], python: str) -> Parity:
    """Count the rows on which training's scorer and the deployed artifact differ.

    ``score`` counts scores more than 1e-9 apart. ``reasons`` counts rows with other main features, or with figures that
    differ in the first four digits.
    """
    document, arrays = archive.unpack(zip_bytes)
    model = FleetModel.load(document, arrays)
    expected = explain.label_rows(document, arrays, rows, inventory)
    data = deployed.one_row_records(model, rows, inventory)
    with tempfile.TemporaryDirectory() as folder:
        actual = deployed.verdicts(zip_bytes, data, Path(folder), python)
    counts = dict.fromkeys([*LABELS, "score", "reasons"], 0)
    for want, got in zip(expected.to_dict("records"), actual, strict=True):
        for name in LABELS:
            counts[name] += want[name] != got[name]
        both_missing = math.isnan(want["score"]) and math.isnan(got["score"])
        counts["score"] += not both_missing and not abs(want["score"] - got["score"]) <= SCORE
        counts["reasons"] += not _same_reasons(want["reasons"], got["reasons"])
    return {
        "rows": len(expected),
        "unusual": int(expected["unusual"].sum()),
        "without_context": int((~expected["context"]).sum()),
        "unseen": int((~expected["instance_id"].isin(model.baselines.instances)).sum()),
        "differences": counts,
    }


def _same_reasons(want: list[dict[str, Any]], got: list[dict[str, Any]]) -> bool:
    names = [[(reason["feature"], reason["direction"]) for reason in reasons] for reasons in (want, got)]
    return names[0] == names[1] and all(
        expected[key] is actual[key] or math.isclose(expected[key], actual[key], rel_tol=1e-3, abs_tol=1e-12)
        for expected, actual in zip(want, got, strict=True)
        for key in ("value", "low", "high", "share")
    )
