"""Parity: the scorers of training and of the Lambda give equal verdicts."""

import sys

import pytest

from bench.parity import awkward, differences
from riskwatch_ml.artifact import archive
from riskwatch_ml.model.fit import Recipe
from riskwatch_ml.schema import catalogue
from riskwatch_ml.selection import candidate as train


@pytest.fixture(scope="module")
def replay(fleet_rows):
    """Return rows with spikes, missing values, gaps and unseen instances.

    One unseen instance has a known role, another has none.
    """
    rows = fleet_rows(["web-1", "db-1", "web-9", "stranger"], rows=400, seed=7)
    return awkward(rows, list(catalogue.load().names))


def test_training_and_the_deployed_zip_label_alike(candidate, replay, inventory):
    # GIVEN a trained family, packed
    zip_bytes = archive.pack(candidate.document, candidate.arrays)
    # WHEN training's scorer labels a table, and the unzipped function the same rows one record at a time
    found = differences(zip_bytes, replay, inventory, sys.executable)
    # THEN every verdict is the same, reasons included, and all the cases were there
    assert found["differences"] == dict.fromkeys(found["differences"], 0)
    assert set(found["differences"]) == {"level", "unusual", "opens", "context", "score", "reasons"}
    assert found["rows"] == len(replay) > 1400
    assert found["unseen"] > 700
    assert min(found["unusual"], found["without_context"]) > 10


def test_a_difference_is_counted(replay, monkeypatch, fleet_rows, inventory):
    # GIVEN a deployed artifact whose code takes another row for unusual than training does
    rows = fleet_rows(["web-1", "web-2"])
    candidate = train.fit_candidate(rows, catalogue.load(), inventory, Recipe("kmeans"), "t1")
    contents = {name: b.replace(b"value>=UNUSUAL", b"value>=9") for name, b in archive._code().items()}
    monkeypatch.setattr(archive, "_code", lambda: contents)
    zip_bytes = archive.pack(candidate.document, candidate.arrays)

    # WHEN both label rows, THEN they differ in that and in nothing else
    found = differences(zip_bytes, replay, inventory, sys.executable)["differences"]
    assert found.pop("unusual") > 10
    assert found == dict.fromkeys(found, 0)
