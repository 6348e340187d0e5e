"""Every key of the bucket: no other module of the project spells or takes apart one.

| prefix | what is there |
|---|---|
| `raw/`, `validated/`, `quarantine/dt=…` | metric rows, Parquet by event hour and part |
| `labelled/rows/` | labelled rows, Parquet by event hour |
| `labelled/arrived/`, `quarantine/records/` | what the function writes, gzip JSON lines by arrival hour |
| `quarantine/sent/` | refused records that were sent again |
| `labelled/watermark.json`, `stream/` | how far compaction and stream are, when each instance last had a row |
| `config/inventory.json`, `inventory/` | instances that should report: said by hand, by tags |
| `training/`, `candidates/`, `contests/` | what a training learned from, made and decided |
| `artifacts/`, `ledger/` | what served, and the record of every decision |
| `watch/`, `docs/validation/` | reports of the watch, pages of the validation |

Prefixes end with a slash, names of layers do not.
"""

import re
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from riskwatch_lambda import keys as of_the_function
from riskwatch_ml.core import clock

RAW, VALIDATED, QUARANTINE, LABELLED_ROWS = "raw", "validated", "quarantine", "labelled/rows"
"""The layers: hour partitions of rows by event time, in parts."""

ARRIVED, REFUSED, RESENT = f"{of_the_function.LABELLED}/", f"{of_the_function.REFUSED}/", "quarantine/sent/"
"""Prefixes of objects by arrival hour."""

COMPACTION_MARK = "labelled/watermark.json"
STREAM_MARK, LAST_SEEN = "stream/mark.json", "stream/seen.json"
INVENTORY, TAGGED = "config/inventory.json", "inventory/"
CONTESTS, LEDGER, REPORTS, DATA_DOCS = "contests/", "ledger/", "watch/", "docs/validation/"

_HOUR = re.compile(r"(?P<layer>.+)/dt=(?P<day>\d{4}-\d{2}-\d{2})/hh=(?P<hour>\d{2})/part-(?P<part>.+)\.parquet")


class HourKey(NamedTuple):
    """An object of a layer: one hour (UTC), one part."""

    layer: str
    hour: datetime
    part: str

    @property
    def day(self) -> datetime:
        """The beginning of its day."""
        return self.hour.replace(hour=0)


def day_prefix(prefix: str, day: datetime) -> str:
    """Return the prefix of a day, for example `raw/dt=2026-11-22/`; `prefix` is that of arrivals, or a layer."""
    return f"{prefix.rstrip('/')}/dt={clock.utc(day):%Y-%m-%d}/"


def hour_prefix(prefix: str, hour: datetime) -> str:
    """Return the prefix of an hour, for example `labelled/arrived/dt=2026-11-22/hh=10/`."""
    return f"{day_prefix(prefix, hour)}hh={clock.utc(hour):%H}/"


def hour_key(layer: str, hour: datetime, part: str = "default") -> str:
    """Return the key of an hour, e.g. `raw/dt=2026-11-22/hh=10/part-default.parquet`."""
    return f"{hour_prefix(layer, hour)}part-{part}.parquet"


def hours(layer: str) -> str:
    """Return the prefix of all hours of a layer, which holds nothing else that the layer's name begins."""
    return f"{layer}/dt="


def parse_hour(key: str) -> HourKey | None:
    """Take a key of a layer apart; None where it is none."""
    found = _HOUR.fullmatch(key)
    if found is None:
        return None
    hour = clock.parse(f"{found['day']}T{found['hour']}:00:00Z")
    return HourKey(found["layer"], hour, found["part"])


def arrival_order(key: str) -> tuple[str, str]:
    """Return what sorts objects of an arrival hour as their rows arrived: by hour, then by sequence number."""
    return key.rsplit("/", 1)[0], key.rsplit("-", 1)[-1]


def resent(key: str) -> str:
    """Return where an object under `quarantine/records/` goes once it was sent again."""
    return RESENT + key.removeprefix(REFUSED)


def tagged(shard: str) -> str:
    """Return the key under which the export leaves a shard's tagged instances."""
    return f"{TAGGED}{shard}.json"


def leftover_tagged(keys: Iterable[str], shards: Iterable[str]) -> list[str]:
    """Return those of the `keys` under `inventory/` that belong to shards which are not among `shards` any more."""
    wanted = {tagged(name) for name in shards}
    return [key for key in keys if key not in wanted]


def training_rows(training_id: str) -> str:
    """Return the key of the rows that a training learns from."""
    return f"training/{training_id}/rows.parquet"


def candidate(training_id: str, family: str) -> str:
    """Return the key of the artifact of a candidate."""
    return f"candidates/{training_id}/{family}.zip"


def candidate_summary(artifact: str) -> str:
    """Return the key of the figures of a candidate, given that of its artifact."""
    return artifact.removesuffix(".zip") + ".json"


def ranking(training_id: str) -> str:
    """Return the key of the comparison of a training's candidates."""
    return f"candidates/{training_id}/ranking.json"


def contest(training_id: str) -> str:
    """Return the key of what a contest decided."""
    return f"{CONTESTS}{training_id}.json"


def artifact(digest: str) -> str:
    """Return the key of an artifact that was put into service."""
    return f"artifacts/{digest}.zip"


def ledger_entry(at: datetime, action: str, digest: str) -> str:
    """Return the key of an entry of the ledger; keys sort by time."""
    return f"{LEDGER}{clock.iso(at)}-{action}-{digest[:8]}.json"


def report(at: datetime) -> str:
    """Return the key of the report of a watch."""
    return f"{REPORTS}{clock.iso(at)}.json"


def reports_of(day: datetime) -> str:
    """Return the prefix of the reports of a day."""
    return f"{REPORTS}{clock.utc(day):%Y-%m-%d}"


def data_docs(start: datetime, end: datetime, part: str) -> str:
    """Return the key of the page about the validation of [start, end) of a part."""
    return f"{DATA_DOCS}{_minute(start)}--{_minute(end)}-{part}.html"


def data_docs_part(key: str) -> str:
    """Return what such a page is about: its part, with the ending of the key."""
    return key.partition("--")[2].partition("Z-")[2]


def _minute(moment: datetime) -> str:
    return f"{clock.utc(moment):%Y-%m-%dT%H%MZ}"
