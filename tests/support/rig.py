"""The inference function on the embedded AWS, behind a proxy that can fail, and the accounts of one experiment.

Every experiment has a service of its own, so what one leaves behind is not counted by the next.
"""

from __future__ import annotations

import gzip
import io
import json
import time
import urllib.request
import zipfile
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from botocore.config import Config

from riskwatch_infra import deploy
from riskwatch_lambda.clock import iso
from riskwatch_local.lambda_host import function as lambda_function
from riskwatch_local.lambda_host.environment import LambdaRuntime
from riskwatch_local.lambda_host.kinesis_source import Clients, KinesisSource, take_over
from riskwatch_local.services import ports
from riskwatch_local.services.embedded_aws import ROOT, EmbeddedAws
from riskwatch_ml.artifact import archive as artifact
from riskwatch_ml.registry import release
from tests.support import tiny
from tests.support.world import PAGING_CPU, QUIET_CPU

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from riskwatch_local.services.supervisor import Supervisor

PERIOD_MS = tiny.PERIOD_MS
# Names that are printable, and as hard on keys, subjects, pages and terminals as such names can be.
HOSTILE_NAMES = [
    "../../etc/passwd",
    "web#1@2026-11-22T10:00:00.000Z",
    "<script>alert(1)</script>",
    "'; DROP TABLE episodes; --",
    '{"a":"b"}\\n${jndi:ldap://x}',
    "größe-東京-🙂",
    "n" * 255,
]
SERVICES = [f"service-{number:02d}" for number in range(1, 30)]
INSTANCES = 5
# Longer than a claimed message is left to the one who claimed it.
LATER_S = 360


class Rig:
    """The embedded AWS with the stack, the fault proxy that the function's clients go through, and the tiny model."""

    def __init__(self, supervisor: Supervisor, folder: Path) -> None:
        self.supervisor = supervisor
        self.folder = folder
        self.aws = EmbeddedAws.start(supervisor, folder)
        self.proxy = _start_proxy(supervisor, self.aws.endpoint, folder / "proxy.log")
        make = partial(self.aws.client, config=Config(read_timeout=120))
        self.s3, self.dynamodb = make("s3"), make("dynamodb")
        self.clients = Clients.of(make)
        self.stack = deploy.deploy(
            make("cloudformation"), make("lambda"), parameters={"EndpointUrl": self.proxy}, poll_s=0.05
        )
        _warm_up(partial(make, endpoint_url=self.proxy), self.stack)
        self.settings = take_over(self.clients, self.stack.function, "live")
        release.promote(self.clients.functions, self.stack.function, "live", _artifact(), approved_by="the tests")
        self.function = lambda_function.fetch(self.clients.functions, self.stack.function, "live")
        self.last_put: dict[str, str | None] = {}
        self._services = iter(SERVICES)
        self._later: dict[int, LambdaRuntime] = {}
        self._folders = (folder / f"runtime-{number}" for number in range(1000))

    def experiment(self) -> Experiment:
        """Begin an experiment under a service of its own."""
        self.faults()
        return Experiment(self, next(self._services), after=dict(self.last_put))

    def runtime(self, code: bytes | None = None, *, clock_off_s: int = 0) -> LambdaRuntime:
        """Give an environment of the function, not yet started; with other code, or a clock that is off."""
        folder = next(self._folders)
        function = self.function if code is None else replace(self.function, code=code)
        if clock_off_s:
            (folder / "clock").mkdir(parents=True)
            text = f"import time\nright = time.time\ntime.time = lambda: right() + {clock_off_s}\n"
            (folder / "clock" / "sitecustomize.py").write_text(text, encoding="utf-8")
            function = replace(function, variables={**function.variables, "PYTHONPATH": str(folder / "clock")})
        return LambdaRuntime(self.supervisor, function, folder, self.aws.client_settings)

    def later(self, hours: int) -> LambdaRuntime:
        """Give the environment that runs six minutes and some hours from now."""
        if hours not in self._later:
            self._later[hours] = self.runtime(clock_off_s=LATER_S + hours * 3600)
        return self._later[hours]

    def faults(self, *rules: dict[str, Any]) -> None:
        """Replace what the proxy does wrong from now on."""
        self._control("POST", "rules", list(rules))
        self._control("DELETE", "fired")

    def fired(self, operation: str | None = None) -> int:
        """Count the faults that the proxy has made since they were set."""
        return sum(operation in (None, event["operation"]) for event in self._control("GET", "fired"))

    def _control(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.proxy}/_microburst/{path}", data, method=method)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as response:
            return json.load(response)


def _start_proxy(supervisor: Supervisor, upstream: str, log: Path) -> str:
    port = ports.free_port()
    command = [ROOT / ".venv-aws/bin/microburst", "--upstream", upstream, "--host", ports.LOOPBACK, "--port", str(port)]
    child = supervisor.start("the fault proxy", command, log=log)
    child.wait_healthy(f"http://{ports.LOOPBACK}:{port}/_microburst/health")
    return f"http://{ports.LOOPBACK}:{port}"


def _warm_up(client: Callable[[str], Any], stack: deploy.Outputs) -> None:
    """Ask the proxy for each service once: it reads their models then, longer than the function would wait."""
    client("s3").put_object(Bucket=stack.bucket, Key="warm-up", Body=b"")
    client("dynamodb").scan(TableName=stack.table)
    client("sns").get_topic_attributes(TopicArn=stack.topic_arn)


def _artifact() -> bytes:
    """Pack the tiny model with all instances of all experiments, equal normal values at every hour, one golden row."""
    names = [f"{service}-{number}" for service in SERVICES for number in range(INSTANCES)] + HOSTILE_NAMES
    center = [tiny.baseline(50, 500), tiny.baseline(30, 300), tiny.baseline(tiny.CPU, tiny.NET)]
    document = tiny.document(
        baselines={"instances": dict.fromkeys(["web-1", *names], 2), "roles": {"web": 1}, "fleet": 0},
        golden={
            "records": [tiny.stream_record([[PAGING_CPU, tiny.NET]])],
            "expected": [{"score": 2.0, "level": "Normal", "unusual": True}],
        },
    )
    arrays = {**tiny.ARRAYS, "center": center}
    return artifact.pack(document, {name: np.asarray(values, np.float32) for name, values in arrays.items()})


@dataclass
class Experiment:
    """What one test sends, and the accounts of what became of it."""

    rig: Rig
    service: str
    after: dict[str, str | None]
    rows: set[tuple[str, str]] = field(default_factory=set)
    invalid: int = 0
    pages: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.instances = [f"{self.service}-{number}" for number in range(INSTANCES)]
        # The first of an hour of periods that ended just now, so that every row is younger than the tick.
        self.begin_ms = (round(time.time() * 1000) // PERIOD_MS - 24) * PERIOD_MS

    def row(self, instance: str, at: int, cpu: float = QUIET_CPU, *, shift_ms: int = 0, least_bytes: int = 0) -> bytes:
        """Give a record about the moment `at` periods after the begin, and expect its newest row to be labelled.

        It has as many rows of context as `least_bytes` asks for.
        """
        ts = self.begin_ms + at * PERIOD_MS + shift_ms
        self.rows.add((instance, iso(ts)))
        count = 1 + least_bytes // len("1795341600000,[10.0,100.0],")
        return record(self.service, instance, [ts - PERIOD_MS * n for n in reversed(range(count))], cpu)

    def page(self, instance: str, at: int) -> bytes:
        """Give the data of a row that opens an episode, and expect a message about it."""
        self.pages.add(f"{instance}@{iso(self.begin_ms + at * PERIOD_MS)}")
        return self.row(instance, at, PAGING_CPU)

    def bad(self, data: bytes) -> bytes:
        """Expect data to be quarantined."""
        self.invalid += 1
        return data

    def hour(self, pages_at: int | None = 4) -> list[bytes]:
        """Give twelve rows of each instance in time order; the first two instances page once."""
        return [
            self.page(name, at) if at == pages_at and place < 2 else self.row(name, at)
            for at in range(12)
            for place, name in enumerate(self.instances)
        ]

    def put(self, datas: Sequence[bytes]) -> None:
        """Put records into the stream, in order."""
        for start in range(0, len(datas), 50):
            entries = [{"Data": data, "PartitionKey": self.service} for data in datas[start : start + 50]]
            answer = self.rig.clients.kinesis.put_records(StreamName=self.rig.stack.stream, Records=entries)
            assert answer["FailedRecordCount"] == 0
            for result in answer["Records"]:
                self.rig.last_put[result["ShardId"]] = result["SequenceNumber"]

    def source(self, runtime: LambdaRuntime, **changes: Any) -> KinesisSource:
        """Give an event source with the stack's settings and the changes; it begins with the experiment's records."""
        after, now = changes.pop("after", self.after), changes.pop("now", time.time)
        return KinesisSource(self.rig.clients, replace(self.rig.settings, **changes), runtime.invoke, after, now)

    def deliver(self, datas: Sequence[bytes], runtime: LambdaRuntime, **changes: Any) -> KinesisSource:
        """Put records and deliver all of them."""
        self.put(datas)
        source = self.source(runtime, **changes)
        source.drain()
        return source

    def tick(self, hours_later: int = 0) -> None:
        """Send the tick of six minutes (and some hours) later, when what was claimed and not sent is sent again."""
        now = round(time.time() + LATER_S + hours_later * 3600) * 1000
        answer = self.rig.later(hours_later).invoke({"tick": {"now": now, "instances": self.instances}})
        assert answer.function_error is None, answer.payload

    def settle(self, fault: str, *, duplicates: int = 0, twice: int = 0) -> dict[str, int]:
        """Check the accounts: each row sent is labelled or quarantined, each episode told, few told twice.

        `duplicates` is the number of messages that must tell nothing new; `twice` the number of rows that must stand in
        two objects. Prints and returns the figures.
        """
        labelled = [row for row in self._lines("labelled/arrived/") if row["service"] == self.service]
        verdicts = Counter((row["instance_id"], row["timestamp"]) for row in labelled)
        refused = {
            doc["sequence_number"] for doc in self._lines("quarantine/records/") if doc["partition_key"] == self.service
        }
        distinct = {
            (row["instance_id"], row["timestamp"], row["score"], row["risk"], row["episode_id"]) for row in labelled
        }
        told: set[str] = set()
        repeated = 0
        for message in self._messages():
            episodes = {each["episode_id"] for each in message.get("opened", [])}
            repeated += bool(episodes) and episodes <= told
            told |= episodes
        figures = {
            "sent": len(self.rows) + self.invalid,
            "labelled": len(verdicts),
            "quarantined": len(refused),
            "stored twice": len(labelled) - len(verdicts),
            "episodes": len(self.pages),
            "told": len(told),
            "messages repeated": repeated,
        }
        print(f"{fault}: {figures}")
        assert figures["sent"] == figures["labelled"] + figures["quarantined"]
        assert set(verdicts) == self.rows
        assert len(distinct) == len(verdicts), "a row that stands there twice has two verdicts"
        assert len(refused) == self.invalid
        assert told == self.pages
        assert figures["messages repeated"] == duplicates
        assert figures["stored twice"] == twice
        return figures

    def dead_letters(self) -> list[dict[str, Any]]:
        """Take the messages about records that the event source has given up."""
        url = self.rig.stack.dead_letter_queue_url
        found = self.rig.clients.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        for message in found:
            self.rig.clients.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"]) for message in found]

    def _lines(self, prefix: str) -> Iterator[dict[str, Any]]:
        pages = self.rig.s3.get_paginator("list_objects_v2").paginate(Bucket=self.rig.stack.bucket, Prefix=prefix)
        for found in (entry for page in pages for entry in page.get("Contents", [])):
            body = self.rig.s3.get_object(Bucket=self.rig.stack.bucket, Key=found["Key"])["Body"].read()
            yield from map(json.loads, gzip.decompress(body).splitlines())

    def _messages(self) -> Iterator[dict[str, Any]]:
        """Take the messages of this experiment from the queue, and throw away those of others."""
        url = self.rig.stack.alert_queue_url
        while found := self.rig.clients.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in found:
                self.rig.clients.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                body = json.loads(message["Body"])
                if body["service"] == self.service:
                    yield body


def record(service: str, instance: str, ts: list[int], cpu: float) -> bytes:
    """Give the data of a stream record, all rows alike: the one place that knows its form."""
    known = {"v": 1, "service": service, "role": "web", "instance_id": instance}
    return json.dumps({**known, "ts": ts, "rows": [[cpu, tiny.NET]] * len(ts)}, separators=(",", ":")).encode()


def with_flipped_bit(code: bytes) -> bytes:
    """Give the zip of an artifact with one bit of the model's numbers flipped, and intact otherwise."""
    with zipfile.ZipFile(io.BytesIO(code)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    numbers = members["model/model.bin"]
    members["model/model.bin"] = numbers[:-1] + bytes([numbers[-1] ^ 1])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
