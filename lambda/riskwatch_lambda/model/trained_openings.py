"""Openings in the last days of the training rows, as the document of a model lists them.

An instance that has no memory yet begins with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    # Metric, direction (up, down, exhausted), time (UTC epoch in seconds), minutes and peak of an opening.
    OpeningDocument = tuple[str, str, int, int, float]

TYPES = (str, str, int, int)


class TrainedOpeningError(ValueError):
    """The list of openings is malformed."""


def read_trained_openings(document: Mapping[str, object]) -> Mapping[str, Sequence[OpeningDocument]]:
    """Return the openings by instance; a document without the key has none."""
    trained: Any = document.get("openings", {})
    entries = [entry for openings in trained.values() for entry in openings] if isinstance(trained, dict) else [None]
    if not all(map(_is_opening, entries)):
        raise TrainedOpeningError(
            f"openings is {trained!r:.100}, expected metric, direction, time, minutes and peak of each"
        )
    read: Mapping[str, Sequence[OpeningDocument]] = trained
    return read


def _is_opening(entry: object) -> bool:
    return (
        isinstance(entry, (list, tuple))
        and len(entry) == len(TYPES) + 1
        and all(type(value) is kind for value, kind in zip(entry, TYPES, strict=False))
        and type(entry[-1]) in (int, float)
    )
