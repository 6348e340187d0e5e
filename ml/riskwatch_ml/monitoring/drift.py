"""Has the mix of labels moved away from what the model gave on its own training rows?

The distance is the Jensen-Shannon distance in base 2: with P and Q the shares of the levels and M = (P + Q) / 2,

    JSD(P, Q) = (KL(P || M) + KL(Q || M)) / 2,      KL(P || M) = sum P_i log2(P_i / M_i),      distance = sqrt(JSD)

It lies in [0, 1], is symmetric, is defined where a level has no rows on one side, and is a metric.
Sources: J. Lin, "Divergence measures based on the Shannon entropy", IEEE Trans. Inf. Theory 37 (1991); D. Endres and
J. Schindelin, "A new metric for probability distributions", IEEE Trans. Inf. Theory 49 (2003).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from riskwatch_lambda.model.document import LEVELS
from riskwatch_ml.core.errors import OperationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

LIMIT = 0.2
"""Default limit of the distance. It is reached when 20/60/20 per cent becomes 20/40/40; 20/50/30 is at 0.10. The
sampling noise of MIN_ROWS independent rows is about 0.05, and below 0.14 in 99 of 100 cases."""

MIN_ROWS = 100
"""Below this many rows the distance is reported but never a violation: the shares are not yet known well enough."""


MIN_HOURS = 20
"""Below this many hours of the day, of 24, there is no violation either: the reference holds whole days, and the load
of a morning differs from it on any day. A fleet that reports for fewer hours a day is therefore never in violation."""


class DriftError(OperationError):
    """The reference or the rows cannot be compared."""


def report(
    rows: pd.DataFrame,
    reference: Mapping[str, Any],
    *,
    limit: float = LIMIT,
    min_rows: int = MIN_ROWS,
    min_hours: int = MIN_HOURS,
) -> dict[str, Any]:
    """Compare the levels of recent labelled rows with the reference of the model that gave them.

    Parameters
    ----------
    rows
        Labelled rows of a day with columns ``timestamp`` (UTC), ``level`` (text) and ``unusual`` (bool), in any order.
    reference
        ``reference`` of the model document: ``levels`` maps level names to shares.
    limit
        Distance beyond which the mix counts as moved, in (0, 1].
    min_rows
        Rows needed before a violation can be stated.
    min_hours
        Different hours of the day, UTC, that must have rows before a violation can be stated.

    Returns
    -------
    dict
        ``distance`` (None without rows), ``limit``, ``violated``, ``enough`` (were there ``min_rows`` in
        ``min_hours``), ``levels`` and ``reference_levels`` (share by level), ``unusual`` and ``reference_unusual``
        (share or None), ``rows``, ``hours`` (how many of the 24 have rows).

    Raises
    ------
    DriftError
        The reference holds no level shares, or negative or non-finite ones.
    """
    expected = _shares(reference.get("levels") or {})
    n = len(rows)
    hours = int(rows["timestamp"].dt.hour.nunique()) if n else 0
    enough = n >= min_rows and hours >= min_hours
    result: dict[str, Any] = {
        "distance": None,
        "limit": limit,
        "violated": False,
        "enough": enough,
        "levels": {},
        "reference_levels": expected,
        "unusual": None,
        "reference_unusual": reference.get("unusual"),
        "rows": n,
        "hours": hours,
    }
    if n == 0:
        return result
    counts = rows["level"].value_counts()
    levels = _shares({str(level): float(count) for level, count in counts.items()})
    distance = jensen_shannon(levels, expected)
    result.update(
        distance=distance,
        violated=enough and distance > limit,
        levels=levels,
        unusual=float(rows["unusual"].astype(float).mean()),
    )
    return result


def jensen_shannon(p: Mapping[str, float], q: Mapping[str, float]) -> float:
    """Jensen-Shannon distance, base 2, of two distributions given as shares by name; an absent name has share 0.

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
    """Shares that sum to 1, the three levels first, from counts or from shares that sum to about 1."""
    values = {str(name): float(value) for name, value in counts.items()}
    total = sum(values.values())
    if any(not math.isfinite(value) or value < 0 for value in values.values()) or total <= 0:
        raise DriftError(
            f"level shares {dict(counts)!r} cannot be compared: each must be a finite number of at least 0, "
            "and not all 0. The reference is part of the model document; train again if it is damaged."
        )
    names = [*LEVELS, *sorted(values.keys() - set(LEVELS))]
    return {name: values.get(name, 0.0) / total for name in names}
