"""Of whom nothing is heard: the windows that run and the silent instances, as the table of the episodes has them."""

from datetime import timedelta

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from fastapi.testclient import TestClient

from riskwatch_dashboard import alert_state, queries
from riskwatch_dashboard import app as app_module
from riskwatch_dashboard.snapshot import Look, Source
from riskwatch_lambda.alerting.maintenance import ALL, INSTANCE, SERVICE, Window, Windows
from riskwatch_lambda.episode_rule import EpisodeState
from riskwatch_lambda.episodes.lifecycle import BEHAVIOUR, SILENT, Change, Episode
from riskwatch_lambda.episodes.repository import Registry
from riskwatch_lambda.table import Table
from riskwatch_ml.core import clock
from tests.support.fakes import FakeDynamoDB
from tests.unit.riskwatch_dashboard.conftest import NOW

HOSTILE = '"><script>alert(1)</script>'


@pytest.fixture
def database():
    return FakeDynamoDB()


@pytest.fixture
def table(database):
    return Table(database, "table", pause=lambda _: None)


@pytest.fixture
def declare(table):
    """Declare a window from `begin` to `end`, in minutes from now."""

    def add(window_id, scope, name, begin=-60, end=60, reason="upgrade", by="ada"):
        first, last = (clock.epoch_ms(NOW + timedelta(minutes=minutes)) for minutes in (begin, end))
        window = Window(window_id, scope, name, first, last, reason, by, first)
        Windows(table).add(window)
        return window

    return add


@pytest.fixture
def fall(table):
    """Open an episode of an instance that many minutes ago, a silent one unless another kind is asked for."""

    def open_episode(instance, service, minutes, kind=SILENT, is_open=True):
        since = clock.epoch_ms(NOW - timedelta(minutes=minutes))
        episode = Episode(instance, service, kind, EpisodeState(is_open, since, since))
        Registry(table).write(Change(None, episode, listed=(episode,), opened=frozenset({episode.episode_id})))

    return open_episode


@pytest.fixture
def visit(store, table, monkeypatch):
    """A logged-in visitor of an app on the bucket and the table in memory."""
    monkeypatch.setattr(app_module, "_access", lambda: lambda: None)

    def look() -> Look:
        return Look(queries.read(store, clock.now()), quiet=alert_state.read(table, clock.now()))

    return TestClient(app_module.build(Source(look)), raise_server_exceptions=False)


def test_windows_that_run_are_read_and_no_others(table, declare):
    # GIVEN windows that are over, to come, removed, and two that run
    declare("1", ALL, "", -60, -1)
    declare("2", ALL, "", 1, 60)
    Windows(table).remove(declare("3", ALL, ""), clock.epoch_ms(NOW) - 1, "bob")
    declare("4", SERVICE, "shop", end=90)
    declare("5", INSTANCE, "db-1", end=30)
    # WHEN the table is looked at, THEN the two are there, the one that ends first before the other
    found = alert_state.read(table, NOW)
    assert [(each.what, each.by, each.reason) for each in found.windows] == [
        ("instance db-1", "ada", "upgrade"),
        ("service shop", "ada", "upgrade"),
    ]
    assert found.windows[0].until == NOW + timedelta(minutes=30)


def test_silent_instances_are_those_with_an_open_silent_episode(table, fall):
    # GIVEN two silent instances, one that reports again, and one that behaves unusually
    fall("web-2", "shop", 20)
    fall("web-1", "shop", 40)
    fall("web-3", "shop", 30, is_open=False)
    fall("web-4", "shop", 30, kind=BEHAVIOUR)
    # THEN the two are there, the longest silent first
    found = alert_state.read(table, NOW)
    assert [(each.instance_id, each.service) for each in found.silent] == [("web-1", "shop"), ("web-2", "shop")]
    assert found.silent_since("web-1") == NOW - timedelta(minutes=40)
    assert found.silent_since("web-3") is None


def test_the_window_of_an_instance_is_the_one_that_ends_last(table, declare):
    declare("1", INSTANCE, "web-1", end=30, reason="short")
    declare("2", SERVICE, "shop", end=90, reason="long")
    found = alert_state.read(table, NOW)
    assert found.window_of("shop", "web-1").reason == "long"
    assert found.window_of("other", "web-1").reason == "short"
    assert found.window_of("other", "web-2") is None
    declare("3", ALL, "", end=120, reason="all")
    assert alert_state.read(table, NOW).window_of("other", "web-2").reason == "all"


def test_the_page_shows_who_is_in_maintenance_and_who_is_silent(visit, fill, row, at, declare, fall):
    # GIVEN rows of two services, a window of one of them, and a silent instance of each
    fill([row("web-1", at(5)), row("db-1", at(5), service="data")])
    declare("1", SERVICE, "data", reason="disk swap", by="bob", end=58)
    fall("web-1", "shop", 62)
    fall("gone-1", "data", 122)
    # WHEN the page is opened
    text = visit.get("/").text
    # THEN it says until when, who and why, and since when
    assert "service data" in text
    assert "13:00</time></td><td>bob</td><td>disk swap" in text
    assert "11:00</time></td><td>–" in text
    assert "10:00</time></td><td>until 2026-11-22 13:00" in text
    # AND marks the rows of these instances
    assert text.count('badge silent">silent<') == 1
    assert text.count('title="until 2026-11-22 13:00 UTC by bob: disk swap">maintenance<') == 1
    # AND the document has the same
    found = visit.get("/api/rows").json()
    assert [(each["scope"], each["name"], each["until"]) for each in found["maintenance"]] == [
        ("service", "data", "2026-11-22T13:00:00.000Z")
    ]
    assert [each["instance_id"] for each in found["silent"]] == ["gone-1", "web-1"]
    assert found["quiet_problem"] is None


def test_a_filter_by_instance_leaves_what_concerns_it(visit, fill, row, at, declare, fall):
    # GIVEN windows of a service, of another one and of an instance, and two silent instances
    fill([row("web-1", at(5)), row("db-1", at(5), service="data")])
    declare("1", SERVICE, "data", reason="of data")
    declare("2", SERVICE, "shop", reason="of shop")
    declare("3", INSTANCE, "worker-1", reason="of worker")
    fall("web-1", "shop", 60)
    fall("worker-1", "jobs", 60)
    # WHEN the page is asked for one
    text = visit.get("/?instance=WEB").text
    # THEN what concerns others is left out
    assert "of shop" in text
    assert "of data" not in text
    assert "of worker" not in text
    assert "worker-1" not in text
    # AND a silent instance without a row has its windows too
    assert "of worker" in visit.get("/?instance=worker").text


def test_a_fleet_that_is_silent_as_a_whole_is_said(visit, fall):
    fall("*", "*", 60)
    text = visit.get("/?instance=web").text
    assert "the whole fleet" in text


def test_nothing_is_shown_where_all_is_heard(visit, fill, row, at):
    fill([row("web-1", at(5))])
    text = visit.get("/").text
    assert "Maintenance and silence" not in text
    assert "badge silent" not in text


def test_long_lists_are_cut_and_counted(visit, fall):
    for number in range(23):
        fall(f"web-{number:02}", "shop", 60 + number)
    text = visit.get("/").text
    assert "web-22" in text
    assert "web-02" not in text
    assert "and 3 more, silent since later" in text


def test_names_and_reasons_are_escaped(visit, fill, row, at, declare, fall):
    fill([row(HOSTILE, at(5), service=HOSTILE)])
    declare("1", SERVICE, HOSTILE, reason=HOSTILE, by=HOSTILE)
    fall(HOSTILE, HOSTILE, 60)
    text = visit.get("/").text
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 6


def test_a_table_that_cannot_be_read_costs_the_list_and_not_the_page(visit, fill, row, at, database):
    fill([row("web-1", at(5))])
    database.failing_reads = 99
    answer = visit.get("/")
    assert answer.status_code == 200
    assert "web-1" in answer.text
    assert "are not shown: the table table cannot be read, AWS answered" in answer.text
    # AND the document cannot be mistaken for one that says that all is well
    found = visit.get("/api/rows").json()
    assert (found["maintenance"], found["silent"]) == (None, None)
    assert found["quiet_problem"].startswith("the table table cannot be read")


@pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException", "InternalServerError"])
def test_what_aws_says_of_a_refusal_stays_in_the_log(visit, database, monkeypatch, caplog, code):
    # GIVEN a refusal in AWS's words, with a role, an account and a table in it
    said = (
        "User: arn:aws:sts::123456789012:assumed-role/pages/i-1 on arn:aws:dynamodb:eu-west-1:123456789012:table/table"
    )

    def refuse(**query):
        raise ClientError({"Error": {"Code": code, "Message": said}}, "Query")

    monkeypatch.setattr(database, "query", refuse)
    # WHEN page and document are asked for, THEN they name the code and none of that
    for text in (visit.get("/").text, visit.get("/api/rows").text):
        assert "123456789012" not in text
        assert "arn:" not in text
        assert ("needs dynamodb:Query on the table table and its index unfinished" in text) == code.startswith("Access")
        assert ("deploy infra/riskwatch_infra/stack.yaml" in text) == code.startswith("ResourceNotFound")
    # AND the log has it
    assert said in caplog.text


def test_a_table_that_cannot_be_reached_is_said(visit, database, monkeypatch):
    def fail(**query):
        raise EndpointConnectionError(endpoint_url="http://nowhere")

    monkeypatch.setattr(database, "query", fail)
    assert "http://nowhere" in visit.get("/").text
