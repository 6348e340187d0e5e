"""Parts of an artifact: split, joined and replaced; a part that is not replaced keeps its bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskwatch_lambda.events import selftest
from riskwatch_lambda.model.document import from_files
from riskwatch_ml.artifact import archive, parts
from riskwatch_ml.artifact.archive import ArtifactError
from riskwatch_ml.artifact.parts import Part
from riskwatch_ml.model.fleet_model import FleetModel
from tests.support import kinds, tiny
from tests.support.kinds import EC2, RDS

OLDER = (Path(__file__).parents[3] / "fixtures" / "upgrade" / "artifact.zip").read_bytes()
ALB = "alb"


def floats(arrays: dict[str, Any], **changes: Any) -> dict[str, np.ndarray]:
    return {name: np.array(values, np.float32) for name, values in {**arrays, **changes}.items()}


def ec2(model_id: str = "tiny-1", **changes: Any) -> Part:
    return Part(tiny.document(model_id=model_id, resource_kind=EC2), floats(tiny.ARRAYS, **changes))


def rds(model_id: str = "tiny-rds", **changes: Any) -> Part:
    return Part({**kinds.DOCUMENT, "model_id": model_id}, floats(kinds.ARRAYS, **changes))


def packed(by_kind: dict[str, Part]) -> bytes:
    return archive.pack(*parts.join(by_kind))


def same(left: Part, right: Part) -> bool:
    """Return whether two parts have the same document and arrays, but for the name that joining adds."""
    documents = [
        {key: value for key, value in part.document.items() if key != "resource_kind"} for part in (left, right)
    ]
    arrays = left.arrays.keys() == right.arrays.keys() and all(
        np.array_equal(values, right.arrays[name]) for name, values in left.arrays.items()
    )
    return documents[0] == documents[1] and arrays


def bytes_of(zip_bytes: bytes, kind: str, first: str) -> tuple[str, dict[str, bytes]]:
    """Return the text of the document of a part, and the bytes of its arrays in `model.bin`."""
    files = archive.model_files(zip_bytes)
    document = json.loads(files["model.json"])
    index, prefix = document["arrays"], "" if kind == first else f"{kind}/"
    own = {key: value for key, value in document.items() if key not in ("arrays", "kinds")}
    sizes = {"f2": 2, "f4": 4, "u2": 2}
    arrays = {
        name: files["model.bin"][entry["offset"] :][: sizes[entry["type"]] * int(np.prod(entry["shape"]))]
        for name, entry in index.items()
        if (name.startswith(prefix) if prefix else "/" not in name)
    }
    return json.dumps(own if kind == first else document["kinds"][kind], sort_keys=True), arrays


def test_joined_parts_are_split_again():
    # GIVEN an artifact of three parts WHEN it is unpacked and split
    by_kind = {EC2: ec2(), RDS: rds(), ALB: rds("tiny-alb")}
    found = parts.split(*archive.unpack(packed(by_kind)))

    # THEN the parts are those that were joined, in their order, and joining them again gives the same bytes
    assert list(found) == [EC2, ALB, RDS]
    for kind, part in by_kind.items():
        assert same(found[kind], part)
    assert packed(found) == packed(by_kind)


def test_each_part_loads_as_a_model_of_its_own():
    found = parts.split(*archive.unpack(packed({EC2: ec2(), RDS: rds()})))
    first, further = (FleetModel.load(*found[kind]) for kind in (EC2, RDS))
    assert (first.features, further.features) == (("cpu", "net"), ("connections",))
    assert (len(first.baselines.center), len(further.baselines.center)) == (3, 1)


def test_one_part_gives_the_artifact_of_today():
    # GIVEN a model without a kind WHEN it is joined alone THEN nothing is added
    part = Part(tiny.document(), floats(tiny.ARRAYS))
    assert packed({"": part}) == archive.pack(*part)


def test_an_artifact_needs_a_part():
    with pytest.raises(ArtifactError, match="at least one part"):
        parts.join({})


def test_an_artifact_of_an_earlier_release_has_one_part_without_a_name():
    # GIVEN / WHEN
    document, arrays = archive.unpack(OLDER)

    # THEN its name is what the caller says, and without one it is joined again as it was
    assert list(parts.split(document, arrays)) == [""]
    assert list(parts.split(document, arrays, first=EC2)) == [EC2]
    again = archive.model_files(packed(parts.split(document, arrays)))
    assert json.loads(again["model.json"]) == document
    assert again["model.bin"] == archive.model_files(OLDER)["model.bin"]


def test_a_part_is_added_to_an_artifact_of_an_earlier_release():
    # GIVEN / WHEN
    changed = parts.replace(OLDER, RDS, rds(), first=EC2)

    # THEN the first part has the same bytes, both serve, and a record without a kind is still of the first
    assert bytes_of(changed, EC2, EC2) == bytes_of(OLDER, EC2, EC2)
    model = from_files(archive.model_files(changed))
    assert list(model.parts) == ["", RDS]
    assert selftest.run({}, model, "1")["golden"] == {"rows": 13, "differences": 0}
    # AND a refresh of the first part gives it its name
    refreshed = parts.replace(changed, EC2, ec2(), first=EC2)
    assert list(from_files(archive.model_files(refreshed)).parts) == [EC2, RDS]
    assert bytes_of(refreshed, RDS, EC2) == bytes_of(changed, RDS, EC2)


def test_the_first_kind_of_the_installation_cannot_change_alone():
    zip_bytes = packed({EC2: ec2(), RDS: rds()})
    with pytest.raises(ArtifactError, match="first part of the artifact is of kind 'ec2'"):
        parts.replace(zip_bytes, RDS, rds(), first=RDS)


def test_a_part_that_the_function_would_refuse_is_refused():
    zip_bytes = packed({EC2: ec2()})
    broken = Part({**kinds.DOCUMENT, "context_rows": 0}, floats(kinds.ARRAYS))
    with pytest.raises(ArtifactError, match=r"kinds\.rds: context_rows is 0"):
        parts.replace(zip_bytes, RDS, broken, first=EC2)


def test_known_names_are_those_of_all_kinds():
    names = archive.known_names(packed({EC2: ec2(), RDS: rds()}))
    assert names.instances == {"web-1", kinds.ORDERS, kinds.CARTS}
    assert names.roles == {"web", "db"}


_CENTERS = st.floats(1, 60, width=16)
_STEPS = st.lists(
    st.tuples(st.sampled_from([EC2, RDS, ALB, "sqs"]), st.integers(0, 9), _CENTERS), min_size=1, max_size=6
)


@pytest.fixture(scope="module")
def without_code():
    """Pack models only: reading the code of the function takes most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive, "_code", dict)
        yield


@pytest.mark.usefixtures("without_code")
@given(_STEPS)
@settings(max_examples=30)
def test_replacing_parts_in_any_order_keeps_the_others_byte_for_byte(steps):
    # GIVEN an artifact of one part WHEN parts are added and replaced one after another
    zip_bytes = packed({EC2: ec2()})
    newest = {EC2: ec2()}
    for kind, number, center in steps:
        made = ec2(f"m{number}", b0=[center] * 3) if kind == EC2 else rds(f"{kind}-{number}", center=[[[center]] * 24])
        changed = parts.replace(zip_bytes, kind, made, first=EC2)

        # THEN each other part keeps the bytes of its document and arrays
        for other in set(newest) - {kind}:
            assert bytes_of(changed, other, EC2) == bytes_of(zip_bytes, other, EC2)
        newest[kind], zip_bytes = made, changed

    # AND in the end the parts are the newest of each kind, as if joined at once
    found = parts.split(*archive.unpack(zip_bytes))
    assert found.keys() == newest.keys()
    assert all(same(found[kind], part) for kind, part in newest.items())
    assert packed(newest) == zip_bytes
