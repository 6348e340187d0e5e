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
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from ml.inventory import Instance
    from ml.train import Candidate

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
    """The outcome: the winner, every candidate not vetoed from best to worst, and why the others were vetoed."""

    winner: Candidate
    ranking: list[Candidate]
    vetoes: dict[str, list[str]]


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


def vetoes(candidate: Candidate) -> list[str]:
    """Reasons why a candidate may not serve, in words; empty where there are none."""
    figures, found = candidate.figures, []
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


def choose(candidates: Sequence[Candidate]) -> Choice:
    """The candidate to promote.

    Raises SelectionError where there are no candidates or all of them are vetoed.
    """
    found = {candidate.family: vetoes(candidate) for candidate in candidates}
    allowed = [candidate for candidate in candidates if not found[candidate.family]]
    refused = {family: why for family, why in found.items() if why}
    if not allowed:
        listed = "; ".join(f"{family}: {', '.join(why)}" for family, why in sorted(refused.items()))
        raise SelectionError(
            f"no family may serve ({listed or 'no candidates were trained'}): train on more varied rows, or look at "
            "the level space of each candidate in MLflow"
        )
    ranking = sorted(allowed, key=_rank)
    best = ranking[0].figures["injected_vus_pr"]
    close = [candidate for candidate in ranking if best - candidate.figures["injected_vus_pr"] < CLOSE]
    winner = min(close, key=lambda candidate: (candidate.figures["alerts_per_instance_day"], candidate.family))
    return Choice(winner, [winner, *(candidate for candidate in ranking if candidate is not winner)], refused)


def _rank(candidate: Candidate) -> tuple[float, float, str]:
    figures = candidate.figures
    return -figures["injected_vus_pr"], figures["alerts_per_instance_day"], candidate.family
