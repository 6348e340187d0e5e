"""What an earlier release has written is read, shown, refreshed, served and rolled back to by this tree.

`tests/fixtures/upgrade` was written on 2026-11-30 by the demo of commit a58766f, the last one before modules moved into
rooms: an artifact in service with its ledger entry, contest and figures, the table of episodes, a labelled hour as the
function wrote it, and one as compaction did.
"""

import gzip
import io
import json
import subprocess
import sys
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from riskwatch_airflow import champion_model
from riskwatch_dashboard import queries
from riskwatch_lambda.events import selftest
from riskwatch_lambda.model import document as documents
from riskwatch_ml.artifact import archive
from riskwatch_ml.core import clock
from riskwatch_ml.registry import champion, ledger
from riskwatch_ml.registry.registered import Registered
from riskwatch_ml.schema import catalogue
from riskwatch_ml.selection import contest_log
from riskwatch_ml.storage import keys, labelled_rows
from riskwatch_ml.storage.bucket import Store
from tests.support.bucket import Bucket
from tests.support.world import World

FOLDER = Path(__file__).parents[1] / "fixtures" / "upgrade"
ENTRY = json.loads((FOLDER / "ledger.json").read_text())
ARTIFACT = (FOLDER / "artifact.zip").read_bytes()
AFTER = datetime(2026, 11, 30, 4, 40, tzinfo=UTC)
AFTER_MS = clock.epoch_ms(AFTER)


@pytest.fixture
def store():
    """A bucket as the earlier release left it."""
    made = Store(Bucket(), "bucket")
    digest, training = ENTRY["digest"], ENTRY["training_id"]
    made.put_bytes(keys.artifact(digest), ARTIFACT)
    made.put_json(keys.ledger_entry(clock.parse(ENTRY["at"]), "promote", digest), ENTRY)
    made.put_bytes(keys.contest(training), (FOLDER / "contest.json").read_bytes())
    arrived = keys.hour_prefix(keys.ARRIVED, AFTER.replace(minute=0)) + "shardId-000000000000-1-2.json.gz"
    made.put_bytes(arrived, (FOLDER / "arrived.json.gz").read_bytes())
    hour = AFTER.replace(hour=3, minute=0)
    made.put_bytes(keys.hour_key(keys.LABELLED_ROWS, hour), (FOLDER / "rows.parquet").read_bytes())
    return made


@pytest.fixture
def in_service(store):
    """The champion as MLflow names it."""
    (entry,) = ledger.read(store)
    key = keys.candidate(entry["training_id"], entry["family"])
    return Registered(entry["version"], entry["digest"], "run", entry["training_id"], entry["family"], key)


def test_the_artifact_is_the_one_of_the_ledger_and_is_found(store, in_service):
    found = champion.artifact(store, version=in_service.version, checksum=in_service.digest, s3_key=in_service.s3_key)
    assert archive.checksum(found) == ENTRY["digest"]
    assert archive.code_sha256(found) == ENTRY["code_sha256"]


def test_its_model_serves_under_todays_code():
    # GIVEN the files of the model WHEN today's function loads them THEN it labels the golden rows as they were
    model = documents.from_files(archive.model_files(ARTIFACT))
    answer = selftest.run({}, model, "8")
    assert answer["model_id"] == ENTRY["model_id"]
    assert answer["golden"] == {"rows": 12, "differences": 0}


def test_its_own_code_serves_after_a_rollback(tmp_path):
    # GIVEN the function as Lambda unpacks it, without anything of this tree
    with zipfile.ZipFile(io.BytesIO(ARTIFACT)) as archived:
        archived.extractall(tmp_path)
    program = (
        "import json, sys; sys.path.insert(0, '.')\n"
        "from pathlib import Path\n"
        "from riskwatch_lambda import model, selftest\n"
        "assert Path(model.__file__).is_relative_to(Path.cwd())\n"
        "print(json.dumps(selftest.run({}, model.load(Path('model')), '2')))"
    )
    # WHEN it answers a self-test THEN it is the model of the ledger, without a difference
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["model_id"], answer["golden"]["differences"]) == (ENTRY["model_id"], 0)


def test_it_is_refreshed_with_its_settings_and_forces_no_contest(store, in_service):
    # GIVEN / WHEN
    serving = champion_model.read(store, champion_model.version(in_service, catalogue.load()), catalogue.load(), "ec2")

    # THEN
    assert serving.unusable_because == ""
    assert serving.settings == dict(archive.unpack(ARTIFACT)[0]["settings"])
    assert serving.model.features == catalogue.load().names


def test_the_contest_counts(store):
    standing = contest_log.read(store, "20261201T033000Z", ENTRY["family"], "scheduled__1")
    assert standing.contested_at == clock.parse(json.loads((FOLDER / "contest.json").read_text())["at"])


def test_the_page_shows_the_model_and_the_rows(store):
    # GIVEN the hour as it arrived WHEN the page is read
    reading = queries.read(store, AFTER)

    # THEN
    assert (reading.model.model_id, reading.model.family) == (ENTRY["model_id"], ENTRY["family"])
    assert reading.model.function_version == ENTRY["function_version"]
    assert len(reading.rows) > 100
    assert set(reading.rows["risk"]) == {"Idle", "Normal", "High Load", "Critical"}


def test_rows_as_they_arrived_are_compacted_and_kept_as_they_were(store):
    # GIVEN
    arrived = [json.loads(line) for line in gzip.decompress((FOLDER / "arrived.json.gz").read_bytes()).splitlines()]
    before = pd.read_parquet(FOLDER / "rows.parquet")

    # WHEN they are compacted into an hour that holds some of them already
    labelled_rows.compact(store, AFTER)
    rows = labelled_rows.recent(store, AFTER - timedelta(hours=24), AFTER)

    # THEN each row is there once, and those that were there have not changed
    assert len(rows) == len({(row["instance_id"], row["timestamp"]) for row in arrived})
    again = rows.merge(before, on=["instance_id", "timestamp"], suffixes=("", "_before"), validate="1:1")
    assert len(again) == len(before)
    for name in ("level", "risk", "score", "model_id"):
        assert (again[name] == again[f"{name}_before"]).all()


@pytest.fixture
def world():
    """Today's function with the earlier model, and the table of episodes as it was."""
    made = World(documents.from_files(archive.model_files(ARTIFACT)))
    for item in json.loads((FOLDER / "table.json").read_text()):
        made.dynamodb.items[item["pk"]["S"], item["sk"]["S"]] = item
    return made


def test_open_episodes_go_on_and_end(world):
    # GIVEN the episodes that the table holds as unfinished
    registry = world.outputs.repository
    before = registry.unfinished()
    assert before

    # WHEN a tick comes a day and a half later, in which no row came
    answer = world.tick(AFTER_MS + 36 * 3_600_000)

    # THEN all have ended, and no message has failed
    assert registry.unfinished() == []
    assert answer["failed"] == 0
