"""A live Airflow that nobody touches: every run is made by a schedule or an asset, and REST is only read.

Schedules of a minute or two stand for hours and days. A small fleet keeps sending. First the loop closes by itself: an
export, a training, a promotion, labels, a report, and, after a day on which the fleet behaves differently, a retrain.
Then the scheduler is down for some ticks of its schedules, and a run is left behind that believes in a future clock.
"""

import gzip
import json
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from time import monotonic, sleep

import pandas as pd
import pytest

from riskwatch_local.demo import data as sources
from riskwatch_local.demo import publish, schedule, simulator
from riskwatch_local.demo.live_fleet import LiveFleet
from riskwatch_local.services import system
from riskwatch_ml.core import clock
from riskwatch_ml.core import settings as configuration
from riskwatch_ml.registry import mlflow_registry
from riskwatch_ml.storage import keys

pytestmark = [pytest.mark.e2e, pytest.mark.story, pytest.mark.timeout(1500)]

INSTANCES = ("web-1", "web-3", "worker-1", "database-1", "cache-1")
DAGS = ("export_metrics", "train_models", "promote_model", "stream_metrics", "watch_model")
MINUTE = timedelta(minutes=1)
HISTORY_HOURS = 30
# Long enough for the first export of a slow machine.
FIRST_TRAINING = timedelta(minutes=4)
DOWN_TICKS = 2


class Story:
    """What is running, and how its runs and objects are read."""

    def __init__(self, running, source, fleet):
        self.system, self.source, self.fleet, self.supervisor = running, source, fleet, running.supervisor
        self.airflow = running.airflow()

    def wait(self, what, found, seconds):
        """Wait until `found()` is true and return it."""
        deadline = monotonic() + seconds
        while not (value := found()):
            self.supervisor.ensure_alive()
            assert monotonic() < deadline, f"{what}: not seen in {seconds} s\n{self.table()}"
            sleep(1)
        return value

    def runs(self, dag, state="success", kind=None):
        """Return the runs of a DAG in a state, of one type or of any, oldest first."""
        return [run for run in self.airflow.runs(dag) if run["state"] == state and kind in (None, run["run_type"])]

    def ended(self, dag, kind=None, since=""):
        """Return the runs that ended, after one that has failed is shown."""
        failed = self.runs(dag, "failed")
        if failed:
            self.airflow.wait(dag, failed[0]["dag_run_id"], 0)
        return [run for run in self.runs(dag, kind=kind) if run["start_date"] > since]

    def labelled(self):
        """Return all rows that the function has labelled, as often as it has."""
        store = self.system.store
        return [
            json.loads(line)
            for key in store.keys("labelled/arrived/")
            for line in gzip.decompress(store.get_bytes(key)).splitlines()
        ]

    def table(self):
        """Return one line a run: type, interval, state, rows."""
        runs = sorted((run for dag in DAGS for run in self.airflow.runs(dag)), key=lambda run: run["run_after"])
        return "\n".join(schedule.describe(self.airflow, run) for run in runs)


def small_fleet(now):
    """Return a few of the simulated instances with a row a minute."""
    whole = sources.simulated(now, stream_hours=1, days=2, period_s=60, further_kinds=())
    end, instances = whole.end, whole.first
    rows = pd.concat([instances.rows, instances.late])
    keep = rows["instance_id"].isin(INSTANCES) & (rows["timestamp"] >= end - timedelta(hours=HISTORY_HOURS))
    ahead = instances.ahead[instances.ahead["instance_id"].isin(INSTANCES)]
    inventory = {name: whole.inventory[name] for name in INSTANCES}
    return replace(whole, kinds=(sources.KindData(instances.catalogue, inventory, rows[keep], rows.iloc[:0], ahead),))


@pytest.fixture
def story(tmp_path, restored_environment):
    source = small_fleet(clock.now())
    training = clock.now() + FIRST_TRAINING
    schedules = {
        "export_metrics": "* * * * *",
        "stream_metrics": "* * * * *",
        "watch_model": "* * * * *",
        # Once in this hour: the next training has to be asked for.
        "train_models": f"{training.minute} * * * *",
    }
    overrides = {"settle_s": 5, "reread_hours": HISTORY_HOURS, "reread_days": 0, "history_days": 2}
    options = {"period_s": source.period_s, "overrides": overrides, "schedules": schedules}
    with (
        system.session(tmp_path / "state", source.catalogues, source.inventory, **options) as running,
        ExitStack() as stack,
    ):
        running.environment["AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION"] = "False"
        fleet = LiveFleet(source.ahead(), source.period_s)

        def send():
            publish.publish(publish.client(), source.first.rows, source.first.catalogue)
            stack.enter_context(fleet)

        running.start_services(send, airflow_last=True)
        yield Story(running, source, fleet)


def another_day(source):
    """Return a row every ten minutes of the last day, on which every instance does at night what it does by day."""
    rows = source.first.rows
    day = rows[rows["timestamp"] >= source.end - timedelta(hours=24)].copy()
    loads = day.groupby("instance_id")[list(simulator.METRICS)].transform(lambda column: column.quantile(0.97))
    day[list(simulator.METRICS)] = loads
    # Not the times at which rows were streamed already.
    return day[(day["timestamp"].dt.minute % 10 == 7) & (day["timestamp"] < source.end - MINUTE)]


@pytest.mark.parametrize("time", ["first", "second"])
def test_everything_runs_unattended_and_survives_an_outage_of_the_scheduler(time, story, tmp_path, capsys):
    # GIVEN all DAGs with schedules of a minute, and a fleet that keeps sending
    story.airflow.wait_for_dags(set(DAGS), 120)

    # WHEN time passes THEN hours are exported, ...
    story.wait("two scheduled exports", lambda: len(story.ended("export_metrics", "scheduled")) >= 2, 240)
    # ... models are trained, and the best is promoted because its asset says so, ...
    started = "asset_triggered"
    story.wait("a promotion", lambda: story.ended("promote_model", started), 420)
    champion = mlflow_registry.champion(configuration.load())
    # ... rows are labelled by it, ...
    story.wait("labelled rows", story.labelled, 120)
    # ... and a report says how it does
    watched = clock.iso(clock.now())
    story.wait("a report", lambda: [key for key in story.system.store.keys("watch/") if key > f"watch/{watched}"], 180)

    # WHEN a day comes in on which the fleet behaves differently
    csv = tmp_path / "day.csv"
    changed = another_day(story.source)
    changed.to_csv(csv, index=False)
    command = [sys.executable, "-c", "from riskwatch_cli.main import app; app()", "stream", "--csv", str(csv)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    # THEN a retrain is asked for, which starts a contest, and its winner is promoted in its turn
    retrained = story.wait("a retrain", lambda: story.ended("train_models", started), 420)[0]
    plan = story.airflow.returned("train_models", retrained["dag_run_id"], "prepare")
    assert plan["why"] == "a retrain was requested: label distribution"
    story.wait("a second promotion", lambda: len(story.ended("promote_model", started)) >= 2, 180)
    assert mlflow_registry.champion(configuration.load()).version != champion.version

    # WHEN the scheduler is down for some ticks of its schedules, ...
    scheduler = next(child for child in story.supervisor.children if child.name == "Airflow's scheduler")
    scheduler.stop()
    stopped = clock.now()
    # ... and leaves a run behind that was started by a clock two hours ahead
    ghost = leave_a_ghost(story.system.state / "airflow" / "airflow.db")
    story.wait("some ticks", lambda: clock.now() > stopped + DOWN_TICKS * MINUTE, 60 * DOWN_TICKS + 30)
    story.system.start_component("scheduler")
    back = clock.iso(clock.now())

    # THEN the schedules go on: the ghost keeps its slot, but not the only one
    for dag in ("export_metrics", "stream_metrics"):
        story.wait(f"{dag} after the outage", lambda dag=dag: story.ended(dag, "scheduled", back), 180)
    assert [run["dag_run_id"] for run in story.runs("export_metrics", "running") if run["dag_run_id"] == ghost]

    # AND no hole remains: every row that the fleet sent until the last export is there once, ...
    (last, *_) = reversed(story.ended("export_metrics", "scheduled", back))
    until = clock.parse(last["data_interval_end"])
    exported = story.system.store.read_hours("raw", story.source.start, until)
    sent = pd.concat([story.source.first.rows, story.source.first.ahead])
    assert identities(exported) == identities(sent[sent["timestamp"] < pd.Timestamp(until)])
    assert not exported.duplicated(["instance_id", "timestamp"]).any()
    # ... and every row since the first labelled one was labelled once
    mark = clock.parse(story.system.store.get_json(keys.STREAM_MARK)["end"])
    by_hand = identities(changed)
    rows = [(row["instance_id"], row["timestamp"]) for row in story.labelled()]
    streamed = Counter(key for key in rows if key not in by_hand)
    first = min(moment for _, moment in streamed)
    expected = sent[(sent["timestamp"] >= pd.Timestamp(first)) & (sent["timestamp"] < pd.Timestamp(mark))]
    assert {key for key in streamed if key[1] < clock.iso(mark)} == identities(expected)
    assert set(streamed.values()) == {1}

    # AND every DAG has had green runs that nobody triggered, and no other
    table = story.table()
    with capsys.disabled():
        print(f"\n{table}")
    for dag in DAGS:
        runs = story.airflow.runs(dag)
        assert len([run for run in runs if run["state"] == "success"]) >= 2
        assert {run["run_type"] for run in runs} <= {"scheduled", "asset_triggered"}
        assert not [run for run in runs if run["state"] == "failed"]


def identities(rows):
    """Return (instance, time as ISO text) of metric rows."""
    return {
        (name, clock.iso(moment.to_pydatetime()))
        for name, moment in zip(rows["instance_id"], rows["timestamp"], strict=True)
    }


def leave_a_ghost(database):
    """Make the newest export look as if a scheduler two hours ahead had left it waiting for its second try."""
    with sqlite3.connect(database, timeout=30) as connection:
        run, run_id, at = connection.execute(
            "SELECT id, run_id, start_date FROM dag_run WHERE dag_id = 'export_metrics' ORDER BY run_after DESC LIMIT 1"
        ).fetchone()
        ahead = (pd.Timestamp(at) + timedelta(hours=2)).strftime("%Y-%m-%d %H:%M:%S.%f")
        connection.execute(
            "UPDATE dag_run SET state = 'running', start_date = ?, end_date = NULL WHERE id = ?", (ahead, run)
        )
        connection.execute(
            "UPDATE task_instance SET state = CASE task_id WHEN 'fetch' THEN 'up_for_retry' END, start_date = ?,"
            " end_date = ?, try_number = 1, max_tries = 2 WHERE dag_id = 'export_metrics' AND run_id = ?",
            (ahead, ahead, run_id),
        )
    connection.close()
    return run_id
