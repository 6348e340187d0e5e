"""Golden records: the Lambda and training give them the packed verdicts."""

import numpy as np
import pytest

from riskwatch_lambda.model import document as served
from riskwatch_lambda.scoring import scorer
from riskwatch_lambda.scoring.records import parse
from riskwatch_ml.artifact import archive
from riskwatch_ml.features.training_set import training_table
from riskwatch_ml.model.fleet_model import FleetModel
from riskwatch_ml.model.golden import STRANGER, expected, golden_records
from riskwatch_ml.schema import catalogue


def loaded(candidate):
    zip_bytes = archive.pack(candidate.document, candidate.arrays)
    return served.from_files(archive.model_files(zip_bytes)), *archive.unpack(zip_bytes)


def test_the_lambda_reproduces_the_golden_records(candidate, inventory):
    # GIVEN the golden records that travel with a model
    model, document, arrays = loaded(candidate)
    assert len(model.golden) == 6  # two for each of three instances
    assert {record["role"] for record, _ in model.golden} >= {fleet.role for fleet in inventory.values()}
    # WHEN the Lambda scores them, and training does once more
    got = []
    for record, want in model.golden:
        verdict = scorer.score(model, parse(record, model.row_schema))
        got.append({"score": round(verdict.score, 6), "level": verdict.level, "unusual": verdict.unusual})
        assert got[-1] == want
    # THEN all agree
    assert expected(FleetModel.load(document, arrays), document["golden"]["records"]) == got


@pytest.mark.parametrize(("instances", "count"), [(1, 5), (3, 6), (7, 12)])
def test_a_small_fleet_has_fewer_records_of_all_variants(instances, count, candidate, fleet_rows, inventory):
    # GIVEN rows of some instances
    names = [f"web-{number}" for number in range(instances)]
    table = training_table(fleet_rows(names, rows=60), catalogue.load(), 300)
    model = FleetModel.load(candidate.document, candidate.arrays)
    # WHEN
    golden = golden_records(model, table, np.zeros(len(table)), inventory, seed=0)
    # THEN each variant is there, and values have at most four digits
    records = golden["records"]
    assert len(records) == len(golden["expected"]) == count
    assert any(None in record["rows"][-1] for record in records)
    assert any(len(record["rows"]) == 1 < model.context_rows for record in records)
    assert {(record["instance_id"] == STRANGER, record["role"] == STRANGER) for record in records} >= {
        (False, False),
        (True, False),
        (True, True),
    }
    values = [value for record in records for row in record["rows"] for value in row if value is not None]
    assert values == [float(f"{value:.4g}") for value in values]
