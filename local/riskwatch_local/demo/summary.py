"""What the demo found out: counted from what really arrived, never from what was meant to.

`met` pairs the episodes that messages announced with the incidents that were made (or labelled); the tolerance is the
one that operators grant: an alert within ten minutes of an incident on its instance is no false alert.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from rich.table import Table

from riskwatch_lambda.alerting.messages import OPENED
from riskwatch_ml.core import clock

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rich.console import Console

    from riskwatch_local.demo.data import KnownIncident

TOLERANCE = timedelta(minutes=10)
QUEUE_WAIT_S = 3


@dataclass(frozen=True)
class Alert:
    """One episode that a page in the alert queue announced; `sent` is when the queue received that message (UTC)."""

    instance_id: str
    since: datetime
    sent: datetime


def parse_message(body: str, sent_ms: int) -> list[Alert]:
    """Return the episodes that a message pages, none where it is of another kind.

    Raises ValueError where the body is no Riskwatch message.
    """
    message = json.loads(body)
    sent = clock.from_epoch_ms(sent_ms)
    if message["event"] != OPENED:
        return []
    return [Alert(item["instance_id"], clock.parse(item["since"]), sent) for item in message["opened"]]


def receive(queue: Any, url: str) -> tuple[list[Alert], list[datetime]]:
    """Empty an alert queue until nothing came for `QUEUE_WAIT_S`; return episodes and arrival times of pages (UTC)."""
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


def met(incidents: Sequence[KnownIncident], alerts: Sequence[Alert], start: datetime, end: datetime) -> dict[str, Any]:
    """Count incidents that touch [start, end): made, met, missed; and alerts that belong to none.

    An incident is met if an episode of its instance opened within it, `TOLERANCE` around it included.
    """
    live = [incident for incident in incidents if incident.start < end and incident.end > start]
    found = [incident for incident in live if any(_belongs(alert, incident) for alert in alerts)]
    false = [alert for alert in alerts if not any(_belongs(alert, incident) for incident in live)]
    return {
        "made": len(live),
        "met": len(found),
        "missed": len(live) - len(found),
        "false_alerts": len(false),
        "list": [
            {
                "instance_id": incident.instance_id,
                "kind": incident.kind,
                "start": clock.iso(incident.start),
                "end": clock.iso(incident.end),
                "met": incident in found,
            }
            for incident in live
        ],
        "false": [{"instance_id": alert.instance_id, "since": clock.iso(alert.since)} for alert in false],
    }


def _belongs(alert: Alert, incident: KnownIncident) -> bool:
    inside = incident.start - TOLERANCE <= alert.since <= incident.end + TOLERANCE
    return inside and alert.instance_id == incident.instance_id


def delays(
    told: Sequence[tuple[datetime, datetime]], asked: datetime, settle_s: int, schedule_s: int
) -> dict[str, float]:
    """Return the time from the end of a datapoint's period to its message, as the sum of its parts in seconds.

    `asked` is when the streaming run was asked for; `told` has, for each alert, when its row was put into the stream
    and when its message arrived in the queue. Those two parts are measured, as 95th percentiles. The settle delay and
    the wait for the next scheduled run (at most one schedule step) are added, as they apply to a datapoint in daily
    use.
    """
    if not told:
        return {}
    parts = {
        "settle_s": float(settle_s),
        "schedule_wait_max_s": float(schedule_s),
        "run_to_put_p95_s": _p95([(put - asked).total_seconds() for put, _ in told]),
        "put_to_message_p95_s": _p95([(sent - put).total_seconds() for put, sent in told]),
    }
    return {**parts, "datapoint_to_message_p95_s": round(sum(parts.values()), 1)}


def _p95(values: Sequence[float]) -> float:
    return round(sorted(values)[min(len(values) - 1, int(0.95 * len(values)))], 1)


def write(path: Path, summary: Mapping[str, Any]) -> None:
    """Write the summary as JSON; a half-written file never stands under the name."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(summary, indent=2, default=str) + "\n", encoding="utf-8")
    part.replace(path)


def show(console: Console, summary: Mapping[str, Any]) -> None:
    """Print the summary as tables."""
    console.print(_candidates(summary["candidates"]))
    table = Table("Riskwatch", summary["source"], title="Summary", title_justify="left", min_width=72)
    for name, text in _lines(summary):
        table.add_row(name, text)
    console.print(table)
    for name, address in summary["addresses"].items():
        console.print(f"{name}: {address}", soft_wrap=True)


def _candidates(candidates: Sequence[Mapping[str, Any]]) -> Table:
    shown = {
        "VUS-PR (injected)": "injected_vus_pr",
        "alerts a day": "alerts_per_instance_day",
        "silhouette": "silhouette",
        "fidelity": "fidelity",
    }
    table = Table("family", *shown, "verdict", title="Candidates", title_justify="left", min_width=72)
    for row in candidates:
        values = [f"{row['figures'][name]:.3f}" if name in row["figures"] else "" for name in shown.values()]
        table.add_row(row["family"], *values, row["verdict"])
    return table


def _lines(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows, stream, incidents = summary["rows"], summary["stream"], summary["incidents"]
    lines = [
        ("rows exported", f"{rows['exported']} = {rows['validated']} validated + {rows['quarantined']} quarantined"),
        (
            "promoted",
            "version {version}: {family}, digest {digest:.12}, self-test {selftest}".format(**summary["promoted"]),
        ),
        ("rows streamed", f"{stream['sent']} = {stream['labelled']} labelled + {stream['quarantined']} quarantined"),
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
            "{datapoint_to_message_p95_s:.0f} s (p95) = settle {settle_s:.0f} + wait for the schedule, at most "
            "{schedule_wait_max_s:.0f} + from run to stream {run_to_put_p95_s:.1f} + from stream to message "
            "{put_to_message_p95_s:.1f}"
        )
        lines.append(("datapoint to message", text.format(**delay)))
    watch = summary["watch"]
    lines.append(("label drift", f"{watch['distance']:.3f} (limit {watch['limit']}), violated: {watch['violated']}"))
    return lines
