"""Row schema of a model: its features and their physical bounds. ``row_check`` checks rows against it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

REASON_LIMIT = 300
# No metric reaches this value, and its square is far from overflow.
MAGNITUDE_LIMIT = 1e15

Row = tuple[float | None, ...]
Bounds = tuple[float | None, float | None]


class RecordError(ValueError):
    """A stream record cannot be scored; the text is the reason that quarantine stores.

    ``rows`` is the number of rows that the record asks to label, 1 if that is unknown. ``values`` is the number of
    values in these rows, 0 if that is unknown. ``resource_kind`` is their kind, empty if that is unknown.
    """

    def __init__(self, reason: str, rows: int = 1, values: int = 0, resource_kind: str = "") -> None:
        super().__init__(reason if len(reason) <= REASON_LIMIT else reason[: REASON_LIMIT - 3] + "...")
        self.rows = rows
        self.values = values
        self.resource_kind = resource_kind


@dataclass(frozen=True)
class RowSchema:
    """Schema of the rows of one kind of resource: feature names and physical bounds, in order.

    ``context_rows`` is the number of rows that the model can use, the labelled one included. ``resource_kind`` is
    empty in a model of an earlier release, which has one kind only.
    """

    features: tuple[str, ...]
    bounds: tuple[Bounds, ...]
    context_rows: int
    resource_kind: str = ""

    @cached_property
    def limits(self) -> tuple[tuple[float, float], ...]:
        """Return the lowest and the highest accepted value of each feature."""
        return tuple(zip(self.lowest, self.highest, strict=True))

    @cached_property
    def lowest(self) -> tuple[float, ...]:
        """Return the lowest accepted value of each feature."""
        return tuple(-MAGNITUDE_LIMIT if lower is None else lower for lower, _ in self.bounds)

    @cached_property
    def highest(self) -> tuple[float, ...]:
        """Return the highest accepted value of each feature."""
        return tuple(MAGNITUDE_LIMIT if upper is None else upper for _, upper in self.bounds)
