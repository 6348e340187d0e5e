"""A contest: all families fitted to the same rows, and the figures by which one may replace the champion.

The weekly contest of a fleet and the first choice of a backtest ask the same questions as a training: injected
incidents in the newest rows, alerts for each instance and day, and the vetoes. What only a person looks at is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ml.families import FAMILIES
from ml.fit import Fitted, Recipe, fit_model
from ml.select import CLOSE, SelectionError, choose, injected_vus_pr

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ml.catalogue import Catalogue
    from ml.features import MetricTable
    from ml.inventory import Instance
    from ml.select import Choice
    from ml.space import Space

WINS_TO_CHANGE = 3


@dataclass(frozen=True)
class Contest:
    """Who took part with which figures, and the outcome; ``choice`` is None where every family was vetoed."""

    figures: Mapping[str, Mapping[str, float]]
    choice: Choice | None
    fits: Mapping[str, Fitted]


@dataclass
class Policy:
    """Who serves: a challenger takes over after three contests won in a row, the first winner at once."""

    champion: str | None = None
    wins: dict[str, int] = field(default_factory=dict)

    def settle(self, contest: Contest) -> str | None:
        """Take note of a contest and return the family that serves from now on, None where none may.

        A challenger wins where it would be chosen and is better than the champion by more than noise. A champion that
        the guards veto on the newest rows is replaced at once.
        """
        if contest.choice is None:
            return self.champion
        winner = contest.choice.winner
        if self.champion is None or self.champion in contest.choice.vetoes:
            self.champion, self.wins = winner, {}
            return winner
        lead = contest.figures[winner]["injected_vus_pr"] - contest.figures[self.champion]["injected_vus_pr"]
        self.wins = {winner: self.wins.get(winner, 0) + 1} if winner != self.champion and lead >= CLOSE else {}
        if self.wins.get(winner, 0) >= WINS_TO_CHANGE:
            self.champion, self.wins = winner, {}
        return self.champion


def hold(
    space: Space,
    catalogue: Catalogue,
    inventory: Mapping[str, Instance],
    recipe: Recipe,
    families: Sequence[str] = tuple(FAMILIES),
) -> Contest:
    """Fit every family to the rows of a space and choose between them; ``recipe`` gives all settings but the family."""
    rows = as_rows(space.table)
    fits: dict[str, Fitted] = {}
    figures: dict[str, dict[str, float]] = {}
    for family in families:
        fitted = fits[family] = fit_model(space, catalogue, replace(recipe, family=family, level={}))
        figures[family] = contest_figures(fitted, space, rows, inventory)
    try:
        choice = choose(figures)
    except SelectionError:
        choice = None
    return Contest(figures, choice, fits)


def contest_figures(
    fitted: Fitted, space: Space, rows: pd.DataFrame, inventory: Mapping[str, Instance]
) -> dict[str, float]:
    """What a family is chosen or vetoed by."""
    labels = fitted.level_fit.map.assign(space.level).labels
    recipe = fitted.recipe
    return {
        "fidelity": fitted.level_fit.figures["fidelity"],
        "largest_cluster_share": float(np.bincount(labels).max() / len(labels)),
        "prototypes": float(sum(fit.map.size for fit in fitted.member_fits)),
        "alerts_per_instance_day": fitted.alerts,
        "injected_vus_pr": injected_vus_pr(fitted.model, rows, inventory, seed=recipe.seed, period_s=recipe.period_s),
    }


def as_rows(table: MetricTable) -> pd.DataFrame:
    """Metric rows of a table."""
    return pd.DataFrame(
        {
            "instance_id": np.array(table.instances, object)[table.code],
            "timestamp": pd.to_datetime(table.ms, unit="ms", utc=True).as_unit("ms"),
            **dict(zip(table.features, table.values.T, strict=True)),
        }
    )
