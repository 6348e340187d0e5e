"""The guards: limits for the figures of a candidate; a figure beyond is a veto."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    Figures = Mapping[str, float]


@dataclass(frozen=True)
class Guard:
    """A limit for one figure of a candidate.

    ``says`` is the text of the veto, with the figure as ``{0}``.
    """

    figure: str
    least: float
    most: float
    says: str

    def veto(self, value: float) -> str | None:
        """Return the reason to refuse a candidate with this value, None if there is none."""
        return None if self.least <= value <= self.most else self.says.format(value)


INF = float("inf")
MIN_FIDELITY = 0.98  # below, the map that serves differs from the clusters that were fitted
MAX_SHARE = 0.97  # a cluster with nearly every row says nothing about a row,
MIN_EXPLAINED = 0.5  # unless the levels explain most of the variance of load: the fleet is then mostly idle
MAX_NOISE = 0.2  # with a fifth of the rows outside every cluster, the clusters do not describe the fleet
MIN_STABILITY = 0.5  # half way between equal levels and chance, for two halves of one fleet
MAX_LOAD = 0.9  # a score that ranks rows as load does finds busy hours; on labelled fleets it reaches .15 to .63
MIN_GAP = 0.5  # levels closer than half a deviation are two names for one load
MAX_PROTOTYPES = 256
MAX_BYTES = 40_000_000  # Lambda takes a zip of 50 MB in a request, and the code must fit in
# 256 prototypes of the level map and 256 of windows of three rows make 1,024; beyond, a part exceeds its budget.
MAX_OPERATIONS = 1_024

GUARDS = (
    Guard(
        "fidelity",
        MIN_FIDELITY,
        INF,
        f"fidelity {{0:.3f}} of the level map or a behaviour map is below {MIN_FIDELITY}",
    ),
    Guard(
        "largest_cluster_share",
        0,
        MAX_SHARE,
        f"one level cluster holds {{0:.1%}} of the rows, more than {MAX_SHARE:.0%}",
    ),
    Guard("noise_share", 0, MAX_NOISE, f"{{0:.1%}} of the rows are noise to the level map, more than {MAX_NOISE:.0%}"),
    Guard(
        "level_stability",
        MIN_STABILITY,
        INF,
        f"two halves of the rows agree on levels by {{0:.2f}} (adjusted Rand), less than {MIN_STABILITY}",
    ),
    Guard(
        "severity_gap",
        MIN_GAP,
        INF,
        f"neighbouring levels are {{0:.2f}} deviations of severity apart on unseen rows, less than {MIN_GAP}",
    ),
    Guard(
        "load_correlation",
        -INF,
        MAX_LOAD,
        f"the score follows load with a rank correlation of {{0:.2f}}, more than {MAX_LOAD}: it finds busy hours",
    ),
    Guard("prototypes", 1, MAX_PROTOTYPES, f"{{0:.0f}} prototypes, not between 1 and {MAX_PROTOTYPES}"),
    Guard("model_bytes", 0, MAX_BYTES, f"{{0:,.0f}} bytes of parameters, more than {MAX_BYTES:,}"),
    Guard(
        "operations_per_column",
        0,
        MAX_OPERATIONS,
        f"{{0:,.0f}} operations a row and column, more than {MAX_OPERATIONS:,}",
    ),
)
RANKED_BY = ("injected_vus_pr", "alerts_per_instance_day")


def vetoes(figures: Figures) -> list[str]:
    """Return the reasons why a candidate with these figures may not serve, as texts.

    The figures of the ranking may be absent: a refresh is not ranked.
    """
    decisive = [*(guard.figure for guard in GUARDS), *(name for name in RANKED_BY if name in figures)]
    broken = [name for name in decisive if not np.isfinite(figures[name])]
    reasons = [f"not finite: {', '.join(broken)}"] if broken else []
    excused = figures.get("severity_explained", 0.0) >= MIN_EXPLAINED
    judged = (
        guard.veto(figures[guard.figure])
        for guard in GUARDS
        if guard.figure not in broken and not (excused and guard.figure == "largest_cluster_share")
    )
    return reasons + [reason for reason in judged if reason]
