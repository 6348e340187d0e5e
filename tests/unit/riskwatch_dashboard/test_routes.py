"""The views and their JSON over HTTP: values shown and escaped, filters as links."""

from urllib.parse import urlsplit

import pytest
from fastapi.testclient import TestClient

from riskwatch_dashboard import app as app_module
from riskwatch_dashboard import queries
from riskwatch_dashboard.snapshot import Snapshot
from riskwatch_lambda.alerting import text
from riskwatch_lambda.episode_rule import EpisodeState
from riskwatch_lambda.episodes.episode import Episode
from riskwatch_ml.core import clock

HOSTILE = '"><script>alert(1)</script>'


@pytest.fixture
def visit(store, open_to_all):
    """Return the client of a logged-in user; the bucket is in memory."""
    link = "http://mlflow/#/models/riskwatch/versions/13"

    def look(selection) -> Snapshot:
        return Snapshot(queries.read(store, clock.now(), selection), {"latency_ms": "ms"}, link)

    return TestClient(app_module.build(look), raise_server_exceptions=False)


def test_the_link_of_a_message_opens_exactly_that_instance_at_that_time(visit, fill, row, at):
    # GIVEN an episode of web-1 two days ago, and other rows: of web-11 then, of web-1 today
    rows = [row("web-1", at(48 * 60), "Critical"), row("web-11", at(48 * 60)), row("web-1", at(48 * 60 + 120))]
    fill(rows, compacted=True)
    fill([row("web-1", at(5)), row("web-11", at(5))], name="s0-3-4")
    moment_ms = clock.epoch_ms(at(48 * 60))
    episode = Episode("web-1", "shop", state=EpisodeState(True, moment_ms))
    # WHEN the link of its message is opened
    query = urlsplit(text.dashboard_url("https://airflow.example/", [episode])).query
    document = visit.get(f"/api/rows?{query}").json()
    # THEN the row of that instance at that time is shown, and nothing else
    assert [(item["instance_id"], item["timestamp"]) for item in document["rows"]] == [
        ("web-1", "2026-11-20T12:00:00.000Z")
    ]
    assert "web-11" not in visit.get(f"/?{query}").text


@pytest.mark.parametrize(
    ("figures", "relative"), [({"relative_levels": 1.0}, True), ({"relative_levels": 0.0}, False), ({}, False)]
)
def test_levels_that_are_relative_to_the_fleet_are_called_so(visit, promote, figures, relative):
    # GIVEN a model in service; one of an earlier release has no such figure
    promote("2", 1, figures=figures)
    # WHEN / THEN
    assert ("Levels are relative to this fleet" in visit.get("/").text) is relative
    assert visit.get("/api/rows").json()["model"]["relative_levels"] is relative


def test_no_row_matches_is_said_of_the_whole_range_only(visit, fill, row, at, monkeypatch):
    # GIVEN a bound of three rows, and more rows than that in the day
    monkeypatch.setattr(queries, "MAX_ROWS", 3)
    fill([row("web-1", at(60), "Critical"), *(row("db-1", at(5 * index)) for index in range(6))])
    # WHEN an instance is selected whose row is older than the newest three THEN it is found
    assert [item["instance_id"] for item in visit.get("/api/rows?instance=web-1&exact=1").json()["rows"]] == ["web-1"]
    # WHEN a filter matches none of the rows that were read THEN the view says how far it read, and offers to go on
    page = visit.get("/?risk=Critical").text
    assert "No row since 2026-11-22 11:50 UTC matches the filters" in page
    assert "until=2026-11-22T11%3A50%3A00.001Z" in page
    # AND of a range that was read as a whole it says that no row matches
    page = visit.get("/?instance=web-2").text
    assert "No row from 2026-11-21 12:02 to 2026-11-22 12:02 UTC matches the filters" in page
    # AND of a range longer than one read it does not
    page = visit.get("/?instance=web-2&since=2026-11-01T00:00Z").text
    assert "Older rows were not read" in page


def test_the_view_shows_rows_shares_and_the_model(visit, fill, row, promote, at):
    fill([row("web-1", at(5), "Critical"), row("web-2", at(5))])
    promote("3", 2)
    text = visit.get("/").text
    assert "latency_ms 812, above the usual 40 to 190" in text
    assert "7 min old" in text
    assert "50.0 %" in text
    assert "kmeans" in text
    assert "<dt>Model version</dt><dd>13" in text
    assert "<dt>Function version</dt><dd>3</dd>" in text
    assert "2026-11-21 02:00</time> UTC by ada" in text
    assert 'href="http://mlflow/#/models/riskwatch/versions/13"' in text


def test_a_missing_metric_is_named_and_never_shown_as_judged(visit, fill, row, at):
    # GIVEN a row of an earlier release without latency, and a row that names it, refused for an impossible value
    refused = {"feature": "latency_ms", "value": -3.0, "reason": "latency_ms is -3, below its lower bound 0"}
    fill([row("web-1", at(5)), row("web-2", at(5), missing=["latency_ms"], refused_values=[refused])])

    # WHEN / THEN the view says that the verdict does not cover it, and why
    text = visit.get("/?instance=web-2").text
    assert "not judged, missing: latency ms" in text
    assert "refused: latency_ms is -3, below its lower bound 0" in text
    assert "not judged" not in visit.get("/?instance=web-1").text
    # AND so does the JSON; what an earlier release did not name is unknown
    rows = {item["instance_id"]: item for item in visit.get("/api/rows").json()["rows"]}
    assert (rows["web-1"]["missing"], rows["web-1"]["refused_values"]) == (None, [])
    assert rows["web-2"]["missing"] == ["latency_ms"]
    assert rows["web-2"]["refused_values"] == ["latency_ms is -3, below its lower bound 0"]


def test_a_filtered_view_is_a_link(visit, fill, row, at):
    fill([row("web-1", at(5), "Critical"), row("db-2", at(5))])
    text = visit.get("/?risk=Critical").text
    assert "web-1" in text
    assert "db-2" not in text
    assert "<option selected>Critical</option>" in text


def test_the_kind_is_shown_and_filtered_if_there_are_several(visit, fill, row, at):
    # GIVEN rows of two kinds, and an older one that does not name its kind
    database = {"resource_kind": "rds", "connections": 41.0, "cpu_utilization": None}
    fill([row("web-1", at(5), resource_kind="ec2"), row("rds/orders", at(5), **database), row("web-0", at(10))])

    # WHEN / THEN the view has a column and a filter, and the metrics of the selected kind
    text = visit.get("/").text
    assert '<th scope="col">Kind</th>' in text
    assert "<td>rds</td>" in text
    assert "<td>–</td>" in text
    text = visit.get("/?kind=rds").text
    assert "<option selected>rds</option>" in text
    assert 'class="num extra">connections' in text
    assert 'class="num extra">cpu utilization' not in text
    # AND so does the JSON
    rows = {item["instance_id"]: item for item in visit.get("/api/rows").json()["rows"]}
    assert {name: item["resource_kind"] for name, item in rows.items()} == {
        "web-1": "ec2",
        "rds/orders": "rds",
        "web-0": None,
    }
    assert (rows["rds/orders"]["connections"], rows["web-1"]["connections"]) == (41.0, None)
    assert [item["instance_id"] for item in visit.get("/api/rows?kind=rds").json()["rows"]] == ["rds/orders"]


@pytest.mark.parametrize("named", [{}, {"resource_kind": "ec2"}])
def test_one_kind_is_not_shown(visit, fill, row, at, named):
    fill([row("web-1", at(5), **named), row("web-2", at(5), **named)])
    for query in ("/", "/?kind=ec2"):
        text = visit.get(query).text
        assert '<th scope="col">Kind</th>' not in text
        assert '<select id="kind"' not in text


def test_the_model_of_each_kind_is_shown_if_there_are_several(visit, two_kinds):
    # GIVEN a model of two kinds WHEN the view is opened
    text = visit.get("/").text

    # THEN each kind has its family, training and promotion, and the newest promotion names what it changed
    table = text.partition('<table class="kinds">')[2].partition("</table>")[0]
    instances, databases = table.partition("<tbody>")[2].split("<tr>")[1:]
    for part in ("ec2</th>", "<td>kmeans</td>", "m-1</code>", ">2026-11-21 03:30<", ">2026-11-21 01:00</time> by bob"):
        assert part in instances
    for part in (
        "rds</th>",
        "<td>kmedoids</td>",
        "d-2</code>",
        ">2026-11-22 03:30<",
        ">2026-11-21 04:00</time> by ada",
    ):
        assert part in databases
    assert "<dt>Family</dt>" not in text
    assert "UTC by ada: rds</dd>" in text
    assert "Levels of rds are relative to this fleet" in text
    assert "Levels of ec2" not in text
    # AND so does the JSON
    document = visit.get("/api/rows").json()["model"]
    assert document["promoted_kinds"] == ["rds"]
    assert document["kinds"][1] == {
        "kind": "rds",
        "model_id": "d-2",
        "family": "kmedoids",
        "trained": "2026-11-22T03:30:00.000Z",
        "promoted": "2026-11-21T04:00:00.000Z",
        "by": "ada",
        "relative_levels": True,
    }


@pytest.mark.parametrize("named", [{}, {"kinds": {"ec2": "m-3"}, "resource_kinds": ["ec2"]}])
def test_the_model_of_one_kind_is_shown_without_it(visit, promote, named):
    promote("3", 2, **named)
    text, document = visit.get("/").text, visit.get("/api/rows").json()["model"]
    assert "<dt>Family</dt><dd>kmeans</dd>" in text
    assert 'class="kinds"' not in text
    assert "UTC by ada</dd>" in text
    assert {"kinds", "promoted_kinds"}.isdisjoint(document)


def test_the_names_of_kinds_and_their_models_are_escaped(visit, promote, fill, row, at):
    # GIVEN a ledger with markup, and a row of another model
    promote("3", 2, kinds={HOSTILE: HOSTILE, "ec2": "m-3"}, resource_kinds=[HOSTILE], by=HOSTILE)
    fill([row("web-1", at(5), resource_kind=HOSTILE, model_id="m-9")])

    # WHEN / THEN
    text = visit.get("/").text
    assert "<script" not in text
    assert "labelled the newest row of &#34;&gt;&lt;script&gt;" in text
    assert '<th scope="row">&#34;&gt;&lt;script&gt;' in text


def test_names_and_reasons_are_escaped(visit, fill, row, at):
    # GIVEN an instance, a service and a reason that contain markup
    reason = {"feature": HOSTILE, "value": 1, "low": 2, "high": 3, "share": 1}
    fill([row(HOSTILE, at(5), "Critical", service=HOSTILE, reasons=[reason])])
    # WHEN they are shown, and come back as a filter
    for query in ("", f"?instance={HOSTILE}", f"?risk={HOSTILE}", f"?metric={HOSTILE}", f"?min={HOSTILE}"):
        answer = visit.get(f"/{query}")
        # THEN they are text
        assert "<script" not in answer.text
        assert "&lt;script&gt;" in answer.text
        assert "script-src" not in answer.headers["content-security-policy"]
        assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_a_filter_that_cannot_be_used_is_reported(visit, fill, row, at):
    fill([row("web-1", at(5))])
    page, document = visit.get("/?risk=Bad"), visit.get("/api/rows?risk=Bad")
    assert page.status_code == document.status_code == 400
    assert "use one of Idle, Normal, High Load, Critical" in page.text
    assert "use one of Idle, Normal, High Load, Critical" in document.json()["error"]


def test_the_same_rows_as_json(visit, fill, row, promote, at):
    fill([row("web-1", at(5), "Critical"), row("db-2", at(5))])
    promote("3", 2)
    document = visit.get("/api/rows?risk=Critical").json()
    assert [item["instance_id"] for item in document["rows"]] == ["web-1"]
    assert document["rows"][0]["timestamp"] == "2026-11-22T11:55:00.000Z"
    assert document["rows"][0]["latency_ms"] is None
    assert document["rows"][0]["cpu_utilization"] == 12.5
    assert document["total"] == 1
    assert document["newest_age_s"] == 420
    assert document["distribution"] == {"Idle": 0, "Normal": 1, "High Load": 0, "Critical": 1}
    assert document["model"]["version"] == "13"


def test_without_rows_the_view_says_what_to_do_next(visit, promote):
    assert "train_models" in visit.get("/").text
    assert visit.get("/").status_code == 200
    assert visit.get("/api/rows").json()["rows"] == []


def test_with_a_model_and_no_rows_it_says_what_is_missing(visit, promote):
    promote("3", 2)
    assert "Unpause <code>stream_metrics</code>" in visit.get("/").text


def test_a_stream_that_stands_still_is_reported(visit, fill, row, at):
    fill([row("web-1", at(48 * 60))], compacted=True)
    text = visit.get("/").text
    assert "2 d 2 min old" in text
    assert "No rows in the last 24 hours" in text


@pytest.mark.usefixtures("open_to_all")
def test_a_disagreement_about_what_serves_is_shown(store, fill, row, promote, at):
    # GIVEN a disagreement, and a newest row of another model than the ledger's
    fill([row("web-1", at(5), model_id="m-1")])
    promote("3", 2)
    text = "alias 'live' points to function version 2"

    def look(selection) -> Snapshot:
        return Snapshot(queries.read(store, clock.now(), selection), disagreements=(text,))

    # WHEN
    client = TestClient(app_module.build(look))
    shown = client.get("/").text

    # THEN
    assert "What serves is unclear." in shown
    assert "points to function version 2" in shown
    assert "<code>m-1</code> labelled the newest row" in shown
    assert client.get("/api/rows").json()["disagreements"] == [text]
