"""The queries behind the views: plain functions that return plain values.

`read` is the only function that reads the bucket, and it reads a bounded number of rows; all others use its result. To
add a view, add functions here. They return frozen dataclasses of texts, numbers and aware datetimes (UTC), never a
data frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from riskwatch_dashboard import formatting, kind_models
from riskwatch_dashboard.filters import EVERYTHING
from riskwatch_lambda.scoring.labelled_row import CRITICAL, RISKS
from riskwatch_lambda.scoring.reasons import TOGETHER
from riskwatch_ml.core import clock

if TYPE_CHECKING:
    import pandas as pd

    from riskwatch_dashboard.filters import Filters, Selection
    from riskwatch_dashboard.kind_models import KindModel
    from riskwatch_ml.storage.bucket import Store

SPAN = timedelta(hours=24)
AHEAD = timedelta(hours=1)
"""How far a row may be ahead of the clock of this machine."""
MAX_ROWS = 50_000
_SEVERITY = {risk: rank for rank, risk in enumerate(RISKS)}


@dataclass(frozen=True)
class Model:
    """The model in service according to the ledger.

    `version` is the model version in MLflow, `function_version` the version of the Lambda function, `digest` the
    checksum of the artifact, `promoted` a time in UTC, and `by` the user or setting that approved it. With
    `relative_levels`, its levels are relative to the fleet. `kinds` are the models of the kinds if there are several,
    `promoted_kinds` those that this promotion changed.
    """

    family: str
    version: str
    digest: str
    model_id: str
    function_version: str
    promoted: datetime
    by: str
    relative_levels: bool = False
    kinds: tuple[KindModel, ...] = ()
    promoted_kinds: tuple[str, ...] = ()


@dataclass(frozen=True)
class UnexpectedModel:
    """The model of the newest row, of a `kind` if there are several, if the ledger says that another one `serves`."""

    model_id: str
    serves: str
    kind: str = ""


@dataclass(frozen=True)
class RecentRows:
    """The rows and the model read from the bucket at one time.

    `rows` are the selected labelled rows, newest first, up to the limit of this module. They include every selected row
    from `since` to `until`; if `complete`, that is the whole requested range. If there is no selection and no row,
    `last_seen` is the time of the newest older row. All times are UTC.
    """

    at: datetime
    rows: pd.DataFrame
    since: datetime
    complete: bool
    model: Model | None
    until: datetime
    selection: Selection = EVERYTHING
    last_seen: datetime | None = None

    @property
    def read_on(self) -> datetime:
        """The end of the range to read next if this one is not complete."""
        # Rows of the same time may have been left out.
        return self.since + timedelta(milliseconds=1)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of the rows in column order: all columns that no label adds."""
        from riskwatch_ml.schema.metric import RESERVED

        return tuple(name for name in self.rows.columns if name not in RESERVED)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of resources of the rows; a row of the first kind need not name it."""
        return tuple(sorted(self.rows["resource_kind"].dropna().unique()))

    @property
    def has_several_kinds(self) -> bool:
        """Whether there are rows of more than one kind."""
        return bool(self.rows["resource_kind"].nunique(dropna=False) > 1)

    def metrics_of(self, kind: str) -> tuple[str, ...]:
        """Return the metrics of which a row of the kind has a value; all metrics without a kind."""
        rows = self.rows[self.rows["resource_kind"] == kind]
        return tuple(name for name in self.metrics if not kind or rows[name].notna().any())

    @property
    def newest(self) -> datetime | None:
        """The time (UTC) of the newest row; None if there never was one."""
        return self.last_seen if self.rows.empty else self.rows["timestamp"].iloc[0].to_pydatetime()


@dataclass(frozen=True)
class Share:
    """The number of rows with one risk; `share` is a fraction from 0 to 1."""

    risk: str
    count: int
    share: float


@dataclass(frozen=True)
class Row:
    """One labelled row.

    `resource_kind` is None for a row of the first kind that does not name it. `values` maps each metric to a number or
    None. `reasons` are texts for people. `missing` are the metrics of the model without a value, None if the row does
    not name them. `refused_values` are the reasons for which values were refused.
    """

    instance_id: str
    service: str
    role: str
    resource_kind: str | None
    timestamp: datetime
    risk: str
    level: str
    score: float | None
    unusual: bool
    abnormal: bool
    reasons: tuple[str, ...]
    missing: tuple[str, ...] | None
    refused_values: tuple[str, ...]
    values: dict[str, float | None]


@dataclass(frozen=True)
class Page:
    """One page of rows: numbers `first` to `last` of the `total` matching rows."""

    rows: tuple[Row, ...]
    total: int
    number: int
    pages: int
    first: int
    last: int


def read(store: Store, now: datetime, selection: Selection = EVERYTHING, first_kind: str | None = None) -> RecentRows:
    """Read the selected labelled rows and the model in service.

    A row that names no kind gets `first_kind`, that of the installation. At most 25 hours are read at once, the newest
    of the range; if the range is longer, the result is not complete. If the bucket cannot be read, the exception of the
    client passes through.
    """
    from riskwatch_ml.storage import labelled_rows, labelled_table

    until = min(selection.until or now + AHEAD, now + AHEAD)
    requested = selection.since or (now if selection.until is None else until) - SPAN
    start = max(requested, until - SPAN - AHEAD)
    # An empty range, in the future, has no rows; the millisecond keeps the read valid.
    start = min(start, until - timedelta(milliseconds=1))
    match = selection.matches if selection.instance else None
    newest = labelled_rows.newest(store, start, until, MAX_ROWS, match)
    rows = newest.rows
    if first_kind is not None:
        rows = rows.assign(resource_kind=rows["resource_kind"].fillna(first_kind))
    if not rows.empty:
        # Of several rows of the same time, the most severe come first.
        rows = rows.assign(_severity=rows["risk"].map(_SEVERITY).fillna(-1))
        rows = rows.sort_values(
            ["timestamp", "_severity", "unusual", "instance_id"], ascending=[False, False, False, True]
        ).drop(columns="_severity")
    return RecentRows(
        now,
        rows.reset_index(drop=True),
        newest.since,
        newest.complete and start <= requested,
        model_in_service(store, first_kind),
        until,
        selection,
        labelled_table.newest_time(store) if rows.empty and selection == EVERYTHING else None,
    )


def model_in_service(store: Store, first_kind: str | None = None) -> Model | None:
    """Return the model in service by the ledger; None before the first promotion."""
    from riskwatch_ml.registry import ledger

    entry = ledger.in_service(ledger.newest_first(store, ledger.SERVING))
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
        relative_levels=(entry.get("figures") or {}).get("relative_levels") == 1,
        kinds=kind_models.of_entry(store, entry, first_kind),
        promoted_kinds=kind_models.promoted_kinds(entry),
    )


def unexpected_model(reading: RecentRows) -> UnexpectedModel | None:
    """Return the model of the newest row if the ledger names another model.

    Rows from before the promotion have the id of the model before, so only later ones count. If the ledger names the
    model of each kind, the newest row of each must be of that model. Else it names that of the first kind: with several
    kinds, it must have labelled the newest row of one of them.
    """
    model = reading.model
    if reading.rows.empty or model is None or not model.model_id:
        return None
    newest = reading.rows[~reading.rows["resource_kind"].duplicated()]
    later = newest[newest["timestamp"] > model.promoted]
    if model.kinds:
        serving = {entry.kind: entry.model_id for entry in model.kinds}
        pairs = zip(later["resource_kind"].fillna(model.kinds[0].kind), later["model_id"], strict=True)
        differing = (UnexpectedModel(by, serving.get(kind, "none"), kind) for kind, by in pairs)
        return next((found for found in differing if found.model_id != found.serves), None)
    ids = later["model_id"]
    return None if ids.empty or (ids == model.model_id).any() else UnexpectedModel(str(ids.iloc[0]), model.model_id)


def distribution(reading: RecentRows) -> tuple[Share, ...]:
    """Count the rows of each risk, from Idle to Critical."""
    counts = reading.rows["risk"].value_counts()
    total = int(counts.sum())
    return tuple(
        Share(risk, int(counts.get(risk, 0)), int(counts.get(risk, 0)) / total if total else 0.0) for risk in RISKS
    )


def abnormal_count(reading: RecentRows) -> int:
    """Count the rows that are unusual or Critical."""
    return int(_abnormal(reading.rows).sum())


def instances(reading: RecentRows) -> list[tuple[str, str]]:
    """Return the distinct (service, instance) pairs of the rows."""
    pairs = reading.rows[["service", "instance_id"]].drop_duplicates()
    return list(pairs.itertuples(index=False, name=None))


def page(reading: RecentRows, filters: Filters) -> Page:
    """Return one page of the rows that match the filters, newest first.

    A page number beyond the last page returns the last page.
    """
    matching = reading.rows[_matching(reading.rows, filters)]
    total = len(matching)
    pages = max(1, math.ceil(total / filters.size))
    number = min(filters.page, pages)
    start = (number - 1) * filters.size
    records = matching.iloc[start : start + filters.size].to_dict("records")
    rows = tuple(_row(record, reading.metrics) for record in records)
    return Page(rows, total, number, pages, start + 1 if rows else 0, start + len(rows))


def _abnormal(rows: pd.DataFrame) -> pd.Series:
    return rows["unusual"] | (rows["risk"] == CRITICAL)


def _matching(rows: pd.DataFrame, filters: Filters) -> pd.Series:
    matches = rows["timestamp"].notna()
    if filters.risk:
        matches &= rows["risk"] == filters.risk
    if filters.kind:
        matches &= rows["resource_kind"] == filters.kind
    if filters.instance:
        names = [name for name in rows["instance_id"].unique() if filters.selection.matches(name)]
        matches &= rows["instance_id"].isin(names)
    if filters.metric in rows.columns:
        # A row without a value lies in no range.
        if filters.low is not None:
            matches &= rows[filters.metric] >= filters.low
        if filters.high is not None:
            matches &= rows[filters.metric] <= filters.high
    if filters.abnormal:
        matches &= _abnormal(rows)
    return matches


def _row(record: dict[str, Any], metrics: tuple[str, ...]) -> Row:
    unusual, risk = bool(record["unusual"]), str(record["risk"])
    abnormal = unusual or risk == CRITICAL
    return Row(
        instance_id=str(record["instance_id"]),
        service=str(record["service"]),
        role=str(record["role"]),
        resource_kind=record["resource_kind"] if isinstance(record["resource_kind"], str) else None,
        timestamp=record["timestamp"].to_pydatetime(),
        risk=risk,
        level=str(record["level"]),
        score=_finite(record["score"]),
        unusual=unusual,
        abnormal=abnormal,
        reasons=_reasons(record) if abnormal else (),
        missing=formatting.missing(record["missing"]),
        refused_values=formatting.refused_values(record["refused_values"]),
        values={name: _finite(record[name]) for name in metrics},
    )


def _reasons(record: dict[str, Any]) -> tuple[str, ...]:
    if record["unusual"]:
        return formatting.reasons(record["reasons"]) or (TOGETHER,)
    # The row itself is not unusual. It is Critical because its episode is open or because a metric is exhausted.
    episode_id = record["episode_id"]
    return (
        formatting.episode(episode_id if isinstance(episode_id, str) else None),
        *formatting.reasons(record["reasons"], beyond=True),
    )


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
