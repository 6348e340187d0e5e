"""`riskwatch status`: what serves in words, and an exit code for scripts."""

import pytest
from typer.testing import CliRunner

from riskwatch_cli.main import app
from riskwatch_ml.core import aws, settings
from tests.support.functions import FUNCTION
from tests.support.serving import Installation


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """An installation that the command reaches."""
    made = Installation(monkeypatch)
    monkeypatch.setattr(aws, "client", {"lambda": made.functions, "s3": made.store.client}.__getitem__)
    config = settings.Settings(bucket="bucket", stream="s", table="t", function=FUNCTION, mlflow_uri="http://mlflow")
    monkeypatch.setattr(settings, "load", lambda: config)
    monkeypatch.chdir(tmp_path)
    return made


def test_what_serves_since_when_and_by_whom(installed):
    # GIVEN
    installed.release("m-1")

    # WHEN
    result = CliRunner().invoke(app, ["status"])

    # THEN
    assert result.exit_code == 0, result.output
    assert "function version 2, model version 1 (kmeans), put into service at 20" in result.output
    assert "by ada\nmodel m-1\nalias, MLflow and ledger agree" in result.output


def test_a_disagreement_exits_with_1_and_says_what_ends_it(installed):
    # GIVEN
    for name in ("m-1", "m-2"):
        installed.release(name)
    installed.functions.move("2")

    # WHEN
    result = CliRunner().invoke(app, ["status"])

    # THEN
    assert result.exit_code == 1
    assert "disagreement: alias 'live' points to function version 2" in result.output
    assert "action = confirm" in result.output


def test_no_model_in_service_exits_with_1(installed):
    result = CliRunner().invoke(app, ["status"])
    assert (result.exit_code, "no model is in service" in result.output) == (1, True)
