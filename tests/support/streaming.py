"""What stream_metrics has sent, in the hour before and after ten: rows in minutes after ten, and ticks."""

from datetime import UTC, datetime

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
LIVE = {
    "model_id": "m-1",
    "features": ["disk_read_mb", "cpu_utilization"],
    "context_rows": 3,
    "max_gap_s": 1800,
    "period_s": 300,
}


def streamed(aws):
    """Return the rows that were to be labelled, in minutes after ten, in order."""
    return [moment for entry in entries(aws) for moment in minutes(entry)[-entry["newest"] :]]


def entries(aws):
    """Return the instances of all packs."""
    return [entry for pack in aws.kinesis.records for entry in pack["instances"]]


def minutes(entry):
    return [round(moment / 1000 - TEN.timestamp()) / 60 for moment in entry["ts"]]


def ticked(aws):
    """Return the ticks that were sent."""
    return [event["tick"] for _, _, event in aws.function.events if "tick" in event]
