"""Drift: the distance of the label mix from the mix of the model's training rows.

It is the Jensen-Shannon distance in base 2. With P and Q the shares of the levels and M = (P + Q) / 2,

    JSD(P, Q) = (KL(P || M) + KL(Q || M)) / 2,      KL(P || M) = sum P_i log2(P_i / M_i),      distance = sqrt(JSD)

It lies in [0, 1], is symmetric and a metric, and is defined if a level has no rows on one side.
Sources: J. Lin, "Divergence measures based on the Shannon entropy", IEEE Trans. Inf. Theory 37 (1991); D. Endres and
J. Schindelin, "A new metric for probability distributions", IEEE Trans. Inf. Theory 49 (2003).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypedDict

from riskwatch_lambda.model.document import LEVELS
from riskwatch_ml.core.errors import OperationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from riskwatch_ml.model.document import Reference

LIMIT = 0.2
"""Default limit of the distance. A change from 20/60/20 to 20/40/40 per cent reaches it; 20/50/30 is at 0.10. The
sampling noise of MIN_ROWS independent rows is about 0.05, and below 0.14 in 99 of 100 cases."""

MIN_ROWS = 100
"""Fewer rows are reported with their distance but never as a violation: their shares are too uncertain."""


MIN_HOURS = 20
"""Rows of fewer hours of the day, of 24, are no violation either: the reference holds whole days, and the load of a
morning differs from it on any day. A fleet that reports for fewer hours a day is therefore never in violation."""


class DriftError(OperationError):
    """The reference or the rows cannot be compared."""


class DriftReport(TypedDict):
    """The comparison of a day's labels with the reference; shares lie in [0, 1].

    ``distance`` is None without rows; ``violated`` is true if it exceeds ``limit`` and there is ``enough`` data.
    ``levels`` and ``reference_levels`` map level names to shares, ``unusual`` and ``reference_unusual`` are the shares
    of unusual rows. ``hours`` is the number of hours of the day, UTC, that have rows.
    """

    distance: float | None
    limit: float
    violated: bool
    enough: bool
    levels: dict[str, float]
    reference_levels: dict[str, float]
    unusual: float | None
    reference_unusual: float | None
    rows: int
    hours: int


def report(
    rows: pd.DataFrame,
    reference: Reference,
    *,
    limit: float = LIMIT,
    min_rows: int = MIN_ROWS,
    min_hours: int = MIN_HOURS,
) -> DriftReport:
    """Compare the levels of recent rows with the reference of their model.

    ``rows`` are the labelled rows of a day in any order, with ``timestamp`` (UTC), ``level`` (text) and ``unusual``
    (bool). ``reference`` is that of the model document. A distance above ``limit``, in (0, 1], is a violation if at
    least ``min_rows`` rows lie in at least ``min_hours`` different hours of the day.

    Raises DriftError if the reference has no level shares, or negative or non-finite ones.
    """
    expected = _shares(reference.get("levels") or {})
    hours = int(rows["timestamp"].dt.hour.nunique()) if len(rows) else 0
    enough = len(rows) >= min_rows and hours >= min_hours
    result: DriftReport = {
        "distance": None,
        "limit": limit,
        "violated": False,
        "enough": enough,
        "levels": {},
        "reference_levels": expected,
        "unusual": None,
        "reference_unusual": reference.get("unusual"),
        "rows": len(rows),
        "hours": hours,
    }
    if not len(rows):
        return result
    counts = rows["level"].value_counts()
    levels = _shares({str(level): float(count) for level, count in counts.items()})
    distance = jensen_shannon(levels, expected)
    result["distance"], result["violated"] = distance, enough and distance > limit
    result["levels"], result["unusual"] = levels, float(rows["unusual"].astype(float).mean())
    return result


def jensen_shannon(p: Mapping[str, float], q: Mapping[str, float]) -> float:
    """Return the Jensen-Shannon distance, base 2, of two distributions, in [0, 1].

    They are given as shares by name; an absent name has share 0.

    >>> jensen_shannon({"a": 1.0}, {"b": 1.0})
    1.0
    >>> jensen_shannon({"a": 0.5, "b": 0.5}, {"b": 0.5, "a": 0.5})
    0.0
    """
    total = 0.0
    for name in sorted(p.keys() | q.keys()):
        a, b = p.get(name, 0.0), q.get(name, 0.0)
        middle = (a + b) / 2
        total += sum(share * math.log2(share / middle) for share in (a, b) if share > 0) / 2
    return math.sqrt(min(1.0, max(0.0, total)))


def _shares(counts: Mapping[str, float]) -> dict[str, float]:
    """Return shares that sum to 1, the three levels first.

    ``counts`` are counts or shares that need not sum to 1.
    """
    values = {str(name): float(value) for name, value in counts.items()}
    total = sum(values.values())
    if any(not math.isfinite(value) or value < 0 for value in values.values()) or total <= 0:
        raise DriftError(
            f"level shares {dict(counts)!r} cannot be compared: each must be a finite number of at least 0, "
            "and not all 0. The reference is part of the model document; train again if it is damaged."
        )
    names = [*LEVELS, *sorted(values.keys() - set(LEVELS))]
    return {name: values.get(name, 0.0) / total for name in names}
