"""DynamoDB units of rows and openings, with an empty and with a full memory.

    python -m bench.table_units

The items are those that the function writes. DynamoDB counts a write unit for each KB of an item, two in a transaction,
and a read unit for each 4 KB of a consistent read. A batch reads the state of each instance once, however many rows it
has; the units here are for one row in a batch.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from riskwatch_lambda.clock import DAY_MS, HOUR_MS
from riskwatch_lambda.episode_rule import EpisodeState
from riskwatch_lambda.episodes.episode import Change, Episode
from riskwatch_lambda.episodes.openings import HeldOpening
from riskwatch_lambda.episodes.repository import EpisodeRepository
from riskwatch_lambda.paging_rule import FAMILIAR, PAGED, REMEMBERED, Held, Opening, Signature

if TYPE_CHECKING:
    from riskwatch_lambda.scoring.labelled_row import ReasonDocument
    from riskwatch_lambda.table import Update

NOW = 1_795_341_600_000
METRIC = "network_receive_bytes_per_second"  # a long name
REASON: ReasonDocument = {
    "feature": METRIC,
    "value": 123.4,
    "low": 10.5,
    "high": 98.7,
    "share": 0.4321,
    "direction": "up",
}


class Recorder:
    """A table that records the sizes in bytes of the items of the last write."""

    sizes: tuple[int, ...] = ()

    def update(self, *updates: Update) -> None:
        """Record a write."""
        self.sizes = tuple(map(size, updates))


def main() -> None:
    """Print a line for each event and memory."""
    for line in lines():
        print(line)


def lines() -> list[str]:
    """Return a line for each event and memory: read and write units, and the bytes of the state."""
    return [
        f"DynamoDB, {event}, memory of {len(memory):2d}: read {read:.0f}, write {write:.0f}, state {state:,} bytes"
        for memory in (openings(0), openings(REMEMBERED))
        for event, (read, write, state) in events(memory).items()
    ]


def events(memory: tuple[Opening, ...]) -> dict[str, tuple[float, float, int]]:
    """Return read units, write units and bytes of the state for what a row can do."""
    opening = Opening(Signature(METRIC, "up"), NOW, None, 1.234567, 1.234567, PAGED)
    after = (*memory, opening)[-REMEMBERED:]
    closed = Episode("i-0123456789abcdef0", "shop", openings=memory or None)
    state = EpisodeState(True, NOW, NOW, None, 0, 1.234567, (), (METRIC,))
    is_open = replace(closed, state=state, reasons=(REASON,) * 3, openings=after, opened_ms=NOW, paging_threshold=1.1)
    familiar = opening._replace(outcome=FAMILIAR)
    held = replace(closed, held=Held(state), openings=(*after[:-1], familiar))
    listed = HeldOpening(closed.instance_id, "shop", "", familiar, 1.1, 3, is_by_hour=True)
    changes = {
        "an opening that pages": Change(closed, is_open, listed=(is_open,)),
        "a further row of an episode": Change(is_open, is_open),
        "an opening that is held": Change(closed, held, held=(listed,)),
    }
    before = written(Change(None, closed))[-1] if memory else 0
    found: dict[str, tuple[float, float, int]] = {"a quiet row": (max(1, math.ceil(before / 4096)), 0.0, before)}
    for event, change in changes.items():
        sizes = written(change)
        factor = 2 if len(sizes) > 1 else 1
        read = max(1, math.ceil((sizes[-1] if change.before is is_open else before) / 4096))
        found[event] = read, factor * sum(math.ceil(one / 1024) for one in sizes), sizes[-1]
    return found


def openings(count: int) -> tuple[Opening, ...]:
    """Return so many openings of the last days."""
    signature = Signature(METRIC, "up")
    begins = [NOW - DAY_MS - back * 5 * HOUR_MS for back in range(count, 0, -1)]
    return tuple(Opening(signature, begin, begin + HOUR_MS, 1.234567, 1.234567, FAMILIAR) for begin in begins)


def written(change: Change) -> tuple[int, ...]:
    """Return the bytes of each item of a change; the state is the last one."""
    table = Recorder()
    EpisodeRepository(table).write(change)  # type: ignore[arg-type]
    return table.sizes


def size(update: Update) -> int:
    """Return the bytes of the attributes that an update sets, with its key."""
    values = [*update["Key"].values(), *update["ExpressionAttributeValues"].values()]
    names = [*update["Key"], *(name[1:] for name in update["ExpressionAttributeValues"])]
    return sum(len(str(content)) for value in values for content in value.values()) + sum(map(len, names))


if __name__ == "__main__":
    main()
