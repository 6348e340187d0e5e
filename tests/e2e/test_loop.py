"""The running loop on real components: embedded AWS, MLflow server, live Airflow scheduler, the DAGs and the stream.

It is the seeded system, in which two fixed artifacts stand for a training; the assertions look at what the loop left in
S3, Lambda and the alert queue.
"""

import gzip
import json
import stat
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from riskwatch_lambda.episode_rule import Rule
from riskwatch_lambda.paging_rule import InstanceState, read_trained
from riskwatch_local.demo.run import DAGS
from riskwatch_ml.artifact import archive
from riskwatch_ml.core import clock
from riskwatch_ml.features import rolling
from riskwatch_ml.features.spaces import row_baselines
from riskwatch_ml.features.table import as_table
from riskwatch_ml.model.explain import label_rows
from riskwatch_ml.model.fleet_model import FleetModel, score_rows
from riskwatch_ml.model.openings import follow, opening_rows
from riskwatch_ml.selection import contest_log

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(540)]


@pytest.fixture
def labelled(loop):
    """The labelled rows as the Lambda wrote them."""
    demo, _ = loop
    store = demo.system.store
    rows = []
    for key in store.keys("labelled/arrived/"):
        rows += [json.loads(line) for line in gzip.decompress(store.get_bytes(key)).splitlines()]
    return rows


def test_every_check_of_the_demo_holds_but_that_of_the_training(loop):
    _, summary = loop
    assert [name for name, holds in summary["checks"].items() if not holds] == ["five candidates"]


def test_only_the_owner_can_read_the_files_of_a_run(loop):
    # GIVEN all files and folders that the processes of the demo have made
    folder = loop[0].system.state
    modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in [folder, *folder.rglob("*")] if not path.is_symlink()}
    # THEN databases, logs and settings are among them, and no mode gives anything to others
    made = {str(path.relative_to(folder)) for path in modes}
    assert {"airflow/airflow.db", "airflow/airflow.cfg", "mlflow/mlflow.db", "riskwatch.toml", "env"} <= made
    assert any(path.suffix == ".log" and "attempt=" in path.name for path in modes)
    assert {str(path): oct(mode) for path, mode in modes.items() if mode & 0o077} == {}


def test_every_exported_row_is_validated_or_quarantined(loop):
    # GIVEN the rows that were published before the cut
    demo, summary = loop
    published = sum(len(part.rows) for part in [*demo.source.history(), *demo.source.late_history()])

    # THEN the export holds each of them, once, in one of the two layers
    rows = summary["rows"]
    assert rows["exported"] == published
    assert rows["validated"] + rows["quarantined"] == published


def test_every_streamed_row_is_labelled_or_quarantined_once(loop, labelled):
    demo, summary = loop
    keys = [(row["instance_id"], row["timestamp"]) for row in labelled]
    newest = sum(len(part.rows) for part in demo.source.newest())
    assert len(keys) == len(set(keys))
    assert len(keys) + summary["stream"]["quarantined"] == newest == summary["stream"]["sent"]


def test_served_labels_are_those_of_the_training_path(loop, labelled):
    # GIVEN the promoted artifact and every row that it could see, context before the cut included
    demo, summary = loop
    store = demo.system.store
    document, arrays = archive.unpack(store.get_bytes(f"artifacts/{summary['promoted']['digest']}.zip"))
    served = pd.DataFrame(labelled)
    served["timestamp"] = pd.to_datetime(served["timestamp"]).astype("datetime64[ms, UTC]")
    context = store.read_hours("validated", demo.source.cut - timedelta(hours=6), demo.source.cut)
    columns = ["instance_id", "timestamp", *document["features"]]
    rows = pd.concat([context[columns], served[columns]], ignore_index=True)

    # WHEN training's own vectorised path scores them
    trained = label_rows(document, arrays, rows, demo.source.inventory)

    # THEN level, unusual flag and score are those that were served
    keys = ["instance_id", "timestamp"]
    both = served.merge(trained, on=keys, suffixes=("_served", "_trained"), validate="1:1")
    assert len(both) == len(served) > 0
    assert (both["level_served"] == both["level_trained"]).all()
    assert (both["unusual_served"] == both["unusual_trained"]).all()
    assert (both["score_served"] - both["score_trained"]).abs().max() < 1e-6

    # AND alert, and with it the risk, is what the paging rule makes of training's verdicts
    alerts = _alerts(FleetModel.load(document, arrays), document, rows, demo.source.inventory, served)
    assert len(alerts) == len(served)
    assert {(row.instance_id, row.timestamp) for row in served.itertuples() if row.alert} == {
        key for key, alert in alerts.items() if alert
    }
    critical = both["risk"] == "Critical"
    assert (critical == both["alert"]).all()
    assert (both.loc[~critical, "risk"] == both.loc[~critical, "level_served"]).all()


def _alerts(model, document, rows, inventory, served):
    """Apply the paging rule to the served rows, with the memory that the model gives; alerts by instance and time."""
    table = as_table(rows, model.features, model.max_gap_s)
    baseline = row_baselines(model.baselines, table, inventory)
    row_scores = score_rows(model, rolling.add_rolling_features(table, model.rolling_lengths), baseline)
    times = pd.to_datetime(table.ms, unit="ms", utc=True)
    keys = [(table.instances[code], moment) for code, moment in zip(table.code, times, strict=True)]
    wanted_keys = set(zip(served["instance_id"], served["timestamp"], strict=True))
    wanted = np.array([key in wanted_keys for key in keys])
    states = {
        code: InstanceState(openings=read_trained(document.get("openings", {}).get(name, ())))
        for code, name in enumerate(table.instances)
    }
    followed = follow(opening_rows(model, table, baseline, row_scores), Rule.of(model.rule), states, wanted)
    return {keys[row]: bool(followed.alert[row]) for row in np.flatnonzero(wanted)}


def test_an_alert_that_reached_the_queue_names_the_instance_of_an_incident(loop):
    # GIVEN the episodes that messages in the queue announced, and the incidents that the simulator made
    demo, summary = loop
    announced = [(item["instance_id"], clock.parse(item["since"])) for item in summary["alerts"]["list"]]

    # THEN at least one opened on an incident's instance while that incident went on
    assert [
        incident
        for incident in demo.source.incidents
        for instance_id, since in announced
        if instance_id == incident.instance_id and incident.start <= since <= incident.end
    ], summary["alerts"]


def test_an_hour_that_is_exported_again_changes_no_object(loop):
    # GIVEN an hour of all instances in the middle of the history
    demo, _ = loop
    store, start = demo.system.store, clock.floor(demo.source.start, 3600) + timedelta(hours=10)
    keys = [key for layer in ("raw", "validated", "quarantine") for key in store.keys(f"{layer}/dt=")]
    before = {key: store.get_bytes(key) for key in keys}

    # WHEN the live scheduler exports it again
    airflow = demo.system.airflow()
    given = {"start": clock.iso(start), "end": clock.iso(start + timedelta(hours=1))}
    run = airflow.trigger("export_metrics", given)
    airflow.wait("export_metrics", run, 300)
    told = airflow.returned("export_metrics", run, "validate")
    airflow.close()

    # THEN every row is accounted for, for the price of its metrics, and the bucket is as it was
    assert told["rows"] == told["validated"] + told["quarantined"] > 130
    assert told["metrics_requested"] == 12 * 10
    assert {key: store.get_bytes(key) for key in keys} == before


@pytest.fixture
def airflow(loop):
    """A client of the live Airflow."""
    demo, _ = loop
    client = demo.system.airflow()
    yield client
    client.close()


def test_an_export_by_hand_without_dates_takes_the_last_whole_hour(loop, airflow):
    # GIVEN the time at which the run is made
    before = clock.floor(clock.now(), 3600)

    # WHEN it is made without parameters
    run = airflow.trigger("export_metrics")
    airflow.wait("export_metrics", run, 300)

    # THEN it has exported that hour, or the next if the hour has changed meanwhile
    told = airflow.returned("export_metrics", run, "validate")
    assert clock.parse(told["end"]) in (before, clock.floor(clock.now(), 3600))
    assert clock.parse(told["end"]) - clock.parse(told["start"]) == timedelta(hours=1)


def test_a_run_that_is_cleared_changes_no_object(loop, airflow):
    # GIVEN the first export of the loop, which ended long ago
    demo, _ = loop
    store = demo.system.store
    run = airflow.runs("export_metrics")[0]
    keys = [key for layer in ("raw", "validated", "quarantine") for key in store.keys(f"{layer}/dt=")]
    before = {key: store.get_bytes(key) for key in keys}

    # WHEN it is cleared and runs again
    airflow._call("POST", f"/dags/export_metrics/dagRuns/{run['dag_run_id']}/clear", json={"dry_run": False})
    again = airflow.wait("export_metrics", run["dag_run_id"], 300)

    # THEN it has really run again, and the bucket is as it was
    assert again["start_date"] > run["end_date"]
    assert {key: store.get_bytes(key) for key in keys} == before


def test_a_report_with_an_older_logical_date_is_about_now(loop, airflow):
    # GIVEN / WHEN a run by hand for yesterday
    run = airflow.trigger("watch_model", logical_date=clock.now() - timedelta(days=1))
    ended = airflow.wait("watch_model", run, 300)

    # THEN its report is of the moment at which it was due, which is now
    assert (
        airflow.returned("watch_model", run, "measure")["key"]
        == f"watch/{clock.iso(clock.parse(ended['run_after']))}.json"
    )


def test_a_training_with_an_older_logical_date_is_the_newest_all_the_same(loop, airflow):
    # GIVEN a contest on record, so that the training is a refresh, and promote_model switched off
    demo, summary = loop
    before = summary["training"]["id"]
    contest_log.write(
        *(demo.system.store, before), dag_run="seeded", at=clock.now(), champion="kmedoids", wins={}, decision={}
    )
    airflow.pause("promote_model")

    # WHEN a training is made by hand for yesterday
    run = airflow.trigger("train_models", logical_date=clock.now() - timedelta(days=1))
    airflow.wait("train_models", run, 300)

    # THEN its id comes after that of the one before
    trained = airflow.returned("train_models", run, "prepare")
    assert trained["kind"] == "refresh"
    assert trained["training_id"] > before


def test_all_runs_are_green(loop):
    demo, _ = loop
    airflow = demo.system.airflow()
    states = {dag: {run["state"] for run in airflow.runs(dag)} for dag in DAGS - {"promote_model"}}
    states["promote_model"] = {run["state"] for run in airflow.runs("promote_model")} - {"queued"}
    airflow.close()
    assert set.union(*states.values()) == {"success"}


def test_nothing_listens_beyond_loopback(loop):
    demo, _ = loop
    listeners = demo.system.supervisor.listeners()
    assert listeners
    assert [item for item in listeners if not item.loopback] == []
