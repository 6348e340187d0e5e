"""Preflight: every problem has its own line and says what to do."""

import socket

import pytest

from riskwatch_local.demo import preflight
from riskwatch_local.services import ports


@pytest.fixture
def installed(tmp_path):
    python = tmp_path / "root" / ".venv-aws" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch(mode=0o755)
    (python.parents[1] / "lib" / "python3.11" / "site-packages" / "ministack").mkdir(parents=True)
    return tmp_path / "root"


def test_a_healthy_machine_has_no_problems(tmp_path, installed):
    state = tmp_path / "state"
    assert preflight.check(state, {"Airflow": None}, root=installed) == []
    assert state.is_dir()


def test_every_problem_is_named_with_its_remedy(tmp_path, monkeypatch):
    # GIVEN an old Python, a full disk, no embedded AWS and a taken port
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1_400_000_000})())
    with socket.create_server((ports.LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        # WHEN checked
        problems = preflight.check(tmp_path / "state", {"MLflow": port}, root=tmp_path, python=(3, 10))
    # THEN all four are reported at once
    assert len(problems) == 4
    assert "Python 3.10 is not supported: install" in problems[0]
    assert "1.4 GB free, 3 GB are needed" in problems[1]
    assert "make install" in problems[2]
    assert f"port {port} for MLflow is taken" in problems[3]


def test_a_state_directory_that_cannot_be_created_is_reported(tmp_path, installed):
    blocked = tmp_path / "file"
    blocked.touch()
    (problem,) = preflight.check(blocked / "state", root=installed)
    assert "cannot be written" in problem
    assert "choose another one" in problem
