"""The view of an instance that the model in service does not know."""

import numpy as np
import pytest
from fastapi.testclient import TestClient

from riskwatch_dashboard import app as app_module
from riskwatch_dashboard import new_instances, queries, served_parts
from riskwatch_dashboard.filters import Selection
from riskwatch_dashboard.snapshot import Snapshot
from riskwatch_ml.artifact import archive
from riskwatch_ml.storage import keys
from tests.support import tiny
from tests.unit.riskwatch_dashboard.conftest import NOW


@pytest.fixture
def serving(store, promote, monkeypatch):
    """A model in service that knows web-1 and the role web."""
    zip_bytes = archive.pack(tiny.document(), {name: np.array(v, np.float32) for name, v in tiny.ARRAYS.items()})
    digest = archive.checksum(zip_bytes)
    store.put_bytes(keys.artifact(digest), zip_bytes)
    promote("3", 2, digest=digest)
    monkeypatch.setattr(served_parts, "_cache", served_parts._Cache())
    return digest


@pytest.fixture
def found(store):
    """What the view says of a selected instance."""
    return lambda name, exact=True: new_instances.of_selection(store, queries.read(store, NOW, Selection(name, exact)))


@pytest.mark.usefixtures("serving")
def test_an_instance_without_a_baseline_is_new_until_it_has_rows_for_one(found, fill, row, at):
    # GIVEN a known instance, and new ones of a known and of an unknown role
    fill([row("web-1", at(125)), row("web-9", at(125)), row("web-9", at(5)), row("lab-1", at(5), role="lab")])

    # WHEN each is selected
    known, new, lab = (found(name) for name in ("web-1", "web-9", "lab-1"))

    # THEN the new ones can be learned 23 hours after their first row, and the role is named only if the model has it
    assert known is None
    assert (new.role, f"{new.learnable:%d %H:%M}") == ("web", "23 08:55")
    assert (lab.role, f"{lab.learnable:%d %H:%M}") == ("", "23 10:55")
    # AND a part of a name, or an instance without rows, is not judged
    assert found("web-9", exact=False) is None
    assert found("web-8") is None


@pytest.mark.usefixtures("two_kinds")
def test_the_role_of_an_instance_is_one_of_the_model_of_its_kind(found, fill, row, at):
    # GIVEN new databases of roles of which the model of databases, or that of instances, has a baseline
    rows = [row("rds/new", at(5), role="db"), row("rds/other", at(5), role="web"), row("rds/orders", at(5), role="db")]
    fill([{**item, "resource_kind": "rds"} for item in rows] + [row("web-9", at(5)), row("web-8", at(5), role="db")])

    # WHEN / THEN
    assert found("rds/orders") is None
    assert {name: found(name).role for name in ("rds/new", "rds/other", "web-9", "web-8")} == {
        "rds/new": "db",
        "rds/other": "",
        "web-9": "web",
        "web-8": "",
    }


def test_without_a_readable_artifact_nothing_is_said(found, fill, row, at, store, serving):
    # GIVEN a model whose artifact is gone, and then one that is damaged
    fill([row("web-9", at(5))])
    store.delete(keys.artifact(serving))
    assert found("web-9") is None
    store.put_bytes(keys.artifact(serving), b"no zip")

    # WHEN / THEN the rows are shown without it
    assert found("web-9") is None


@pytest.mark.usefixtures("open_to_all", "serving")
def test_the_view_and_its_json_say_how_long_the_rest_takes(store, found, fill, row, at):
    # GIVEN the view of a new instance
    fill([row("web-9", at(5))])

    def look(selection):
        return Snapshot(queries.read(store, NOW, selection), new_instance=found("web-9"))

    client = TestClient(app_module.build(look))

    # WHEN it is opened
    text = client.get("/?instance=web-9&exact=1").text
    document = client.get("/api/rows?instance=web-9&exact=1").json()

    # THEN it says what pages now, and from when a training gives a baseline
    assert "web-9 is new" in text
    assert "It pages only for exhaustion and for values far outside the range of its role <em>web</em>" in text
    assert "first training after <time" in text
    assert document["new_instance"] == {"instance_id": "web-9", "role": "web", "learnable": "2026-11-23T10:55:00.000Z"}
