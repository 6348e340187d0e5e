"""What the views say of the model of each kind, and what if ledger or artifact do not say it."""

from datetime import UTC, datetime

import numpy as np
import pytest

from riskwatch_dashboard import kind_models, queries, served_parts
from riskwatch_dashboard.kind_models import KindModel
from riskwatch_ml.artifact import archive
from riskwatch_ml.storage import keys
from tests.support import tiny


def shown(store, first="ec2"):
    return {part.kind: part for part in queries.model_in_service(store, first).kinds}


def test_kinds_are_shown_with_the_first_one_first(store, promote, two_kinds):
    # GIVEN / WHEN / THEN a kind keeps the promotion that brought its model
    models = shown(store)
    assert list(models) == ["ec2", "rds"]
    assert list(shown(store, "rds")) == ["rds", "ec2"]
    assert (models["ec2"].promoted, models["ec2"].by) == (datetime(2026, 11, 21, 1, tzinfo=UTC), "bob")
    assert (models["rds"].promoted, models["rds"].by) == (datetime(2026, 11, 21, 4, tzinfo=UTC), "ada")


def test_a_new_promotion_is_seen(store, promote, two_kinds):
    # GIVEN what was shown before
    shown(store)

    # WHEN instances get another model THEN its artifact is not there, but the ledger says what it knows
    promote("4", 5, model_id="m-9", by="eve", kinds={"ec2": "m-9", "rds": "d-2"}, resource_kinds=["ec2"])
    models = shown(store)
    assert models["ec2"] == KindModel("ec2", "m-9", promoted=datetime(2026, 11, 21, 5, tzinfo=UTC), by="eve")
    assert (models["rds"].promoted, models["rds"].family) == (datetime(2026, 11, 21, 4, tzinfo=UTC), "")


def test_a_promotion_that_was_undone_is_not_that_of_the_model_before(store, promote, two_kinds):
    # GIVEN a promotion of instances, and a restore of what served before
    promote("4", 5, model_id="m-9", by="eve", kinds={"ec2": "m-9", "rds": "d-2"}, resource_kinds=["ec2"])
    promote("3", 6, action="restore")

    # WHEN / THEN
    assert (shown(store)["ec2"].model_id, shown(store)["ec2"].by) == ("m-1", "bob")


def test_what_the_artifact_says_of_another_model_is_not_shown(store, promote, two_kinds):
    # GIVEN a ledger that names another model for databases than the artifact has
    promote("3", 5, digest=two_kinds, model_id="m-1", kinds={"ec2": "m-1", "rds": "d-9"}, resource_kinds=["rds"])

    # WHEN / THEN
    assert [(part.model_id, part.family) for part in shown(store).values()] == [("m-1", "kmeans"), ("d-9", "")]


def test_the_model_of_an_earlier_release_was_promoted_for_the_first_kind(store, promote, monkeypatch):
    # GIVEN a promotion of one kind without its name, whose artifact got a part for databases later
    monkeypatch.setattr(served_parts, "_cache", served_parts._Cache())
    monkeypatch.setattr(kind_models, "_cache", kind_models._Cache())
    promote("2", 1, by="bob")
    assert shown(store) == {}
    promote("3", 2, model_id="m-2", kinds={"ec2": "m-2", "rds": "d-1"}, resource_kinds=["rds"])

    # WHEN / THEN
    models = shown(store)
    assert (models["ec2"].by, models["rds"].by) == ("bob", "ada")


def test_a_damaged_entry_before_it_hides_no_model(store, promote, two_kinds):
    # GIVEN
    first = min(store.keys(keys.LEDGER))
    store.put_bytes(first, b"{")

    # WHEN / THEN only what the damaged entry knew is missing
    models = shown(store)
    assert (models["ec2"].promoted, models["ec2"].model_id) == (None, "m-1")
    assert models["rds"].by == "ada"


@pytest.mark.parametrize("damage", [b"no zip", None])
def test_without_a_readable_artifact_the_ledger_speaks_alone(store, two_kinds, damage):
    # GIVEN
    store.delete(keys.artifact(two_kinds))
    if damage:
        store.put_bytes(keys.artifact(two_kinds), damage)

    # WHEN / THEN
    databases = shown(store)["rds"]
    assert (databases.model_id, databases.by, databases.family, databases.trained) == ("d-2", "ada", "", None)


def test_the_artifact_is_read_once(store, two_kinds):
    # GIVEN
    shown(store)
    store.delete(keys.artifact(two_kinds))

    # WHEN / THEN
    assert shown(store)["rds"].family == "kmedoids"


@pytest.mark.parametrize("named", [{}, {"resource_kind": "ec2"}])
def test_an_artifact_with_one_part_has_it_for_every_row(store, monkeypatch, named):
    # GIVEN an artifact of this release, and one of an earlier release, which names no kind
    monkeypatch.setattr(served_parts, "_cache", served_parts._Cache())
    arrays = {name: np.array(values, np.float32) for name, values in tiny.ARRAYS.items()}
    store.put_bytes(keys.artifact("d"), archive.pack(tiny.document(**named), arrays))

    # WHEN
    parts = served_parts.read(store, "d")

    # THEN
    assert {served_parts.of_kind(parts, kind).model_id for kind in (None, "ec2", "rds")} == {"tiny-1"}


def test_a_part_without_a_name_is_that_of_the_first_kind():
    # GIVEN the parts of an artifact of an earlier release, which got a part for databases
    first, databases = (
        served_parts.ServedPart(name, "kmeans", datetime(2026, 11, 22, tzinfo=UTC), False, frozenset(), frozenset())
        for name in ("m", "d")
    )

    # WHEN / THEN
    parts = {"": first, "rds": databases}
    assert [served_parts.of_kind(parts, kind) for kind in (None, "ec2", "rds")] == [first, first, databases]
    assert served_parts.of_kind({"ec2": first, "rds": databases}, "sqs") is None
