"""The table that shows an operator all candidates of a training, and why one of them was chosen.

It is the description of the registered version and the note on the training run: MLflow renders the Markdown there.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from riskwatch_ml.selection.ranking import CLOSE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_SHOWN = (  # columns of the comparison table: those that exist, in this order, then the others
    "injected_vus_pr",
    "alerts_per_instance_day",
    "label_churn",
    "fidelity",
    "largest_cluster_share",
    "noise_share",
    "level_stability",
    "severity_gap",
    "prototypes",
    "model_bytes",
    "operations_per_column",
    "silhouette",
    "davies_bouldin",
    "calinski_harabasz",
    "level_clusters",
    "unusual_share",
    "fit_seconds",
)
_MOST_COLUMNS = 16


def describe(ranking: Sequence[Mapping[str, Any]], winner: Mapping[str, Any] | None, why: str = "") -> str:
    """Markdown: all candidates with their figures and vetoes, best first, and why the winner was chosen.

    ``winner`` is its row with the decision's ``kind`` and ``why``; without one, ``why`` says why there is none.
    """
    names = _columns(ranking)
    head = ["", "family", *(name.replace("_", " ") for name in names), "vetoes"]
    lines = [_row(head), _row(["---"] * len(head))]
    for place, row in enumerate(ranking, start=1):
        chosen = winner is not None and row["family"] == winner["family"]
        family = f"**{row['family']}**" if chosen else str(row["family"])
        figures = [_number(row["figures"].get(name)) for name in names]
        lines.append(_row([str(place), family, *figures, "; ".join(row["vetoes"]) or "none"]))
    return "\n".join([_reason(ranking, winner, why), "", *lines])


def _columns(ranking: Sequence[Mapping[str, Any]]) -> list[str]:
    present: dict[str, None] = {name: None for row in ranking for name in row["figures"]}
    first = [name for name in _SHOWN if name in present]
    return [*first, *(name for name in present if name not in first)][:_MOST_COLUMNS]


def _reason(ranking: Sequence[Mapping[str, Any]], winner: Mapping[str, Any] | None, why: str) -> str:
    if winner is None:
        return f"No candidate was chosen: all {len(ranking)} were vetoed. What is in service stays. {why}".rstrip()
    vetoed = sum(bool(row["vetoes"]) for row in ranking)
    asked = f" It waits for an approval: {winner['ask']}." if winner.get("ask") else ""
    return (
        f"**{winner['family']}**, a {winner['kind']}. {winner['why']}.{asked} Candidates are ranked by VUS-PR on "
        f"injected incidents, those within {CLOSE} of the best by their alerts; {vetoed} of {len(ranking)} vetoed."
    )


def _number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
