"""The openings in service, which tell how often each paging threshold would have paged."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from riskwatch_lambda.episodes.openings import opening_row, read_opening
from riskwatch_lambda.paging_rule import REMEMBERED, TRAINED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from riskwatch_lambda.paging_rule import Opening


class Served(NamedTuple):
    """The openings in service by instance, and since when they are known, epoch milliseconds.

    A full memory has lost older openings: ``known_since`` has the first one that it still knows. All other instances
    are known since ``since_ms``, the first opening of the fleet.
    """

    since_ms: int
    known_since: Mapping[str, int]
    openings: Mapping[str, Sequence[Opening]]

    def since(self, instance_id: str) -> int:
        """Return the time since which the openings of an instance are known, epoch milliseconds."""
        return self.known_since.get(instance_id, self.since_ms)

    def to_document(self) -> dict[str, list[list[object]]]:
        """Return the openings as a JSON object."""
        return {name: list(map(opening_row, openings)) for name, openings in self.openings.items()}


def served(memories: Mapping[str, Sequence[Opening]]) -> Served | None:
    """Return the openings in service of some instances by id, None without any; those of training rows do not count."""
    openings = {
        name: [opening for opening in memory if opening.outcome != TRAINED] for name, memory in memories.items()
    }
    first = {name: min(opening.since_ms for opening in some) for name, some in openings.items() if some}
    if not first:
        return None
    is_full = {name: since_ms for name, since_ms in first.items() if len(openings[name]) >= REMEMBERED}
    return Served(min(first.values()), is_full, {name: openings[name] for name in first})


def read_served(document: Mapping[str, Sequence[Sequence[object]]] | None) -> Served | None:
    """Return the openings of a JSON object, None without any; raises DamagedItemError or another ValueError."""
    return served({name: [read_opening(row) for row in rows] for name, rows in (document or {}).items()})
