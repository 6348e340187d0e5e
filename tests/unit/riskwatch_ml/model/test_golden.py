"""Golden records: the Lambda and training give them the packed verdicts."""

from riskwatch_lambda.model import document as served
from riskwatch_lambda.scoring import scorer
from riskwatch_lambda.scoring.records import parse
from riskwatch_ml.artifact import archive
from riskwatch_ml.model.fleet_model import FleetModel
from riskwatch_ml.model.golden import expected


def loaded(candidate):
    zip_bytes = archive.pack(candidate.document, candidate.arrays)
    return served.from_files(archive.model_files(zip_bytes)), *archive.unpack(zip_bytes)


def test_the_lambda_reproduces_the_golden_records(candidate, inventory):
    # GIVEN the golden records that travel with a model
    model, document, arrays = loaded(candidate)
    assert len(model.golden) == 12
    assert {record["role"] for record, _ in model.golden} >= {fleet.role for fleet in inventory.values()}
    # WHEN the Lambda scores them, and training does once more
    got = []
    for record, want in model.golden:
        verdict = scorer.score(model, parse(record, model.row_schema))
        got.append({"score": round(verdict.score, 6), "level": verdict.level, "unusual": verdict.unusual})
        assert got[-1] == want
    # THEN all agree
    assert expected(FleetModel.load(document, arrays), document["golden"]["records"]) == got
