"""The comparison of a challenger with the champion on the newest 24 hours.

Figures of a fit are about its training rows. What an operator sees of a new model is other pages, and episodes that go
on or not. Both models label the same rows by the episode rule, and the difference decides if a person must approve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from riskwatch_lambda.clock import HOUR_MS
from riskwatch_lambda.episode_rule import EpisodeState, Rule
from riskwatch_lambda.paging_rule import InstanceState
from riskwatch_ml.core.listing import some
from riskwatch_ml.features import rolling
from riskwatch_ml.features.spaces import row_baselines
from riskwatch_ml.features.table import as_table
from riskwatch_ml.model.fleet_model import level_labels, score_rows
from riskwatch_ml.model.openings import follow, opening_rows

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import pandas as pd

    from riskwatch_ml.core.arrays import BoolArray
    from riskwatch_ml.features.left_out import PastEpisode
    from riskwatch_ml.features.table import MetricTable
    from riskwatch_ml.model.fleet_model import FleetModel
    from riskwatch_ml.model.openings import OpeningRows
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
    """The rows of a table: those of the newest day (n,), their levels (m,), and what opens."""

    table: MetricTable
    fresh: BoolArray
    level: np.ndarray
    rows: OpeningRows
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
    fresh = table.ms >= start_ms
    level = np.array(model.level_names, object)[level_labels(model, table, baseline)]
    return _Labelled(table, fresh, level[fresh], opening_rows(model, table, baseline, row_scores), Rule.of(model.rule))


def _episodes(
    labelled: _Labelled, open_episodes: Mapping[str, PastEpisode], start_ms: int, learned: Collection[str]
) -> tuple[int, set[str]]:
    """Return the number of episodes that open, and the instances with an open one at the end.

    Instances have no memory here: the models are compared by what they see.
    """
    instances = labelled.table.instances
    states: dict[int, InstanceState] = {}
    for code, name in enumerate(instances):
        episode = open_episodes.get(name)
        if episode is not None and episode.since_ms < start_ms:
            was_open = EpisodeState(True, episode.since_ms, start_ms - 1, opened_by=episode.opened_by)
            states[code] = InstanceState(was_open)
    counted = np.array([name not in learned for name in instances], bool)
    followed = follow(labelled.rows, labelled.rule, states, labelled.fresh & counted[labelled.table.code])
    is_open = {instances[code] for code, state in states.items() if state.episode.is_open}
    return len(followed.opened), is_open - set(learned)
