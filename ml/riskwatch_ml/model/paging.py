"""The paging threshold of a fit, its pages on the training rows, and the openings that it hands to the function."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from riskwatch_lambda.clock import DAY_MS
from riskwatch_lambda.episode_rule import Rule
from riskwatch_lambda.paging_rule import HOUR_SPAN_DAYS, REMEMBERED
from riskwatch_ml.model.openings import follow, going_on, opening_rows
from riskwatch_ml.model.page_budget import InstanceDays, paging_threshold

if TYPE_CHECKING:
    from collections.abc import Iterable

    from riskwatch_lambda.model.trained_openings import OpeningDocument
    from riskwatch_lambda.paging_rule import InstanceState, Opening
    from riskwatch_ml.core.arrays import BoolArray
    from riskwatch_ml.features.served import Served
    from riskwatch_ml.features.training_set import TrainingSet
    from riskwatch_ml.model.fleet_model import FleetModel, RowScores
    from riskwatch_ml.model.page_budget import PageBudget


class Paging(NamedTuple):
    """The paging threshold, and what it does on the training rows.

    ``pages`` are those of each instance and day, ``alert`` (n,) marks the rows in an episode. ``remembered`` are the
    openings of the last days by instance.
    """

    threshold: float
    pages: float
    alert: BoolArray
    remembered: dict[str, list[OpeningDocument]]


def fit_paging(
    training_set: TrainingSet,
    model: FleetModel,
    row_scores: RowScores,
    budget: PageBudget,
    period_s: float,
) -> Paging:
    """Fit the paging threshold to the openings in service, and to those of the training rows before them."""
    table = training_set.table
    rows = opening_rows(model, table, training_set.baseline, row_scores)
    rule = Rule.of(model.rule)._replace(paging_threshold=1.0)
    states: dict[int, InstanceState] = {}
    followed = follow(rows, rule, states)
    trained = [*followed.openings, *going_on(states)]
    days = InstanceDays(table.code, table.ms, period_s)
    openings = _with_served(trained, table.instances, training_set.served)
    threshold = paging_threshold(days, openings, budget)
    place, strength = days.places(openings)
    pages = days.pages_a_day(place[strength >= threshold], ordinary_days=False)
    alert = follow(rows, rule._replace(paging_threshold=threshold), {}).alert if threshold > 1 else followed.alert
    newest_ms = int(table.ms.max(initial=0))
    return Paging(threshold, pages, alert, _remembered(trained, table.instances, newest_ms))


def _with_served(
    trained: Iterable[tuple[int, Opening]], instances: tuple[str, ...], served: Served | None
) -> list[tuple[int, Opening]]:
    """Return the openings in service, and those of the training rows before them, with the number of the instance."""
    if served is None:
        return list(trained)
    number = {name: code for code, name in enumerate(instances)}
    return [
        *((code, opening) for code, opening in trained if opening.since_ms < served.since(instances[code])),
        *((number[name], opening) for name, some in served.openings.items() if name in number for opening in some),
    ]


def _remembered(
    openings: Iterable[tuple[int, Opening]], instances: tuple[str, ...], newest_ms: int
) -> dict[str, list[OpeningDocument]]:
    """Return the openings that can make another one familiar, oldest first."""
    kept: dict[str, list[OpeningDocument]] = {}
    for code, opening in sorted(openings, key=lambda item: item[1].since_ms):
        if newest_ms - opening.since_ms <= HOUR_SPAN_DAYS * DAY_MS:
            minutes = ((opening.end_ms or opening.since_ms) - opening.since_ms) // 60_000
            document = (*opening.signature, opening.since_ms // 1000, minutes, round(opening.peak, 3))
            kept.setdefault(instances[code], []).append(document)
    return {name: some[-REMEMBERED:] for name, some in sorted(kept.items())}
