"""The figures of the demo and their tables for the terminal.

Figures count what has arrived in S3 and in the alert queue. `match_incidents` pairs the episodes of the received
messages with the known incidents: an alert within ten minutes of an incident on the same instance is no false alert.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict

from rich.table import Table

from riskwatch_lambda.alerting.messages import OPENED
from riskwatch_local.demo import values
from riskwatch_ml.core import clock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

    from riskwatch_local.demo.data import KnownIncident
    from riskwatch_local.demo.values import ValueCounts

TOLERANCE = timedelta(minutes=10)
QUEUE_WAIT_S = 3


@dataclass(frozen=True)
class Alert:
    """One episode in a message that the alert queue received at `sent` (UTC)."""

    instance_id: str
    since: datetime
    sent: datetime


class RowCounts(TypedDict):
    """Rows of the exported interval; each is validated or quarantined."""

    exported: int
    validated: int
    quarantined: int


class _RankedFamily(TypedDict):
    family: str
    figures: dict[str, float]


class Candidate(_RankedFamily, total=False):
    """A family in the ranking of a training; `verdict` is its outcome in words."""

    vetoes: list[str]
    verdict: str


class Training(TypedDict):
    """The training and the version that it registered in MLflow."""

    id: str
    model_version: str


class Promotion(TypedDict):
    """The artifact in service; `version` is that of the Lambda function."""

    version: str
    family: str
    digest: str
    model_id: str
    selftest: str


class StreamFigures(TypedDict):
    """Rows sent to the stream; `risk` counts the labelled rows by risk."""

    sent: int
    records: int
    calls: int
    run_s: float
    labelled: int
    quarantined: int
    values: ValueCounts
    risk: dict[str, int]


class EpisodeStart(TypedDict):
    """The instance and the start of an episode, ISO 8601 in UTC."""

    instance_id: str
    since: str


class IncidentOutcome(TypedDict):
    """A known incident, [start, end) as ISO 8601 in UTC, and whether an alert met it."""

    instance_id: str
    kind: str
    start: str
    end: str
    met: bool


EpisodeStarts = list[EpisodeStart]
IncidentOutcomes = list[IncidentOutcome]


class AlertFigures(TypedDict):
    """The received messages, and the episodes that they announce."""

    messages: int
    episodes: int
    list: EpisodeStarts


class IncidentFigures(TypedDict):
    """Known incidents of the streamed hours, and alerts outside of them."""

    made: int
    met: int
    missed: int
    false_alerts: int
    list: IncidentOutcomes
    false: EpisodeStarts


class Delay(TypedDict, total=False):
    """Seconds from the end of a datapoint's period to its message, and the parts."""

    settle_s: float
    schedule_wait_max_s: float
    run_to_put_p95_s: float
    put_to_message_p95_s: float
    datapoint_to_message_p95_s: float


class WatchFigures(TypedDict):
    """The report of watch_model; `distance` is the label drift and `limit` its limit."""

    compacted_rows: int
    distance: float
    limit: float
    violated: bool
    alert_volume: object


class Figures(TypedDict, total=False):
    """The figures of the stages; each stage adds its own."""

    rows: RowCounts
    values: ValueCounts
    candidates: list[Candidate]
    training: Training
    promoted: Promotion
    stream: StreamFigures
    alerts: AlertFigures
    incidents: IncidentFigures | None
    delay: Delay
    watch: WatchFigures


class Summary(Figures):
    """The content of `demo.json`.

    Times are ISO 8601 in UTC; `stages` has seconds by title.
    """

    source: str
    started: str
    finished: str
    seconds: float
    stages: dict[str, float]
    addresses: dict[str, str]
    listeners: list[str]
    checks: dict[str, bool]
    ok: bool


def parse_message(body: str, sent_ms: int) -> list[Alert]:
    """Return the episodes that a message announces as opened.

    A message of another kind has none. `sent_ms` is in epoch milliseconds. Raises ValueError if the body is not JSON
    and KeyError if it is not a Riskwatch message.
    """
    message = json.loads(body)
    sent = clock.from_epoch_ms(sent_ms)
    if message["event"] != OPENED:
        return []
    return [Alert(item["instance_id"], clock.parse(item["since"]), sent) for item in message["opened"]]


def receive(queue: Any, url: str) -> tuple[list[Alert], list[datetime]]:
    """Empty an alert queue and return what it contained.

    The first list has the opened episodes, the second the arrival times (UTC) of their messages. The queue counts as
    empty if no message arrives within `QUEUE_WAIT_S` seconds.
    """
    alerts: list[Alert] = []
    arrived: list[datetime] = []
    while True:
        answer = queue.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=QUEUE_WAIT_S,
            MessageSystemAttributeNames=["SentTimestamp"],
        )
        if not answer.get("Messages"):
            return alerts, arrived
        for message in answer["Messages"]:
            sent_ms = int(message["Attributes"]["SentTimestamp"])
            paged = parse_message(message["Body"], sent_ms)
            alerts += paged
            arrived += [clock.from_epoch_ms(sent_ms)] if paged else []
            queue.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


def match_incidents(
    incidents: Sequence[KnownIncident], alerts: Sequence[Alert], start: datetime, end: datetime
) -> IncidentFigures:
    """Count the incidents in [start, end), those with an alert, and false alerts.

    An incident is met if an episode of its instance opens during the incident or within `TOLERANCE` of it.
    """
    live = [incident for incident in incidents if incident.start < end and incident.end > start]
    detected = [incident for incident in live if any(_belongs(alert, incident) for alert in alerts)]
    false = [alert for alert in alerts if not any(_belongs(alert, incident) for incident in live)]
    return {
        "made": len(live),
        "met": len(detected),
        "missed": len(live) - len(detected),
        "false_alerts": len(false),
        "list": [
            {
                "instance_id": incident.instance_id,
                "kind": incident.kind,
                "start": clock.iso(incident.start),
                "end": clock.iso(incident.end),
                "met": incident in detected,
            }
            for incident in live
        ],
        "false": [{"instance_id": alert.instance_id, "since": clock.iso(alert.since)} for alert in false],
    }


def _belongs(alert: Alert, incident: KnownIncident) -> bool:
    inside = incident.start - TOLERANCE <= alert.since <= incident.end + TOLERANCE
    return inside and alert.instance_id == incident.instance_id


def delays(
    deliveries: Sequence[tuple[datetime, datetime]], triggered: datetime, settle_s: int, schedule_s: int
) -> Delay:
    """Return the delay from a datapoint to its message and its parts, in seconds.

    The delay begins at the end of the datapoint's period. `triggered` is the time at which the streaming run was
    triggered. `deliveries` has two times for each alert: its row was put into the stream, its message arrived in the
    queue. Both parts are measured and are 95th percentiles. The settle delay and the longest wait for a scheduled run
    are added, because they apply to a datapoint in daily use.
    """
    if not deliveries:
        return {}
    run_to_put = _p95([(put - triggered).total_seconds() for put, _ in deliveries])
    put_to_message = _p95([(sent - put).total_seconds() for put, sent in deliveries])
    return {
        "settle_s": float(settle_s),
        "schedule_wait_max_s": float(schedule_s),
        "run_to_put_p95_s": run_to_put,
        "put_to_message_p95_s": put_to_message,
        "datapoint_to_message_p95_s": round(settle_s + schedule_s + run_to_put + put_to_message, 1),
    }


def _p95(values: Sequence[float]) -> float:
    return round(sorted(values)[min(len(values) - 1, int(0.95 * len(values)))], 1)


def write(path: Path, summary: Summary) -> None:
    """Write the summary as JSON; readers never see a partial file."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(summary, indent=2, default=str) + "\n", encoding="utf-8")
    part.replace(path)


def show(console: Console, summary: Summary) -> None:
    """Print the summary as tables."""
    console.print(_candidates(summary["candidates"]))
    table = Table("Riskwatch", summary["source"], title="Summary", title_justify="left", min_width=72)
    for name, text in _lines(summary):
        table.add_row(name, text)
    console.print(table)
    for name, address in summary["addresses"].items():
        console.print(f"{name}: {address}", soft_wrap=True)


def _candidates(candidates: Sequence[Candidate]) -> Table:
    columns = {
        "VUS-PR (injected)": "injected_vus_pr",
        "alerts a day": "alerts_per_instance_day",
        "silhouette": "silhouette",
        "fidelity": "fidelity",
    }
    table = Table("family", *columns, "outcome", title="Candidates", title_justify="left", min_width=72)
    for row in candidates:
        values = [f"{row['figures'][name]:.3f}" if name in row["figures"] else "" for name in columns.values()]
        table.add_row(row["family"], *values, row["verdict"])
    return table


def _lines(summary: Summary) -> list[tuple[str, str]]:
    rows, stream, incidents = summary["rows"], summary["stream"], summary["incidents"]
    lines = [
        ("rows exported", f"{rows['exported']} = {rows['validated']} validated + {rows['quarantined']} quarantined"),
        ("values exported", values.line(summary["values"])),
        (
            "promoted",
            "version {version}: {family}, digest {digest:.12}, self-test {selftest}".format(**summary["promoted"]),
        ),
        ("rows streamed", f"{stream['sent']} = {stream['labelled']} labelled + {stream['quarantined']} quarantined"),
        ("values streamed", values.line(stream["values"])),
        ("streaming run", "{run_s:.0f} s, {records} records in {calls} calls".format(**stream)),
        ("risk", ", ".join(f"{name} {count}" for name, count in stream["risk"].items())),
        ("alerts received", f"{summary['alerts']['messages']} messages, {summary['alerts']['episodes']} episodes"),
    ]
    if incidents:
        lines += [
            ("incidents", "{made} made, {met} met, {missed} missed".format(**incidents)),
            *[
                ("", f"{'met   ' if item['met'] else 'missed'} {item['kind']} on {item['instance_id']}")
                for item in incidents["list"]
            ],
            ("false alerts", f"{incidents['false_alerts']}"),
        ]
    delay = summary["delay"]
    if delay:
        text = (
            "{datapoint_to_message_p95_s:.0f} s (p95) = settle delay {settle_s:.0f} + wait for the schedule, at most "
            "{schedule_wait_max_s:.0f} + from run to stream {run_to_put_p95_s:.1f} + from stream to message "
            "{put_to_message_p95_s:.1f}"
        )
        lines.append(("datapoint to message", text.format(**delay)))
    watch = summary["watch"]
    lines.append(("label drift", f"{watch['distance']:.3f} (limit {watch['limit']}), violated: {watch['violated']}"))
    return lines
