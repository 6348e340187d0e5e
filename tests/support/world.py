"""A function with a model and in-memory services, and the rows that are sent to it."""

from __future__ import annotations

import base64
import json
import math
from typing import TYPE_CHECKING, Any

from riskwatch_lambda import handler
from riskwatch_lambda.alerting.budget import Budget, Limits
from riskwatch_lambda.alerting.maintenance import MaintenanceWindow, MaintenanceWindows
from riskwatch_lambda.alerting.notifier import Notifier
from riskwatch_lambda.alerting.sinks import Publisher
from riskwatch_lambda.episodes.repository import EpisodeRepository
from riskwatch_lambda.episodes.seen import SeenRows
from riskwatch_lambda.events.batch import Outputs
from riskwatch_lambda.storage import Objects
from riskwatch_lambda.table import Table
from tests.support import tiny
from tests.support.fakes import FakeDynamoDB, FakeS3, FakeSNS
from tests.support.tiny import CPU, NET, PERIOD_MS, TEN

if TYPE_CHECKING:
    from riskwatch_lambda.episodes.openings import HeldOpening
    from riskwatch_lambda.model.document import Model

PLENTY = Limits(1000, 1000)
QUIET_CPU = CPU
# A score of 2, with the paging threshold at 1.5.
PAGING_CPU = CPU + math.e**2 - 1
NOW = TEN + 3_660_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
ELEVEN = TEN + HOUR_MS
INSTANCES = {"instances": {"web-1": 2, "web-2": 2, "web-3": 2}, "roles": {"web": 1}, "fleet": 0}
EPISODE = "web-1@2026-11-22T11:00:00.000Z"
# A score of 4, where the opening row has 2; it is high load, too.
TWICE_CPU = CPU + math.e**4 - 1
NOON = ELEVEN + HOUR_MS
AT_NOON = Limits(service=1, fleet=1000, daily_summary_hour=12)
LINES = ("opened", "escalated", "resolved")
# The answer of a tick that had nothing to do.
NOTHING = {"sent": 0, "failed": 0, "held": 0, "expired": 0, "silent": 0, "open": 0}


class World:
    """A function with a model and fake services."""

    def __init__(self, model: Model | None = None, limits: Limits = PLENTY) -> None:
        self.s3, self.dynamodb, self.sns = FakeS3(), FakeDynamoDB(), FakeSNS()
        self.pauses: list[float] = []
        self.model = model or tiny.model(baselines=INSTANCES)
        table = Table(self.dynamodb, "table", pause=self.pauses.append)
        repository, self.windows = EpisodeRepository(table), MaintenanceWindows(table)
        publisher = Publisher(self.sns, "topic")
        notifier = Notifier(repository, self.windows, Budget(table, limits), publisher, "https://link/")
        self.outputs = Outputs(Objects(self.s3, "bucket"), repository, SeenRows(table), lambda: notifier)
        self.sequence = 100
        self.wall = NOW - 1500

    def event(self, *datas: Any, arrived_ms: int | None = None) -> dict[str, Any]:
        """Give a Kinesis event with records that are dictionaries or raw text.

        They arrive just before `NOW`, but no record before its newest row or an earlier record.
        """
        records = []
        for data in datas:
            self.sequence += 1
            arrived = max(self.wall, *_times(data)) if arrived_ms is None else arrived_ms
            self.wall = max(self.wall, arrived)
            text = data if isinstance(data, str) else base64.b64encode(json.dumps(data).encode()).decode()
            kinesis = {
                "sequenceNumber": str(self.sequence),
                "partitionKey": "shop",
                "approximateArrivalTimestamp": arrived / 1000,
                "data": text,
            }
            records.append({"eventID": f"shardId-000000000000:{self.sequence}", "kinesis": kinesis})
        return {"Records": records}

    def handle(self, event: dict[str, Any], now: int = NOW) -> dict[str, Any]:
        """Run the function on an event at a time."""
        return handler.answer(event, self.model, lambda: self.outputs, "7", now)

    def send(self, *datas: Any, now: int = NOW) -> dict[str, Any]:
        """Run the function on a batch of records."""
        return self.handle(self.event(*datas), now)

    def tick(
        self, now: int, overdue: list[list[Any]] | None = None, *, wall: int | None = None, daily_summary: bool = False
    ) -> dict[str, Any]:
        """Run the function on a tick; the wall clock says the same as the newest rows unless it is given."""
        event = {"tick": {"now": now, "overdue": overdue, "digest": daily_summary}}
        return self.handle(event, max(now, self.wall) if wall is None else wall)

    def window(self, scope: str, name: str, from_ms: int, until_ms: int) -> MaintenanceWindow:
        """Declare a maintenance window."""
        declared = MaintenanceWindow(
            f"w{len(self.windows.read())}", scope, name, from_ms, until_ms, "disk swap", "ada", from_ms
        )
        self.windows.add(declared)
        return declared

    def crash(self) -> None:
        """End the process at the next publishing, when the message is out and nothing is marked."""
        publish = self.sns.publish

        def last(**message: Any) -> None:
            publish(**message)
            self.sns.publish = publish  # type: ignore[method-assign]
            raise CrashError

        self.sns.publish = last  # type: ignore[assignment, method-assign]


def _times(data: Any) -> list[int]:
    """Give the times of the rows of a record, and 0."""
    parts = data.get("instances", [data]) if isinstance(data, dict) else []
    times = [part.get("ts") for part in parts if isinstance(part, dict)]
    return [0, *(ms for ts in times if isinstance(ts, list) for ms in ts if type(ms) is int)]


class CrashError(BaseException):
    """The process is gone: nothing may catch this."""


def row(cpu: float, at: int = 0, instance: str = "web-1", service: str = "shop") -> dict[str, Any]:
    """Give a record of one row, ``at`` periods after 11:00."""
    return tiny.stream_record([[cpu, NET]], instance, service=service, last_ms=ELEVEN + at * PERIOD_MS)


def incidents(*starts: int, instance: str = "web-1") -> list[dict[str, Any]]:
    """Give the rows of one page and the two quiet rows that close it, for each start in periods after 11:00."""
    return [row(cpu, at + n, instance) for at in starts for n, cpu in enumerate([PAGING_CPU, QUIET_CPU, QUIET_CPU])]


def backlogged(limits: Limits = PLENTY) -> World:
    """Give a world whose normal values are the same at every hour."""
    return World(
        tiny.model({"center": [tiny.baseline(50, 500), tiny.baseline(30, 300), tiny.baseline(CPU, NET)]}), limits
    )


def notified_lines(world: World, event: str = "opened") -> list[list[str]]:
    """Give the episodes that each message of an event told of."""
    lines = {"digest": "opened"}.get(event, event)
    return [
        [each["episode_id"] for each in message[lines]] for message in world.sns.messages if message["event"] == event
    ]


DONE = {"batchItemFailures": []}
# Periods of five minutes.
HALF_AN_HOUR, AN_HOUR, TWO_HOURS = 6, 12, 24
# The cool-down of a signature is over.
SEVEN_HOURS = 84
SEVEN_HOURS_LATER = "web-1@2026-11-22T18:00:00.000Z"


def put_in_cooldown(world: World, instance_id: str, reported_ms: int) -> None:
    """Let the open episode of an instance be one that the cool-down of an earlier release holds since a time."""
    for item in world.dynamodb.items.values():
        if item.get("instance_id") == {"S": instance_id} and item.get("status") == {"S": "open"}:
            for name in ("notified_ms", "told_ms", "told_peak", "told_level"):
                item.pop(name, None)
            item |= {"notified": {"S": "cooldown"}, "told_since_ms": {"N": str(reported_ms)}}


def spent(*days: int, daily_summary_hour: int = 8) -> World:
    """Give a world whose service has no page left on the day of 11:00, or on days counted from there."""
    world = backlogged(Limits(1, 1000, daily_summary_hour))
    for day in days or (0,):
        assert world.outputs.notifier().budget.take("shop", ELEVEN + day * DAY_MS)
    return world


def held_openings(world: World, day: str = "2026-11-22") -> list[HeldOpening]:
    """Give the held openings of a day."""
    return world.outputs.repository.held(day)


def all_told(world: World, line: str) -> list[str]:
    """Give the episodes that have a line of a kind in any message."""
    return [each["episode_id"] for message in world.sns.messages for each in message[line]]


def unfinished(world: World) -> list[str]:
    """Give the ids of the episodes that a tick still looks at."""
    return [item["episode_id"] for item in world.dynamodb.listed() if "unfinished" in item]
