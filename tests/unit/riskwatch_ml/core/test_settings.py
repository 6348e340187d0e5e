"""Settings: file, environment, precedence, and errors that name key, value and fix."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from riskwatch_ml.core import settings
from riskwatch_ml.core.accounts import AccountRegionError

REQUIRED = {
    "bucket": "b",
    "stream": "s",
    "table": "t",
    "function": "f",
    "mlflow_uri": "http://mlflow:5000",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    import os

    for name in list(os.environ):
        if name.startswith("RISKWATCH_"):
            monkeypatch.delenv(name)
    settings.load.cache_clear()
    yield
    settings.load.cache_clear()


def config(tmp_path, monkeypatch, extra=""):
    path = tmp_path / "riskwatch.toml"
    path.write_text("\n".join(f'{key} = "{value}"' for key, value in REQUIRED.items()) + f"\n{extra}\n")
    monkeypatch.setenv("RISKWATCH_CONFIG", str(path))


def test_file_then_environment(tmp_path, monkeypatch):
    # GIVEN a file that sets two fields and a variable that sets one of them again
    config(tmp_path, monkeypatch, 'period_s = 60\nbudget = 2\n[schedules]\nexport_metrics = "manual"')
    monkeypatch.setenv("RISKWATCH_PERIOD_S", "900")

    # WHEN the settings are read
    found = settings.load()

    # THEN the variable wins, whole numbers become the field's type and the rest is default
    assert found.period_s == 900
    assert found.budget == 2.0
    assert isinstance(found.budget, float)
    assert found.promotion == "approval"
    assert found.schedules["export_metrics"] is None
    assert found.schedules["stream_metrics"] == "*/5 * * * *"


def test_environment_alone_is_enough(monkeypatch):
    # GIVEN only variables, an optional one of them empty
    for key, value in REQUIRED.items():
        monkeypatch.setenv(f"RISKWATCH_{key.upper()}", value)
    monkeypatch.setenv("RISKWATCH_CATALOGUE", "")

    # WHEN / THEN
    assert settings.load().bucket == "b"
    assert settings.load().catalogue == ()


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("period_s = 77", ["period_s", "77", "multiple of 60"]),
        ('promotion = "always"', ["promotion", "always", "dry_run"]),
        ("budget = 0", ["budget", "above 0"]),
        ("pages_per_day = 0", ["pages_per_day", "pages a day for the fleet above 0"]),
        ("pages_per_day = 4\nbudget = 1", ["pages_per_day and budget", "remove budget"]),
        ("rotations = 0", ["rotations", "number of on-call rotations"]),
        ('history_days = "many"', ["history_days", "many", "number"]),
        ("history_days = 1.5", ["history_days", "1.5", "whole"]),
        ("reread_hours = -1", ["reread_hours", "-1", "0 or more"]),
        ("reread_days = 14", ["reread_days 14", "at most 13"]),
        ("regions = 7", ["regions", "7", "list of names"]),
        ("period_s = nan", ["period_s", "nan", "finite"]),
        ("budget = inf", ["budget", "inf", "finite"]),
        (f"budget = 1{'0' * 400}", ["budget", "write a number"]),
        (f"budget = 1{'0' * 5000}", ["riskwatch.toml", "not valid TOML"]),
        (f"budget = {'[' * 3000}", ["riskwatch.toml", "not valid TOML"]),
        ("history_days = 1e300", ["history_days", "at most 36500"]),
        ("new_normal_hours = 1e300", ["new_normal_hours", "at most 876000"]),
        ("settle_s = 86401", ["settle_s", "86401", "at most 86400"]),
        ("colour = 1", ["colour", "known keys"]),
        ('[schedules]\nexport_metric = "manual"', ["schedules.export_metric", "export_metrics"]),
        ('[schedules]\nexport_metrics = "hourly"', ["schedules.export_metrics", "hourly", "manual"]),
    ],
)
def test_errors_name_key_value_and_fix(tmp_path, monkeypatch, extra, words):
    # GIVEN a file with one wrong entry
    config(tmp_path, monkeypatch, extra)

    # WHEN it is read
    with pytest.raises(settings.SettingsError) as error:
        settings.load()

    # THEN the message has what the reader needs
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    "field",
    [
        "period_s",
        "settle_s",
        "reread_hours",
        "history_days",
        "new_normal_hours",
        "budget",
        "pages_per_day",
        "rotations",
    ],
)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999"])
def test_a_number_that_is_not_finite_is_refused(tmp_path, monkeypatch, field, value):
    # GIVEN a variable of the environment WHEN / THEN
    config(tmp_path, monkeypatch)
    monkeypatch.setenv(f"RISKWATCH_{field.upper()}", value)
    with pytest.raises(settings.SettingsError, match=f"{field} is '{value}': write a finite number"):
        settings.load()


def test_a_budget_in_code_has_to_be_a_number_too():
    # GIVEN / WHEN / THEN
    for budget in (float("nan"), float("inf")):
        with pytest.raises(settings.SettingsError, match="budget is"):
            settings.Settings(**REQUIRED, budget=budget)


def test_a_file_that_is_not_utf8_is_named(tmp_path, monkeypatch):
    # GIVEN / WHEN / THEN
    path = tmp_path / "riskwatch.toml"
    path.write_bytes(b'bucket = "\xff"')
    monkeypatch.setenv("RISKWATCH_CONFIG", str(path))
    with pytest.raises(settings.SettingsError, match=r"riskwatch\.toml is not valid TOML: 'utf-8' codec"):
        settings.load()


def test_missing_field_says_how_to_set_it():
    # GIVEN nothing at all
    # WHEN / THEN
    with pytest.raises(settings.SettingsError, match=r"bucket is missing: set RISKWATCH_BUCKET"):
        settings.load()


def test_schedules_need_no_other_setting(monkeypatch):
    # GIVEN no settings, then a schedule by variable
    assert settings.schedules() == dict(settings.DEFAULT_SCHEDULES)
    monkeypatch.setenv("RISKWATCH_SCHEDULES", '{train_models = "manual"}')

    # WHEN / THEN
    assert settings.schedules()["train_models"] is None


def test_accounts_and_regions_need_no_other_setting(tmp_path, monkeypatch):
    # GIVEN none, then a file with regions, then a variable with roles
    assert [account_region.name for account_region in settings.account_regions()] == ["default"]
    config(tmp_path, monkeypatch, 'regions = ["eu-west-1", "us-east-1"]')
    monkeypatch.setenv("RISKWATCH_ROLE_ARNS", "own, arn:aws:iam::123456789012:role/r")

    # WHEN / THEN both are multiplied out, for DAG files and for tasks alike
    names = ["eu-west-1", "us-east-1", "123456789012.eu-west-1", "123456789012.us-east-1"]
    assert [account_region.name for account_region in settings.account_regions()] == names
    assert settings.load().account_regions == settings.account_regions()


def test_a_role_that_is_none_is_refused(tmp_path, monkeypatch):
    # GIVEN / WHEN / THEN
    config(tmp_path, monkeypatch, 'role_arns = ["reader"]')
    with pytest.raises(AccountRegionError, match="role_arns has 'reader'"):
        settings.load()


def test_every_setting_is_in_the_instructions():
    # GIVEN the table of settings
    text = (Path(__file__).parents[4] / "docs" / "deploy.md").read_text(encoding="utf-8")
    documented = {name for line in text.splitlines() if line.startswith("| `RISKWATCH_") for name in _named(line)}

    # WHEN / THEN
    assert documented == {f"RISKWATCH_{item.name.upper()}" for item in fields(settings.Settings)}


def _named(line):
    return re.findall(r"`(RISKWATCH_[A-Z_]+)`", line.split("|")[1])
