"""The artifact: the same bytes for the same content, loadable by the function, and refused when anything is off."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import riskwatch_lambda
from bench.coldstart import ENVIRONMENT
from riskwatch_ml.artifact.archive import ArtifactError, checksum, code_sha256, known_names, pack, unpack, unzip
from tests.support import tiny

CODE = Path(riskwatch_lambda.__file__).parent
RECORD = tiny.stream_record([[60.0, 100.0]])


def arrays() -> dict[str, np.ndarray]:
    return {name: np.array(values, dtype=np.float32) for name, values in tiny.ARRAYS.items()}


def packed(**changes: Any) -> bytes:
    return pack(tiny.document(**changes), arrays())


def members(artifact: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(artifact)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rebuilt(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_the_same_content_gives_the_same_bytes():
    # GIVEN a document and arrays, and the same with their keys in another order and float64 arrays
    document = dict(reversed(tiny.document().items()))
    reordered = {name: np.array(values, dtype=np.float64) for name, values in reversed(tiny.ARRAYS.items())}
    reordered["level_scale"] = arrays()["level_scale"].astype(np.float64)
    reordered["level_map"] = arrays()["level_map"].astype(np.float64)

    # WHEN both are packed, THEN the bytes are equal
    assert packed() == pack(document, reordered)


def test_the_zip_is_plain_sorted_and_without_traces_of_its_making():
    # GIVEN an artifact, WHEN its members are listed
    with zipfile.ZipFile(io.BytesIO(packed())) as archive:
        infos = archive.infolist()

    # THEN they are the function's modules and the model, sorted, stored, dated 1980 and readable by all
    names = [info.filename for info in infos]
    assert names == sorted(names)
    assert [name for name in names if name.startswith("model/")] == [
        "model/SHA256SUMS", "model/model.bin", "model/model.json"
    ]  # fmt: skip
    # AND no compiled file, no pickle and no package but ours
    code = [name for name in names if not name.startswith("model/")]
    assert code == sorted(f"riskwatch_lambda/{path.relative_to(CODE).as_posix()}" for path in CODE.rglob("*.py"))
    assert {(info.compress_type, info.date_time, info.create_system, info.external_attr >> 16) for info in infos} == {
        (zipfile.ZIP_STORED, (1980, 1, 1, 0, 0, 0), 3, 0o100644)
    }


def test_unpacking_gives_back_what_was_packed():
    # GIVEN an artifact, WHEN it is unpacked
    document, values = unpack(packed())

    # THEN document and arrays are those packed, with the index of the arrays added
    assert {key: document[key] for key in tiny.DOCUMENT} == tiny.DOCUMENT
    # AND what half precision holds exactly takes half the bytes
    assert document["arrays"]["b0"] == {"type": "f2", "offset": 0, "shape": [3]}
    assert document["arrays"]["level_map"]["type"] == "f4"
    assert sorted(values) == sorted(tiny.ARRAYS)
    for name, expected in arrays().items():
        assert values[name].dtype == np.float32
        np.testing.assert_array_equal(values[name], expected)
    assert packed() == pack(document, values)


def test_checksums_are_those_of_the_bytes():
    # GIVEN an artifact, WHEN its checksums are made, THEN they are SHA-256 in hex and in Lambda's base64
    artifact = packed()
    assert checksum(artifact) == hashlib.sha256(artifact).hexdigest()
    assert base64.b64decode(code_sha256(artifact)).hex() == checksum(artifact)


def test_two_builds_in_processes_of_their_own_give_one_checksum():
    # GIVEN two fresh processes whose sets and dictionaries hash differently
    program = (
        "import numpy as np; from riskwatch_ml.artifact.archive import checksum, pack; from tests.support import tiny; "
        "print(checksum(pack(tiny.document(), {n: np.array(v, np.float32) for n, v in tiny.ARRAYS.items()})))"
    )

    # WHEN each packs the model, THEN both checksums are the one of this process
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, env=environment)
        assert done.stdout.decode().strip() == checksum(packed())


def test_profiles_off_the_grid_are_refused():
    # GIVEN hourly centres that were not rounded to the grid, WHEN they are packed, THEN the error says how to
    center = np.random.default_rng(0).normal(0, 1, (3, 24, 2)).astype(np.float32)
    with pytest.raises(ArtifactError, match="round with on_grid"):
        pack(tiny.document(), {**arrays(), "center": center})


def test_the_unzipped_function_serves_its_model(tmp_path):
    # GIVEN an artifact, unzipped as Lambda does
    unzip(packed(), tmp_path)

    # WHEN its handler answers a self-test in a process that sees only the unzipped files before the environment
    program = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); from riskwatch_lambda import handler; "
        "assert handler.__file__.startswith(sys.argv[1]), handler.__file__; "
        "print(json.dumps(handler.handle(json.loads(sys.argv[2]), None)))"
    )
    event = json.dumps({"selftest": {"records": [RECORD]}})
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path), event], capture_output=True, check=True)

    # THEN it is the packed model that answers
    answer = json.loads(done.stdout)
    assert answer["model_id"] == "tiny-1"
    assert answer["labels"][0]["score"] == 3.931826


@pytest.mark.parametrize("name", ["model.json", "model.bin", "SHA256SUMS"])
def test_a_function_whose_model_was_touched_does_not_start_and_says_why(tmp_path, name: str):
    # GIVEN an unzipped artifact with one bit of one file of the model flipped
    unzip(packed(), tmp_path)
    path = tmp_path / "model" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)

    # WHEN Lambda starts it, which it does by importing the handler
    program = "import sys; sys.path.insert(0, sys.argv[1]); import riskwatch_lambda.handler"
    environment = {**os.environ, "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand"}
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    # THEN it ends before it makes a client, with the reason as its last line
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("riskwatch_lambda.model.document.ModelError: the sha256 of ")
    assert "build or fetch the artifact again" in done.stderr.splitlines()[-1]


def test_values_that_float32_does_not_hold_are_refused():
    # GIVEN a prototype of 0.1 in float64, WHEN it is packed, THEN it must be rounded first, where it is made
    with pytest.raises(ArtifactError, match="'m0' holds values that float32 does not"):
        pack(tiny.document(), {**arrays(), "m0": np.array([[0.1, 0.0]])})
    with pytest.raises(ArtifactError, match="'m0' holds values that float32 does not"):
        pack(tiny.document(), {**arrays(), "m0": np.array([[1e39, 0.0]])})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"run_id": float("nan")}, "not plain, finite JSON"),
        ({"run_id": np.float64}, "not plain, finite JSON"),
        ({"schema": "maps/9"}, "would refuse this model: .*maps/9"),
        ({"members": []}, "would refuse this model: members is empty"),
    ],
)
def test_a_model_that_the_function_would_refuse_is_not_packed(changes: dict[str, Any], reason: str):
    # GIVEN a document with one thing wrong, WHEN it is packed, THEN it is refused there and then
    with pytest.raises(ArtifactError, match=reason):
        packed(**changes)


def test_a_missing_array_is_not_packed():
    # GIVEN arrays without the boundary, WHEN they are packed, THEN the error names it
    with pytest.raises(ArtifactError, match="'b0'"):
        pack(tiny.document(), {name: values for name, values in arrays().items() if name != "b0"})
    with pytest.raises(ArtifactError, match="'center' is missing"):
        pack(tiny.document(), {name: values for name, values in arrays().items() if name != "center"})


@pytest.mark.parametrize("name", ["model.json", "model.bin", "SHA256SUMS"])
def test_an_artifact_that_was_touched_is_refused(name: str):
    # GIVEN artifacts with a bit of one file flipped, in place and in a zip that is consistent in itself
    artifact = packed()
    contents = members(artifact)
    content = contents[f"model/{name}"]
    flipped = bytes([content[0] ^ 1]) + content[1:]
    position = artifact.index(content)
    in_place = artifact[:position] + flipped + artifact[position + len(content) :]

    # WHEN they are unpacked, THEN the zip's own check and the sums give them away
    with pytest.raises(ArtifactError, match="damaged"):
        unpack(in_place)
    with pytest.raises(ArtifactError, match="sha256"):
        unpack(rebuilt({**contents, f"model/{name}": flipped}))


def test_an_artifact_without_one_of_its_files_is_refused():
    # GIVEN a zip without the sums, WHEN it is unpacked, THEN the error says what an artifact holds
    contents = {name: content for name, content in members(packed()).items() if name != "model/SHA256SUMS"}
    with pytest.raises(ArtifactError, match=r"does not hold all of .*SHA256SUMS"):
        unpack(rebuilt(contents))


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip"])
def test_bytes_that_are_no_zip_are_refused(content: bytes):
    # GIVEN bytes that are no zip, WHEN they are unpacked, THEN the error is ours
    with pytest.raises(ArtifactError, match="damaged"):
        unpack(content)


def test_another_zip_is_refused():
    # GIVEN a zip without a model, WHEN it is unpacked, THEN the error asks what it is
    with pytest.raises(ArtifactError, match="is it another zip"):
        unpack(rebuilt({"app.py": b""}))


def test_a_function_that_has_nothing_to_tell_compiles_nothing_for_it(tmp_path):
    # GIVEN an unzipped artifact
    unzip(packed(), tmp_path)

    # WHEN it starts, as Lambda starts it, and makes its clients
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import riskwatch_lambda.handler; "
        "print(*(name for name in sys.modules if name.startswith('riskwatch_lambda.')))"
    )
    environment = {**os.environ, **ENVIRONMENT, "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand"}
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)

    # THEN what messages, ticks and self-tests need is not there yet
    modules = {name.removeprefix("riskwatch_lambda.") for name in done.stdout.split()}
    paths = [path.relative_to(CODE).with_suffix("") for path in CODE.rglob("*.py")]
    assert {".".join(path.parts) for path in paths if path.name != "__init__"} - modules == {
        "alerting.held_text",
        "alerting.maintenance",
        "alerting.messages",
        "alerting.notifier",
        "alerting.text",
        "episodes.no_data",
        "events.selftest",
        "events.tick",
    }


def test_the_known_names_are_those_with_a_baseline():
    # GIVEN the artifact of the tiny model, which also has baselines of a role and of the fleet
    # WHEN its names are read, THEN they are those of the document, and bytes that are no artifact are refused
    assert known_names(packed()) == ({"web-1"}, {"web"})
    with pytest.raises(ArtifactError, match="damaged"):
        known_names(b"no zip")
