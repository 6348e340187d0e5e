"""The openings in service, which tell how often each paging threshold would have paged."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from riskwatch_lambda.episodes.openings import opening_row, read_opening
from riskwatch_lambda.paging_rule import TRAINED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from riskwatch_lambda.paging_rule import Opening


class Served(NamedTuple):
    """The openings in service by instance since a time, epoch milliseconds."""

    since_ms: int
    openings: Mapping[str, Sequence[Opening]]

    def to_document(self) -> dict[str, list[list[object]]]:
        """Return the openings as a JSON object."""
        return {name: list(map(opening_row, openings)) for name, openings in self.openings.items()}


def served(memories: Mapping[str, Sequence[Opening]]) -> Served | None:
    """Return the openings in service of some instances by id, None without any.

    They count since the first of them: before it, nothing in service is known. Those of training rows do not count.
    """
    openings = {
        name: [opening for opening in memory if opening.outcome != TRAINED] for name, memory in memories.items()
    }
    begin = min((opening.since_ms for some in openings.values() for opening in some), default=None)
    return None if begin is None else Served(begin, {name: some for name, some in openings.items() if some})


def read_served(document: Mapping[str, Sequence[Sequence[object]]] | None) -> Served | None:
    """Return the openings of a JSON object, None without any; raises DamagedItemError or another ValueError."""
    return served({name: [read_opening(row) for row in rows] for name, rows in (document or {}).items()})
