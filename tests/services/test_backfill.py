"""A backfill of three days beside the schedule, then the schedule after an outage: live Airflow components on Postgres.

Airflow refuses backfills on SQLite, so these tests need a Postgres server, see conftest.py. `-s` prints each run with
its type, interval and rows.
"""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd
import pytest

from riskwatch_local.demo import publish, simulator
from riskwatch_local.services import airflow_components, system
from riskwatch_local.services.airflow_client import AirflowClient
from riskwatch_local.services.supervisor import Supervisor
from riskwatch_local.services.system import System
from riskwatch_ml.core import clock
from riskwatch_ml.schema import catalogue
from riskwatch_ml.storage.keys import hour_key

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]

DAG = "export_metrics"
LAYERS = ("raw", "validated", "quarantine")
HOUR = timedelta(hours=1)
DAYS = timedelta(days=3)
# The schedule runs every six hours, so that the backfill has 12 runs: 72 runs of an hour take two cores seven minutes.
STEP = timedelta(hours=6)
# Its newest tick is so long ago: none falls into the test, and an hourly schedule would have had three more since.
SINCE_TICK = timedelta(hours=4)
# The tests are the same at any time of day: the first run of a day does not read days again. No run waits.
SETTINGS = {"reread_hours": 1, "reread_days": 0, "settle_s": 0}
RUN_S = 300.0


@dataclass(frozen=True)
class Backfilled:
    """Airflow with the published rows of a fleet. The backfill is for [start, end), the schedule for [end, tick)."""

    system: System
    airflow: AirflowClient
    rows: pd.DataFrame
    start: datetime
    end: datetime
    tick: datetime

    def published(self, start, end):
        """Return the number of rows with start <= timestamp < end."""
        return int(((self.rows["timestamp"] >= start) & (self.rows["timestamp"] < end)).sum())

    def ended(self, run_id):
        """Wait until the run has succeeded, print it, and return (type, start, end, rows) of what it read."""
        run = self.airflow.wait(DAG, run_id, RUN_S)
        read = self.airflow.returned(DAG, run_id, "validate")
        kind, rows = run["run_type"], read["rows"]
        duration = f"{run['start_date']:.19} to {run['end_date']:.19}"
        print(f"{kind:9}  {read['start']} to {read['end']}  {rows:6,} rows  {run['state']}, ran from {duration}")
        return kind, clock.parse(read["start"]), clock.parse(read["end"]), rows

    def versions(self):
        """Return the versions of every object in the layers, key -> [(version, ETag)]; a deletion is a version too."""
        pages = self.system.store.client.get_paginator("list_object_versions")
        found = {}
        for layer in LAYERS:
            for page in pages.paginate(Bucket=self.system.outputs.bucket, Prefix=f"{layer}/dt="):
                for item in [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]:
                    found.setdefault(item["Key"], []).append((item["VersionId"], item.get("ETag")))
        return found


@pytest.fixture(scope="module")
def fleet(database, tmp_path_factory, restored_environment):
    """Start Airflow on a new database, deploy the stack, and publish the newest days of the simulated fleet."""
    now = clock.now()
    tick = clock.floor(now, 3600) - SINCE_TICK
    end = tick - STEP
    start = end - DAYS
    # Rows are published a few minutes ahead: a run for an hour that ends during the test finds all of them.
    ahead = clock.floor(now + timedelta(minutes=15), 300)
    fleet = simulator.simulate(ahead, days=(ahead - start) / timedelta(days=1))
    with system.state_folder(tmp_path_factory.mktemp("backfill")) as folder, Supervisor() as supervisor:
        running = system.start(
            supervisor,
            folder,
            [catalogue.load()],
            fleet.inventory,
            database_url=f"postgresql+psycopg2://{database('backfill')}",
            overrides=SETTINGS,
            schedules={DAG: f"0 {tick.hour % 6}-23/6 * * *"},
        )
        with ThreadPoolExecutor(1) as pool:
            started = pool.submit(start_airflow, running)
            publish.publish(publish.client(), fleet.rows, catalogue.load())
            started.result()
        airflow = running.airflow()
        airflow.wait_for_dags({DAG}, 120)
        yield Backfilled(running, airflow, fleet.rows, start, end, tick)
        airflow.close()


def start_airflow(running):
    running.migrate_airflow()
    running.start_airflow()


@pytest.fixture(scope="module")
def backfilled(fleet):
    """Switch the schedule on, create the backfill while its first run goes on, and return all runs once they ended."""
    fleet.airflow.unpause(DAG)
    fleet.airflow.wait_for_a_run(DAG, set(), 60)
    # The dates are starts of intervals; that of the last one is included.
    dates = ["--from-date", clock.iso(fleet.start), "--to-date", clock.iso(fleet.end - STEP)]
    command = airflow_components.command("backfill", "create", "--dag-id", DAG, *dates, "--max-active-runs", "3")
    done = subprocess.run(command, env=fleet.system.environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return [fleet.ended(run["dag_run_id"]) for run in fleet.airflow.runs(DAG)]


def raw_keys(start, end):
    return {hour_key("raw", start + step * HOUR) for step in range((end - start) // HOUR)}


def assert_exported_once(versions, start, end):
    """Check that every hour of [start, end) has its object, and that no object was ever replaced."""
    assert raw_keys(start, end) <= set(versions)
    assert {key: found for key, found in versions.items() if len(found) > 1} == {}


def test_a_backfill_beside_the_schedule_exports_each_hour_once(fleet, backfilled):
    # GIVEN the runs of both, all of them green
    ours = [run for run in backfilled if run[0] == "backfill"]
    others = [run for run in backfilled if run[0] != "backfill"]
    # THEN those of the backfill follow each other over the three days and have every row, ...
    steps = [fleet.start + step * STEP for step in range(DAYS // STEP)]
    assert ours == [("backfill", step, step + STEP, fleet.published(step, step + STEP)) for step in steps]
    # ... the one of the schedule read at least the hour before its interval again, ...
    [(kind, start, end, rows)] = others
    assert (kind, end, rows) == ("scheduled", fleet.tick, fleet.published(start, fleet.tick))
    assert start <= fleet.end - HOUR
    # ... and nevertheless each hour was written once
    assert_exported_once(fleet.versions(), fleet.start, fleet.tick)


def test_a_run_by_hand_of_the_same_days_writes_the_same_bytes(fleet, backfilled):
    # GIVEN what the backfill wrote into all three layers
    before = fleet.versions()
    assert {key.split("/")[0] for key in before} == set(LAYERS)
    # WHEN the three days are exported by hand in one run
    interval = {"start": clock.iso(fleet.start), "end": clock.iso(fleet.end)}
    run = fleet.ended(fleet.airflow.trigger(DAG, interval))
    # THEN it has read every row, and no object differed from what it would have written
    assert run == ("manual", fleet.start, fleet.end, fleet.published(fleet.start, fleet.end))
    assert fleet.versions() == before


def test_the_schedule_fills_the_hours_in_which_the_scheduler_was_down(fleet, backfilled):
    # GIVEN an hourly schedule whose scheduler is down since the newest export
    before = fleet.versions()
    known = {run["dag_run_id"] for run in fleet.airflow.runs(DAG)}
    [scheduler] = [child for child in fleet.system.supervisor.children if child.name == "Airflow's scheduler"]
    scheduler.stop()
    fleet.system.write_settings({DAG: "0 * * * *"})
    fleet.airflow.parse_again(DAG)
    # WHEN it starts again
    fleet.system.start_component("scheduler")
    kind, start, end, rows = fleet.ended(fleet.airflow.wait_for_a_run(DAG, known, 120))
    # THEN the schedule makes a run for the newest hour only, which begins with the last hour that was exported, ...
    assert (kind, start, rows) == ("scheduled", fleet.tick - HOUR, fleet.published(start, end))
    assert end >= fleet.tick + SINCE_TICK
    # ... so that no hole remains, and what was exported before is as it was
    after = fleet.versions()
    assert_exported_once(after, fleet.start, end)
    assert before.items() <= after.items()
