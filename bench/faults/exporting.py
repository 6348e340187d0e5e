"""An export without its hours: what must be there again, byte for byte, after a fault."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.faults.world import conf
from riskwatch_ml.core import clock
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from datetime import datetime

    from bench.faults.world import World

LAYERS = (keys.RAW, keys.VALIDATED, keys.QUARANTINE)


@dataclass(frozen=True)
class MissingHours:
    """Hours of the export that were deleted: [start, end), and the objects that they had."""

    world: World
    start: datetime
    end: datetime
    before: dict[str, bytes]

    @classmethod
    def delete(cls, world: World, start: datetime, end: datetime) -> MissingHours:
        """Delete the exported hours of [start, end) and remember them."""
        before = _objects(world, start, end)
        for key in before:
            world.store.delete(key)
        return cls(world, start, end, before)

    def export(self) -> str:
        """Start the export of the hours and return its run id."""
        return self.world.airflow.trigger("export_metrics", conf(self.start, self.end))

    def written(self) -> int:
        """Return how many of the raw hours are there again."""
        days = {keys.day_prefix(keys.RAW, hour) for hour in clock.hours(self.start, self.end)}
        listed = [keys.parse_hour(key) for day in days for key in self.world.store.keys(day)]
        return sum(parsed is not None and self.start <= parsed.hour < self.end for parsed in listed)

    @property
    def hours(self) -> int:
        """The number of raw hours that were deleted."""
        return sum(key.startswith(f"{keys.RAW}/") for key in self.before)

    def different(self) -> list[str]:
        """Return the keys of objects that differ from those before."""
        now = _objects(self.world, self.start, self.end)
        return sorted(key for key in self.before.keys() | now.keys() if self.before.get(key) != now.get(key))


def _objects(world: World, start: datetime, end: datetime) -> dict[str, bytes]:
    store = world.store
    listed = [
        key for layer in LAYERS for hour in clock.hours(start, end) for key in store.keys(keys.hour_prefix(layer, hour))
    ]
    return {key: data for key in listed if (data := store.get_bytes(key)) is not None}
