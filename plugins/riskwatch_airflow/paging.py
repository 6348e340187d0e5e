"""What a training tells the function about paging: the budget of the fleet, and the threshold of what serves."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from riskwatch_airflow import clients, past_episodes
from riskwatch_ml.storage import keys, known_instances

if TYPE_CHECKING:
    import pandas as pd

    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.features.served import Served
    from riskwatch_ml.model.page_budget import PageBudget
    from riskwatch_ml.selection.handoff import ChampionVersion
    from riskwatch_ml.storage.bucket import Store

_log = logging.getLogger(__name__)


def _entities(config: Settings, store: Store, instances: int) -> int:
    """Return the number of instances of all kinds; a fleet without an inventory has the ``instances`` of a kind."""
    return max(len(known_instances.load(config.inventory, store)), instances)


def settle(
    config: Settings, store: Store, training_id: str, rows: pd.DataFrame, champion: ChampionVersion | None
) -> float:
    """Note the openings in service for a training, and give the function the budget and the threshold.

    `champion` is the model in service: it pages by the new threshold even if the training releases nothing. Returns the
    pages a day of the fleet. Raises TableError if the table cannot be read or written.
    """
    from riskwatch_lambda.episodes import paging_settings
    from riskwatch_lambda.table import Table
    from riskwatch_ml.model.page_budget import budget_of

    model_id = "" if champion is None else champion.get("model_id", "")
    served = past_episodes.openings(config, sorted(set(rows["instance_id"])))
    store.put_json(keys.training_openings(training_id), served.to_document() if served else {})
    fleet = _entities(config, store, int(rows["instance_id"].nunique()))
    budget = budget_of(config, fleet)
    threshold = _threshold(rows, served, budget, config.period_s) if model_id and served else None
    thresholds = [] if threshold is None else [(model_id, threshold)]
    table = Table(clients.client(config, "dynamodb"), config.table)
    paging_settings.write(table, budget.pages * fleet, thresholds)
    _log.info("budget: %.2f pages a day; threshold of %s: %s", budget.pages * fleet, model_id or "no model", threshold)
    return round(budget.pages * fleet, 2)


def _threshold(rows: pd.DataFrame, served: Served, budget: PageBudget, period_s: float) -> float | None:
    import pandas as pd

    from riskwatch_ml.model.page_budget import InstanceDays, served_threshold

    ms = rows["timestamp"].dt.as_unit("ms").astype("int64").to_numpy()
    since = ms >= rows["instance_id"].map(served.since).to_numpy()
    code, names = pd.factorize(rows.loc[since, "instance_id"])
    number = {name: index for index, name in enumerate(names)}
    openings = [(number[name], item) for name, some in served.openings.items() if name in number for item in some]
    return served_threshold(InstanceDays(code, ms[since], period_s), openings, budget)
