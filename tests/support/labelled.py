"""Labelled rows as they arrive, and a bucket that notes what is read of them."""

import gzip
import json
from datetime import UTC, datetime

from riskwatch_ml.core import clock
from tests.support.bucket import Bucket


class Noted(Bucket):
    """A bucket that notes what is read; writes of chosen keys can be made to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.gets: list[str] = []
        self.broken = ""

    def put_object(self, **asked):
        if self.broken and self.broken in asked["Key"]:
            raise ConnectionError("the machine went away")
        super().put_object(**asked)

    def get_object(self, **asked):
        self.gets.append(asked["Key"])
        return super().get_object(**asked)


def row(instance: str, minute: int, arrived: str, level: str = "Normal", hour: int = 11, **more) -> dict:
    return {
        "instance_id": instance,
        "service": "shop",
        "role": "web",
        "timestamp": clock.iso(datetime(2026, 11, 22, hour, minute, tzinfo=UTC)),
        "cpu_utilization": 12.5,
        "latency_ms": None,
        "score": 0.5,
        "level": level,
        "risk": level,
        "unusual": False,
        "alert": False,
        "episode_id": None,
        "context": True,
        "model_id": "m-1",
        "model_version": "3",
        "reasons": [{"feature": "cpu_utilization", "share": 1.0}],
        "arrived": arrived,
        **more,
    }


def arrive(bucket: Bucket, name: str, rows: list[dict], hour: int = 11, day: int = 22) -> str:
    key = f"labelled/arrived/dt=2026-11-{day:02d}/hh={hour:02d}/{name}.json.gz"
    bucket.objects[key] = gzip.compress("\n".join(map(json.dumps, rows)).encode())
    return key


T1, T2, T3 = (f"2026-11-22T11:0{minute}:00.000Z" for minute in (1, 2, 3))
