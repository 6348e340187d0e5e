"""The result of a backtest: the labelled replay and the models that labelled it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from riskwatch_ml.model.page_budget import DEFAULT_BUDGET, PageBudget

if TYPE_CHECKING:
    import pandas as pd

    from riskwatch_lambda.scoring.labelled_row import ReasonDocument
    from riskwatch_ml.features.left_out import PastEpisode
    from riskwatch_ml.selection.contest import Contest


@dataclass(frozen=True)
class Refresh:
    """One refresh: the model that labels from ``ms`` (UTC epoch ms) on.

    ``rows`` and ``instances`` count what the model was fitted to. ``serves`` is False if the guards have vetoed every
    family, so that `train_models` would serve nothing. ``kept`` is true if the previous model goes on, ``why`` is the
    reason, empty without one. ``churn`` is the share of the rows that change their level, None for the first model.
    ``new_normals`` are the open episodes that the model has learned as normal. ``relative``: its levels are relative to
    the fleet.
    """

    ms: int
    family: str
    rows: int
    instances: int
    paging_threshold: float
    pages_expected: float
    contest: Contest | None
    serves: bool = True
    kept: bool = False
    why: str = ""
    churn: float | None = None
    new_normals: tuple[PastEpisode, ...] = ()
    relative: bool = False


@dataclass
class Backtest:
    """The labelled replay and its refreshes.

    ``rows`` has one row for each replay row, sorted by (instance_id, timestamp), with instance_id, timestamp (UTC),
    score, alert, risk, level, unusual and the metrics. ``metrics`` is the column of each metric, ``units`` the unit of
    each column. A metric with the name of a result has the suffix " (metric)". ``explanations`` has the main features
    of each row that opened an episode, by position in ``rows``. ``early`` counts the rows that are older than the
    history of their instance. ``budget`` is that of pages.
    """

    rows: pd.DataFrame
    refreshes: list[Refresh]
    metrics: dict[str, str]
    period_s: int
    explanations: dict[int, list[ReasonDocument]] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    early: int = 0
    budget: PageBudget = DEFAULT_BUDGET
