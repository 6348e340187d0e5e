"""`riskwatch silence`: what is declared is what the function reads, and what makes no sense is refused in words."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from riskwatch_cli.main import app
from riskwatch_lambda.alerting.maintenance import Windows
from riskwatch_lambda.table import Table
from riskwatch_ml.core import aws, clock, settings
from tests.support.fakes import FakeDynamoDB

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)


@pytest.fixture
def table(monkeypatch, tmp_path):
    """An empty table, with settings that point to it and the clock at ten."""
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
    return Windows(Table(table, "table")).read()


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
        ((), "say what to silence"),
        (("--service", "a", "--all"), "say what to silence"),
        (("--all",), "either --until MOMENT or --for LENGTH"),
        (("--all", "--for", "1h", "--until", "2026-11-22T12:00Z"), "either --until MOMENT or --for LENGTH"),
        (("--all", "--for", "two hours"), "--for is 'two hours'"),
        (("--all", "--for", "0h"), "--for is '0h'"),
        (("--all", "--until", "2026-11-22T12:00"), "has no time zone"),
        (("--all", "--until", "noon"), "is no ISO 8601 moment"),
        (("--all", "--from", "2026-11-22T12:00Z", "--until", "2026-11-22T11:00Z"), "before it begins"),
        (("--all", "--from", "2026-11-22T08:00Z", "--for", "1h"), "silences nothing any more"),
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


def test_the_list_shows_what_is_and_comes_and_on_request_what_was(table, monkeypatch):
    # GIVEN one that is active, one to come, one removed and one over
    run("add", "--service", "[red]shop[/red]", "--for", "2h", "--reason", "now", "--by", "grace")
    run("add", "--instance", "web-1", "--from", "2026-11-23T00:00Z", "--for", "1h", "--reason", "later")
    run("add", "--all", "--for", "1h", "--reason", "mistake")
    run("add", "--instance", "web-2", "--for", "5m", "--reason", "short")
    mistake = next(each.window_id for each in windows(table) if each.reason == "mistake")
    assert run("remove", mistake, "--by", "grace").output == f"{mistake}: ended\n"
    monkeypatch.setattr(clock, "now", lambda: TEN + timedelta(minutes=10))

    # WHEN / THEN
    now = run("list").output
    assert re.search(r"service \[red\]shop\[/red\] .*2026-11-22T10:00 +2026-11-22T12:00 +active +grace +now", now)
    assert re.search(r"instance web-1 .*to come +ada +later", now)
    assert len(now.splitlines()) == 3
    everything = run("list", "--all").output
    assert re.search(r"removed by grace +ada +mistake", everything)
    assert re.search(r"over +ada +short", everything)


def test_an_empty_list_says_so(table):
    # GIVEN / WHEN / THEN
    assert run("list").output == "no maintenance windows now or to come\n"


def test_only_a_window_that_is_not_over_can_be_removed(table):
    # GIVEN a window that was removed
    run("add", "--all", "--for", "1h", "--reason", "x")
    (window,) = windows(table)
    run("remove", window.window_id)

    # WHEN / THEN
    again, unknown = run("remove", window.window_id), run("remove", "ffff")
    assert (again.exit_code, unknown.exit_code) == (1, 1)
    assert "is over since 2026-11-22T10:00:00.000Z" in again.stderr
    assert "there is no maintenance window 'ffff'" in unknown.stderr
