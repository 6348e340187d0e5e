"""Requests that may write take turns on SQLite; reads do not wait for them."""

import asyncio
import json

import pytest

from riskwatch_airflow.one_writer import OneWriter, middlewares


class Application:
    """An application that counts the requests which are in it at the same time, and can fail."""

    def __init__(self):
        self.inside, self.most, self.answered = 0, 0, []

    async def __call__(self, scope, receive, send):
        self.inside += 1
        self.most = max(self.most, self.inside)
        for _ in range(3):
            await asyncio.sleep(0)
        self.inside -= 1
        if scope["path"] == "/fails":
            raise ValueError("failed")
        self.answered.append(scope["path"])


def ask(*requests, send=None):
    """Send requests at the same time; return the application and the errors."""
    application = Application()

    async def all_of_them():
        server = OneWriter(application)
        scopes = [{"type": kind, "method": method, "path": path} for kind, method, path in requests]
        return await asyncio.gather(*(server(scope, None, send) for scope in scopes), return_exceptions=True)

    errors = [error for error in asyncio.run(all_of_them()) if error]
    return application, errors


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_requests_that_may_write_are_alone_and_in_their_order(method):
    application, _ = ask(*(("http", method, f"/{number}") for number in range(5)))
    assert application.most == 1
    assert application.answered == [f"/{number}" for number in range(5)]


@pytest.mark.parametrize(("kind", "method"), [("http", "GET"), ("http", "HEAD"), ("lifespan", "POST")])
def test_reads_do_not_wait(kind, method):
    application, _ = ask(*[(kind, method, "/")] * 5)
    assert application.most == 5


def test_a_request_that_fails_lets_the_next_one_in():
    application, errors = ask(("http", "POST", "/fails"), ("http", "POST", "/next"))
    assert [str(error) for error in errors] == ["failed"]
    assert application.answered == ["/next"]


@pytest.mark.parametrize("path", ["/api/v2/backfills", "/api/v2/backfills/", "/prefix/api/v2/backfills"])
def test_a_backfill_is_refused_before_airflow_makes_its_runs(path):
    # GIVEN
    messages = []

    async def send(message):
        messages.append(message)

    # WHEN
    application, _ = ask(("http", "POST", path), send=send)

    # THEN
    assert application.answered == []
    assert messages[0]["status"] == 503
    assert "Postgres" in json.loads(messages[1]["body"])["detail"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api/v2/backfills"), ("POST", "/api/v2/backfills/dry_run"), ("PUT", "/api/v2/backfills/1/pause")],
)
def test_other_requests_about_backfills_reach_airflow(method, path):
    application, _ = ask(("http", method, path))
    assert application.answered == [path]


def test_only_sqlite_needs_it():
    assert [item["middleware"] for item in middlewares("sqlite:////airflow.db?timeout=30")] == [OneWriter]
    assert middlewares("postgresql+psycopg2://riskwatch@postgres/airflow") == []
