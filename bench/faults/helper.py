"""Processes of the campaign that may be killed, or that have a wrong clock: `python -m bench.faults.helper ACTION`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, cast

from riskwatch_ml.core import aws, clock, settings
from riskwatch_ml.storage import labelled_rows
from riskwatch_ml.storage.bucket import Store

if TYPE_CHECKING:
    from airflow.sdk import Context


def compact() -> dict[str, object]:
    """Compact the labelled rows once and return the counts."""
    return asdict(labelled_rows.compact(Store(aws.client("s3"), settings.load().bucket), clock.now()))


def publish(shift_s: float) -> dict[str, object]:
    """Publish and tick as stream_metrics does, with a clock that is off by so many seconds."""
    from riskwatch_airflow.tasks import stream

    right = clock.now
    clock.now = lambda: right() + timedelta(seconds=shift_s)
    published = stream.publish(cast("Context", {"params": {}}))
    return {"rows": published["rows"], "end": published["end"], "tick": stream.tick(published)}


def main() -> None:
    """Run one action and print its result as JSON."""
    action = sys.argv[1]
    print(json.dumps(compact() if action == "compact" else publish(float(sys.argv[2]))))


if __name__ == "__main__":
    main()
