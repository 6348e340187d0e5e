"""Injected incidents: known trouble written into the newest unlabelled rows, to compare candidates without labels.

Seven kinds, sized on the raw scale in multiples of the instance's own deviation and kept within the catalogue's bounds:
spike, drop, level shift, drift, stuck metric, broken correlation, saturation. The same rows and seed give the same
incidents, so every family is asked the same question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ml.features import BoolArray, FloatArray

SLOT_ROWS = 48  # one incident in each slot: room for the longest one and for quiet rows around it
TAIL_SHARE = 0.2
TAIL_ROWS = (SLOT_ROWS, 576)
KEY = ["instance_id", "timestamp"]


@dataclass(frozen=True)
class Own:
    """An instance's own mean and deviation of one metric, and the bounds the catalogue sets, in catalogue units."""

    mean: float
    deviation: float
    lower: float
    upper: float


# (values of the incident's rows, what is known of the metric, size in deviations) -> values
Shape = Callable[[FloatArray, Own, float], FloatArray]


def _up(values: FloatArray, own: Own, size: float) -> FloatArray:
    return values + size * own.deviation


def _down(values: FloatArray, own: Own, size: float) -> FloatArray:
    return values - size * own.deviation


def _drift(values: FloatArray, own: Own, size: float) -> FloatArray:
    ramp: FloatArray = np.arange(1, len(values) + 1) / len(values)
    return values + size * own.deviation * ramp


def _stuck(values: FloatArray, own: Own, size: float) -> FloatArray:
    first = values[np.isfinite(values)][:1]
    return np.where(np.isfinite(values), first[0] if len(first) else own.mean, values)


def _mirror(values: FloatArray, own: Own, size: float) -> FloatArray:
    return 2 * own.mean - values


def _saturate(values: FloatArray, own: Own, size: float) -> FloatArray:
    ceiling = own.upper if np.isfinite(own.upper) else own.mean + size * own.deviation
    return np.where(np.isfinite(values), ceiling, values)


# kind: shape, least and most rows, least and most size in deviations
KINDS: dict[str, tuple[Shape, tuple[int, int], tuple[float, float]]] = {
    "spike": (_up, (1, 3), (3.0, 6.0)),
    "drop": (_down, (3, 8), (2.0, 5.0)),
    "level_shift": (_up, (12, 24), (1.5, 4.0)),
    "drift": (_drift, (16, 24), (2.0, 5.0)),
    "stuck": (_stuck, (16, 24), (1.0, 1.0)),
    "broken_correlation": (_mirror, (8, 16), (1.0, 1.0)),
    "saturation": (_saturate, (6, 12), (3.0, 6.0)),
}


@dataclass(frozen=True)
class Injected:
    """The newest rows with incidents in them, sorted by (instance_id, timestamp), and what was done.

    ``labels`` (n,) marks the incidents' rows; ``kinds`` (n,) names them and is empty elsewhere.
    """

    rows: pd.DataFrame
    labels: BoolArray
    kinds: list[str]


def inject(
    rows: pd.DataFrame, features: Sequence[str], bounds: Sequence[tuple[float | None, float | None]], *, seed: int
) -> Injected:
    """Write incidents into the newest fifth (48 to 576 rows) of each instance that has at least 48 rows.

    ``rows`` are metric rows, ``bounds`` the least and greatest possible value of each feature. Deviations are taken
    over all the rows given. Metrics that never move, and instances that have no other, are left alone.
    """
    rng = np.random.default_rng(seed)
    parts, labels, kinds = [], [], []
    for _, own_rows in rows.sort_values(KEY, kind="stable").groupby("instance_id", sort=True):
        if len(own_rows) < SLOT_ROWS:
            continue
        tail = int(np.clip(len(own_rows) * TAIL_SHARE, *TAIL_ROWS))
        values = own_rows[list(features)].to_numpy(np.float64)
        changed, kind = _incidents(values[-tail:], _known(values, bounds), rng)
        parts.append(own_rows.iloc[-tail:].assign(**dict(zip(features, changed.T, strict=True))))
        labels.append(np.array([bool(name) for name in kind]))
        kinds += kind
    if not parts:
        return Injected(rows.iloc[:0], np.zeros(0, bool), [])
    return Injected(pd.concat(parts, ignore_index=True), np.concatenate(labels), kinds)


def _known(values: FloatArray, bounds: Sequence[tuple[float | None, float | None]]) -> list[Own]:
    known = []
    for column, (lower, upper) in zip(values.T, bounds, strict=True):
        present = column[np.isfinite(column)]
        mean, deviation = (float(present.mean()), float(present.std())) if len(present) else (0.0, 0.0)
        known.append(Own(mean, deviation, -np.inf if lower is None else lower, np.inf if upper is None else upper))
    return known


def _incidents(values: FloatArray, known: Sequence[Own], rng: np.random.Generator) -> tuple[FloatArray, list[str]]:
    """One incident in each slot of one instance's rows (n, d)."""
    values, kinds = values.copy(), [""] * len(values)
    moving = [i for i, own in enumerate(known) if own.deviation > 0 and np.isfinite(values[:, i]).mean() > 0.5]
    if not moving:
        return values, kinds
    names = list(KINDS)
    turn = int(rng.integers(len(names)))
    for slot in range(len(values) // SLOT_ROWS):
        name = names[(turn + slot) % len(names)]
        shape, length_range, size_range = KINDS[name]
        length = int(rng.integers(length_range[0], length_range[1] + 1))
        start = slot * SLOT_ROWS + int(rng.integers(SLOT_ROWS // 4, SLOT_ROWS - length))
        touched = rng.choice(moving, size=int(rng.integers(1, max(1, len(moving) // 3) + 1)), replace=False)
        span = slice(start, start + length)
        for column in touched:
            own = known[column]
            changed = shape(values[span, column], own, float(rng.uniform(*size_range)))
            values[span, column] = np.clip(changed, own.lower, own.upper)
        kinds[span] = [name] * length
    return values, kinds
