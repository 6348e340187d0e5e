"""Rows that lack a metric which opened an episode, and therefore do not close it.

The inference function applies this rule row by row (`riskwatch_lambda.episode_rule`). Calibration marks all alert rows
at once, and walks only through the episodes of instances that have such rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from riskwatch_lambda.episode_rule import Metrics, is_expired
from riskwatch_ml.model.explain import decisive_metrics

if TYPE_CHECKING:
    from riskwatch_ml.core.arrays import BoolArray, IntArray
    from riskwatch_ml.features.table import MetricTable
    from riskwatch_ml.model.fleet_model import FleetModel, RowScores


@dataclass(frozen=True)
class MetricGaps:
    """All rows of the instances with rows that may lack a metric which opened an episode.

    ``rows`` (k,) are their positions, ascending, ``code`` and ``ms`` (k,) their instances and times in epoch
    milliseconds. ``missing`` and ``decisive`` have one bit set for each metric that a row lacks, and for which it
    pages.
    """

    rows: IntArray
    code: IntArray
    ms: IntArray
    missing: list[int]
    decisive: list[int]

    def alert(self, pages: BoolArray, close_rows: int) -> BoolArray:
        """Return a mask of the rows in an open episode, (k,).

        ``pages`` (k,) marks the rows that count towards an episode; one of them opens it.
        """
        alert = np.zeros(len(pages), dtype=bool)
        paging, code, ms = pages.tolist(), self.code.tolist(), self.ms.tolist()
        end = 0
        for first in np.flatnonzero(pages).tolist():
            if first >= end:
                end = self._end(first, paging, code, ms, close_rows)
                alert[first:end] = True
        return alert

    def _end(self, first: int, paging: list[bool], code: list[int], ms: list[int], close_rows: int) -> int:
        """Return the first row after the episode that a row opens."""
        below, last_ms = 0, ms[first]
        for row in range(first + 1, len(paging)):
            if code[row] != code[first] or is_expired(last_ms, ms[row]):
                return row
            if not paging[row] and self.missing[row] & self.decisive[first]:
                continue
            below = 0 if paging[row] else below + 1
            last_ms = ms[row]
            if below >= close_rows:
                return row
        return len(paging)


def find_gaps(
    model: FleetModel, table: MetricTable, baseline: IntArray, row_scores: RowScores, may_page: BoolArray
) -> MetricGaps | None:
    """Return the gaps that matter to the episodes of a table, None without any.

    ``baseline`` (n,) are the baselines of the rows. ``may_page`` (n,) marks the rows that page at some threshold. A
    metric that an instance never reports opens no episode, so its gaps do not matter.
    """
    paging = np.flatnonzero(may_page)
    if not len(paging) or not np.isnan(table.values).any():
        return None
    decisive = decisive_metrics(model, table, baseline, row_scores, paging)
    opens = np.zeros((int(table.code.max()) + 1, table.values.shape[1]), dtype=bool)
    np.logical_or.at(opens, table.code[paging], decisive)
    concerned = np.zeros(len(opens), dtype=bool)
    for column in range(opens.shape[1]):
        with_gap = np.unique(table.code[np.isnan(table.values[:, column])])
        concerned[with_gap] |= opens[with_gap, column]
    if not concerned.any():
        return None
    rows = np.flatnonzero(concerned[table.code])
    of_rows = np.zeros((len(rows), opens.shape[1]), dtype=bool)
    inside = concerned[table.code[paging]]
    of_rows[np.searchsorted(rows, paging[inside])] = decisive[inside]
    return MetricGaps(rows, table.code[rows], table.ms[rows], _bits(np.isnan(table.values[rows])), _bits(of_rows))


def row_metrics(
    model: FleetModel, table: MetricTable, baseline: IntArray, row_scores: RowScores, pages: BoolArray
) -> dict[int, Metrics]:
    """Return the missing and decisive metrics of the rows of a table by position.

    ``pages`` (n,) marks the rows that page. Rows without either are left out.
    """
    absent = np.isnan(table.values)
    rows = np.flatnonzero(absent.any(axis=1) | pages)
    decisive = np.zeros((len(rows), len(model.features)), bool)
    paging = np.flatnonzero(pages)
    decisive[np.searchsorted(rows, paging)] = decisive_metrics(model, table, baseline, row_scores, paging)
    names = np.array(model.features, object)
    return {
        row: Metrics(tuple(names[missing].tolist()), tuple(names[opening].tolist()))
        for row, missing, opening in zip(rows.tolist(), absent[rows], decisive, strict=True)
    }


def _bits(mask: BoolArray) -> list[int]:
    """Return each row of a mask (k, d) as an integer with one bit for each column."""
    return [int.from_bytes(row.tobytes()) for row in np.packbits(mask, axis=1)]
