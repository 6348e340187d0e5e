"""Loading: a model that is not exactly what its document says is refused with the reason."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest

from riskwatch_lambda.model import ModelError, from_bytes, load
from tests.unit.lambda_ import tiny


def test_a_model_loads_from_a_directory(tmp_path):
    # GIVEN the two files of a model
    text, blob = tiny.encode(tiny.document(), tiny.ARRAYS)
    (tmp_path / "model.json").write_bytes(text)
    (tmp_path / "model.bin").write_bytes(blob)

    # WHEN it is loaded
    model = load(tmp_path)

    # THEN profiles belong to baseline and hour, in float64 of the float32 that was packed
    assert model.profile(2, 10).center == (20.0, 100.0)
    assert model.profile(2, 11).center == (10.0, 100.0)
    assert model.profile(2, 11) is model.profile(2, 11)
    assert model.profile(2, 11).exhaustible == ((0, 95),)


def test_a_missing_model_is_an_error_that_names_the_directory(tmp_path):
    # GIVEN an empty directory, WHEN a model is loaded from it, THEN the error says where it looked
    with pytest.raises(ModelError, match=str(tmp_path)):
        load(tmp_path)


def test_one_changed_bit_in_the_arrays_is_refused():
    # GIVEN arrays with one bit flipped
    text, blob = tiny.encode(tiny.document(), tiny.ARRAYS)
    tampered = bytearray(blob)
    tampered[100] ^= 1

    # WHEN they are loaded, THEN the hash gives them away
    with pytest.raises(ModelError, match="sha256"):
        from_bytes(text, bytes(tampered))


def change(path: str, value: Any) -> dict[str, Any]:
    """Give the document with the value at a dotted path replaced."""
    document = tiny.document()
    *parents, last = path.split(".")
    place: Any = document
    for step in parents:
        place = place[int(step)] if isinstance(place, list) else place[step]
    place[int(last) if isinstance(place, list) else last] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("schema", "maps/2", "schema 'maps/2'"),
        ("model_id", None, "model_id is None"),
        ("features", ["cpu", "cpu"], "each once"),
        ("features", ["cpu"], "bounds has 2 entries for 1"),
        ("bounds", [[0, 100], [0]], "bounds of net"),
        ("directions", ["up", "sideways"], "directions"),
        ("exhaustion", [95, True], "exhaustion"),
        ("baselines.instances", {"web-1": 3}, "web-1 has index 3"),
        ("baselines.fleet", None, "fleet is None"),
        ("level.names", ["Idle", "Normal"], r"none for the labels \[2\]"),
        ("level.names", ["Idle", "Normal", "Critical"], "level.names"),
        ("level.map.stages.0.labels", [0, 1], r"shape \[3, 2\], expected \[2, 2\]"),
        ("level.map.stages.0.prototypes", "nowhere", "'nowhere' is used"),
        ("level.map.stages.0.radius", 1.0, "needs a label for what lies outside"),
        ("level.map.table", {"0,0": 0}, "2 stages|1 stages"),
        ("members", [], "at least one"),
        ("members.0.window", 2, r"expected \[1, 4\]"),
        ("members.0.window", 0, "window is 0"),
        ("members.0.weight", 0, "weight is 0"),
        ("context_rows", 0, "less than the longest window"),
        ("rule.close_rows", 0, "close_rows"),
        ("golden.expected", [{}], "0 records and 1 expected"),
    ],
)
def test_a_document_that_contradicts_itself_is_refused(path: str, value: Any, reason: str):
    # GIVEN a document with one value changed, WHEN it is loaded, THEN the error says what is wrong with it
    with pytest.raises(ModelError, match=reason):
        from_bytes(*tiny.encode(change(path, value), tiny.ARRAYS))


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"b0": [1.0, 0.0, 1.0]}, "members.0..boundary holds 0.0"),
        ({"b0": [1.0, math.inf, 1.0]}, "'b0' holds a value that is not finite"),
        ({"scale": [[[1.0, -1.0]] * 24] * 3}, "scale holds -1.0"),
        ({"scale": [[[1.0, 1.0]] * 24] * 2}, r"\[2, 24, 2\], expected \[3, 24, 2\]"),
        ({"center": [[[1.0, 1.0]] * 23] * 3}, "'center' has shape"),
        ({"level_scale": [1.0, math.nan]}, "not finite"),
    ],
)
def test_numbers_that_cannot_be_scored_with_are_refused(arrays: dict[str, Any], reason: str):
    # GIVEN an array of wrong shape or with a value that no division survives, WHEN it is loaded, THEN it is named
    with pytest.raises(ModelError, match=reason):
        tiny.model(arrays)


def test_a_table_must_answer_every_pair_of_labels():
    # GIVEN a second stage that can also say 9, and a table without 9
    level = copy.deepcopy(tiny.DOCUMENT["level"])
    level["map"]["stages"].append({"prototypes": "m0", "labels": [0], "radius": 1.0, "outside": 9})
    level["map"]["table"] = {"0,0": 0, "1,0": 1, "2,0": 2, "0,9": 0, "1,9": 0}

    # WHEN it is loaded, THEN the pair without an answer is named
    with pytest.raises(ModelError, match=r"no label for \[\(2, 9\)\]"):
        tiny.model(level=level)


def test_arrays_must_cover_the_file_without_overlap():
    # GIVEN an index in which an array starts inside the one before it
    text, blob = tiny.encode(tiny.document(), tiny.ARRAYS)
    document = json.loads(text)
    document["arrays"]["center"]["offset"] = 0

    # WHEN it is loaded, THEN it is refused
    with pytest.raises(ModelError, match="starts at byte 0"):
        from_bytes(json.dumps(document).encode(), blob)


def test_a_document_with_nan_is_refused():
    # GIVEN NaN where a number stands, which Python's JSON would accept
    text, blob = tiny.encode(tiny.document(max_gap_s=math.nan), tiny.ARRAYS)

    # WHEN it is loaded, THEN it is refused
    with pytest.raises(ModelError, match="NaN"):
        from_bytes(text, blob)
