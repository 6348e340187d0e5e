"""The demo: one fleet from CloudWatch to labelled rows and alerts.

It runs through a live Airflow. Each stage reads its result from the service that a user would ask (S3, Lambda, the
alert queue), and the summary shows those counts. A stage without the expected result raises `DemoError`.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, cast

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from riskwatch_local.demo import alerts, arrivals, checks, per_kind, publish, summary, values
from riskwatch_local.demo.figures import Figures
from riskwatch_local.demo.schedule import on_schedule
from riskwatch_local.services import system
from riskwatch_ml.core import aws, clock, settings
from riskwatch_ml.core.errors import OperationError
from riskwatch_ml.monitoring import alert_volume
from riskwatch_ml.registry import ledger, mlflow_registry
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from rich.console import Console

    from riskwatch_local.demo.data import DemoData
    from riskwatch_local.demo.figures import Candidate, KindFigures, Summary
    from riskwatch_local.demo.publish import KindRows
    from riskwatch_local.services.airflow_client import AirflowClient
    from riskwatch_local.services.system import System

DAGS = {"export_metrics", "stream_metrics", "train_models", "promote_model", "watch_model"}
RUN_S = 600.0
SCHEDULE_S = 300
# A demo that ends by itself waits for a scheduled run of each of these.
SCHEDULED = {"export_metrics", "stream_metrics"}


class DemoError(OperationError):
    """A stage of the demo ended without its expected result."""


@dataclass
class Demo:
    """One run of the demo on one source; each stage adds its part to `figures`."""

    source: DemoData
    system: System
    console: Console
    figures: Figures = field(default_factory=lambda: Figures())
    stages: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Announce and time a stage; if it fails, report a dead component first."""
        self.console.print(f"[bold]→[/bold] {title}", highlight=False, soft_wrap=True)
        started = time.monotonic()
        try:
            yield
        except Exception:
            self.system.supervisor.ensure_alive()
            raise
        self.stages[title] = round(time.monotonic() - started, 1)
        self.console.print(f"  done in {self.stages[title]:.1f} s", style="dim", highlight=False)

    def run(self) -> Summary:
        """Run all stages and return the summary."""
        started = clock.now()
        for note in self.source.notes:
            self.console.print(note, highlight=False, soft_wrap=True)
        with self.stage("Starting Airflow and MLflow, publishing the fleet's history to CloudWatch"):
            self.system.start_services(lambda: self._publish(self.source.history(), "history"))
        airflow = self.system.airflow()
        try:
            self._loop(airflow)
        finally:
            airflow.close()
        return self._finish(started)

    def _publish(self, kinds: Sequence[KindRows], name: str) -> dict[str, int]:
        """Publish the rows of each kind and return the numbers of rows with a value, by kind."""
        columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        published = {}
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as progress:
            for metrics, rows in kinds:
                task = progress.add_task(f"{name} ({metrics.kind})", total=None)

                def show(done: int, total: int, task: TaskID = task) -> None:
                    progress.update(task, completed=done, total=total)

                published[metrics.kind] = publish.publish(publish.client(), rows, metrics, progress=show).rows
        return published

    def _loop(self, airflow: AirflowClient) -> None:
        airflow.wait_for_dags(DAGS, RUN_S)
        for dag in sorted(DAGS):
            airflow.unpause(dag)
        with self.stage("Exporting and validating (export_metrics: one bulk interval, then the hours of late points)"):
            self._export(airflow)
        promotions = {run["dag_run_id"] for run in airflow.runs("promote_model")}
        with self.stage("Training five families of each kind (train_models)"):
            self._train(airflow)
        with self.stage("Promoting the best (promote_model, started by the candidate)"):
            run = airflow.wait_for_a_run("promote_model", promotions, RUN_S)
            airflow.wait("promote_model", run, RUN_S)
            self._check_promotion()
        with self.stage("Streaming the newest hours (stream_metrics) and waiting for labels and alerts"):
            self._stream(airflow)
        with self.stage("Watching (watch_model)"):
            self._watch(airflow)

    def _run(self, airflow: AirflowClient, dag: str, conf: dict[str, str] | None = None) -> str:
        run = airflow.trigger(dag, conf)
        airflow.wait(dag, run, RUN_S)
        return run

    def _export(self, airflow: AirflowClient) -> None:
        interval = (self.source.start, self.source.cut)
        self._run(airflow, "export_metrics", _conf(*interval))
        late = self.source.late_history()
        if late:
            # These points arrive after their hours were exported: a second export replaces those hours.
            self._publish(late, "late points")
            first = clock.floor(min(part.rows["timestamp"].min().to_pydatetime() for part in late), 3600)
            self._run(airflow, "export_metrics", _conf(first, self.source.cut))
        kinds: dict[str, KindFigures] = {}
        for metrics in self.source.catalogues:
            rows = per_kind.exported(self.system.store, metrics, *interval)
            if not rows["exported"] or rows["exported"] != rows["validated"] + rows["quarantined"]:
                raise DemoError(
                    f"{metrics.kind}: validated and quarantined rows do not add up to the exported rows: {rows}"
                )
            kinds[metrics.kind] = {"rows": rows, "values": values.exported(self.system.store, metrics, *interval)}
        self.figures["kinds"] = kinds
        self.figures["rows"] = per_kind.total(kind["rows"] for kind in kinds.values())
        self.figures["values"] = values.total(kind["values"] for kind in kinds.values())

    def _train(self, airflow: AirflowClient) -> None:
        run = self._run(airflow, "train_models")
        for metrics in self.source.catalogues:
            task = "choose" if metrics.is_first else f"{metrics.kind}.choose"
            winner = airflow.returned("train_models", run, task)
            if not winner:
                raise DemoError(f"train_models has succeeded, but its task {task} has returned no winner")
            self.figures["kinds"][metrics.kind]["family"] = winner["family"]
            if metrics.is_first:
                ranking = self.system.store.get_json(keys.ranking(winner["training_id"]))["ranking"]
                self.figures["candidates"] = [_candidate(row, winner["family"]) for row in ranking]
                self.figures["training"] = {"id": winner["training_id"], "model_version": winner["version"]}

    def _check_promotion(self) -> None:
        entries = ledger.read(self.system.store, 1)
        if not entries:
            raise DemoError("promote_model has succeeded, but the ledger under ledger/ is empty")
        entry = entries[0]
        live = aws.client("lambda").get_alias(FunctionName=self.system.outputs.function, Name="live")["FunctionVersion"]
        if str(live) != str(entry["function_version"]):
            raise DemoError(
                f"the newest ledger entry has function version {entry['function_version']}, but alias live has {live}"
            )
        test = entry["golden"]
        self.figures["promoted"] = {
            "version": live,
            "family": entry["family"],
            "digest": entry["digest"],
            "model_id": entry["model_id"],
            "selftest": f"{test['rows']} rows, {test['differences']} differences",
            "kinds": dict(cast("Mapping[str, str]", entry.get("kinds", {}))),
        }

    def _stream(self, airflow: AirflowClient) -> None:
        newest = self.source.newest()
        sent = self._publish(newest, "newest hours")
        triggered = clock.now()
        run_id = airflow.trigger("stream_metrics", _conf(self.source.cut, self.source.end))
        run = airflow.wait("stream_metrics", run_id, RUN_S)
        published = airflow.returned("stream_metrics", run_id, "publish")
        labelled, refused = arrivals.wait_for_rows(self.system, int(published["rows"]))
        of_kinds = per_kind.streamed(newest, sent, labelled, refused)
        counts = values.total(kind["values"] for kind in of_kinds.values())
        self.figures["stream"] = {
            "sent": int(published["rows"]),
            "records": published["records"],
            "calls": published["calls"],
            "run_s": round(run["duration"] or 0.0, 1),
            "labelled": len(labelled),
            "quarantined": sum(part["rows"] for part in refused),
            "values": {**counts, "received": int(published["values"])},
            "risk": dict(Counter(row["risk"] for row in labelled).most_common()),
        }
        for kind, counted in of_kinds.items():
            self.figures["kinds"][kind]["stream"] = counted
        put = {(row["instance_id"], row["timestamp"]): clock.parse(row["arrived"]) for row in labelled}
        self._receive(put, triggered)

    def _receive(self, put: Mapping[tuple[str, str], datetime], triggered: datetime) -> None:
        """Receive the alerts; `put` are the times at which rows were put into the stream, by instance and timestamp."""
        received, messages = alerts.receive(aws.client("sqs"), self.system.outputs.alert_queue_url)
        self.figures["alerts"] = {
            "messages": len(messages),
            "episodes": len(received),
            "list": [{"instance_id": alert.instance_id, "since": clock.iso(alert.since)} for alert in received],
        }
        known = self.source.incidents
        matched = None if known is None else alerts.match_incidents(known, received, self.source.cut, self.source.end)
        self.figures["incidents"] = matched
        kinds = self.source.catalogues
        episodes = per_kind.instances((alert.instance_id for alert in received), kinds)
        for kind, counts in per_kind.incidents(matched, kinds).items():
            self.figures["kinds"][kind] |= {"episodes": episodes[kind], "incidents": counts}
        configuration = settings.load()
        schedule_s = max(SCHEDULE_S, configuration.period_s)
        deliveries = [(put[alert.instance_id, clock.iso(alert.since)], alert.sent) for alert in received]
        self.figures["delay"] = alerts.delays(deliveries, triggered, configuration.settle_s, schedule_s)

    def _watch(self, airflow: AirflowClient) -> None:
        self._run(airflow, "watch_model")
        store = self.system.store
        reports = store.keys(keys.REPORTS)
        if not reports:
            raise DemoError("watch_model has succeeded, but there is no report under watch/")
        report = store.get_json(reports[-1])
        compacted = len(store.read_hours(keys.LABELLED_ROWS, self.source.cut, self.source.end))
        self.figures["watch"] = {
            "compacted_rows": compacted,
            "distance": report["distribution"]["distance"],
            "limit": report["distribution"]["limit"],
            "violated": report["distribution"]["violated"],
            "alert_volume": report["alerts"],
        }

    def _finish(self, started: datetime) -> Summary:
        listeners, recorded = self.system.supervisor.listeners(), self._messages_on_record()
        results = {
            **checks.loop(self.figures),
            "the episode table counts the messages that arrived": recorded == self.figures["alerts"]["messages"],
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
            **self.figures,
            "addresses": self._addresses(),
            "listeners": [f"{item.address}:{item.port}" for item in listeners],
            "checks": results,
            "ok": all(results.values()),
        }

    def _messages_on_record(self) -> int:
        """Return the number of messages that the episode table has for the streamed days."""
        first, last = self.source.cut.date(), self.source.end.date()
        days = [f"{first + timedelta(days=number):%Y-%m-%d}" for number in range((last - first).days + 1)]
        return int(alert_volume.count(aws.client("dynamodb"), self.system.outputs.table, days)["messages"])

    def _addresses(self) -> dict[str, str]:
        return {
            "Airflow": f"{self.system.airflow_url} (user {self.system.login.user})",
            "MLflow": mlflow_registry.experiment_url(settings.load()),
        }


def _candidate(row: Candidate, winner: str) -> Candidate:
    vetoes = row.get("vetoes") or []
    verdict = "promoted" if row["family"] == winner else ("vetoed: " + "; ".join(vetoes) if vetoes else "")
    return {**row, "verdict": verdict}


def _conf(start: datetime, end: datetime) -> dict[str, str]:
    """Return the params that give a DAG run its interval."""
    return {"start": clock.iso(start), "end": clock.iso(end)}


def run(
    source: DemoData,
    state: Path,
    console: Console,
    *,
    hold: Callable[[Callable[[], None]], None] | None,
    airflow_port: int | None = None,
    mlflow_port: int | None = None,
) -> Summary:
    """Run the demo in the folder `state`, print its summary and end all processes.

    The summary is also written to `demo.json` in the folder. `hold` is called after the summary, while the system runs.
    It calls its argument every few seconds; each call prints the scheduled runs that have ended and raises ProcessError
    if a component has died. Without `hold`, the demo ends when each DAG of SCHEDULED has had a scheduled run. Raises
    DemoError and the errors of the components.
    """
    history_days = -(-(source.cut - source.start) // timedelta(days=1))
    with system.session(
        state,
        source.catalogues,
        source.inventory,
        period_s=source.period_s,
        airflow_port=airflow_port,
        mlflow_port=mlflow_port,
        overrides={"history_days": max(1, history_days + 1)},
    ) as running:
        result = Demo(source, running, console).run()
        path = running.state / "demo.json"
        summary.write(path, result)
        summary.show(console, result)
        failed = [name for name, passed in result["checks"].items() if not passed]
        if failed:
            raise DemoError(f"the demo has run, but these checks have failed: {'; '.join(failed)} (see {path})")
        if hold is not None:
            _print_access(running, console)
        with on_schedule(source, running, console) as schedule:
            if hold is not None:
                hold(schedule.poll)
            elif source.ahead():
                schedule.wait_for(SCHEDULED, RUN_S)
    return result


def _print_access(running: System, console: Console) -> None:
    user, password = running.login.user, running.login.password
    console.print(f"\nLog in to Airflow as [bold]{user}[/bold] with [bold]{password}[/bold]")
    console.print(f"To use riskwatch or the AWS CLI from another shell: source {running.state / 'env'}", soft_wrap=True)
    console.print("Airflow, MLflow and the embedded AWS stay up until Ctrl-C.")
