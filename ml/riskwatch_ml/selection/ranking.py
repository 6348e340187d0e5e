"""The ranking of candidates without labels: by injected incidents, then by alerts.

Only candidates that the guards pass are ranked. The first figure is the VUS-PR of their scores on injected incidents.
Between candidates within ``CLOSE`` of each other, the number of alerts for each instance and day on the original rows
decides. Silhouette and similar indices are logged but never decide: on real fleets the best of them puts nearly every
row into one cluster.
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
    """All candidates are vetoed; the message lists every veto."""


@dataclass(frozen=True)
class Choice:
    """The families that may serve, winner first, and the vetoes against the others."""

    ranking: list[str]
    vetoes: dict[str, list[str]]

    @property
    def winner(self) -> str:
        """The family to promote."""
        return self.ranking[0]


def choose(candidates: Mapping[str, Figures]) -> Choice:
    """Choose the family to promote from the figures of the candidates.

    Raises SelectionError if there are no candidates or all of them are vetoed.
    """
    reasons = {family: vetoes(figures) for family, figures in candidates.items()}
    refused = {family: why for family, why in reasons.items() if why}
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
