"""The user's own fleet for the demo, read from Parquet or CSV.

The history is cut to a few days and moved to the present. If all instances end within a day of each other, they share
one time axis: one interval, which ends at the earliest of their ends, is cut for all, and all move by one offset, so
that simultaneous rows stay simultaneous. Otherwise (series collected years apart) each instance is cut at its own end
and moves by its own offset.

Offsets are whole steps. Rows are first put on the grid of the step, because CloudWatch returns values by grid. Times
without a zone are UTC. Labels move with their rows and influence nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from riskwatch_ml.core import clock
from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.ingest import csv_reader
from riskwatch_ml.ingest.csv_lines import CsvError
from riskwatch_ml.schema import catalogue as catalogue_module
from riskwatch_ml.schema.catalogue import Catalogue
from riskwatch_ml.schema.metric import RESERVED, metric_without_entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime, timedelta

    from riskwatch_ml.schema.metric import Metric

NAMESPACE = "Fleet"
HISTORY, REPLAY, LABELS = "history.parquet", "replay.parquet", "labels.parquet"
EXPECTED = (
    f"expected a directory with {HISTORY} and {REPLAY} (columns instance_id, timestamp, metrics; {LABELS} optional), "
    "or a CSV or Parquet file with a timestamp column, an instance column (in a CSV optional) and metric columns"
)
SHARED_AXIS = pd.Timedelta(days=1)
LONGEST_NAME = 120


class FleetError(UserInputError):
    """The fleet's files cannot be used.

    The message says what the files contain and what is expected.
    """


@dataclass(frozen=True)
class OwnData:
    """A fleet ready to be published.

    `rows` are metric rows sorted by instance and time, the newest one the last full step before now. `step_s` is the
    sampling step in seconds. `labels` (instance_id, timestamp, label 0/1) lie on the same axis as `rows`, or None.
    `shifts` has the offset of each instance, `shift` that of the newest data. `names` maps features and `instances`
    maps instance ids to their names in the file. `notes` are the assumptions made when reading a CSV.
    """

    rows: pd.DataFrame
    step_s: int
    catalogue: Catalogue
    labels: pd.DataFrame | None
    shift: timedelta
    shifts: dict[str, timedelta]
    names: dict[str, str]
    instances: dict[str, str]
    notes: tuple[str, ...] = ()


def read_fleet(
    path: str | Path, days: float = 4, until: datetime | None = None, now: datetime | None = None
) -> OwnData:
    """Read the fleet at `path`, cut it to some days and move it to the present.

    The interval is [until - days, until) in the file's own time; `until` (aware) defaults to the end of the data. With
    an `until`, all instances are cut at it and instances without rows there are left out. Raises FleetError if the
    layout is unknown, a column cannot be read, or the interval is empty.
    """
    if days <= 0:
        raise FleetError(f"days is {days:g}: it must be above 0")
    source = Path(path)
    raw, labels, notes = _read(source)
    frame, names, instances = _clean(raw, source)
    step_s = _step(frame, source)
    frame = _on_grid(frame, step_s)
    ends = _ends(frame, step_s, until)
    lengths = frame["instance_id"].map(ends) - frame["timestamp"]
    recent = frame[(lengths > pd.Timedelta(0)) & (lengths <= pd.Timedelta(days=days))]
    if recent.empty:
        raise FleetError(
            f"{source}: no rows in the {days:g} days before {until}: the data run from "
            f"{frame['timestamp'].min()} to {frame['timestamp'].max()}"
        )
    recent = recent.dropna(axis="columns", how="all")
    features = [name for name in recent.columns if name not in ("instance_id", "timestamp")]
    if not features:
        raise FleetError(f"{source}: no metric has a value in the {days:g} days that were cut; choose another `until`")

    entries = [_entry(name, names[name], features) for name in features]
    recent = recent.rename(columns=dict(zip(features, (entry.name for entry in entries), strict=True)))
    last = clock.floor(now or clock.now(), step_s)
    shifts = {
        str(instance): (last - ends[instance]).to_pytimedelta() for instance in sorted(recent["instance_id"].unique())
    }
    newest = max(shifts, key=lambda instance: ends[instance])
    return OwnData(
        rows=_moved(recent, shifts),
        step_s=step_s,
        catalogue=Catalogue(tuple(entries)),
        labels=_labels(labels, recent, shifts, instances, step_s),
        shift=shifts[newest],
        shifts=shifts,
        names={entry.name: names[name] for name, entry in zip(features, entries, strict=True)},
        instances={name: instances[name] for name in shifts},
        notes=notes,
    )


def _entry(name: str, original: str, taken: Sequence[str]) -> Metric:
    """Return the catalogue entry of a column.

    It has bounds and direction if the catalogue knows the column's name.
    """
    plain = metric_without_entry(name, NAMESPACE)
    lowered = original.strip().lower()
    for metric in catalogue_module.load().metrics:
        aliases = {alias.lower() for alias in metric.aliases}
        if lowered == metric.name or (lowered in aliases and metric.name not in taken):
            return replace(metric, namespace=NAMESPACE, metric=name, stat=plain.stat, scale=plain.scale, aliases=())
    return plain


def _read(source: Path) -> tuple[pd.DataFrame, pd.DataFrame | None, tuple[str, ...]]:
    if source.is_dir():
        missing = [name for name in (HISTORY, REPLAY) if not (source / name).is_file()]
        if missing:
            files = ", ".join(sorted(item.name for item in source.iterdir())[:10]) or "nothing"
            raise FleetError(f"{source} has no {' and no '.join(missing)}; found {files}; {EXPECTED}")
        parts = [_parquet(source / name) for name in (HISTORY, REPLAY)]
        labels = _parquet(source / LABELS) if (source / LABELS).is_file() else None
        return pd.concat(parts, ignore_index=True), labels, ()
    if not source.is_file():
        raise FleetError(f"{source} does not exist; {EXPECTED}")
    if source.suffix.lower() == ".parquet":
        return _parquet(source), None, ()
    if source.suffix.lower() != ".csv":
        raise FleetError(f"{source}: a {source.suffix or 'file without a suffix'} cannot be read; {EXPECTED}")
    try:
        read = csv_reader.read(source)
    except CsvError as error:
        raise FleetError(str(error)) from error
    return read.rows, None, read.notes


def _parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise FleetError(f"{path} is not a readable Parquet file: {error}") from error


def _clean(raw: pd.DataFrame, source: Path) -> tuple[pd.DataFrame, dict[str, str], dict[str, str]]:
    """Return the rows under safe names, and the original names.

    The rows have instance_id, timestamp and numeric metrics. The first dictionary maps features, the second maps
    instances to their names in the file.
    """
    time_column = _column(raw, csv_reader.TIME_COLUMNS)
    if time_column is None:
        raise FleetError(f"{source} has no timestamp column; found {_list(raw.columns)}; {EXPECTED}")
    instance_column = _column(raw, csv_reader.INSTANCE_COLUMNS)
    times = _times(raw[time_column], f"{source}, column {time_column}")
    names = raw[instance_column].astype(str) if instance_column else pd.Series(source.stem, index=raw.index)
    if instance_column is None and times.duplicated().any():
        raise FleetError(
            f"{source} has no instance column, but {int(times.duplicated().sum()):,} timestamps appear more than once: "
            f"add a column instance_id that names the series of each row; found {_list(raw.columns)}"
        )
    metrics = {
        str(column): raw[column].astype(float)
        for column in raw.columns
        if column not in (time_column, instance_column, "label") and _numeric(raw[column])
    }
    if not metrics:
        raise FleetError(f"{source} has no numeric metric column; found {_list(raw.columns)}; {EXPECTED}")
    features = _unique(metrics, _feature_name)
    ids = _unique(sorted(names.unique()), _instance_name)
    safe_of = {original: safe for safe, original in ids.items()}
    columns = {"instance_id": names.map(safe_of), "timestamp": times}
    columns |= {safe: metrics[original].replace([np.inf, -np.inf], np.nan) for safe, original in features.items()}
    return pd.DataFrame(columns), features, ids


def _column(frame: pd.DataFrame, candidates: Sequence[str]) -> str | None:
    by_name = {re.sub(r"[^a-z_]", "", str(column).lower()): column for column in reversed(frame.columns)}
    return next((by_name[name] for name in candidates if name in by_name), None)


def _numeric(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _times(column: pd.Series, name: str) -> pd.Series:
    try:
        if _numeric(column):  # seconds or milliseconds since 1970
            unit = "ms" if column.median() > 1e11 else "s"
            return pd.to_datetime(column, unit=unit, utc=True).astype("datetime64[ms, UTC]")
        return pd.to_datetime(column, utc=True).astype("datetime64[ms, UTC]")
    except (ValueError, TypeError, OverflowError) as error:
        raise FleetError(f"{name} cannot be read as time ({error}): write 2026-11-22T10:05:00Z") from error


def _list(columns: Iterable[object]) -> str:
    names = [str(column) for column in columns]
    return "columns " + ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _feature_name(original: str) -> str:
    name = re.sub(r"[^a-z0-9]+", "_", original.lower()).strip("_")[:LONGEST_NAME].strip("_")
    name = name if re.match(r"[a-z]", name) else f"m_{name}".strip("_")
    return f"{name}_metric" if name in RESERVED else name


def _instance_name(original: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", original).strip("-")[:LONGEST_NAME] or "instance"


def _unique(originals: Iterable[str], safe: Callable[[str], str]) -> dict[str, str]:
    """Return safe name -> original; equal safe names are numbered."""
    result: dict[str, str] = {}
    for original in originals:
        base = name = safe(original)
        number = 2
        while name in result:
            name = f"{base}_{number}"
            number += 1
        result[name] = original
    return result


def _step(frame: pd.DataFrame, source: Path) -> int:
    """Return the median distance of an instance's rows in whole seconds.

    Raises FleetError if it is not a CloudWatch period.
    """
    ordered = frame.sort_values(["instance_id", "timestamp"])
    distance = ordered.groupby("instance_id")["timestamp"].diff().dt.total_seconds()
    distance = distance[distance > 0]
    if distance.empty:
        raise FleetError(f"{source}: no instance has two rows at different times, so there is no step")
    step_s = max(1, round(float(distance.median())))
    if step_s % 60 or 86_400 % step_s:
        raise FleetError(
            f"{source}: its rows lie {step_s} s apart; CloudWatch periods are whole minutes that divide a day, "
            "so resample them, for example to 60 or 300 s"
        )
    return step_s


def _on_grid(frame: pd.DataFrame, step_s: int) -> pd.DataFrame:
    """Put every row on the grid of the step, which is counted from 1970.

    Of two rows in one step the later one stays.
    """
    gridded = frame.assign(timestamp=_floor(frame["timestamp"], step_s))
    order = frame.sort_values(["instance_id", "timestamp"], kind="stable").index
    return gridded.loc[order].drop_duplicates(["instance_id", "timestamp"], keep="last").reset_index(drop=True)


def _floor(times: pd.Series, step_s: int) -> pd.Series:
    milliseconds = times.astype("datetime64[ms, UTC]").astype("int64")
    floored = milliseconds // (step_s * 1000) * (step_s * 1000)
    return pd.to_datetime(floored, unit="ms", utc=True).astype("datetime64[ms, UTC]")


def _ends(frame: pd.DataFrame, step_s: int, until: datetime | None) -> dict[str, pd.Timestamp]:
    """Return the end (exclusive, on the grid) of each instance's interval."""
    step = pd.Timedelta(seconds=step_s)
    ends = frame.groupby("instance_id")["timestamp"].max() + step
    if until is not None:
        return dict.fromkeys(ends.index, min(pd.Timestamp(clock.floor(until, step_s)), ends.max()))
    if ends.max() - ends.min() <= SHARED_AXIS:
        return dict.fromkeys(ends.index, ends.min())
    return dict(ends)


def _moved(frame: pd.DataFrame, shifts: dict[str, timedelta]) -> pd.DataFrame:
    moved = frame["timestamp"] + frame["instance_id"].map(shifts)
    moved = frame.assign(timestamp=moved.astype("datetime64[ms, UTC]"))
    return moved.sort_values(["instance_id", "timestamp"]).reset_index(drop=True)


def _labels(
    raw: pd.DataFrame | None,
    rows: pd.DataFrame,
    shifts: dict[str, timedelta],
    instances: dict[str, str],
    step_s: int,
) -> pd.DataFrame | None:
    if raw is None:
        return None
    missing = {"instance_id", "timestamp", "label"} - set(raw.columns)
    if missing:
        raise FleetError(f"{LABELS} has no column {', '.join(sorted(missing))}; found {_list(raw.columns)}")
    safe_of = {original: safe for safe, original in instances.items()}
    labels = pd.DataFrame(
        {
            "instance_id": raw["instance_id"].astype(str).map(safe_of),
            "timestamp": _floor(_times(raw["timestamp"], LABELS), step_s),
            "label": raw["label"].astype("int8"),
        }
    ).dropna(subset=["instance_id"])
    labels = labels.groupby(["instance_id", "timestamp"], as_index=False)["label"].max()
    return _moved(labels.merge(rows[["instance_id", "timestamp"]], on=["instance_id", "timestamp"]), shifts)
