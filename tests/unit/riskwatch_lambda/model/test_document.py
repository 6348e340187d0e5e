"""Loading: a model that is not exactly what was packed, or not what its document says, is refused with the reason."""

from __future__ import annotations

import copy
import json
import math
import struct
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from riskwatch_lambda.model.document import SUMS_FILE, ModelError, from_files, load, sums
from tests.support import tiny

if TYPE_CHECKING:
    from pathlib import Path

HOUR_MS = 3_600_000
FILES = tiny.encode(tiny.document(), tiny.ARRAYS)


def test_a_model_loads_from_a_directory(tmp_path):
    # GIVEN the files of a model
    write(tmp_path, FILES)

    # WHEN it is loaded
    model = load(tmp_path)

    # THEN profiles belong to baseline and hour
    baselines = model.baselines
    assert baselines.profile(2, tiny.TEN).usual == ((20.0, 1.0), (100.0, 10.0))
    assert baselines.profile(2, tiny.TEN + HOUR_MS).usual == ((10.0, 1.0), (100.0, 10.0))
    assert [baselines.profile(index, tiny.TEN + HOUR_MS).usual[0][0] for index in (0, 1)] == [50.0, 30.0]
    assert baselines.profile(2, tiny.TEN + HOUR_MS) is baselines.profile(2, tiny.TEN + HOUR_MS)
    assert baselines.profile(2, tiny.TEN + HOUR_MS).exhaustible == ((0, 95),)


def test_a_missing_model_is_an_error_that_names_the_directory(tmp_path):
    # GIVEN an empty directory, WHEN a model is loaded from it, THEN the error says where it looked
    with pytest.raises(ModelError, match=str(tmp_path)):
        load(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused_by_its_name(tmp_path, name: str):
    # GIVEN a model without one of its files
    write(tmp_path, {other: content for other, content in FILES.items() if other != name})

    # WHEN it is loaded, THEN the error names the file, on disk and in memory
    with pytest.raises(ModelError, match=f"No such file or directory: .*{name}"):
        load(tmp_path)
    with pytest.raises(ModelError, match=f"the model has no {name}"):
        from_files({other: content for other, content in FILES.items() if other != name})


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_anywhere_is_refused(name: str):
    # GIVEN every bit of every byte of a file in turn, flipped
    content = FILES[name]
    for position in range(len(content)):
        for bit in range(8) if name == "SHA256SUMS" else [position % 8]:
            flipped = bytearray(content)
            flipped[position] ^= 1 << bit

            # WHEN the model is loaded, THEN the sums give it away
            with pytest.raises(ModelError, match=f"the sha256 of .* is not the one in {SUMS_FILE}"):
                from_files({**FILES, name: bytes(flipped)})


def test_a_changed_file_is_named():
    # GIVEN a document with one level name changed, still valid in itself
    changed = FILES["model.json"].replace(b"Idle", b"High Load", 1)
    assert changed != FILES["model.json"]

    # WHEN it is loaded, THEN the error says which file it is
    with pytest.raises(ModelError, match=r"sha256 of model\.json is not the one"):
        from_files({**FILES, "model.json": changed})


def test_the_sums_are_what_sha256sum_checks(tmp_path):
    # GIVEN the files of a model, WHEN the tool of that name checks them, THEN it finds nothing wrong
    write(tmp_path, FILES)
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path, check=True, capture_output=True)


def write(directory: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (directory / name).write_bytes(content)


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
        ("baselines.roles", {"web": -1}, "web has index -1"),
        ("baselines.instances", [], "an object of instances"),
        ("baselines.fleet", None, "fleet is None"),
        ("baselines.fleet", 3, "fleet is 3, the arrays hold 3"),
        ("groups", [0, 0], "one for each of 3 baselines"),
        ("groups", [0, 0, 1], r"groups names \[1\]"),
        ("trails", [1], "lengths of at least 2 rows"),
        ("level.names", ["Idle", "Normal"], r"none for the labels \[2\]"),
        ("level.names", ["Idle", "Normal", "Critical"], "level.names"),
        ("level.map.stages.0.labels", [0, 1], r"f4 \[3, 2\], expected f4 \[2, 2\]"),
        ("level.map.stages.0.prototypes", "nowhere", "'nowhere' is used"),
        ("level.map.stages.0.radius", 1.0, "needs a label for what lies outside"),
        ("level.map.table", {"0,0": 0}, "2 stages|1 stages"),
        ("members", [], "at least one"),
        ("members.0.window", 2, r"expected f4 \[1, 4\]"),
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
        from_files(tiny.encode(change(path, value), tiny.ARRAYS))


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"b0": [1.0, 0.0, 1.0]}, "members.0..boundary holds 0.0"),
        ({"b0": [1.0, math.inf, 1.0]}, "'b0' holds a value that is not finite"),
        ({"scale": [[[1.0, 1.0]] * 24, [[1.0, -1.0]] * 24, [[1.0, 1.0]] * 24]}, "scale of baseline 1 is -1.0"),
        ({"scale": [[[1.0, 1.0]] * 9 + [[1.0, 0.0]] + [[1.0, 1.0]] * 14] * 3}, "scale of baseline 0 is 0.0"),
        ({"center": [[[1.0, math.inf]] * 24] * 3}, "'profile_base' holds a value that is not finite"),
        (
            {"center": [[[float(hour), 1.0] for hour in range(23)]] * 3},
            r"'profile_counts' is u2 \[3, 23\], expected u2 \[3, 24\]",
        ),
        ({"level_scale": [1.0, math.nan]}, "not finite"),
    ],
)
def test_numbers_that_cannot_be_scored_with_are_refused(arrays: dict[str, Any], reason: str):
    # GIVEN an array of wrong shape or with a value that no division survives, WHEN it is loaded, THEN it is named
    with pytest.raises(ModelError, match=reason):
        tiny.model(arrays)


@pytest.mark.parametrize(
    ("cuts", "reason"),
    [
        ([], "cuts is"),
        ({}, "level.cuts.metric is None, expected the position of one of 2 features"),
        ({"metric": 2}, "level.cuts.metric is 2"),
        ({"metric": True}, "level.cuts.metric is True"),
        ({"metric": 0, "idle_below": "1", "high_from": None}, "level.cuts are '1' and None, expected numbers or null"),
        ({"metric": 0, "idle_below": 1.0, "high_from": False}, "level.cuts are 1.0 and False"),
        ({"metric": 0, "idle_below": 2.0, "high_from": 1.0}, "Idle below 2.0, above High Load from 1.0"),
    ],
)
def test_cuts_that_name_no_level_are_refused(cuts: object, reason: str):
    # GIVEN cuts of no metric, that are no numbers or that cross, WHEN they are loaded, THEN they are named
    with pytest.raises(ModelError, match=reason):
        tiny.model(level={"cuts": cuts})


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
    document = json.loads(FILES["model.json"])
    document["arrays"]["m0"]["offset"] = 0

    # WHEN it is loaded, THEN it is refused
    with pytest.raises(ModelError, match="starts at byte 0"):
        from_files(tiny.sealed(document, FILES["model.bin"]))


def test_arrays_must_fill_the_file():
    # GIVEN four bytes that no array claims, WHEN they are loaded, THEN they are refused
    with pytest.raises(ModelError, match=f"model.bin has {len(FILES['model.bin']) + 4}"):
        from_files(tiny.sealed(json.loads(FILES["model.json"]), FILES["model.bin"] + bytes(4)))


@pytest.mark.parametrize(
    "entry", [None, {"type": []}, {"type": "f8", "offset": 0, "shape": [1]}, {"type": "f4", "offset": True}]
)
def test_an_array_of_unknown_kind_is_refused(entry: object):
    # GIVEN an entry of the index that is not understood, WHEN it is loaded, THEN it is named
    document = json.loads(FILES["model.json"])
    document["arrays"]["m0"] = entry
    with pytest.raises(ModelError, match="array 'm0' needs a type, an offset in bytes and a shape"):
        from_files(tiny.sealed(document, FILES["model.bin"]))


@pytest.mark.parametrize(("values", "fault"), [([2.0, 3.0, 0.5], None), ([1.0, float("inf"), 1.0], "not finite")])
def test_an_array_in_half_precision_is_read_and_checked(values: list[float], fault: str | None):
    # GIVEN boundaries stored in half precision, at the start of the file
    document = json.loads(FILES["model.json"])
    document["arrays"]["b0"]["type"] = "f2"
    for name, entry in document["arrays"].items():
        entry["offset"] -= 0 if name == "b0" else 6
    files = tiny.sealed(document, struct.pack("<3e", *values) + FILES["model.bin"][12:])

    # WHEN the model is loaded, THEN it has these values, if they are finite
    if fault is None:
        assert list(from_files(files).members[0].boundary) == values
    else:
        with pytest.raises(ModelError, match=fault):
            from_files(files)


def test_an_array_of_another_type_is_refused():
    # GIVEN counts where numbers are expected, of the same number of bytes, WHEN loaded, THEN the types are named
    document = json.loads(FILES["model.json"])
    document["arrays"]["b0"] = {**document["arrays"]["b0"], "type": "u2", "shape": [6]}
    with pytest.raises(ModelError, match=r"'b0' is u2 \[6\], expected f4 \[3\]"):
        from_files(tiny.sealed(document, FILES["model.bin"]))


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_a_document_that_is_no_json_object_is_refused(text: bytes):
    # GIVEN a consistent model whose document is nothing that can be read, WHEN it is loaded, THEN the error is ours
    files = {**FILES, "model.json": text}
    with pytest.raises(ModelError, match=r"model\.json (is not JSON|has schema)"):
        from_files({**files, SUMS_FILE: sums(files)})


def test_a_document_with_nan_is_refused():
    # GIVEN NaN where a number stands, which Python's JSON would accept
    # WHEN it is loaded, THEN it is refused
    with pytest.raises(ModelError, match="NaN"):
        from_files(tiny.encode(tiny.document(max_gap_s=math.nan), tiny.ARRAYS))
