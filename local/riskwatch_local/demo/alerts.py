"""The alerts that the demo received, and the known incidents that they met.

`match_incidents` pairs the episodes of the received messages with the known incidents: an alert within ten minutes of
an incident on the same instance is no false alert.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from riskwatch_lambda.alerting.messages import OPENED
from riskwatch_ml.core import clock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from riskwatch_local.demo.data import KnownIncident
    from riskwatch_local.demo.figures import Delay, IncidentFigures

TOLERANCE = timedelta(minutes=10)
QUEUE_WAIT_S = 3


@dataclass(frozen=True)
class Alert:
    """One episode in a message that the alert queue received at `sent` (UTC)."""

    instance_id: str
    since: datetime
    sent: datetime


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
