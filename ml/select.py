"""Choosing between families without labels: vetoes first, then injected incidents, then quiet.

A candidate is ranked by the VUS-PR its scores reach on injected incidents; candidates that close to each other are
ranked by their alerts for each instance and day on the untouched rows. Silhouette and its kind are logged, never
decisive: on real fleets the best of them put nearly every row into one cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ml.families.base import subsample
from ml.features import as_table
from ml.inject import inject
from ml.scoring import FleetModel, row_baselines, score_table
from ml.vus import vus_pr

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from ml.inventory import Instance

    Figures = Mapping[str, float]

LEAST_FIDELITY = 0.98
GREATEST_SHARE = 0.97
MOST_PROTOTYPES = 256
CLOSE = 0.005  # a difference in VUS-PR smaller than this is noise
MOST_INSTANCES = 24
BUFFER_S = 3_600


class SelectionError(RuntimeError):
    """No candidate may win; the message lists every veto."""


@dataclass(frozen=True)
class Choice:
    """The outcome: the families that may serve, the winner first, and why the others were vetoed."""

    ranking: list[str]
    vetoes: dict[str, list[str]]

    @property
    def winner(self) -> str:
        """The family to promote."""
        return self.ranking[0]


def injected_vus_pr(
    model: FleetModel, rows: pd.DataFrame, inventory: Mapping[str, Instance], *, seed: int, period_s: float
) -> float:
    """Mean VUS-PR over at most 24 instances on injected incidents in their newest rows; 0 where there is no instance.

    The model has seen the rows as they were before the incidents, so nothing is held out and no family is fitted
    twice: what is compared is how far each lifts the same incidents above the rows around them.
    """
    bounds = [(None if np.isnan(low) else low, None if np.isnan(high) else high) for low, high in model.bounds]
    known = sorted(name for name in rows["instance_id"].astype(str).unique() if name in model.baselines.instances)
    chosen = [known[i] for i in subsample(len(known), MOST_INSTANCES, seed)]
    injected = inject(rows[rows["instance_id"].isin(chosen)], model.features, bounds, seed=seed)
    if not injected.labels.any():
        return 0.0
    table = as_table(injected.rows, model.features, model.max_gap_s)
    score = score_table(model, table, row_baselines(model.baselines, table, inventory)).score
    buffer = int(np.clip(BUFFER_S / period_s, 1, 60))
    found = [
        vus_pr(injected.labels[table.code == code], score[table.code == code], buffer)
        for code in range(len(table.instances))
    ]
    return float(np.nanmean(found)) if np.isfinite(found).any() else 0.0


def vetoes(figures: Figures) -> list[str]:
    """Reasons why a candidate with these figures may not serve, in words; empty where there are none."""
    found = []
    broken = sorted(name for name, value in figures.items() if not np.isfinite(value))
    if broken:
        found.append(f"not finite: {', '.join(broken)}")
    if figures["fidelity"] < LEAST_FIDELITY:
        found.append(f"fidelity {figures['fidelity']:.3f} of the level map is below {LEAST_FIDELITY}")
    if figures["largest_cluster_share"] > GREATEST_SHARE:
        share = figures["largest_cluster_share"]
        found.append(f"one level cluster holds {share:.1%} of the rows, more than {GREATEST_SHARE:.0%}")
    if figures["prototypes"] > MOST_PROTOTYPES:
        found.append(f"{figures['prototypes']:.0f} prototypes, more than {MOST_PROTOTYPES}")
    return found


def choose(candidates: Mapping[str, Figures]) -> Choice:
    """Choose the family to promote from the figures of each.

    Raises SelectionError where there are no candidates or all of them are vetoed.
    """
    found = {family: vetoes(figures) for family, figures in candidates.items()}
    refused = {family: why for family, why in found.items() if why}
    allowed = {family: figures for family, figures in candidates.items() if family not in refused}
    if not allowed:
        listed = "; ".join(f"{family}: {', '.join(why)}" for family, why in sorted(refused.items()))
        raise SelectionError(
            f"no family may serve ({listed or 'no candidates were trained'}): train on more varied rows, or look at "
            "the level space of each candidate in MLflow"
        )
    best = max(figures["injected_vus_pr"] for figures in allowed.values())
    close = [family for family, figures in allowed.items() if best - figures["injected_vus_pr"] < CLOSE]
    winner = min(close, key=lambda family: (allowed[family]["alerts_per_instance_day"], family))
    others = sorted(allowed.keys() - {winner}, key=lambda family: (-allowed[family]["injected_vus_pr"], family))
    return Choice([winner, *others], refused)
