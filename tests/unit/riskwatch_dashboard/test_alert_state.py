"""Active maintenance windows and instances without data, read from the table."""

from datetime import timedelta

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from fastapi.testclient import TestClient

from riskwatch_dashboard import alert_state, queries
from riskwatch_dashboard import app as app_module
from riskwatch_dashboard.snapshot import Snapshot
from riskwatch_lambda.alerting.maintenance import ALL, INSTANCE, SERVICE, MaintenanceWindow, MaintenanceWindows
from riskwatch_lambda.episode_rule import EpisodeState
from riskwatch_lambda.episodes.episode import BEHAVIOUR, NO_DATA, Change, Episode
from riskwatch_lambda.episodes.openings import HeldOpening
from riskwatch_lambda.episodes.repository import EpisodeRepository
from riskwatch_lambda.paging_rule import COOLING, FAMILIAR, PAGED, Opening, Signature
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
        window = MaintenanceWindow(window_id, scope, name, first, last, reason, by, first)
        MaintenanceWindows(table).add(window)
        return window

    return add


@pytest.fixture
def fall(table):
    """Open an episode of an instance that many minutes ago, by default one without data."""

    def open_episode(instance, service, minutes, kind=NO_DATA, is_open=True):
        since = clock.epoch_ms(NOW - timedelta(minutes=minutes))
        episode = Episode(instance, service, kind, EpisodeState(is_open, since, since))
        EpisodeRepository(table).write(Change(None, episode, listed=(episode,), opened=frozenset({episode.episode_id})))

    return open_episode


@pytest.fixture
def visit(store, table, monkeypatch):
    """Return the client of a logged-in user; bucket and table are in memory."""
    monkeypatch.setattr(app_module, "_access", lambda: lambda: None)

    def look() -> Snapshot:
        return Snapshot(queries.read(store, clock.now()), quiet=alert_state.read(table, clock.now()))

    return TestClient(app_module.build(lambda _: look()), raise_server_exceptions=False)


def test_windows_that_run_are_read_and_no_others(table, declare):
    # GIVEN windows that are over, to come, removed, and two that run
    declare("1", ALL, "", -60, -1)
    declare("2", ALL, "", 1, 60)
    MaintenanceWindows(table).remove(declare("3", ALL, ""), clock.epoch_ms(NOW) - 1, "bob")
    declare("4", SERVICE, "shop", end=90)
    declare("5", INSTANCE, "db-1", end=30)
    # WHEN the table is read, THEN the two are there, the one that ends first before the other
    state = alert_state.read(table, NOW)
    assert [(window.what, window.by, window.reason) for window in state.windows] == [
        ("instance db-1", "ada", "upgrade"),
        ("service shop", "ada", "upgrade"),
    ]
    assert state.windows[0].until == NOW + timedelta(minutes=30)


def test_instances_without_data_are_those_with_an_open_episode_of_that_kind(table, fall):
    # GIVEN two instances without data, one that reports again, and one that behaves unusually
    fall("web-2", "shop", 20)
    fall("web-1", "shop", 40)
    fall("web-3", "shop", 30, is_open=False)
    fall("web-4", "shop", 30, kind=BEHAVIOUR)
    # THEN the two are there, the one with the oldest last row first
    state = alert_state.read(table, NOW)
    assert [(instance.instance_id, instance.service) for instance in state.silent] == [
        ("web-1", "shop"),
        ("web-2", "shop"),
    ]
    assert state.no_data_since("web-1") == NOW - timedelta(minutes=40)
    assert state.no_data_since("web-3") is None


def test_the_window_of_an_instance_is_the_one_that_ends_last(table, declare):
    declare("1", INSTANCE, "web-1", end=30, reason="short")
    declare("2", SERVICE, "shop", end=90, reason="long")
    state = alert_state.read(table, NOW)
    assert state.window_of("shop", "web-1").reason == "long"
    assert state.window_of("other", "web-1").reason == "short"
    assert state.window_of("other", "web-2") is None
    declare("3", ALL, "", end=120, reason="all")
    assert alert_state.read(table, NOW).window_of("other", "web-2").reason == "all"


def test_the_view_shows_maintenance_and_instances_without_data(visit, fill, row, at, declare, fall):
    # GIVEN rows of two services, a window of one of them, and an instance without data in each
    fill([row("web-1", at(5)), row("db-1", at(5), service="data")])
    declare("1", SERVICE, "data", reason="disk swap", by="bob", end=58)
    fall("web-1", "shop", 62)
    fall("gone-1", "data", 122)
    # WHEN the view is opened
    text = visit.get("/").text
    # THEN it says until when, who and why, and since when
    assert "service data" in text
    assert "13:00</time></td><td>bob</td><td>disk swap" in text
    assert "11:00</time></td><td>–" in text
    assert "10:00</time></td><td>until 2026-11-22 13:00" in text
    # AND marks the rows of these instances
    assert text.count('badge silent">no data<') == 1
    assert text.count('title="until 2026-11-22 13:00 UTC by bob: disk swap">maintenance<') == 1
    # AND the document has the same
    document = visit.get("/api/rows").json()
    assert [(window["scope"], window["name"], window["until"]) for window in document["maintenance"]] == [
        ("service", "data", "2026-11-22T13:00:00.000Z")
    ]
    assert [instance["instance_id"] for instance in document["silent"]] == ["gone-1", "web-1"]
    assert document["quiet_problem"] is None


def test_a_filter_by_instance_leaves_what_concerns_it(visit, fill, row, at, declare, fall):
    # GIVEN windows of two services and of an instance, and two instances without data
    fill([row("web-1", at(5)), row("db-1", at(5), service="data")])
    declare("1", SERVICE, "data", reason="of data")
    declare("2", SERVICE, "shop", reason="of shop")
    declare("3", INSTANCE, "worker-1", reason="of worker")
    fall("web-1", "shop", 60)
    fall("worker-1", "jobs", 60)
    # WHEN the view is filtered to one
    text = visit.get("/?instance=WEB").text
    # THEN what concerns others is left out
    assert "of shop" in text
    assert "of data" not in text
    assert "of worker" not in text
    assert "worker-1" not in text
    # AND an instance without data and without a row has its windows too
    assert "of worker" in visit.get("/?instance=worker").text


def test_a_fleet_without_data_is_shown_as_a_whole(visit, fall):
    fall("*", "*", 60)
    text = visit.get("/?instance=web").text
    assert "the whole fleet" in text


def test_nothing_is_shown_if_every_instance_reports(visit, fill, row, at):
    fill([row("web-1", at(5))])
    text = visit.get("/").text
    assert "Maintenance and missing data" not in text
    assert "badge silent" not in text


def test_long_lists_are_cut_and_counted(visit, fall):
    for number in range(23):
        fall(f"web-{number:02}", "shop", 60 + number)
    text = visit.get("/").text
    assert "web-22" in text
    assert "web-02" not in text
    assert "and 3 more with newer last rows" in text


def test_names_and_reasons_are_escaped(visit, fill, row, at, declare, fall):
    fill([row(HOSTILE, at(5), service=HOSTILE)])
    declare("1", SERVICE, HOSTILE, reason=HOSTILE, by=HOSTILE)
    fall(HOSTILE, HOSTILE, 60)
    text = visit.get("/").text
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 6


def test_a_table_that_cannot_be_read_costs_the_list_and_not_the_view(visit, fill, row, at, database):
    fill([row("web-1", at(5))])
    database.failing_reads = 99
    answer = visit.get("/")
    assert answer.status_code == 200
    assert "web-1" in answer.text
    assert "are not shown: the table table cannot be read, AWS answered" in answer.text
    # AND the document cannot be mistaken for one that says that all is well
    document = visit.get("/api/rows").json()
    assert (document["maintenance"], document["silent"]) == (None, None)
    assert document["quiet_problem"].startswith("the table table cannot be read")


@pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException", "InternalServerError"])
def test_the_message_of_aws_stays_in_the_log(visit, database, monkeypatch, caplog, code):
    # GIVEN a refusal by AWS that names a role, an account and a table
    message = (
        "User: arn:aws:sts::123456789012:assumed-role/pages/i-1 on arn:aws:dynamodb:eu-west-1:123456789012:table/table"
    )

    def refuse(**query):
        raise ClientError({"Error": {"Code": code, "Message": message}}, "Query")

    monkeypatch.setattr(database, "query", refuse)
    # WHEN the view and the document are requested, THEN they name the code and none of that
    for text in (visit.get("/").text, visit.get("/api/rows").text):
        assert "123456789012" not in text
        assert "arn:" not in text
        assert ("needs dynamodb:Query on the table table and its index unfinished" in text) == code.startswith("Access")
        assert ("deploy infra/riskwatch_infra/stack.yaml" in text) == code.startswith("ResourceNotFound")
    # AND the log has it
    assert message in caplog.text


def test_a_table_that_cannot_be_reached_is_reported(visit, database, monkeypatch):
    def fail(**query):
        raise EndpointConnectionError(endpoint_url="http://nowhere")

    monkeypatch.setattr(database, "query", fail)
    assert "http://nowhere" in visit.get("/").text


def test_damaged_items_are_left_out_and_named(declare, fall, table, database, visit):
    # GIVEN two windows and two instances without data, one of each damaged
    declare("w-1", ALL, "")
    declare("w-2", INSTANCE, "web-1")
    fall("web-1", "shop", 30)
    fall("web-2", "shop", 30)
    for key, item in database.items.items():
        if key == ("maintenance", "w-1") or key[1].endswith("#web-1"):
            item.pop("from_ms", None)
            item["status"] = {"S": "OPENED"}

    # WHEN the state is read THEN the others are shown, and the problem names the first damaged item and the cure
    state = alert_state.read(table, NOW)
    assert [window.window_id for window in state.windows] == ["w-2"]
    assert [instance.instance_id for instance in state.silent] == ["web-2"]
    assert state.problem == ""
    assert state.left_out == (
        "the table table has an item that cannot be read: pk 'maintenance', sk 'w-1': from_ms or until_ms is absent "
        "and 1 more; correct it or delete it"
    )
    # AND the view says so, and its document has the others
    answer, document = visit.get("/"), visit.get("/api/rows").json()
    assert "Not all may be shown: the table table has an item" in answer.text
    assert [window["name"] for window in document["maintenance"]] == ["web-1"]
    assert document["quiet_problem"] == state.left_out


@pytest.fixture
def hold(table):
    """Write an opening of an instance that was held that many minutes ago."""

    def write(instance, minutes, outcome=FAMILIAR, ended=True, **why):
        since = clock.epoch_ms(NOW - timedelta(minutes=minutes))
        signature = Signature("cpu_utilization", "up")
        opening = Opening(signature, since, since + 600_000 if ended else None, 1.125, 0.0, outcome)
        held = HeldOpening(instance, "shop", "", opening, 1.1, **why)
        change = Change(None, Episode(instance, "shop"), held=(held,))
        EpisodeRepository(table).write(change)

    return write


def test_the_openings_of_the_last_day_that_were_held_are_read_with_the_reason(table, hold):
    # GIVEN openings that were held, one that paged later, and one of the day before
    hold("web-1", 30, days=3, is_by_hour=True, ended=False)
    hold("web-2", 60, COOLING)
    hold("web-3", 90, days=2)
    hold("web-4", 10, PAGED)
    hold("web-5", 25 * 60, COOLING)

    # WHEN the table is read, THEN three are there, the newest first
    held = alert_state.read(table, NOW).held
    assert [(opening.instance_id, opening.why) for opening in held] == [
        ("web-1", "familiar: on 3 of the last 7 days at about this time"),
        ("web-2", "in cool-down: the same ended less than 6 hours before"),
        ("web-3", "familiar: on 2 of the last 3 days at different times"),
    ]
    assert held[0].end is None
    assert held[1].end - held[1].since == timedelta(minutes=10)
    assert {opening.what for opening in held} == {"cpu utilization above normal"}


def test_held_openings_are_shown_escaped_and_as_json(visit, hold, monkeypatch):
    # GIVEN a held opening of an instance with a hostile name
    monkeypatch.setattr(clock, "now", lambda: NOW)
    hold(HOSTILE, 30, days=3, is_by_hour=True)

    # WHEN
    page, document = visit.get("/").text, visit.get("/api/rows").json()

    # THEN
    assert "Held, last 24 hours" in page
    assert "familiar: on 3 of the last 7 days at about this time" in page
    assert HOSTILE not in page
    assert [held["instance_id"] for held in document["held"]] == [HOSTILE]
    assert document["held"][0]["score"] == 1.125
