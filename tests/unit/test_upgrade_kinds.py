"""The code of an earlier release reads what this release writes about kinds, and the other way round.

After a rollback, the artifact of `tests/fixtures/upgrade` serves with its own code: it has one kind, without a name.
"""

import base64
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from riskwatch_lambda.model import document as documents
from riskwatch_ml.artifact import archive, parts
from riskwatch_ml.schema import catalogue
from tests.support import kinds
from tests.support.kinds import ORDERS, PAGING, RDS
from tests.support.tiny import TEN
from tests.support.world import ELEVEN, World

ARTIFACT = (Path(__file__).parents[1] / "fixtures" / "upgrade" / "artifact.zip").read_bytes()
HEAD = (
    "import json, sys; sys.path.insert(0, '.')\n"
    "from pathlib import Path\n"
    "from riskwatch_lambda import model, records, registry, selftest, tick\n"
    "assert Path(model.__file__).is_relative_to(Path.cwd())\n"
    "given = json.load(sys.stdin)\n"
)


@pytest.fixture(scope="module")
def older(tmp_path_factory):
    """Run a program with the earlier artifact alone: `older(lines, given)` gives what it prints."""
    folder = tmp_path_factory.mktemp("older")
    with zipfile.ZipFile(io.BytesIO(ARTIFACT)) as archived:
        archived.extractall(folder)

    def run(lines, given):
        program = [sys.executable, "-E", "-c", HEAD + lines]
        done = subprocess.run(program, cwd=folder, capture_output=True, text=True, input=json.dumps(given), check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def pack(features, **more):
    """Give a pack of one row as base64 text."""
    entry = {"id": "x", "role": "web", "newest": 1, "ts": [TEN], "columns": [[1.0] for _ in features]}
    document = {"v": 2, "service": "shop", "features": list(features), "instances": [entry], **more}
    return base64.b64encode(json.dumps(document).encode()).decode()


def test_it_reads_packs_of_the_first_kind_and_refuses_those_of_another(older):
    # GIVEN a pack of the first kind, and one of databases WHEN the earlier code decodes them
    data = [pack(catalogue.load("ec2").names), pack(catalogue.load(RDS).names, kind=RDS)]
    lines = (
        "layout = model.load(Path('model')).layout\n"
        "print(len(records.decode(given[0], layout).records))\n"
        "try: records.decode(given[1], layout)\n"
        "except ValueError as error: print(error)"
    )
    counted, reason = older(lines, data).splitlines()

    # THEN no row of the other kind is labelled as one of the first
    assert counted == "1"
    assert reason.startswith("features has no ")


def test_it_reads_the_items_and_the_ticks_of_this_release(older):
    # GIVEN the items of an open episode of a database, and a tick that names kinds
    function = World(kinds.model())
    function.send(kinds.row(PAGING))
    items = [item for key, item in function.dynamodb.items.items() if key[0].startswith(("instance#", "episodes#"))]
    tick = {"now": ELEVEN, "overdue": [[ORDERS, "shop", ELEVEN]], "kinds": {ORDERS: RDS}}
    assert all(item["resource_kind"] == {"S": RDS} for item in items)

    # WHEN the earlier code reads them
    lines = (
        "print(json.dumps([registry._episode(item).episode_id for item in given['items']]))\n"
        "print(len(tick._read(given['tick']).overdue))"
    )
    episodes, overdue = older(lines, {"items": items, "tick": tick}).splitlines()

    # THEN
    assert len(items) == 2
    assert json.loads(episodes) == [f"{ORDERS}@2026-11-22T11:00:00.000Z"] * 2
    assert overdue == "1"


def test_its_model_serves_beside_a_part_of_another_kind():
    # GIVEN the earlier artifact with a part for databases WHEN the function of this release judges records
    arrays = {name: np.array(values, np.float32) for name, values in kinds.ARRAYS.items()}
    both = parts.replace(ARTIFACT, RDS, parts.Part(kinds.DOCUMENT, arrays), first="ec2")
    function = World(documents.from_files(archive.model_files(both)))
    function.send(pack(catalogue.load("ec2").names), kinds.row(PAGING), kinds.row(PAGING, kind="alb"))

    # THEN a record without a kind is of its model, and one of databases of the new part
    first, database = function.s3.lines("labelled/")
    assert (first["resource_kind"], database["resource_kind"], database["model_id"]) == (None, RDS, "tiny-rds")
    (refused,) = function.s3.lines("quarantine/")
    assert refused["reason"] == "kind is 'alb', the model has one kind without a name, rds"
