"""The paging threshold that keeps to a budget of pages.

The threshold is fitted to the strengths that the rules of familiar openings and of the cool-down let through: each of
these openings pages if its strength reaches the threshold.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from riskwatch_lambda.clock import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from riskwatch_lambda.paging_rule import Opening
    from riskwatch_ml.core.arrays import FloatArray, IntArray
    from riskwatch_ml.core.settings import Settings

_log = logging.getLogger(__name__)

BUSY_SHARE = 0.2  # the share of instance-days, the busiest, that are not ordinary
THRESHOLD_STEPS = 10_000  # thresholds are rounded up to four decimals
MOST = 1e6
SERVED_DAYS = 7  # fewer days in service do not decide on a threshold alone
LEAST_PAGES, SHARE_A_DAY, MOST_PAGES = 4, 0.1, 20


class PageBudget(NamedTuple):
    """Pages for each instance and day.

    ``ordinary_days``: the busiest fifth of the instance-days, which is assumed to hold the incidents, does not count.
    """

    pages: float = 1.0
    ordinary_days: bool = True


DEFAULT_BUDGET = PageBudget()


def fleet_budget(instances: int, pages_per_day: float | None = None, rotations: int = 1) -> PageBudget:
    """Return the budget of a fleet of ``instances`` that may page ``pages_per_day`` in all.

    A budget that a person sets counts all days. The default, None, is one page per instance up to 4, then 4 pages or
    one for each ten instances, at most 20 for each on-call rotation. It counts ordinary days.
    """
    instances = max(1, instances)
    if pages_per_day is not None:
        return PageBudget(pages_per_day / instances, ordinary_days=False)
    pages = min(instances, max(LEAST_PAGES, instances * SHARE_A_DAY), MOST_PAGES * rotations)
    return PageBudget(pages / instances)


def budget_of(settings: Settings, instances: int) -> PageBudget:
    """Return the budget of an installation with ``instances`` of all kinds; each kind gets its share of them."""
    if settings.budget is not None:
        _log.warning(
            "budget is %g pages per instance and day, as in earlier releases: that is pages_per_day = %g for %d "
            "instances; set pages_per_day, the next release does not read budget",
            *(settings.budget, settings.budget * instances, instances),
        )
        return PageBudget(settings.budget, ordinary_days=False)
    return fleet_budget(instances, settings.pages_per_day, settings.rotations)


class InstanceDays:
    """The days of each instance: 24 hours from its first row on; a part of a day counts as that part.

    ``code`` and ``ms`` (n,) are the instances and times of rows that are ``period_s`` seconds apart. ``most`` is the
    largest number of days of an instance.
    """

    def __init__(self, code: IntArray, ms: IntArray, period_s: float) -> None:
        self._begin = np.full(int(code.max(initial=-1)) + 1, np.iinfo(np.int64).max)
        np.minimum.at(self._begin, code, ms)
        self.most = int((ms - self._begin[code]).max(initial=0)) // DAY_MS + 1
        days, rows = np.unique(code * self.most + (ms - self._begin[code]) // DAY_MS, return_counts=True)
        self._days = days
        self.size: FloatArray = rows * period_s / 86_400

    def places(self, openings: Iterable[tuple[int, Opening]]) -> tuple[IntArray, FloatArray]:
        """Return day and strength (m,) of the openings that pass, without those outside of all days."""
        known = [
            (code * self.most + (opening.since_ms - int(self._begin[code])) // DAY_MS, opening.passed)
            for code, opening in openings
            if opening.passed > 0 and 0 <= opening.since_ms - int(self._begin[code]) < self.most * DAY_MS
        ]
        day = np.array([day for day, _ in known], np.int64)
        strength = np.array([strength for _, strength in known], float)
        place = np.minimum(np.searchsorted(self._days, day), max(0, len(self._days) - 1))
        is_known = self._days[place] == day if len(self._days) else np.zeros(len(day), bool)
        return place[is_known], strength[is_known]

    def pages_a_day(self, place: IntArray, ordinary_days: bool) -> float:
        """Return the pages for each instance and day; ``place`` (m,) are the days of the pages."""
        if not len(self.size):
            return 0.0
        count = np.bincount(place, minlength=len(self.size))
        share = 1 - BUSY_SHARE if ordinary_days else 1.0
        counted = np.argsort(count, kind="stable")[: max(1, int(np.ceil(len(count) * share)))]
        return float(count[counted].sum() / self.size[counted].sum())


def served_threshold(days: InstanceDays, openings: Iterable[tuple[int, Opening]], budget: PageBudget) -> float | None:
    """Return the paging threshold for the openings in service alone, None if they are of too few days.

    ``days`` are those since the first of them.
    """
    if days.most < SERVED_DAYS:
        return None
    return paging_threshold(days, openings, budget)


def paging_threshold(days: InstanceDays, openings: Iterable[tuple[int, Opening]], budget: PageBudget) -> float:
    """Return the smallest threshold of at least 1 that keeps to the budget, in steps of 0.0001.

    ``openings`` come with the number of their instance.
    """
    place, strength = days.places(openings)
    ladder = np.unique(np.append(np.floor(strength[strength >= 1] * THRESHOLD_STEPS) + 1, THRESHOLD_STEPS))
    low, high = 0, len(ladder) - 1
    while low < high:
        middle = (low + high) // 2
        pages = place[strength >= ladder[middle] / THRESHOLD_STEPS]
        if days.pages_a_day(pages, budget.ordinary_days) <= budget.pages:
            high = middle
        else:
            low = middle + 1
    return float(min(ladder[low] / THRESHOLD_STEPS, MOST))
