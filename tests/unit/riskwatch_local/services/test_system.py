"""The state folder of a run, which removes only Riskwatch's own files, and the order in which services start."""

import os
import subprocess
import sys
import threading

import pytest

from riskwatch_local.services.system import StateFolderError, System, state_folder, write_catalogues
from riskwatch_ml.core import settings
from riskwatch_ml.schema import catalogue


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path):
    # GIVEN the home of another Airflow
    (tmp_path / "airflow").mkdir()
    (tmp_path / "airflow" / "airflow.db").write_text("precious")

    # WHEN / THEN
    with pytest.raises(StateFolderError, match="not Riskwatch's"), state_folder(tmp_path):
        pass
    assert (tmp_path / "airflow" / "airflow.db").read_text() == "precious"
    with pytest.raises(StateFolderError), state_folder(tmp_path):
        pass


def test_files_of_the_last_run_are_removed_but_its_summary_stays(tmp_path):
    # GIVEN a folder that a run has used
    with state_folder(tmp_path / "state") as folder:
        (folder / "mlflow").mkdir()
        (folder / "demo.json").write_text("{}")

    # WHEN the next one takes it
    with state_folder(tmp_path / "state") as folder:
        # THEN
        assert not (folder / "mlflow").exists()
        assert (folder / "demo.json").exists()


def test_only_the_owner_can_read_what_a_run_writes_and_what_an_earlier_one_left(tmp_path):
    # GIVEN a folder as an earlier release left it
    folder = tmp_path / "state"
    folder.mkdir(mode=0o755)
    for name in (".riskwatch-state", "demo.json"):
        (folder / name).touch(mode=0o644)
    before = os.umask(0o022)
    try:
        # WHEN a run takes it, writes a file and starts a process that writes one
        with state_folder(folder):
            (folder / "own").mkdir()
            (folder / "own" / "file").touch()
            subprocess.run([sys.executable, "-c", "open('of-a-child', 'w')"], cwd=folder, check=True)
        # THEN no mode gives anything to others, and this process goes on as before
        modes = {path.name: oct(path.stat().st_mode & 0o077) for path in [folder, *folder.rglob("*")]}
        assert set(modes.values()) == {"0o0"}, modes
        assert {"demo.json", "file", "of-a-child", "lock"} <= set(modes)
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


def test_two_runs_cannot_share_a_folder(tmp_path):
    with (
        state_folder(tmp_path / "state"),
        pytest.raises(StateFolderError, match="another run"),
        state_folder(tmp_path / "state"),
    ):
        pass


def test_the_settings_name_the_catalogues_of_all_kinds(tmp_path, monkeypatch):
    # GIVEN the catalogues of two kinds, written for a system
    kinds = catalogue.load_all(["ec2", "rds"])
    names = ("bucket", "stream", "table", "function", "mlflow_uri")
    running = Services()
    running.state = tmp_path
    running.settings = {**dict.fromkeys(names, "x"), "catalogue": write_catalogues(tmp_path, kinds)}

    # WHEN
    running.write_settings({})

    # THEN components read the same catalogues
    monkeypatch.setenv("RISKWATCH_CONFIG", str(tmp_path / "riskwatch.toml"))
    assert catalogue.load_all(settings.load().catalogue) == kinds
    settings.load.cache_clear()


class Services(System):
    """A system that records its steps instead of starting processes."""

    def __init__(self, failure=None):
        self.steps, self.failure, self.airflow_started = [], failure, threading.Event()

    def migrate_airflow(self):
        if self.failure:
            raise self.failure
        self.steps.append("database")

    def start_mlflow(self):
        self.steps.append("MLflow started")
        return lambda: self.steps.append("MLflow ready")

    def start_airflow(self):
        self.steps.append("Airflow")
        self.airflow_started.set()


def test_services_start_while_metrics_are_published():
    # GIVEN a publication that lasts until Airflow has started
    services = Services()

    # WHEN
    services.start_services(lambda: services.airflow_started.wait(10))

    # THEN
    assert services.steps == ["database", "MLflow started", "Airflow", "MLflow ready"]


def test_airflow_can_wait_until_metrics_are_published():
    # GIVEN
    services = Services()

    # WHEN
    services.start_services(lambda: services.steps.append("published"), airflow_last=True)

    # THEN
    assert services.steps.index("published") < services.steps.index("Airflow")
    assert services.steps[-1] == "Airflow"
    assert {"database", "MLflow ready"} <= set(services.steps)


def test_a_service_that_does_not_start_fails_the_start():
    services = Services(OSError("no database"))
    with pytest.raises(OSError, match="no database"):
        services.start_services(lambda: None)
