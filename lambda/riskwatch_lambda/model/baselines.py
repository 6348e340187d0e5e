"""Baselines: center and scale of every feature by slot, read on demand.

A fleet of thousands has millions of these numbers, and a batch needs few of them, so they stay in the file. A column
(one feature of one baseline over its slots) is stored as a base and, if its values depend on the slot, a step and
counts of steps above the base: 24 counts, or 54 in a baseline with day types. Steps are powers of two, so
``base + step * count`` is exact. The base is the minimum of the values, so a check of the bases proves that every scale
is above zero.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from riskwatch_lambda.episode_rule import BaselineKind
from riskwatch_lambda.model.seasons import HOURS, SLOTS, SeasonError, Seasons

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from riskwatch_lambda.model.arrays import ArrayFile
    from riskwatch_lambda.model.row_schema import RowSchema

DEFAULT_ROLE = "default"  # the role of an instance without one: it says nothing about how an instance behaves
EXPECTED_RANGE_SCALES = 3  # on both sides of the center
# About 30 MB with ten features: two hours of a fleet of 10,000.
PROFILES_KEPT = 20_000
BASE, STEP, COUNTS = "profile_base", "profile_step", "profile_counts"
DAY_TYPES, DAY_TYPE_COUNTS = "profile_day_types", "profile_day_type_counts"


class BaselineError(ValueError):
    """The baselines of a model are inconsistent or contradict its document."""


class Profile(NamedTuple):
    """Expected values of one baseline in one slot, one per feature.

    ``usual`` is center and scale of every feature, followed by those of the trailing features if the model has any.
    ``low`` and ``high`` are center -/+ 3 scale within the physical bounds. ``exhaustible`` has position and exhaustion
    bound of each metric with a bound above center + 3 scale; elsewhere, a value at the bound is normal. The baseline of
    a role or of the fleet needs a bound above its center only: its scale measures how instances differ.
    """

    usual: tuple[tuple[float, float], ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    exhaustible: tuple[tuple[int, float], ...]


class Baselines:
    """The ``count`` baselines of a model with ``width`` values per row.

    ``document`` has the index of the baselines by instance, by role, and of the fleet, and their seasons.
    ``exhaustion`` has a bound or None for each metric. Raises ArrayError and BaselineError.
    """

    def __init__(
        self,
        document: Mapping[str, object],
        arrays: ArrayFile,
        width: int,
        row_schema: RowSchema,
        exhaustion: Sequence[float | None],
    ) -> None:
        self._width, self._row_schema, self._exhaustion = width, row_schema, exhaustion
        self._base = arrays.floats(BASE, (None, 2, width))
        self.count = count = len(self._base) // (2 * width)
        self._step = arrays.floats(STEP, (count, 2, width))
        steps = list(self._step)
        if min(steps) < 0:
            raise BaselineError(f"array {STEP} holds {min(steps)!r}: a step must be 0 or above")
        try:
            self._seasons = Seasons(document, count)
        except SeasonError as error:
            raise BaselineError(str(error)) from error
        self._day_types = _read_day_types(arrays, count)
        self._first, totals = [], [0, 0]
        for index, has_types in enumerate(self._day_types):
            self._first.append(totals[has_types])
            totals[has_types] += 2 * width - steps[2 * width * index : 2 * width * (index + 1)].count(0.0)
        self._counts = [arrays.integers(COUNTS, (totals[0], HOURS))]
        if any(self._day_types):
            self._counts.append(arrays.integers(DAY_TYPE_COUNTS, (totals[1], SLOTS)))
        for index in range(count):
            least = min(self._base[(2 * index + 1) * width : (2 * index + 2) * width])
            if not least > 0:
                raise BaselineError(f"a scale of baseline {index} is {least!r}: every scale must be above 0")
        self._instances, self._roles, self._fleet = _read_names(document.get("baselines"), count)
        self._own = frozenset(self._instances.values())
        self._kept = lru_cache(PROFILES_KEPT)(self._profile)

    def find(self, instance_id: str, role: str) -> tuple[int, BaselineKind]:
        """Return the index of an instance's baseline, and its kind.

        If the instance has none of its own, it is the baseline of its role, or of the fleet. The instances without a
        role have a baseline together, which counts as that of the fleet.
        """
        index = self._instances.get(instance_id)
        if index is not None:
            return index, BaselineKind.INSTANCE
        index = self._roles.get(role, self._fleet)
        is_role = role in self._roles and role != DEFAULT_ROLE
        return index, BaselineKind.ROLE if is_role else BaselineKind.FLEET

    def profile(self, baseline: int, ts: int) -> Profile:
        """Return the profile of a baseline at ``ts``, UTC epoch in milliseconds."""
        return self._kept(baseline, *self._seasons.slot(baseline, ts, day_types=self._day_types[baseline] == 1))

    def _profile(self, baseline: int, slot: int, widening: float) -> Profile:
        """Return the profile of a baseline in a slot, with its scales times ``widening``."""
        row_schema, metrics = self._row_schema, len(self._row_schema.features)
        values = self._values(baseline, slot)
        center, scale = values[: self._width], [widening * size for size in values[self._width :]]
        reach = [EXPECTED_RANGE_SCALES * size for size in scale]
        bounds = [
            (-math.inf if low is None else low, math.inf if high is None else high) for low, high in row_schema.bounds
        ]
        spans = list(zip(center[:metrics], reach[:metrics], bounds, strict=True))
        low = tuple(min(max(c - r, lower), upper) for c, r, (lower, upper) in spans)
        high = tuple(min(max(c + r, lower), upper) for c, r, (lower, upper) in spans)
        is_own = baseline in self._own
        exhaustible = tuple(
            (position, bound)
            for position, bound in enumerate(self._exhaustion)
            if bound is not None and center[position] + is_own * reach[position] < bound
        )
        return Profile(tuple(zip(center, scale, strict=True)), low, high, exhaustible)

    def _values(self, baseline: int, slot: int) -> list[float]:
        """Return the centers of a baseline in a slot, followed by its scales."""
        start, stop = 2 * self._width * baseline, 2 * self._width * (baseline + 1)
        values = list(self._base[start:stop])
        has_types = self._day_types[baseline]
        counts, slots = self._counts[has_types], SLOTS if has_types else HOURS
        position = self._first[baseline] * slots + slot
        for column, step in enumerate(self._step[start:stop]):
            if step:
                values[column] += step * counts[position]
                position += slots
        return values


def _read_day_types(arrays: ArrayFile, count: int) -> Sequence[int]:
    """Return 1 for each baseline with day types, else 0; a model without the array has none."""
    if DAY_TYPES not in arrays:
        return [0] * count
    day_types = arrays.integers(DAY_TYPES, (count,))
    if max(day_types) > 1:
        raise BaselineError(f"array {DAY_TYPES} holds {max(day_types)}: it must be 0 or 1")
    return day_types


def _read_names(names: object, count: int) -> tuple[dict[str, int], dict[str, int], int]:
    if not isinstance(names, dict):
        raise BaselineError(f"baselines is {names!r:.100}, expected an object")
    instances, roles, fleet = (names.get(key) for key in ("instances", "roles", "fleet"))
    if not isinstance(instances, dict) or not isinstance(roles, dict):
        raise BaselineError("baselines needs an object of instances and one of roles")
    if type(fleet) is not int or not 0 <= fleet < count:
        raise BaselineError(f"the baseline of the fleet is {fleet!r}, the arrays hold {count} baselines")
    for name, index in [*instances.items(), *roles.items()]:
        if type(index) is not int or not 0 <= index < count:
            raise BaselineError(f"the baseline of {name} has index {index!r}, the arrays hold {count} baselines")
    return instances, roles, fleet
