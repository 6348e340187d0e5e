"""Hostile input for property tests: odd values, damaged documents, damaged bytes."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

TEXTS = st.one_of(
    st.sampled_from(
        ["", " ", "a", "web-1", "nan", "inf", "1e999", "2026-11-22T10:00:00Z", "0001-01-01T00:00:00+14:00"]
    ),
    st.sampled_from(["9999-12-31T23:59:59-12:00", "9" * 20, "9" * 5_000, "x" * 300, "a\nb", "\u202e", "\x00", "${a}"]),
    st.text(max_size=12),
)
NUMBERS = st.one_of(
    st.sampled_from([0, -1, 1, 300, 2**31, 2**63, -(2**63) - 1, 10**30, 1.5, 1e308, float("nan"), float("inf")]),
    st.integers(),
    st.floats(),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=8
)
"""JSON values, those that only Python reads (NaN, Infinity) included."""


def outcome(call: Callable[[], Any], kind: type[Exception]) -> tuple[Any, str]:
    """Return what a call returns and "", or None and the message of the one kind of error that it may raise."""
    try:
        return call(), ""
    except kind as error:
        return None, str(error)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return each (container, key or index) of a document."""
    if not isinstance(value, dict | list):
        return []
    items = list(value.items() if isinstance(value, dict) else enumerate(value))
    return [(value, key) for key, _ in items] + [place for _, item in items for place in _places(item)]


@st.composite
def mutated(draw: Any, documents: Any, most: int = 3) -> Any:
    """Draw a document with up to `most` values replaced, removed or repeated."""
    document = copy.deepcopy(draw(documents))
    for _ in range(draw(st.integers(0, most))):
        places = _places(document)
        if not places:
            break
        container, key = draw(st.sampled_from(places))
        change = draw(st.sampled_from(["replace", "remove", "repeat"]))
        if change == "replace":
            container[key] = draw(VALUES)
        elif change == "remove":
            del container[key]
        elif isinstance(container, list):
            container.insert(key, copy.deepcopy(container[key]))
        else:
            container[draw(TEXTS)] = copy.deepcopy(container[key])
    return document


@st.composite
def damaged(draw: Any, contents: Any, most: int = 3) -> bytes:
    """Draw bytes that are cut, or have bytes changed, put in or taken out, or are others altogether."""
    data = bytearray(draw(contents))
    for _ in range(draw(st.integers(0, most))):
        place = draw(st.integers(0, len(data)))
        change = draw(st.sampled_from(["cut", "flip", "insert", "remove", "zero"]))
        if change == "cut":
            del data[place:]
        elif change == "flip" and place < len(data):
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif change == "insert":
            data[place:place] = draw(st.binary(max_size=8))
        elif change == "remove":
            del data[place : place + draw(st.integers(1, 40))]
        elif change == "zero":
            data[place : place + 8] = bytes(len(data[place : place + 8]))
    return bytes(data)


def json_bytes(documents: Any) -> Any:
    """Return the bytes of JSON documents: mutated, damaged, or nothing of the kind."""
    texts = mutated(documents).map(lambda document: json.dumps(document).encode("utf-8", "surrogatepass"))
    return st.one_of(texts, damaged(texts), st.binary(max_size=40), st.sampled_from([b"[" * 100_000, b"9" * 5_000]))
