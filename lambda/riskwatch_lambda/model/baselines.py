"""What is normal: centre and scale of every feature by baseline and UTC hour of day, read from the file when asked for.

A fleet of thousands has millions of these numbers and a batch needs few of them. They stay in the file, each column
(one feature of one baseline over 24 hours) as a base and, where the hour matters, a step and 24 counts of steps above
the base. Steps are powers of two, so that ``base + step * count`` is exact. The base being the least of the 24, one
look at the bases tells that every scale is above zero.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from riskwatch_lambda.model.arrays import ArrayFile
    from riskwatch_lambda.model.row_schema import Layout

HOURS = 24
EXPECTED_RANGE_SCALES = 3  # either way of the center
# Some 30 MB at ten features: two hours of a fleet of 10,000.
PROFILES_KEPT = 20_000
BASE, STEP, COUNTS = "profile_base", "profile_step", "profile_counts"


class BaselineError(ValueError):
    """The baselines of a model contradict its document or themselves."""


class Profile(NamedTuple):
    """What is normal for one baseline at one hour of day, a value a feature.

    ``usual`` holds center and scale, and goes on with the trailing features where the model has them. ``low`` and
    ``high`` are center -/+ 3 scale within the physical bounds; ``exhaustible`` holds position and bound of the metrics
    whose exhaustion bound lies above center + 3 scale, so that reaching it is news.
    """

    usual: tuple[tuple[float, float], ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    exhaustible: tuple[tuple[int, float], ...]


class Baselines:
    """The baselines of a model with ``width`` values a row; ``count`` is their number.

    ``names`` is the document's index: baselines by instance and by role, and the fleet's. ``exhaustion`` has a bound or
    None for each metric. Raises ArrayError and BaselineError.
    """

    def __init__(
        self,
        names: Mapping[str, Any],
        arrays: ArrayFile,
        width: int,
        layout: Layout,
        exhaustion: Sequence[float | None],
    ) -> None:
        self._width, self._layout, self._exhaustion = width, layout, exhaustion
        self._base = arrays.floats(BASE, (None, 2, width))
        self.count = count = len(self._base) // (2 * width)
        self._step = arrays.floats(STEP, (count, 2, width))
        steps = list(self._step)
        if min(steps) < 0:
            raise BaselineError(f"array {STEP} holds {min(steps)!r}: a step must be 0 or above")
        columns = 2 * width
        hourly = (columns - steps[at : at + columns].count(0.0) for at in range(0, len(steps), columns))
        *self._first, total = accumulate(hourly, initial=0)
        self._counts = arrays.integers(COUNTS, (total, HOURS))
        for index in range(count):
            least = min(self._base[(2 * index + 1) * width : (2 * index + 2) * width])
            if not least > 0:
                raise BaselineError(f"a scale of baseline {index} is {least!r}: every scale must be above 0")
        self._instances, self._roles, self._fleet = _read_names(names, count)
        self.profile = lru_cache(PROFILES_KEPT)(self._profile)

    def find(self, instance_id: str, role: str) -> tuple[int, bool]:
        """Give the index of the instance's baseline, and whether it is its own; else its role's, else the fleet's."""
        index = self._instances.get(instance_id)
        if index is not None:
            return index, True
        return self._roles.get(role, self._fleet), False

    def _profile(self, baseline: int, hour: int) -> Profile:
        """Give what is normal for a baseline at a UTC hour of day; made when first asked for."""
        layout, metrics = self._layout, len(self._layout.features)
        values = self._values(baseline, hour)
        center, scale = values[: self._width], values[self._width :]
        reach = [EXPECTED_RANGE_SCALES * size for size in scale]
        bounds = [
            (-math.inf if low is None else low, math.inf if high is None else high) for low, high in layout.bounds
        ]
        spans = list(zip(center[:metrics], reach[:metrics], bounds, strict=True))
        low = tuple(min(max(c - r, lower), upper) for c, r, (lower, upper) in spans)
        high = tuple(min(max(c + r, lower), upper) for c, r, (lower, upper) in spans)
        exhaustible = tuple(
            (position, bound)
            for position, bound in enumerate(self._exhaustion)
            if bound is not None and center[position] + reach[position] < bound
        )
        return Profile(tuple(zip(center, scale, strict=True)), low, high, exhaustible)

    def _values(self, baseline: int, hour: int) -> list[float]:
        """Give the centres of a baseline at an hour, then its scales."""
        start, stop = 2 * self._width * baseline, 2 * self._width * (baseline + 1)
        values = list(self._base[start:stop])
        at = self._first[baseline] * HOURS + hour
        for column, step in enumerate(self._step[start:stop]):
            if step:
                values[column] += step * self._counts[at]
                at += HOURS
        return values


def _read_names(names: Mapping[str, Any], count: int) -> tuple[dict[str, int], dict[str, int], int]:
    instances, roles, fleet = (names.get(key) for key in ("instances", "roles", "fleet"))
    if not isinstance(instances, dict) or not isinstance(roles, dict):
        raise BaselineError("baselines needs an object of instances and one of roles")
    if type(fleet) is not int or not 0 <= fleet < count:
        raise BaselineError(f"the baseline of the fleet is {fleet!r}, the arrays hold {count} baselines")
    for name, index in [*instances.items(), *roles.items()]:
        if type(index) is not int or not 0 <= index < count:
            raise BaselineError(f"the baseline of {name} has index {index!r}, the arrays hold {count} baselines")
    return instances, roles, fleet
