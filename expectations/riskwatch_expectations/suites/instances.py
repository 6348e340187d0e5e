"""Expectations of each instance: it reported, until the end of the interval, without a hole, as often as expected."""

from __future__ import annotations

from typing import TYPE_CHECKING

import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd

from riskwatch_ml.core import clock

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

# Periods that may pass between two rows, or between the last row and the end of the interval, before it is told.
LONGEST = 3


def table(
    rows: pd.DataFrame, reference: pd.DataFrame, expected: Collection[str], end: datetime, period_s: int
) -> pd.DataFrame:
    """Return a row for each instance of the interval or of `expected`.

    Columns: `rows`; `gap_periods`, the longest way between two rows, the last one of the reference included, with its
    start; `late_periods`, the periods missing between the newest row and the end.
    """
    period = pd.Timedelta(seconds=period_s)
    stamps = rows[["instance_id", "timestamp"]]
    last = reference.groupby("instance_id", as_index=False)["timestamp"].max()
    both = pd.concat([last[last["instance_id"].isin(rows["instance_id"])], stamps], ignore_index=True)
    both = both.sort_values(["instance_id", "timestamp"], ignore_index=True)
    way = both.groupby("instance_id")["timestamp"].diff()
    found = pd.DataFrame(
        {
            "rows": stamps.groupby("instance_id").size(),
            "newest": stamps.groupby("instance_id")["timestamp"].max(),
            "gap_periods": (way / period).groupby(both["instance_id"]).max(),
        }
    )
    ways = way.dropna()
    widest = ways.groupby(both.loc[ways.index, "instance_id"]).idxmax()
    found["gap_from"] = both["timestamp"].shift().reindex(widest).set_axis(widest.index)
    found["late_periods"] = (pd.Timestamp(end) - found["newest"]) / period - 1
    found = found.reindex(sorted({*found.index, *expected})).rename_axis("instance_id")
    found["rows"] = found["rows"].fillna(0).astype("int64")
    found["before"] = last.set_index("instance_id")["timestamp"].reindex(found.index)
    for name in ("newest", "gap_from", "before"):
        found[name] = found[name].map(clock.iso, na_action="ignore").astype("object").fillna("never")
    return found.reset_index()


def suite() -> gx.ExpectationSuite:
    """Return the suite for `table`; `meta["finding"]` says what a row that fails means, from the row's own columns."""
    expectations = [
        gxe.ExpectColumnValuesToBeBetween(
            column="rows", min_value=1, **_finding("silent", "{instance_id}: no row; the newest one is of {before}")
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="gap_periods",
            max_value=LONGEST,
            **_finding("gap", "{instance_id}: {gap_periods:g} periods from one row to the next, from {gap_from}"),
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="late_periods",
            max_value=LONGEST,
            **_finding("freshness", "{instance_id}: newest row of {newest}, {late_periods:g} periods before the end"),
        ),
    ]
    return gx.ExpectationSuite(name="instances", expectations=expectations, meta={"layer": "validated"})


def _finding(check: str, text: str) -> dict[str, object]:
    return {"severity": "warning", "meta": {"check": check, "finding": text}}
