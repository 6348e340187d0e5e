"""Stream records of the campaign: ordinary ones, hostile names, and records that no producer should send."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from riskwatch_lambda.scoring.records import encode_pack
from riskwatch_ml.core import aws, clock, settings
from riskwatch_ml.streaming import live_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from bench.faults.accounts import Row
    from bench.faults.world import World

PERIOD_MS = 300_000
HOSTILE_NAMES = (
    *(
        "../../etc/passwd",
        "dt=2026-11-30/hh=01",
        "web-1/../web-2",
        "CON",
        "~",
        "%s%n%x",
        "line\nbreak",
        "\x00",
        "\x1b[31m",
    ),
    *("a#b", "web#1@2026-11-22T10:00:00.000Z", "instance#x", "'; DROP TABLE episodes; --", '{"a":"b"}', "null", "true"),
    *("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", '"><svg onload=alert(1)>', "{{ 7*7 }}", "{% raw %}"),
    *(
        "${jndi:ldap://x}",
        "=HYPERLINK(1)",
        "@channel",
        "<!everyone>",
        "[a](b)",
        "*bold*",
        "www.evil.example",
        "tel:112",
    ),
    *("https://evil.example/login", "größe-東京", "🙂", "שלום", "\u202egnp.exe", "a\u200bb", "\ud800", "0", "-1"),
    *("n" * 255, "n" * 256, "", " ", "a" * 5000),
)


@dataclass(frozen=True)
class Form:
    """What the live model reads: its features, and usual values of them."""

    features: tuple[str, ...]
    usual: tuple[float, ...]

    @classmethod
    def of(cls, world: World) -> Form:
        """Ask the live function, and take the medians of the streamed rows as usual values."""
        config = settings.load()
        features = live_model.ask(aws.client("lambda"), config.function, config.alias).features
        medians = world.demo.source.first.rows[list(features)].median()
        return cls(features, tuple(float(medians[name]) for name in features))


def pack(form: Form, service: str, name: str, moments: Sequence[int], value: int | None = None) -> bytes:
    """Return a pack of one web server at some times (epoch ms), with usual values, or with one value everywhere."""
    columns = [[usual if value is None else value] * len(moments) for usual in form.usual]
    entry = {"id": name, "role": "web", "newest": len(moments), "ts": list(moments), "columns": columns}
    document = {"v": 2, "service": service, "features": list(form.features), "instances": [entry]}
    return json.dumps(document, separators=(",", ":")).encode()


def clone(form: Form, service: str, name: str, role: str, rows: pd.DataFrame, newest: int) -> bytes:
    """Return a pack of metric rows of another instance under a new name; the last `newest` are to be labelled."""
    values = rows[list(form.features)].to_numpy(dtype=float)
    columns = [[None if np.isnan(value) else float(value) for value in column] for column in values.T]
    moments = [clock.epoch_ms(moment.to_pydatetime()) for moment in rows["timestamp"]]
    return encode_pack(
        service,
        form.features,
        [{"id": name, "role": role, "newest": newest, "ts": moments, "columns": columns}],
    )


def put(world: World, data: bytes, key: str) -> str:
    """Put a record into the stream and return its sequence number."""
    answer = aws.client("kinesis").put_record(StreamName=settings.load().stream, Data=data, PartitionKey=key)
    return str(answer["SequenceNumber"])


def put_rows(world: World, data: bytes, key: str, rows: set[Row]) -> None:
    """Put a record: its rows must be labelled or quarantined."""
    world.sent |= rows
    put(world, data, key)


def grid(count: int, periods_ago: int = 0) -> list[int]:
    """Return times of periods that are over, epoch ms, the last one so many periods before now."""
    last = clock.epoch_ms(clock.now()) // PERIOD_MS - 1 - periods_ago
    return [(last - back) * PERIOD_MS for back in reversed(range(count))]


def bombs(form: Form) -> list[bytes]:
    """Return records that must be quarantined, each with its reason."""
    moment = grid(1)[0]
    good = pack(form, "bomb", "bomb-1", [moment]).decode()
    value = json.dumps(form.usual[0])

    def with_value(text: str) -> str:
        return good.replace(f"[[{value}]", f"[[{text}]", 1)

    def with_ts(text: str) -> str:
        return good.replace(f'"ts":[{moment}]', f'"ts":{text}', 1)

    texts = [
        with_value("NaN"), with_value("-Infinity"), with_value("9" * 5000), with_value('"1"'), with_value("[[]]"),
        "[" * 30_000 + "]" * 30_000, '{"a":' * 20_000 + "1" + "}" * 20_000, good.replace('"v":2', '"v":2,"v":2', 1),
        good.replace('"v":2', '"v":3', 1), good.replace('"newest":1', '"newest":1000000000', 1),
        with_ts("[]"), with_ts('["now"]'), with_ts(f"[{moment + 2 * 86_400_000}]"), with_ts("[1e999]"),
        with_ts(f"[{moment // 1000}]"), "", " ", "null", "[]", "{}", "hello", good[: len(good) // 2], good + "x",
        good.replace('"instances":[', '"instances":[1,', 1).replace('"id":"bomb-1"', '"id":""', 1),
    ]  # fmt: skip
    return [*(text.encode() for text in texts), b"\xff\xfe\x00", b"\x1f\x8b\x08\x00" + bytes(40)]


def crowd(form: Form, size: int) -> tuple[bytes, set[Row]]:
    """Return a pack of many instances with one row each, and its rows."""
    moment = grid(1)[0]
    columns = [[value] for value in form.usual]
    names = [f"crowd-{number}" for number in range(size)]
    entries = [{"id": name, "role": "web", "newest": 1, "ts": [moment], "columns": columns} for name in names]
    document = {"v": 2, "service": "crowd", "features": list(form.features), "instances": entries}
    return json.dumps(document, separators=(",", ":")).encode(), {(name, moment) for name in names}
