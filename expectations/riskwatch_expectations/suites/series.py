"""Expectations of each series: the metric has values, changes, and keeps its unit.

A series is one metric of one instance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import great_expectations as gx
import great_expectations.expectations as gxe
import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from riskwatch_ml.schema.catalogue import Catalogue

# An hour of five-minute values; fewer are not enough for a comparison.
ENOUGH = 12
# No load changes by a factor of a thousand and stays there, but bytes instead of megabytes do.
UNIT = 1_000.0
# A run of equal values is a finding if it is longer than this many times the longest earlier run.
USUAL = 2


def table(rows: pd.DataFrame, reference: pd.DataFrame, catalogue: Catalogue) -> pd.DataFrame:
    """Return one row for each series that both the interval and the reference have.

    `values` and `before` are the numbers of values in the interval and in the reference. `too_long` is the number of
    equal values by which the newest run exceeds the usual length. `ratio` is the median divided by the median of the
    reference. Both are NaN if there are too few values.
    """
    names = np.intersect1d(rows["instance_id"].unique(), reference["instance_id"].unique())
    old = reference[reference["instance_id"].isin(names)].assign(fresh=False)
    new = rows[rows["instance_id"].isin(names)].assign(fresh=True)
    both = pd.concat([old, new], ignore_index=True).sort_values(["instance_id", "timestamp"], kind="stable")
    code = np.searchsorted(names, both["instance_id"].to_numpy(dtype=object).astype(names.dtype))
    fresh = both["fresh"].to_numpy(dtype=bool)
    known = [metric for metric in catalogue.names if metric in reference.columns]
    parts = [
        _series(both[metric].to_numpy(dtype=np.float64), code, fresh, len(names)).assign(
            instance_id=names, metric=metric
        )
        for metric in known
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def suite() -> gx.ExpectationSuite:
    """Return the suite for `table`.

    `meta["finding"]` is the text template for a row that fails, filled from its columns.
    """
    expectations = [
        gxe.ExpectColumnValuesToBeBetween(
            column="vanished",
            max_value=0,
            **_finding("vanished", "{instance_id}: {metric} has no values, but {before} in the reference"),
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="too_long",
            max_value=0,
            **_finding("stuck", "{instance_id}: {metric} is {last:g} for {run:g} rows, before for at most {usual:g}"),
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="ratio",
            min_value=1 / UNIT,
            max_value=UNIT,
            **_finding(
                "unit",
                "{instance_id}: the median of {metric} is {ratio:g} times that of the reference: did its unit change?",
            ),
        ),
    ]
    return gx.ExpectationSuite(name="series", expectations=expectations, meta={"layer": "validated"})


def _series(values: NDArray[np.float64], code: NDArray[np.int64], fresh: NDArray[np.bool_], count: int) -> pd.DataFrame:
    """Return the columns of `table` for one metric of `count` instances.

    `values` (n,) are in order of instance and time, `code` (n,) is the index of the instance of each value, and `fresh`
    (n,) marks the values of the interval.
    """
    present = ~np.isnan(values)
    values, code, fresh = values[present], code[present], fresh[present]
    now, before = np.bincount(code[fresh], minlength=count), np.bincount(code[~fresh], minlength=count)
    run, last, usual = _runs(values, code, count)
    # The values before the newest run must be enough to contain a run of that length.
    judged = (run >= ENOUGH) & (now + before - run >= ENOUGH * USUAL) & (now > 0)
    middle, old_middle = _medians(values[fresh], code[fresh], count), _medians(values[~fresh], code[~fresh], count)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = middle / old_middle
    comparable = (middle > 0) & (old_middle > 0) & (before >= ENOUGH)
    return pd.DataFrame(
        {
            "values": now,
            "before": before,
            "vanished": np.where((now == 0) & (before >= ENOUGH), 1.0, 0.0),
            "run": run,
            "last": last,
            "usual": usual,
            "too_long": np.where(judged, run - np.maximum(usual * USUAL, ENOUGH - 1), np.nan),
            "ratio": np.where(comparable, ratio, np.nan),
        }
    )


def _runs(values: NDArray[np.float64], code: NDArray[np.int64], count: int) -> tuple[NDArray[np.float64], ...]:
    """Return three arrays (count,) about runs of equal values, one item per instance.

    These are the length of the newest run, its value, and the length of the longest earlier run.
    """
    newest, last, longest = np.zeros(count), np.full(count, np.nan), np.zeros(count)
    if len(values):
        begins = np.flatnonzero(np.concatenate([[True], (code[1:] != code[:-1]) | (values[1:] != values[:-1])]))
        length = np.diff(np.append(begins, len(values)))
        owner = code[begins]
        final = np.append(owner[1:] != owner[:-1], True)
        newest[owner[final]] = length[final]
        last[owner[final]] = values[begins[final]]
        np.maximum.at(longest, owner[~final], length[~final])
    return newest, last, longest


def _medians(values: NDArray[np.float64], code: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    medians: NDArray[np.float64] = pd.Series(values).groupby(code).median().reindex(range(count)).to_numpy()
    return medians


def _finding(check: str, text: str) -> dict[str, object]:
    return {"severity": "warning", "meta": {"check": check, "finding": text}}
