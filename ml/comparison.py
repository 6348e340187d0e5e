"""The table that shows an operator all candidates of a training, and why one of them was chosen.

It is the description of the registered version and the note on the training run: MLflow renders the Markdown there.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ml.select import CLOSE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_SHOWN = (  # columns of the comparison table: those that exist, in this order, then the others
    "injected_vus_pr",
    "alerts_per_instance_day",
    "silhouette",
    "davies_bouldin",
    "calinski_harabasz",
    "fidelity",
    "level_clusters",
    "largest_cluster_share",
    "prototypes",
    "unusual_share",
    "fit_seconds",
)
_MOST_COLUMNS = 12


def describe(ranking: Sequence[Mapping[str, Any]], winner: Mapping[str, Any] | None) -> str:
    """Markdown: all candidates with their figures and vetoes, best first, and why the winner was chosen."""
    names = _columns(ranking)
    head = ["", "family", *(name.replace("_", " ") for name in names), "vetoes"]
    lines = [_row(head), _row(["---"] * len(head))]
    for place, row in enumerate(ranking, start=1):
        chosen = winner is not None and row["family"] == winner["family"]
        family = f"**{row['family']}**" if chosen else str(row["family"])
        figures = [_number(row["figures"].get(name)) for name in names]
        lines.append(_row([str(place), family, *figures, "; ".join(row["vetoes"]) or "none"]))
    return "\n".join([_reason(ranking, winner), "", *lines])


def _columns(ranking: Sequence[Mapping[str, Any]]) -> list[str]:
    present: dict[str, None] = {name: None for row in ranking for name in row["figures"]}
    first = [name for name in _SHOWN if name in present]
    return [*first, *(name for name in present if name not in first)][:_MOST_COLUMNS]


def _reason(ranking: Sequence[Mapping[str, Any]], winner: Mapping[str, Any] | None) -> str:
    if winner is None:
        return f"No candidate was chosen: all {len(ranking)} were vetoed. What is in service stays."
    vetoed = sum(bool(row["vetoes"]) for row in ranking)
    return (
        f"**{winner['family']}** was chosen: among the {len(ranking) - vetoed} candidates that no guard vetoed, it "
        f"alerts least of those whose VUS-PR on injected incidents lies within {CLOSE} of the best ({vetoed} vetoed)."
    )


def _number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
