"""The comparison of all candidates of a training, as Markdown for operators.

It is the description of the registered version and the note on the training run; MLflow renders both.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from riskwatch_ml.selection.ranking import CLOSE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from riskwatch_ml.selection.handoff import RankedCandidate, Winner

_SHOWN = (  # first columns of the table, as far as candidates have these figures; other figures follow
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
_MAX_COLUMNS = 16


def describe(ranking: Sequence[RankedCandidate], winner: Winner | None, why: str = "") -> str:
    """Return Markdown: the reason for the choice, then a table of all candidates.

    ``ranking`` has the candidates, best first, with figures and vetoes. ``winner`` is one of them with the decision's
    ``kind`` and ``why``. Without a winner, ``why`` is the reason.
    """
    names = _columns(ranking)
    head = ["", "family", *(name.replace("_", " ") for name in names), "vetoes"]
    lines = [_row(head), _row(["---"] * len(head))]
    for rank, row in enumerate(ranking, start=1):
        is_winner = winner is not None and row["family"] == winner["family"]
        family = f"**{row['family']}**" if is_winner else str(row["family"])
        figures = [_number(row["figures"].get(name)) for name in names]
        lines.append(_row([str(rank), family, *figures, "; ".join(row["vetoes"]) or "none"]))
    return "\n".join([_reason(ranking, winner, why), "", *lines])


def _columns(ranking: Sequence[RankedCandidate]) -> list[str]:
    present: dict[str, None] = {name: None for row in ranking for name in row["figures"]}
    first = [name for name in _SHOWN if name in present]
    return [*first, *(name for name in present if name not in first)][:_MAX_COLUMNS]


def _reason(ranking: Sequence[RankedCandidate], winner: Winner | None, why: str) -> str:
    if winner is None:
        return f"No candidate was chosen: the guards vetoed all {len(ranking)}. The champion stays. {why}".rstrip()
    vetoed = sum(bool(row["vetoes"]) for row in ranking)
    approval = f" It waits for an approval: {winner['ask']}." if winner.get("ask") else ""
    return (
        f"**{winner['family']}**, a {winner['kind']}. {winner['why']}.{approval} Candidates are ranked by VUS-PR on "
        f"injected incidents, those within {CLOSE} of the best by their alerts; {vetoed} of {len(ranking)} vetoed."
    )


def _number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
