"""Every S3 key of the bucket; no other module builds or parses one.

| prefix | content |
|---|---|
| `raw/`, `validated/`, `quarantine/dt=…` | metric rows, Parquet by hour of their timestamp and by part |
| `quarantine/values/` | refused values of validated rows, Parquet by hour of their timestamp and by part |
| `labelled/rows/` | labelled rows, Parquet by hour of their timestamp; sparse old rows by year |
| `labelled/arrived/`, `quarantine/records/` | output of the function, gzip JSON lines by hour of arrival |
| `quarantine/sent/` | refused records that were sent again |
| `labelled/watermark.json`, `stream/` | progress of compaction and stream, last row of each instance, what serves |
| `config/inventory.json`, `inventory/` | expected instances: by hand, by tags |
| `training/`, `candidates/`, `contests/` | rows, candidates and decision of a training |
| `artifacts/`, `ledger/` | artifacts that were in service, and every decision about them |
| `watch/`, `docs/validation/` | reports of the watch, pages about validation |
| `health/` | metrics that vanished, and the data problems that were reported |

Prefixes end with a slash, names of layers do not.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from riskwatch_lambda import keys as of_the_function
from riskwatch_ml.core import clock
from riskwatch_ml.schema.catalogue import Catalogue

RAW, VALIDATED, QUARANTINE, LABELLED_ROWS = "raw", "validated", "quarantine", "labelled/rows"
REFUSED_VALUES = "quarantine/values"
"""Layers: rows by hour of their timestamp, in parts."""

ARRIVED, REFUSED, RESENT = f"{of_the_function.LABELLED}/", f"{of_the_function.REFUSED}/", "quarantine/sent/"
"""Prefixes of objects by hour of arrival."""

COMPACTION_MARK = "labelled/watermark.json"
STREAM_MARK, LAST_SEEN = "stream/mark.json", "stream/seen.json"
SERVING = "stream/serving.json"
REPORTED_UNREADABLE = "health/unreadable.json"
REPORTED_HEALTH = "health/reported.json"
INVENTORY, TAGGED = "config/inventory.json", "inventory/"
CONTESTS, LEDGER, REPORTS, DATA_DOCS = "contests/", "ledger/", "watch/", "docs/validation/"

_HOUR = re.compile(r"(?P<layer>.+)/dt=(?P<day>\d{4}-\d{2}-\d{2})/hh=(?P<hour>\d{2})/part-(?P<part>.+)\.parquet")


class HourKey(NamedTuple):
    """The key of one hour (UTC) and one part of a layer."""

    layer: str
    hour: datetime
    part: str

    @property
    def day(self) -> datetime:
        """The beginning of the day (UTC)."""
        return self.hour.replace(hour=0)


def of_kind(layer: str, metrics: Catalogue) -> str:
    """Return the layer of the metric rows of one kind, for example `raw/kind=rds`; the first kind has no suffix."""
    return layer if metrics.is_first else f"{layer}/kind={metrics.kind}"


def part_of_kind(part: str, metrics: Catalogue) -> str:
    """Return the name of a part and kind in keys that have no layer; the first kind has the name of the part."""
    return part if metrics.is_first else f"{part}.{metrics.kind}"


def training_id(started: datetime, metrics: Catalogue) -> str:
    """Return the id of a training of a kind, by the time (UTC) at which its run started.

    For example `20261122T033000Z`; the id of a further kind ends with the kind, `20261122T033000Z-rds`. The ids of one
    kind sort by time.
    """
    moment = f"{clock.utc(started):%Y%m%dT%H%M%SZ}"
    return moment if metrics.is_first else f"{moment}-{metrics.kind}"


def training_kind(training: str) -> str:
    """Return the kind in the id of a training, empty for the first kind."""
    return training.partition("-")[2]


def training_started(training: str) -> datetime:
    """Return the time (UTC) at which the run of a training started; raises ValueError for another text."""
    return datetime.strptime(training.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def day_prefix(prefix: str, day: datetime) -> str:
    """Return the prefix of a day (UTC), for example `raw/dt=2026-11-22/`.

    `prefix` is a layer, or a prefix of arrivals.
    """
    return f"{prefix.rstrip('/')}/dt={clock.utc(day):%Y-%m-%d}/"


def hour_prefix(prefix: str, hour: datetime) -> str:
    """Return the prefix of an hour (UTC).

    For example `labelled/arrived/dt=2026-11-22/hh=10/`.
    """
    return f"{day_prefix(prefix, hour)}hh={clock.utc(hour):%H}/"


def hour_key(layer: str, hour: datetime, part: str = "default") -> str:
    """Return the key of an hour (UTC) and part of a layer.

    For example `raw/dt=2026-11-22/hh=10/part-default.parquet`.
    """
    return f"{hour_prefix(layer, hour)}part-{part}.parquet"


def hours(layer: str) -> str:
    """Return the prefix of all hours of a layer.

    It matches no other layer, even if the name of another layer begins with this one.
    """
    return f"{layer}/dt="


def year_key(layer: str, year: int) -> str:
    """Return the key of the sparse old rows of a year (UTC), for example `labelled/rows/dt=2002-01-01/year.parquet`."""
    return f"{hours(layer)}{year:04d}-01-01/year.parquet"


def year_prefix(layer: str, year: int) -> str:
    """Return the prefix of all objects of a year (UTC) of a layer."""
    return f"{hours(layer)}{year:04d}-"


def parse_hour(key: str) -> HourKey | None:
    """Return the parts of a key of a layer; None for any other key."""
    match = _HOUR.fullmatch(key)
    if match is None:
        return None
    hour = clock.parse(f"{match['day']}T{match['hour']}:00:00Z")
    return HourKey(match["layer"], hour, match["part"])


def arrival_order(key: str) -> tuple[str, str]:
    """Return the sort key of objects in order of arrival.

    It sorts by hour, then by sequence number.
    """
    return key.rsplit("/", 1)[0], key.rsplit("-", 1)[-1]


def resent(key: str) -> str:
    """Return the key of an object of `quarantine/records/` after it was sent again."""
    return RESENT + key.removeprefix(REFUSED)


def tagged(account_region: str) -> str:
    """Return the key of the tagged instances of an account and region."""
    return f"{TAGGED}{account_region}.json"


def leftover_tagged(keys: Iterable[str], account_regions: Iterable[str]) -> list[str]:
    """Return the `keys` under `inventory/` of removed accounts and regions.

    `account_regions` are the names of the current accounts and regions.
    """
    current = {tagged(name) for name in account_regions}
    return [key for key in keys if key not in current]


def vanished(part: str, metrics: Catalogue) -> str:
    """Return the key of the metrics of a part and kind that vanished."""
    return f"health/vanished-{part_of_kind(part, metrics)}.json"


def training_rows(training_id: str) -> str:
    """Return the key of the rows of a training."""
    return f"training/{training_id}/rows.parquet"


def training_openings(training_id: str) -> str:
    """Return the key of the openings in service that a training counts."""
    return f"training/{training_id}/openings.json"


def candidate(training_id: str, family: str) -> str:
    """Return the key of the artifact of a candidate."""
    return f"candidates/{training_id}/{family}.zip"


def candidate_summary(artifact: str) -> str:
    """Return the key of the figures of a candidate, for the key of its artifact."""
    return artifact.removesuffix(".zip") + ".json"


def ranking(training_id: str) -> str:
    """Return the key of the comparison of the candidates of a training."""
    return f"candidates/{training_id}/ranking.json"


def contest(training_id: str) -> str:
    """Return the key of the decision of a contest."""
    return f"{CONTESTS}{training_id}.json"


def contest_training(key: str) -> str:
    """Return the id of the training in the key of a decision."""
    return key.removeprefix(CONTESTS).removesuffix(".json")


def artifact(checksum: str) -> str:
    """Return the key of an artifact in service."""
    return f"artifacts/{checksum}.zip"


def ledger_entry(at: datetime, action: str, checksum: str) -> str:
    """Return the key of a ledger entry; the keys sort by time."""
    return f"{ledger_entries_of(at)}{action}-{checksum[:8]}.json"


def ledger_entries_of(at: datetime) -> str:
    """Return the prefix of the ledger entries of one millisecond."""
    return f"{LEDGER}{clock.iso(at)}-"


def ledger_action(key: str) -> str:
    """Return the action in the key of a ledger entry; empty for any other key."""
    parts = key.rsplit("-", 2)
    return parts[1] if len(parts) == 3 else ""


def report(at: datetime) -> str:
    """Return the key of a report of the watch."""
    return f"{REPORTS}{clock.iso(at)}.json"


def reports_of(day: datetime) -> str:
    """Return the prefix of the reports of a day (UTC)."""
    return f"{REPORTS}{clock.utc(day):%Y-%m-%d}"


def data_docs(start: datetime, end: datetime, part: str) -> str:
    """Return the key of the page about the validation of [start, end) of a part."""
    return f"{DATA_DOCS}{_minute(start)}--{_minute(end)}-{part}.html"


def data_docs_part(key: str) -> str:
    """Return the part of a page's key, with the key's ending."""
    return key.partition("--")[2].partition("Z-")[2]


def _minute(moment: datetime) -> str:
    return f"{clock.utc(moment):%Y-%m-%dT%H%MZ}"
