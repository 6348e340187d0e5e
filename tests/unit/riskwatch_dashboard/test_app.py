"""The app over HTTP: login required, errors without a traceback."""

import sys
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from riskwatch_dashboard import app as app_module

NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Accept": "text/html,*/*"}


def failing(error):
    """Return a client of an app whose data raise `error`."""

    def fail(selection):
        raise error

    return TestClient(app_module.build(fail), raise_server_exceptions=False)


def test_every_route_asks_for_airflows_login():
    # GIVEN the app with Airflow's own check, and all its routes
    app = app_module.build(lambda _: pytest.fail("a visitor without a login reached the bucket"))
    paths = [route.path.replace("{name}", "riskwatch.css") for route in app.routes]
    assert sorted(paths) == ["/", "/api/rows", "/static/riskwatch.css"]
    # WHEN each is requested without a token
    client = TestClient(app)
    # THEN none answers
    assert {path: client.get(path).status_code for path in paths} == dict.fromkeys(paths, 401)


@pytest.mark.parametrize("headers", [NAVIGATION, {"Accept": "text/html,application/xml;q=0.9"}])
def test_a_browser_without_a_login_is_sent_to_airflows_login_and_back(headers):
    # GIVEN the app below Airflow, which has a path of its own
    outer = FastAPI(root_path="/team/airflow")
    outer.mount("/riskwatch", app_module.build(lambda _: pytest.fail("reached the bucket")))
    # WHEN a browser follows the link of a message
    query = "instance=web-1&exact=1&since=2026-11-22T10%3A00%3A00.000Z"
    answer = TestClient(outer).get(f"/team/airflow/riskwatch/?{query}", headers=headers, follow_redirects=False)
    # THEN the login of the same origin follows, and leads back to exactly this link
    target = urlsplit(answer.headers["location"])
    assert answer.status_code == 303
    assert (target.scheme, target.netloc, target.path) == ("", "", "/team/airflow/auth/login")
    assert parse_qs(target.query) == {"next": [f"/team/airflow/riskwatch/?{query}"]}


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/api/rows", NAVIGATION),
        ("/static/riskwatch.css", NAVIGATION),
        ("/", {"Sec-Fetch-Mode": "cors", "Accept": "text/html"}),
        ("/", {"Accept": "application/json"}),
        ("/", {}),
    ],
)
def test_any_other_request_without_a_login_gets_401(path, headers):
    client = TestClient(app_module.build(lambda _: pytest.fail("reached the bucket")))
    assert client.get(path, headers=headers, follow_redirects=False).status_code == 401


def test_without_airflows_check_the_app_stays_closed(monkeypatch):
    # GIVEN an Airflow without that check
    monkeypatch.setitem(sys.modules, "airflow.api_fastapi.core_api.security", None)
    client = TestClient(app_module.build(lambda _: pytest.fail("reached the bucket")))
    # THEN every route refuses, whoever asks
    for path in ("/", "/api/rows", "/static/riskwatch.css"):
        answer = client.get(path, headers={"Authorization": "Bearer anything"})
        assert answer.status_code == 403


@pytest.mark.usefixtures("open_to_all")
def test_an_error_of_the_view_itself_shows_no_traceback():
    answer = failing(KeyError("secret")).get("/")
    assert answer.status_code == 500
    assert "log of the api-server" in answer.text
    assert "secret" not in answer.text
