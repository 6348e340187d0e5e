"""The comparison of a challenger with the champion on the newest 24 hours.

Figures of a fit are about its training rows. What an operator sees of a new model is other pages, and episodes that go
on or not. Both models label the same rows by the episode rule, and the difference decides if a person must approve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from riskwatch_lambda.clock import HOUR_MS
from riskwatch_lambda.episode_rule import COMPLETE, NO_EPISODE, EpisodeState, Rule, advance
from riskwatch_ml.core.listing import some
from riskwatch_ml.features import rolling
from riskwatch_ml.features.spaces import row_baselines
from riskwatch_ml.features.table import as_table
from riskwatch_ml.model.closing import row_metrics
from riskwatch_ml.model.explain import paging_rows
from riskwatch_ml.model.fleet_model import level_labels, score_rows

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import pandas as pd

    from riskwatch_lambda.episode_rule import Metrics
    from riskwatch_ml.core.arrays import BoolArray, FloatArray
    from riskwatch_ml.features.left_out import PastEpisode
    from riskwatch_ml.features.table import MetricTable
    from riskwatch_ml.model.fleet_model import FleetModel
    from riskwatch_ml.schema.inventory import Instance

HOURS = 24
# `python -m bench.last_day` prints how often an ordinary refresh goes beyond both.
MAX_PAGE_CHANGE = 0.5
FEW_PAGES = 5
SHOWN = 5  # instances that a text names


@dataclass(frozen=True)
class LastDay:
    """What changes if the challenger had served in the newest 24 hours.

    ``level_changes`` is the share of the rows with another level, ``before`` and ``after`` are the episodes that
    champion and challenger open. ``closes`` are the instances with an open episode that the challenger alone
    would have closed.
    """

    level_changes: float
    before: int
    after: int
    closes: tuple[str, ...] = ()

    @property
    def ask(self) -> str:
        """Reason why the challenger needs an approval, in words; empty if it needs none."""
        reasons = []
        if self.closes:
            reasons.append(f"it would close the open episodes of {some(self.closes, SHOWN)}")
        change = abs(self.after - self.before)
        if change > FEW_PAGES and change > MAX_PAGE_CHANGE * self.before:
            reasons.append(
                f"it would have opened {self.after} episodes in the last {HOURS} hours, where the model in service "
                f"opened {self.before}"
            )
        return "; ".join(reasons)


class _Labelled(NamedTuple):
    """The rows of a table from a time on: level (n,), whether each counts towards an episode (n,), score (n,).

    ``metrics`` has the missing and decisive metrics of rows by position.
    """

    table: MetricTable
    level: np.ndarray
    pages: BoolArray
    score: FloatArray
    metrics: Mapping[int, Metrics]
    rule: Rule


def compare(
    champion: FleetModel,
    challenger: FleetModel,
    rows: pd.DataFrame,
    inventory: Mapping[str, Instance],
    open_episodes: Mapping[str, PastEpisode],
    end_ms: int,
    learned: Collection[str] = (),
) -> LastDay:
    """Compare two models on the metric rows of the 24 hours before ``end_ms``, UTC epoch in milliseconds.

    ``rows`` begin earlier, so that windows and trails are complete. ``open_episodes`` has the open episode of each
    instance with one, ``learned`` are the instances whose episode the challenger is meant to end: their
    episodes do not count.
    """
    start_ms = end_ms - HOURS * HOUR_MS
    both = [_labelled(model, rows, inventory, start_ms) for model in (champion, challenger)]
    (before, was_open), (after, is_open) = (_episodes(labelled, open_episodes, start_ms, learned) for labelled in both)
    levels = [labelled.level for labelled in both]
    return LastDay(
        level_changes=float(np.mean(levels[0] != levels[1])) if len(levels[0]) else 0.0,
        before=before,
        after=after,
        closes=tuple(sorted(set(open_episodes) & was_open - is_open)),
    )


def context_ms(champion: FleetModel, challenger: FleetModel, period_s: int) -> int:
    """Return how long before the 24 hours the rows for `compare` begin, in milliseconds."""
    return max(champion.context_rows, challenger.context_rows) * period_s * 1000


def _labelled(model: FleetModel, rows: pd.DataFrame, inventory: Mapping[str, Instance], start_ms: int) -> _Labelled:
    table = as_table(rows, model.features, model.max_gap_s)
    baseline = row_baselines(model.baselines, table, inventory)
    row_scores = score_rows(model, rolling.add_rolling_features(table, model.rolling_lengths), baseline)
    level = np.array(model.level_names, object)[level_labels(model, table, baseline)]
    pages = paging_rows(model, table, baseline, row_scores)
    metrics = row_metrics(model, table, baseline, row_scores, pages)
    fresh = table.ms >= start_ms
    place = np.cumsum(fresh) - 1
    return _Labelled(
        *(table.take(fresh), level[fresh], pages[fresh], row_scores.score[fresh]),
        {int(place[row]): gaps for row, gaps in metrics.items() if fresh[row]},
        Rule.of(model.rule),
    )


def _episodes(
    labelled: _Labelled, open_episodes: Mapping[str, PastEpisode], start_ms: int, learned: Collection[str]
) -> tuple[int, set[str]]:
    """Return the number of episodes that open, and the instances with an open one at the end."""
    table = labelled.table
    bounds = np.searchsorted(table.code, np.arange(len(table.instances) + 1)).tolist()
    opened, is_open = 0, set()
    for code, name in enumerate(table.instances):
        if name in learned:
            continue
        rows = range(bounds[code], bounds[code + 1])
        episode = open_episodes.get(name)
        state = NO_EPISODE
        if episode is not None and episode.since_ms < start_ms:
            state = EpisodeState(True, episode.since_ms, start_ms - 1, opened_by=episode.opened_by)
        elif not labelled.pages[rows.start : rows.stop].any():
            continue
        for row in rows:
            pages, score = bool(labelled.pages[row]), float(labelled.score[row])
            metrics = labelled.metrics.get(row, COMPLETE)
            step = advance(state, int(table.ms[row]), pages, score, labelled.rule, metrics)
            state, opened = step.state, opened + step.opened
        if state.is_open:
            is_open.add(name)
    return opened, is_open
