"""The parts of a model file: each is read as a model of its own, and a damaged one stops the start."""

from __future__ import annotations

import json
from typing import Any

import pytest

from riskwatch_lambda.model.document import Model, ModelError, from_files
from tests.support import kinds, tiny
from tests.support.kinds import EC2, RDS


def changed(**further: Any) -> dict[str, bytes]:
    """Give the files of a model whose second part has some values replaced."""
    return kinds.files(**further)


def renamed(name: str) -> dict[str, bytes]:
    """Give the files of a model whose second part has another name."""
    document = {**tiny.document(resource_kind=EC2), "kinds": {name: kinds.DOCUMENT}}
    return tiny.encode(document, tiny.ARRAYS, {name: kinds.ARRAYS})


def test_a_model_has_a_part_for_each_kind():
    # GIVEN a file of two parts WHEN it is loaded
    model = kinds.model()

    # THEN the first is the model itself, and each has its own features, arrays, rule and golden records
    assert list(model.parts) == [EC2, RDS]
    assert model.parts[EC2] is model
    part = model.parts[RDS]
    assert (model.resource_kind, part.resource_kind) == (EC2, RDS)
    assert (model.row_schema.features, part.row_schema.features) == (("cpu", "net"), ("connections",))
    assert (model.baselines.count, part.baselines.count) == (3, 1)
    assert part.rule.cooldown_s == 600
    assert len(part.golden) == 1
    assert part.parts == {RDS: part}


def test_a_kind_without_a_part_has_the_rule_of_the_first_one():
    model = kinds.model()
    assert model.rule_of(RDS) is model.parts[RDS].rule
    assert model.rule_of(EC2) is model.rule_of("") is model.rule_of("alb") is model.rule


def test_a_model_of_an_earlier_release_has_one_part_without_a_name():
    model = tiny.model()
    assert model.resource_kind == ""
    assert model.parts == {"": model}
    assert model.further_schemas == {}


@pytest.mark.parametrize("name", ["", "r ds", "rds/", "é", EC2])
def test_a_part_needs_a_name_of_its_own(name: str):
    with pytest.raises(ModelError, match="kinds has"):
        from_files(renamed(name))


@pytest.mark.parametrize("value", ["", "a/b", 7, None, []])
def test_the_kind_of_the_first_part_must_be_a_name(value: object):
    with pytest.raises(ModelError, match="resource_kind is"):
        from_files(tiny.encode(tiny.document(resource_kind=value), tiny.ARRAYS))


@pytest.mark.parametrize("value", [[], "rds", {RDS: None}, {RDS: []}])
def test_the_parts_must_be_models_by_kind(value: object):
    with pytest.raises(ModelError, match="kinds"):
        from_files(tiny.encode(tiny.document(kinds=value), tiny.ARRAYS))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"schema": "maps/2"}, "kinds.rds: model.json has schema 'maps/2'"),
        ({"features": []}, "kinds.rds: features must be names"),
        ({"rule": {**kinds.RULE, "m": 0}}, "kinds.rds: rule needs"),
        ({"context_rows": 0}, "kinds.rds: context_rows is 0"),
        ({"resource_kind": "alb"}, "kinds.rds is the model of another kind"),
        ({"kinds": {}}, "kinds.rds is the model of another kind, or has kinds itself"),
    ],
)
def test_a_damaged_part_names_its_kind(changes: dict[str, Any], reason: str):
    with pytest.raises(ModelError, match=reason):
        from_files(changed(**changes))


def test_a_part_cannot_use_an_array_of_another_part():
    # GIVEN a second part with the array of its boundary among those of the first part only
    files = kinds.files()
    document = json.loads(files["model.json"])
    document["arrays"]["b9"] = document["arrays"].pop("rds/b0")

    # WHEN / THEN
    with pytest.raises(ModelError, match=r"kinds\.rds: array 'b0' is used by the document and absent"):
        from_files(tiny.sealed(document, files["model.bin"]))


def test_a_part_may_state_its_kind():
    assert isinstance(from_files(changed(resource_kind=RDS)).parts[RDS], Model)
