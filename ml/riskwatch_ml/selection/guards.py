"""The guards: limits that a candidate must keep, each with its reason; a figure beyond one is a veto in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    Figures = Mapping[str, float]


@dataclass(frozen=True)
class Guard:
    """A limit that a candidate must keep. ``says`` is the veto in words, with the figure as ``{0}``."""

    figure: str
    least: float
    most: float
    says: str

    def veto(self, value: float) -> str | None:
        """The reason to refuse a candidate with this value, or None."""
        return None if self.least <= value <= self.most else self.says.format(value)


INF = float("inf")
LEAST_FIDELITY = 0.98  # below, what serves is not what was fitted
GREATEST_SHARE = 0.97  # a cluster that nearly every row is in tells nobody anything,
LEAST_EXPLAINED = 0.5  # unless the others hold most of how much the load differs: a fleet that hardly ever works
MOST_NOISE = 0.2  # a fifth of the rows outside every cluster: the clusters do not describe the fleet
LEAST_STABILITY = 0.5  # half way between the same levels and chance, for two halves of one fleet
MOST_LOAD = 0.9  # a score that ranks rows as load does finds busy hours; on labelled fleets families have .15 to .63
LEAST_GAP = 0.5  # half a deviation: closer levels are two names for one load
MOST_PROTOTYPES = 256
MOST_BYTES = 40_000_000  # Lambda takes a zip of 50 MB in a request, and the code must fit in
# 256 prototypes of the level map and 256 of windows of three rows come to 1,024; beyond, some part is over its budget.
MOST_OPERATIONS = 1_024

GUARDS = (
    Guard(
        "fidelity",
        LEAST_FIDELITY,
        INF,
        f"fidelity {{0:.3f}} of the level map or a behaviour map is below {LEAST_FIDELITY}",
    ),
    Guard(
        "largest_cluster_share",
        0,
        GREATEST_SHARE,
        f"one level cluster holds {{0:.1%}} of the rows, more than {GREATEST_SHARE:.0%}",
    ),
    Guard(
        "noise_share", 0, MOST_NOISE, f"{{0:.1%}} of the rows are noise to the level map, more than {MOST_NOISE:.0%}"
    ),
    Guard(
        "level_stability",
        LEAST_STABILITY,
        INF,
        f"two halves of the rows agree on levels by {{0:.2f}} (adjusted Rand), less than {LEAST_STABILITY}",
    ),
    Guard(
        "severity_gap",
        LEAST_GAP,
        INF,
        f"neighbouring levels are {{0:.2f}} deviations of severity apart on unseen rows, less than {LEAST_GAP}",
    ),
    Guard(
        "load_correlation",
        -INF,
        MOST_LOAD,
        f"the score follows load with a rank correlation of {{0:.2f}}, more than {MOST_LOAD}: it finds busy hours",
    ),
    Guard("prototypes", 1, MOST_PROTOTYPES, f"{{0:.0f}} prototypes, not between 1 and {MOST_PROTOTYPES}"),
    Guard("model_bytes", 0, MOST_BYTES, f"{{0:,.0f}} bytes of parameters, more than {MOST_BYTES:,}"),
    Guard(
        "operations_per_column",
        0,
        MOST_OPERATIONS,
        f"{{0:,.0f}} operations a row and column, more than {MOST_OPERATIONS:,}",
    ),
)
RANKED_BY = ("injected_vus_pr", "alerts_per_instance_day")


def vetoes(figures: Figures) -> list[str]:
    """Reasons why a candidate with these figures may not serve, in words; empty where there are none.

    A refresh has no contest to rank it for, so the figures that rank may be absent.
    """
    decisive = [*(guard.figure for guard in GUARDS), *(name for name in RANKED_BY if name in figures)]
    broken = [name for name in decisive if not np.isfinite(figures[name])]
    found = [f"not finite: {', '.join(broken)}"] if broken else []
    excused = figures.get("severity_explained", 0.0) >= LEAST_EXPLAINED
    judged = (
        guard.veto(figures[guard.figure])
        for guard in GUARDS
        if guard.figure not in broken and not (excused and guard.figure == "largest_cluster_share")
    )
    return found + [reason for reason in judged if reason]
