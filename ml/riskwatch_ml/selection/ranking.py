"""The ranking of candidates without labels: those that the guards pass, by injected incidents, then by alerts.

A candidate is ranked by the VUS-PR its scores reach on injected incidents; candidates that close to each other are
ranked by their alerts for each instance and day on the untouched rows. Silhouette and its kind are logged, never
decisive: on real fleets the best of them put nearly every row into one cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from riskwatch_ml.core.errors import OperationError
from riskwatch_ml.selection.guards import vetoes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from riskwatch_ml.selection.guards import Figures

CLOSE = 0.005  # a difference in VUS-PR smaller than this is noise


class SelectionError(OperationError):
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
