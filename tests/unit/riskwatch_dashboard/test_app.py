"""The app over HTTP: closed without a login, escaped, and a page that says what to do whatever goes wrong."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from fastapi.testclient import TestClient

from riskwatch_dashboard import app as app_module
from riskwatch_dashboard import queries, snapshot
from riskwatch_dashboard.snapshot import Look, Source, UnavailableError
from riskwatch_ml.core import clock, settings

PLUGINS = Path(__file__).parents[3] / "plugins"
HOSTILE = '"><script>alert(1)</script>'


@pytest.fixture
def visit(store, monkeypatch):
    """A logged-in visitor of an app on the bucket in memory."""
    monkeypatch.setattr(app_module, "_access", lambda: lambda: None)
    link = "http://mlflow/#/models/riskwatch/versions/13"

    def look() -> Look:
        return Look(queries.read(store, clock.now()), {"latency_ms": "ms"}, link)

    return TestClient(app_module.build(Source(look)), raise_server_exceptions=False)


def without(look):
    """A visitor of an app whose look raises."""

    def fail():
        raise look

    return TestClient(app_module.build(Source(fail)), raise_server_exceptions=False)


def test_every_route_asks_for_airflows_login():
    # GIVEN the app with Airflow's own check, and all that it answers to
    app = app_module.build(Source(lambda: pytest.fail("a visitor without a login reached the bucket")))
    paths = [route.path.replace("{name}", "riskwatch.css") for route in app.routes]
    assert sorted(paths) == ["/", "/api/rows", "/static/riskwatch.css"]
    # WHEN each is asked for without a token
    client = TestClient(app)
    # THEN none answers
    assert {path: client.get(path).status_code for path in paths} == dict.fromkeys(paths, 401)


def test_without_airflows_check_the_app_stays_closed(monkeypatch):
    # GIVEN an Airflow without the check that is asked for
    monkeypatch.setitem(sys.modules, "airflow.api_fastapi.core_api.security", None)
    client = TestClient(app_module.build(Source(lambda: pytest.fail("reached the bucket"))))
    # THEN every route refuses, whoever asks
    for path in ("/", "/api/rows", "/static/riskwatch.css"):
        answer = client.get(path, headers={"Authorization": "Bearer anything"})
        assert answer.status_code == 403


def test_the_page_shows_rows_shares_and_the_model(visit, fill, row, promote, at):
    fill([row("web-1", at(5), "Critical"), row("web-2", at(5))])
    promote("3", 2)
    text = visit.get("/").text
    assert "latency_ms 812, expected 40 to 190" in text
    assert "7 min old" in text
    assert "50.0 %" in text
    assert "kmeans" in text
    assert "2026-11-21 02:00</time> UTC by ada" in text
    assert 'href="http://mlflow/#/models/riskwatch/versions/13"' in text


def test_a_filtered_page_is_a_link(visit, fill, row, at):
    fill([row("web-1", at(5), "Critical"), row("db-2", at(5))])
    text = visit.get("/?risk=Critical").text
    assert "web-1" in text
    assert "db-2" not in text
    assert "<option selected>Critical</option>" in text


def test_names_and_reasons_are_escaped(visit, fill, row, at):
    # GIVEN an instance, a service and a reason that are markup
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


def test_a_filter_that_cannot_be_used_is_told(visit, fill, row, at):
    fill([row("web-1", at(5))])
    page, document = visit.get("/?risk=Bad"), visit.get("/api/rows?risk=Bad")
    assert page.status_code == document.status_code == 400
    assert "use one of Idle, Normal, High Load, Critical" in page.text
    assert "use one of Idle, Normal, High Load, Critical" in document.json()["error"]


def test_the_same_rows_as_json(visit, fill, row, promote, at):
    fill([row("web-1", at(5), "Critical"), row("db-2", at(5))])
    promote("3", 2)
    found = visit.get("/api/rows?risk=Critical").json()
    assert [item["instance_id"] for item in found["rows"]] == ["web-1"]
    assert found["rows"][0]["timestamp"] == "2026-11-22T11:55:00.000Z"
    assert found["rows"][0]["latency_ms"] is None
    assert found["rows"][0]["cpu_utilization"] == 12.5
    assert found["total"] == 1
    assert found["newest_age_s"] == 420
    assert found["distribution"] == {"Idle": 0, "Normal": 1, "High Load": 0, "Critical": 1}
    assert found["model"]["version"] == "13"


def test_without_rows_the_page_says_what_to_do_next(visit, promote):
    assert "train_models" in visit.get("/").text
    assert visit.get("/").status_code == 200
    assert visit.get("/api/rows").json()["rows"] == []


def test_with_a_model_and_no_rows_it_says_what_is_missing(visit, promote):
    promote("3", 2)
    assert "Unpause <code>stream_metrics</code>" in visit.get("/").text


def test_a_stream_that_stands_still_is_told(visit, fill, row, at):
    fill([row("web-1", at(48 * 60))], compacted=True)
    text = visit.get("/").text
    assert "2 d 2 min old" in text
    assert "No row of the last 24 hours" in text


@pytest.fixture
def config():
    return settings.Settings(bucket="my-bucket", stream="s", table="t", function="f", mlflow_uri="http://mlflow")


@pytest.fixture
def open_to_all(monkeypatch):
    monkeypatch.setattr(app_module, "_access", lambda: lambda: None)


@pytest.mark.usefixtures("open_to_all")
def test_without_settings_the_page_says_which(monkeypatch):
    def load():
        raise settings.SettingsError("bucket is missing: set RISKWATCH_BUCKET")

    monkeypatch.setattr(settings, "load", load)
    client = TestClient(app_module.build())
    answer = client.get("/")
    assert answer.status_code == 503
    assert "RISKWATCH_BUCKET" in answer.text
    assert client.get("/api/rows").status_code == 503


@pytest.mark.usefixtures("open_to_all")
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ClientError({"Error": {"Code": "NoSuchBucket"}}, "ListObjectsV2"), "does not exist"),
        (ClientError({"Error": {"Code": "AccessDenied"}}, "GetObject"), "s3:ListBucket"),
        (ClientError({"Error": {"Code": "SlowDown", "Message": "wait"}}, "GetObject"), "SlowDown"),
        (EndpointConnectionError(endpoint_url="http://nowhere"), "cannot be reached"),
    ],
)
def test_a_bucket_that_does_not_answer_is_a_page_too(monkeypatch, config, error, told):
    def fail(config, kind):
        raise error

    monkeypatch.setattr(settings, "load", lambda: config)
    monkeypatch.setattr(snapshot, "_client", fail)
    answer = TestClient(app_module.build()).get("/")
    assert answer.status_code == 503
    assert told in answer.text
    assert "my-bucket" in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.usefixtures("open_to_all")
def test_a_mistake_of_the_page_itself_shows_no_traceback():
    answer = without(KeyError("secret")).get("/")
    assert answer.status_code == 500
    assert "log of the api-server" in answer.text
    assert "secret" not in answer.text


def test_looks_are_shared_and_failures_stand_for_a_while():
    # GIVEN a source whose clock stands at 0, and looks that are counted
    now, looks = [0.0], []

    def look():
        looks.append(now[0])
        if now[0] >= 100:
            raise UnavailableError("gone", "wait")
        return Look(reading=len(looks))

    source = Source(look, lambda: now[0])
    # WHEN visitors come within fifteen seconds, and one after them
    assert [source.get().reading for now[0] in (0.0, 14.9, 15.1)] == [1, 1, 2]
    # THEN a failure is not asked for again by each of them
    for now[0] in (100.0, 101.0, 104.9, 105.1):
        with pytest.raises(UnavailableError):
            source.get()
    assert looks == [0.0, 15.1, 100.0, 105.1]


def test_while_one_visitor_looks_another_gets_the_last_look():
    # GIVEN a look that is old, and a second one that takes its time
    now, started, finish = [0.0], threading.Event(), threading.Event()
    results = iter([1, 2])

    def look():
        value = next(results)
        if value == 2:
            started.set()
            assert finish.wait(30)
        return Look(reading=value)

    source = Source(look, lambda: now[0])
    source.get()
    now[0] = 20.0
    slow = threading.Thread(target=source.get)
    slow.start()
    assert started.wait(30)
    # WHEN another visitor comes meanwhile THEN he does not wait
    assert source.get().reading == 1
    finish.set()
    slow.join(30)
    assert source.get().reading == 2


def test_the_plugin_is_one_module_and_loads_nothing_heavy():
    # GIVEN a fresh interpreter that loads the plugin folder as every component of Airflow does
    script = f"""
import sys
from airflow.plugins_manager import AirflowPlugin
from airflow._shared.plugins_manager.plugins_manager import _load_plugins_from_plugin_directory
before = set(sys.modules)
plugins, errors = _load_plugins_from_plugin_directory({str(PLUGINS)!r})
assert not errors, errors
assert [plugin.name for plugin in plugins] == ["riskwatch"], plugins
added = {{name.partition(".")[0] for name in set(sys.modules) - before}}
heavy = added & {{"pandas", "numpy", "pyarrow", "mlflow", "sklearn", "boto3", "fastapi", "jinja2"}}
assert not heavy, heavy
assert added <= {{"riskwatch_plugin", "riskwatch_dashboard"}}, added
"""
    # THEN it finds the one plugin, and files of its packages are no modules of their own
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_the_entry_in_the_navigation_carries_the_path_of_airflows_address():
    script = f"""
import sys
sys.path.insert(0, {str(PLUGINS)!r})
from riskwatch_plugin import RiskwatchPlugin
print("HREF", RiskwatchPlugin.external_views[0]["href"], RiskwatchPlugin.fastapi_apps[0]["url_prefix"])
"""
    environment = {**os.environ, "AIRFLOW__API__BASE_URL": "https://host.example/team/airflow/"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True, env=environment
    )
    assert "HREF /team/airflow/riskwatch/ /riskwatch" in done.stdout
