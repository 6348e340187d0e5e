"""The read layer: what the pages ask, as plain functions of a store, answered in plain values.

`read` is the one look at the bucket, with bounds; everything else works on what it brought. A page is added by adding
functions here: what they take from the bucket goes into `Reading`, what they answer is a frozen dataclass of texts,
numbers and aware moments (UTC), never a frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from riskwatch_dashboard import formatting
from riskwatch_lambda.scoring.labelled_row import CRITICAL, RISKS
from riskwatch_ml.core import clock

if TYPE_CHECKING:
    import pandas as pd

    from riskwatch_dashboard.filters import Filters
    from riskwatch_ml.storage.bucket import Store

SPAN = timedelta(hours=24)
AHEAD = timedelta(hours=1)
"""How far ahead of this machine's clock a row may be."""
MOST_ROWS = 50_000
_SEVERITY = {risk: place for place, risk in enumerate(RISKS)}


@dataclass(frozen=True)
class Model:
    """The model in service, as the ledger has it; `by` is who or what approved it, `version` its MLflow version."""

    family: str
    version: str
    digest: str
    model_id: str
    function_version: str
    promoted: datetime
    by: str


@dataclass(frozen=True)
class Reading:
    """What one look at the bucket brought.

    `rows` are the labelled rows of the last 24 hours, newest first, at most `MOST_ROWS`; they are all of them from
    `since` on, and all of the 24 hours if `complete`. `last_seen` is the newest row where these hours have none.
    """

    at: datetime
    rows: pd.DataFrame
    since: datetime
    complete: bool
    model: Model | None
    last_seen: datetime | None = None

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that the rows have, in their order: all columns that the label itself does not have."""
        from riskwatch_ml.schema.catalogue import RESERVED

        return tuple(name for name in self.rows.columns if name not in RESERVED)

    @property
    def newest(self) -> datetime | None:
        """The time of the newest row, None where there never was one."""
        return self.last_seen if self.rows.empty else self.rows["timestamp"].iloc[0].to_pydatetime()


@dataclass(frozen=True)
class Share:
    """How many rows have one risk; `share` is 0 to 1."""

    risk: str
    count: int
    share: float


@dataclass(frozen=True)
class Row:
    """One labelled row; `values` has a number or None for each metric, `reasons` are sentences."""

    instance_id: str
    service: str
    role: str
    timestamp: datetime
    risk: str
    level: str
    score: float | None
    unusual: bool
    abnormal: bool
    reasons: tuple[str, ...]
    values: dict[str, float | None]


@dataclass(frozen=True)
class Page:
    """Some of the rows that were asked for: `rows` are numbers `first` to `last` of `total`."""

    rows: tuple[Row, ...]
    total: int
    number: int
    pages: int
    first: int
    last: int


def read(store: Store, now: datetime) -> Reading:
    """Look at the bucket once: the labelled rows of the last 24 hours and the model in service.

    Raises what the client raises where the bucket cannot be read.
    """
    from riskwatch_ml.storage import labelled_rows

    found = labelled_rows.newest(store, now - SPAN, now + AHEAD, MOST_ROWS)
    rows = found.rows
    if not rows.empty:
        # Of one moment the rows to look at come first.
        rows = rows.assign(_severity=rows["risk"].map(_SEVERITY).fillna(-1))
        rows = rows.sort_values(
            ["timestamp", "_severity", "unusual", "instance_id"], ascending=[False, False, False, True]
        ).drop(columns="_severity")
    last = _last_seen(store) if rows.empty else None
    return Reading(now, rows.reset_index(drop=True), found.since, found.complete, model_in_service(store), last)


def model_in_service(store: Store) -> Model | None:
    """Return the model that the ledger says is in service, None before the first promotion."""
    from riskwatch_ml.registry import ledger

    entry = ledger.in_service(ledger.read(store))
    if entry is None:
        return None
    return Model(
        family=str(entry.get("family", "")),
        version=str(entry.get("version", "")),
        digest=str(entry["digest"]),
        model_id=str(entry.get("model_id", "")),
        function_version=str(entry["function_version"]),
        promoted=clock.parse(entry["at"]),
        by=str(entry.get("by", "")),
    )


def distribution(reading: Reading) -> tuple[Share, ...]:
    """Count the rows by risk, the four risks in their order."""
    counts = reading.rows["risk"].value_counts()
    total = int(counts.sum())
    return tuple(
        Share(risk, int(counts.get(risk, 0)), int(counts.get(risk, 0)) / total if total else 0.0) for risk in RISKS
    )


def abnormal_count(reading: Reading) -> int:
    """Count the rows that are unusual or Critical."""
    return int(_abnormal(reading.rows).sum())


def instances(reading: Reading) -> list[tuple[str, str]]:
    """Return the (service, instance) that have rows, each once."""
    pairs = reading.rows[["service", "instance_id"]].drop_duplicates()
    return list(pairs.itertuples(index=False, name=None))


def page(reading: Reading, filters: Filters) -> Page:
    """Return the page of rows that the filters ask for, newest first; a page beyond the last is the last one."""
    wanted = reading.rows[_matching(reading.rows, filters)]
    total = len(wanted)
    pages = max(1, math.ceil(total / filters.size))
    number = min(filters.page, pages)
    start = (number - 1) * filters.size
    part = wanted.iloc[start : start + filters.size]
    rows = tuple(_row(record, reading.metrics) for record in part.to_dict("records"))
    return Page(rows, total, number, pages, start + 1 if rows else 0, start + len(rows))


def _abnormal(rows: pd.DataFrame) -> pd.Series:
    return rows["unusual"] | (rows["risk"] == CRITICAL)


def _matching(rows: pd.DataFrame, filters: Filters) -> pd.Series:
    wanted = rows["timestamp"].notna()
    if filters.risk:
        wanted &= rows["risk"] == filters.risk
    if filters.instance:
        wanted &= rows["instance_id"].str.contains(filters.instance, case=False, regex=False)
    if filters.metric in rows.columns:
        # A row without the value is outside of every range.
        if filters.low is not None:
            wanted &= rows[filters.metric] >= filters.low
        if filters.high is not None:
            wanted &= rows[filters.metric] <= filters.high
    if filters.abnormal:
        wanted &= _abnormal(rows)
    return wanted


def _row(record: dict[str, Any], metrics: tuple[str, ...]) -> Row:
    unusual, risk = bool(record["unusual"]), str(record["risk"])
    abnormal = unusual or risk == CRITICAL
    return Row(
        instance_id=str(record["instance_id"]),
        service=str(record["service"]),
        role=str(record["role"]),
        timestamp=record["timestamp"].to_pydatetime(),
        risk=risk,
        level=str(record["level"]),
        score=_finite(record["score"]),
        unusual=unusual,
        abnormal=abnormal,
        reasons=_reasons(record) if abnormal else (),
        values={name: _finite(record[name]) for name in metrics},
    )


def _reasons(record: dict[str, Any]) -> tuple[str, ...]:
    if record["unusual"]:
        return formatting.reasons(record["reasons"])
    # The row itself is not unusual: it is Critical because its episode has not ended, or because a metric is exhausted.
    episode_id = record["episode_id"]
    return (
        formatting.episode(episode_id if isinstance(episode_id, str) else None),
        *formatting.reasons(record["reasons"], beyond=True),
    )


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _last_seen(store: Store) -> datetime | None:
    """The time of the newest compacted row, whatever its age."""
    from riskwatch_ml.storage import keys

    hours = store.keys(keys.hours(keys.LABELLED_ROWS))
    frame = store.get_frame(hours[-1]) if hours else None
    return None if frame is None or frame.empty else frame["timestamp"].max().to_pydatetime()
