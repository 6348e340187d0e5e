"""The commands of the container form: env, login, setup and health."""

import json
import re
import stat
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from unittest import mock

import pytest

from riskwatch_infra import deploy
from riskwatch_local import compose


def test_env_writes_new_secrets_that_only_the_owner_reads_and_never_overwrites(tmp_path, capsys):
    # GIVEN two folders WHEN the file is written in both
    paths = [tmp_path / "a", tmp_path / "b"]
    assert [compose.main(["env", "--file", str(path)]) for path in paths] == [0, 0]
    first, second = (dict(line.split("=", 1) for line in path.read_text().splitlines()) for path in paths)
    # THEN no secret is shared, none has a character that Compose reads as syntax, and none is printed
    assert all(first[key] != second[key] for key in first if key not in ("COMPOSE_PROFILES", "RISKWATCH_AWS_ENV"))
    assert all(re.fullmatch(r"[\w./=-]+", value) for value in first.values())
    assert stat.S_IMODE(paths[0].stat().st_mode) == 0o600
    assert first["AIRFLOW_PASSWORD"] not in capsys.readouterr().out
    # WHEN it is written again THEN it is refused and left alone
    before = paths[0].read_text()
    assert compose.main(["env", "--file", str(paths[0])]) == 1
    assert paths[0].read_text() == before
    assert "exists and was left" in capsys.readouterr().err


def test_the_secrets_are_such_that_airflow_takes_them():
    from cryptography.fernet import Fernet

    values = dict(line.split("=", 1) for line in compose.dotenv("account.env").splitlines())
    Fernet(values["AIRFLOW_FERNET_KEY"].encode())
    assert len(values["AIRFLOW_JWT_SECRET"]) >= 64
    assert (values["COMPOSE_PROFILES"], values["RISKWATCH_AWS_ENV"]) == ("", "account.env")
    # An account has keys of its own.
    assert "EMBEDDED_AWS_ACCESS_KEY" not in values


def test_login_writes_the_file_of_the_auth_manager(tmp_path, monkeypatch):
    path = tmp_path / "passwords.json"
    monkeypatch.setenv("AIRFLOW_PASSWORD", "first, longer than the second")
    assert compose.main(["login", str(path)]) == 0
    monkeypatch.setenv("AIRFLOW_PASSWORD", "second")
    assert compose.main(["login", str(path)]) == 0
    assert json.loads(path.read_text()) == {"riskwatch": "second"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    monkeypatch.delenv("AIRFLOW_PASSWORD")
    assert compose.main(["login", str(path)]) == 1


def test_setup_refuses_an_environment_without_an_endpoint(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setattr(deploy, "deploy", mock.Mock(side_effect=AssertionError("an account was touched")))
    assert compose.main(["setup", str(tmp_path / "riskwatch.toml")]) == 1
    assert "embedded AWS only" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.fixture
def answering():
    """An HTTP server on loopback with an answer that the test sets."""
    answer = SimpleNamespace(status=200, body=b"")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(answer.status)
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    answer.url = f"http://127.0.0.1:{server.server_port}/health"
    yield answer
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "component", "code"),
    [
        (200, b"OK", None, 0),
        (503, b"", None, 1),
        (200, b'{"scheduler": {"status": "healthy"}}', "scheduler", 0),
        (200, b'{"scheduler": {"status": "unhealthy"}}', "scheduler", 1),
        (200, b'{"scheduler": {"status": null}}', "scheduler", 1),
        (200, b'{"triggerer": null}', "triggerer", 1),
        (200, b"not JSON", "scheduler", 1),
    ],
)
def test_health_follows_the_answer(answering, status, body, component, code):
    answering.status, answering.body = status, body
    assert compose.main(["health", answering.url, *([component] if component else [])]) == code


def test_health_of_a_server_that_is_not_there():
    assert compose.main(["health", "http://127.0.0.1:9/health"]) == 1
