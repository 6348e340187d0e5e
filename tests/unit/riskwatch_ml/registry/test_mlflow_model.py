"""The registered model scores records of every kind that its artifact has, whatever release packed it."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from riskwatch_ml.artifact import archive, parts
from riskwatch_ml.artifact.parts import Part
from riskwatch_ml.registry.mlflow_model import ServedModel
from tests.support import kinds, tiny
from tests.support.kinds import EC2, RDS

OLDER = Path(__file__).parents[3] / "fixtures" / "upgrade" / "artifact.zip"


def loaded(path):
    model = ServedModel()
    model.load_context(SimpleNamespace(artifacts={"artifact": str(path)}))
    return model


def predict(model, *records):
    return model.predict(None, pd.DataFrame({"record": list(map(json.dumps, records))}))


@pytest.fixture
def two_kinds(tmp_path):
    """The registered model of an artifact of two kinds."""
    first, further = (
        Part(document, {name: np.array(values, np.float32) for name, values in arrays.items()})
        for document, arrays in ((tiny.document(), tiny.ARRAYS), (kinds.DOCUMENT, kinds.ARRAYS))
    )
    path = tmp_path / "artifact.zip"
    path.write_bytes(archive.pack(*parts.join({EC2: first, RDS: further})))
    return loaded(path)


def test_a_record_is_scored_by_the_part_of_its_kind(two_kinds):
    scored = predict(two_kinds, tiny.stream_record([[tiny.CPU, tiny.NET]]), kinds.row(kinds.PAGING))
    assert scored["score"].tolist() == pytest.approx([0.0, 4.0], abs=1e-6)
    assert scored["level"].tolist() == ["Normal", "High Load"]
    assert scored["unusual"].tolist() == [False, True]


def test_a_record_of_an_unknown_kind_is_named(two_kinds):
    with pytest.raises(ValueError, match="record 1 cannot be scored: kind is 'alb', the model has ec2, rds"):
        predict(two_kinds, kinds.row(kinds.CALM), kinds.row(kinds.CALM, kind="alb"))


def test_an_artifact_of_an_earlier_release_scores_its_golden_records():
    golden = archive.unpack(OLDER.read_bytes())[0]["golden"]
    scored = predict(loaded(OLDER), *golden["records"])
    assert scored["level"].tolist() == [verdict["level"] for verdict in golden["expected"]]
