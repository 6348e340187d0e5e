"""The demo: one fleet taken from CloudWatch to labelled rows and an alert, through the live Airflow scheduler.

Each stage checks what it was for by reading the result where a user would find it (S3, Lambda, the alert queue), and
the summary holds those counts. A stage that did not do its work raises `DemoError`.
"""

from __future__ import annotations

import gzip
import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from riskwatch_local.demo import publish, summary
from riskwatch_local.demo.schedule import on_schedule
from riskwatch_local.services import system
from riskwatch_local.services.supervisor import Supervisor
from riskwatch_ml.core import aws, clock, settings
from riskwatch_ml.core.errors import OperationError
from riskwatch_ml.monitoring import alert_volume
from riskwatch_ml.registry import ledger, mlflow_registry
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rich.console import Console

    from riskwatch_local.demo.data import Source
    from riskwatch_local.services.airflow_client import AirflowClient
    from riskwatch_local.services.system import System

DAGS = {"export_metrics", "stream_metrics", "train_models", "promote_model", "watch_model"}
RUN_S = 600.0
ARRIVAL_S = 180.0
SCHEDULE_S = 300
# A demo that ends by itself has seen these run on their schedule.
SCHEDULED = {"export_metrics", "stream_metrics"}


class DemoError(OperationError):
    """A stage of the demo ended without the result it is for."""


@dataclass
class Demo:
    """One run over one source; `figures` grows stage by stage into the summary."""

    source: Source
    system: System
    console: Console
    figures: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Announce a stage, time it, and name a dead component rather than its consequence."""
        self.console.print(f"[bold]→[/bold] {title}", highlight=False, soft_wrap=True)
        started = time.monotonic()
        try:
            yield
        except Exception:
            self.system.supervisor.ensure_alive()
            raise
        self.stages[title] = round(time.monotonic() - started, 1)
        self.console.print(f"  done in {self.stages[title]:.1f} s", style="dim", highlight=False)

    def run(self) -> dict[str, Any]:
        """Run all stages and return the summary."""
        started = clock.now()
        for note in self.source.notes:
            self.console.print(note, highlight=False, soft_wrap=True)
        with self.stage("Starting Airflow and MLflow, publishing the fleet's history to CloudWatch"):
            self._bring_up()
        airflow = self.system.airflow()
        try:
            self._loop(airflow)
        finally:
            airflow.close()
        return self._finish(started)

    def _bring_up(self) -> None:
        with ThreadPoolExecutor(1) as pool:
            airflow = pool.submit(self._start_airflow)
            self._publish(self.source.history(), "history")
            airflow.result()

    def _start_airflow(self) -> None:
        self.system.migrate_airflow()
        mlflow = self.system.start_mlflow()
        self.system.start_airflow()
        mlflow()

    def _publish(self, rows: Any, what: str) -> None:
        columns = (TextColumn(f"  {what}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as progress:
            task = progress.add_task(what, total=None)

            def show(done: int, total: int) -> None:
                progress.update(task, completed=done, total=total)

            publish.publish(publish.client(), rows, self.source.catalogue, progress=show)

    def _loop(self, airflow: AirflowClient) -> None:
        airflow.wait_for_dags(DAGS, RUN_S)
        for dag in sorted(DAGS):
            airflow.unpause(dag)
        with self.stage("Exporting and validating (export_metrics: one bulk interval, then the hours of late points)"):
            self._export(airflow)
        promotions = {run["dag_run_id"] for run in airflow.runs("promote_model")}
        with self.stage("Training five families (train_models)"):
            self._train(airflow)
        with self.stage("Promoting the best (promote_model, started by the candidate)"):
            run = airflow.wait_for_a_run("promote_model", promotions, RUN_S)
            airflow.wait("promote_model", run, RUN_S)
            self._promoted()
        with self.stage("Streaming the newest hours (stream_metrics) and waiting for labels and alerts"):
            self._stream(airflow)
        with self.stage("Watching (watch_model)"):
            self._watch(airflow)

    def _run(self, airflow: AirflowClient, dag: str, conf: dict[str, Any] | None = None) -> str:
        run = airflow.trigger(dag, conf)
        airflow.wait(dag, run, RUN_S)
        return run

    def _export(self, airflow: AirflowClient) -> None:
        interval = (self.source.start, self.source.cut)
        self._run(airflow, "export_metrics", _conf(*interval))
        late = self.source.late_history()
        if not late.empty:
            # Points that arrived after their hours were read: reading those hours again replaces what was there.
            self._publish(late, "late points")
            first = clock.floor(late["timestamp"].min().to_pydatetime(), 3600)
            self._run(airflow, "export_metrics", _conf(first, self.source.cut))
        layers = {"exported": keys.RAW, "validated": keys.VALIDATED, "quarantined": keys.QUARANTINE}
        rows = {name: len(self.system.store.read_hours(layer, *interval)) for name, layer in layers.items()}
        if not rows["exported"] or rows["exported"] != rows["validated"] + rows["quarantined"]:
            raise DemoError(f"the export does not add up: {rows}")
        self.figures["rows"] = rows

    def _train(self, airflow: AirflowClient) -> None:
        run = self._run(airflow, "train_models")
        chosen = airflow.returned("train_models", run, "choose")
        ranking = self.system.store.get_json(keys.ranking(chosen["training_id"]))["ranking"]
        self.figures["candidates"] = [_candidate(row, chosen["family"]) for row in ranking]
        self.figures["training"] = {"id": chosen["training_id"], "model_version": chosen["version"]}

    def _promoted(self) -> None:
        store = self.system.store
        entries = ledger.read(store, 1)
        if not entries:
            raise DemoError("promote_model ended green, but the ledger under ledger/ is empty")
        entry = entries[0]
        live = aws.client("lambda").get_alias(FunctionName=self.system.outputs.function, Name="live")["FunctionVersion"]
        if str(live) != str(entry["function_version"]):
            raise DemoError(f"the ledger says version {entry['function_version']}, but alias live is at {live}")
        test = entry["golden"]
        self.figures["promoted"] = {
            "version": live,
            "family": entry["family"],
            "digest": entry["digest"],
            "model_id": entry["model_id"],
            "selftest": f"{test['rows']} rows, {test['differences']} differences",
        }

    def _stream(self, airflow: AirflowClient) -> None:
        self._publish(self.source.newest(), "newest hours")
        asked = clock.now()
        run = airflow.trigger("stream_metrics", _conf(self.source.cut, self.source.end))
        ended = airflow.wait("stream_metrics", run, RUN_S)
        published = airflow.returned("stream_metrics", run, "publish")
        sent = int(published["rows"])
        labelled, quarantined = self._wait_for_rows(sent)
        alerts, messages = summary.receive(aws.client("sqs"), self.system.outputs.alert_queue_url)
        self.figures["stream"] = {
            "sent": sent,
            "records": published["records"],
            "calls": published["calls"],
            "run_s": round(ended["duration"], 1),
            "labelled": len(labelled),
            "quarantined": quarantined,
            "risk": dict(Counter(row["risk"] for row in labelled).most_common()),
        }
        self.figures["alerts"] = {
            "messages": len(messages),
            "episodes": len(alerts),
            "list": [{"instance_id": alert.instance_id, "since": clock.iso(alert.since)} for alert in alerts],
        }
        incidents = self.source.incidents
        self.figures["incidents"] = (
            None if incidents is None else summary.met(incidents, alerts, self.source.cut, self.source.end)
        )
        chosen = settings.load()
        put = {(row["instance_id"], row["timestamp"]): clock.parse(row["arrived"]) for row in labelled}
        told = [(put[alert.instance_id, clock.iso(alert.since)], alert.sent) for alert in alerts]
        self.figures["delay"] = summary.delays(told, asked, chosen.settle_s, max(SCHEDULE_S, chosen.period_s))

    def _wait_for_rows(self, sent: int) -> tuple[list[dict[str, Any]], int]:
        """Wait until every streamed row is labelled or quarantined; return the labelled rows and the others' count."""
        store, seen = self.system.store, {}
        deadline = time.monotonic() + ARRIVAL_S
        while True:
            for key in (*store.keys(keys.ARRIVED), *store.keys(keys.REFUSED)):
                if key not in seen:
                    seen[key] = _json_lines(store.get_bytes(key) or b"")
            labelled = [row for key, rows in seen.items() if key.startswith(keys.ARRIVED) for row in rows]
            refused = [part for key, parts in seen.items() if key.startswith(keys.REFUSED) for part in parts]
            quarantined = sum(part["rows"] for part in refused)
            if len(labelled) + quarantined >= sent:
                return labelled, quarantined
            self.system.supervisor.ensure_alive()
            if time.monotonic() > deadline:
                log = self.system.state / "logs" / "embedded-aws.log"
                raise DemoError(
                    f"{sent} rows were streamed, but after {ARRIVAL_S:.0f} s only {len(labelled)} are labelled and "
                    f"{quarantined} quarantined; the Lambda's log is in {log}"
                )
            time.sleep(0.5)

    def _watch(self, airflow: AirflowClient) -> None:
        self._run(airflow, "watch_model")
        store = self.system.store
        reports = store.keys(keys.REPORTS)
        if not reports:
            raise DemoError("watch_model ended green, but no report is under watch/")
        report = store.get_json(reports[-1])
        compacted = len(store.read_hours(keys.LABELLED_ROWS, self.source.cut, self.source.end))
        self.figures["watch"] = {
            "compacted_rows": compacted,
            "distance": report["distribution"]["distance"],
            "limit": report["distribution"]["limit"],
            "violated": report["distribution"]["violated"],
            "alert_volume": report["alerts"],
        }

    def _finish(self, started: datetime) -> dict[str, Any]:
        listeners = self.system.supervisor.listeners()
        figures, stream = self.figures, self.figures["stream"]
        checks = {
            "rows exported are validated or quarantined": 0
            < figures["rows"]["exported"]
            == figures["rows"]["validated"] + figures["rows"]["quarantined"],
            "five candidates": len(figures["candidates"]) == 5,
            "self-test without difference": figures["promoted"]["selftest"].endswith(" 0 differences"),
            "rows sent are labelled or quarantined": 0 < stream["sent"] == stream["labelled"] + stream["quarantined"],
            "labelled rows are compacted": figures["watch"]["compacted_rows"] == stream["labelled"],
            "the episode table counts the messages that arrived": self._messages_on_record()
            == figures["alerts"]["messages"],
            "an alert arrived": figures["alerts"]["messages"] > 0,
            "nothing listens beyond loopback": bool(listeners) and all(item.loopback for item in listeners),
            "Airflow and MLflow answer": all(self.system.reachable().values()),
        }
        finished = clock.now()
        return {
            "source": self.source.name,
            "started": clock.iso(started),
            "finished": clock.iso(finished),
            "seconds": round((finished - started).total_seconds(), 1),
            "stages": self.stages,
            **figures,
            "addresses": self._addresses(),
            "listeners": [f"{item.address}:{item.port}" for item in listeners],
            "checks": checks,
            "ok": all(checks.values()),
        }

    def _messages_on_record(self) -> int:
        """Count the messages of the streamed days by the episode table."""
        first, last = self.source.cut.date(), self.source.end.date()
        days = [f"{first + timedelta(days=back):%Y-%m-%d}" for back in range((last - first).days + 1)]
        return int(alert_volume.count(aws.client("dynamodb"), self.system.outputs.table, days)["messages"])

    def _addresses(self) -> dict[str, str]:
        return {
            "Airflow": f"{self.system.airflow_url} (user {self.system.login.user})",
            "MLflow": mlflow_registry.experiment_url(settings.load()),
        }


def _candidate(row: dict[str, Any], winner: str) -> dict[str, Any]:
    vetoes = row.get("vetoes") or []
    verdict = "promoted" if row["family"] == winner else ("vetoed: " + "; ".join(vetoes) if vetoes else "")
    return {**row, "verdict": verdict}


def _conf(start: datetime, end: datetime) -> dict[str, str]:
    """Return the params that give a DAG run its interval."""
    return {"start": clock.iso(start), "end": clock.iso(end)}


def _json_lines(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(data).splitlines() if line]


def run(
    source: Source,
    state: Path,
    console: Console,
    *,
    hold: Callable[[Callable[[], None]], None] | None,
    airflow_port: int | None = None,
    mlflow_port: int | None = None,
) -> dict[str, Any]:
    """Run the demo in `state`, write `demo.json` there, print the summary, and end every process before returning.

    `hold` is called while everything is up, after the summary; it calls what it is given every few seconds, which
    prints scheduled runs as they end and raises if a component has died. None ends once SCHEDULED have each had a
    scheduled run. Raises DemoError and the components' own errors.
    """
    with system.state_folder(state) as folder, Supervisor() as supervisor:
        history_days = -(-(source.cut - source.start) // timedelta(days=1))
        running = system.start(
            supervisor,
            folder,
            source.catalogue,
            source.inventory,
            period_s=source.period_s,
            airflow_port=airflow_port,
            mlflow_port=mlflow_port,
            overrides={"history_days": max(1, history_days + 1)},
        )
        demo = Demo(source, running, console)
        result = demo.run()
        summary.write(folder / "demo.json", result)
        summary.show(console, result)
        failed = [name for name, held in result["checks"].items() if not held]
        if failed:
            raise DemoError(f"the loop ran, but this does not hold: {'; '.join(failed)} (see {folder / 'demo.json'})")
        if hold is not None:
            login = running.login
            console.print(f"\nLog in to Airflow as [bold]{login.user}[/bold] with [bold]{login.password}[/bold]")
            console.print(
                f"To use riskwatch or the AWS CLI on it from another shell: source {folder / 'env'}", soft_wrap=True
            )
            console.print("Airflow, MLflow and the embedded AWS stay up until Ctrl-C.")
        with on_schedule(source, running, console) as schedule:
            if hold is not None:
                hold(schedule.poll)
            elif source.ahead is not None:
                schedule.wait_for(SCHEDULED, RUN_S)
    return result
