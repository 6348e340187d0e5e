"""`riskwatch silence`: windows that the function reads, and errors on wrong options."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from riskwatch_cli.main import app
from riskwatch_lambda.alerting.maintenance import MaintenanceWindows
from riskwatch_lambda.table import Table
from riskwatch_ml.core import aws, clock, settings
from tests.support.fakes import FakeDynamoDB

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)


@pytest.fixture
def table(monkeypatch, tmp_path):
    """Return an empty table; settings point to it, and the clock stands at 10:00."""
    made = FakeDynamoDB()
    config = settings.Settings(bucket="bucket", stream="s", table="table", function="f", mlflow_uri="http://mlflow")
    monkeypatch.setattr(settings, "load", lambda: config)
    monkeypatch.setattr(aws, "client", {"dynamodb": made}.__getitem__)
    monkeypatch.setattr(clock, "now", lambda: TEN)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return made


def run(*arguments):
    return CliRunner().invoke(app, ["silence", *arguments], env={"LOGNAME": "ada"})


def windows(table):
    return MaintenanceWindows(Table(table, "table")).read()


@pytest.mark.parametrize(
    ("options", "scope", "name", "start", "end"),
    [
        (("--service", "shop", "--for", "2h"), "service", "shop", 0, 120),
        (("--instance", "web-1", "--until", "2026-11-22T10:30Z"), "instance", "web-1", 0, 30),
        (("--all", "--from", "2026-11-22T12:00:00+01:00", "--for", "1d"), "all", "", 60, 60 + 1440),
        (("--all", "--from", "2026-11-22T09:00Z", "--for", "90m"), "all", "", -60, 30),
    ],
)
def test_a_window_is_stored_with_who_and_why(table, options, scope, name, start, end):
    # GIVEN / WHEN
    result = run("add", *options, "--reason", " disk swap ")

    # THEN
    assert result.exit_code == 0, result.output
    (window,) = windows(table)
    assert (window.scope, window.name) == (scope, name)
    moments = [clock.epoch_ms(TEN + timedelta(minutes=minutes)) for minutes in (start, end, 0)]
    assert [window.from_ms, window.until_ms, window.created_ms] == moments
    assert (window.reason, window.by) == ("disk swap", "ada")
    assert result.output.startswith(f"{window.window_id}: ")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "exactly one of --service NAME, --instance NAME and --all"),
        (("--service", "a", "--all"), "exactly one of --service NAME, --instance NAME and --all"),
        (("--all",), "either --until TIME or --for DURATION"),
        (("--all", "--for", "1h", "--until", "2026-11-22T12:00Z"), "either --until TIME or --for DURATION"),
        (("--all", "--for", "two hours"), "--for is 'two hours'"),
        (("--all", "--for", "0h"), "--for is '0h'"),
        (("--all", "--until", "2026-11-22T12:00"), "has no time zone"),
        (("--all", "--until", "noon"), "is no ISO 8601 moment"),
        (("--all", "--from", "2026-11-22T12:00Z", "--until", "2026-11-22T11:00Z"), "before its start"),
        (("--all", "--from", "2026-11-22T08:00Z", "--for", "1h"), "is in the past"),
    ],
)
def test_what_makes_no_sense_is_refused(table, options, words):
    # GIVEN / WHEN
    result = run("add", *options, "--reason", "x")

    # THEN
    assert result.exit_code == 1
    assert words in result.stderr
    assert windows(table) == []


def test_a_reason_is_needed(table):
    # GIVEN / WHEN / THEN
    assert run("add", "--all", "--for", "1h").exit_code == 2
    assert "--reason is empty" in run("add", "--all", "--for", "1h", "--reason", " ").stderr


def test_the_list_shows_active_and_future_windows_and_on_request_past_ones(table, monkeypatch):
    # GIVEN one active window, one future, one removed and one over
    run("add", "--service", "[red]shop[/red]", "--for", "2h", "--reason", "now", "--by", "grace")
    run("add", "--instance", "web-1", "--from", "2026-11-23T00:00Z", "--for", "1h", "--reason", "later")
    run("add", "--all", "--for", "1h", "--reason", "mistake")
    run("add", "--instance", "web-2", "--for", "5m", "--reason", "short")
    mistake = next(window.window_id for window in windows(table) if window.reason == "mistake")
    assert run("remove", mistake, "--by", "grace").output == f"{mistake}: ended\n"
    monkeypatch.setattr(clock, "now", lambda: TEN + timedelta(minutes=10))

    # WHEN / THEN
    now = run("list").output
    assert re.search(r"service \[red\]shop\[/red\] .*2026-11-22T10:00 +2026-11-22T12:00 +active +grace +now", now)
    assert re.search(r"instance web-1 .*future +ada +later", now)
    assert len(now.splitlines()) == 3
    everything = run("list", "--all").output
    assert re.search(r"removed by grace +ada +mistake", everything)
    assert re.search(r"over +ada +short", everything)


def test_an_empty_list_says_so(table):
    # GIVEN / WHEN / THEN
    assert run("list").output == "no active or future maintenance windows\n"


def test_only_a_window_that_is_not_over_can_be_removed(table):
    # GIVEN a window that was removed
    run("add", "--all", "--for", "1h", "--reason", "x")
    (window,) = windows(table)
    run("remove", window.window_id)

    # WHEN / THEN
    again, unknown = run("remove", window.window_id), run("remove", "ffff")
    assert (again.exit_code, unknown.exit_code) == (1, 1)
    assert "ended at 2026-11-22T10:00:00.000Z" in again.stderr
    assert "there is no maintenance window 'ffff'" in unknown.stderr


def test_a_damaged_window_is_named_and_the_others_are_listed(table):
    # GIVEN a window, and one of an unknown scope
    run("add", "--service", "shop", "--for", "2h", "--reason", "upgrade")
    (sound,) = windows(table)
    key = "maintenance", "w-bad"
    table.items[key] = {**table.items["maintenance", sound.window_id], "sk": {"S": "w-bad"}, "scope": {"S": "planet"}}

    # WHEN the windows are listed THEN the sound one is in the table, and the other one is named with the cure
    listed = run("list")
    assert listed.exit_code == 0
    assert "service shop" in listed.output
    text = " ".join(listed.output.split())
    assert "sk 'w-bad': scope is 'planet', an unknown word; delete this item of the table" in text
