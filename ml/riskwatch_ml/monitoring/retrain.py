"""The requests of a watch report: a retrain after drift, a refresh once an open episode may be learned as normal.

Both are decided for each kind of resource by itself, from the reports of that kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from riskwatch_ml.monitoring.watch_report import DatedReport

REPORTS = 3
VIOLATIONS = 2


def retrain_wanted(report: DatedReport, others: Sequence[DatedReport]) -> bool:
    """Return whether a report requests a retrain.

    It does if it and one of the two before it violate the drift limit. `others` are the
    reports of other runs within a day of it, oldest first. Only reports of the same model support it. The result is
    False if one of the others, of any model, has requested a retrain.
    """
    if any(other["retrain"] for other in others) or not report["distribution"]["violated"]:
        return False
    before = [other for other in others if other["model_id"] == report["model_id"] and other["at"] < report["at"]]
    violations = 1 + sum(bool(other["distribution"]["violated"]) for other in before[-(REPORTS - 1) :])
    return violations >= VIOLATIONS


def new_to_learn(report: DatedReport, others: Sequence[DatedReport]) -> list[str]:
    """Return the episodes of ``to_learn`` that none of the ``others`` before the report has named.

    A refresh is requested for them once; whatever comes of it, the daily training learns them.
    """
    known = {name for other in others if other["at"] < report["at"] for name in other.get("to_learn", [])}
    return [name for name in report.get("to_learn", []) if name not in known]
