"""Rows of a CSV file into `raw/`, then through the same validation as the hourly export.

All files share one part of the layers. An import replaces what earlier imports brought for the same instances between
the first and the last of its rows; other instances, and what the export wrote, stay as they are.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pandas as pd

from riskwatch_expectations.pipeline import CSV_PART, split_interval
from riskwatch_expectations.validate import REASONS, Interval
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.storage.bucket import Store

_DAY = timedelta(days=1)
# Few enough days for a progress bar to move, enough of them that starting a validation costs little beside its rows.
_LONGEST = 3 * _DAY


@dataclass(frozen=True)
class Imported:
    """Rows in = validated + quarantined; `reasons` counts the quarantined rows by reason, a row may have several."""

    rows: int
    validated: int
    quarantined: int
    reasons: Mapping[str, int]


def bring_in(
    store: Store, rows: pd.DataFrame, catalogue: Catalogue, period_s: int, progress: Callable[[int, int], None]
) -> Imported:
    """Write metric rows to `raw/` and split them into `validated/` and `quarantine/`.

    `rows` has the catalogue's columns, at least one row, and may repeat an (instance, time). `progress` is told how
    many days of how many are done.
    """
    first, last = rows["timestamp"].min(), rows["timestamp"].max()
    instances = set(rows["instance_id"])
    spans = _spans({*_days(rows["timestamp"]), *_written(store, first, last)})
    total = sum((end - start) // _DAY for start, end in spans)
    validated = quarantined = done = 0
    reasons: Counter[str] = Counter()
    for start, end in spans:
        progress(done, total)
        fresh = rows[(rows["timestamp"] >= start) & (rows["timestamp"] < end)]
        old = store.read_hours(keys.RAW, start, end, part=CSV_PART)
        replaced = old["instance_id"].isin(instances) & old["timestamp"].between(first, last)
        kept = old[~replaced]
        merged = fresh if kept.empty else pd.concat([fresh, kept], ignore_index=True)
        store.write_hours(keys.RAW, merged, start, end, CSV_PART)
        if not merged.empty:
            outcome = split_interval(store, catalogue, Interval(start, end, period_s), CSV_PART)
            validated += int(_of(outcome.validated, instances, first, last).sum())
            refused = outcome.quarantined[_of(outcome.quarantined, instances, first, last)]
            quarantined += len(refused)
            reasons.update(reason for text in refused[REASONS] for reason in str(text).split("; "))
        else:
            for layer in (keys.VALIDATED, keys.QUARANTINE):
                store.write_hours(layer, merged, start, end, CSV_PART)
        done += (end - start) // _DAY
    return Imported(len(rows), validated, quarantined, dict(reasons.most_common()))


def _of(rows: pd.DataFrame, instances: set[str], first: pd.Timestamp, last: pd.Timestamp) -> pd.Series:
    return rows["instance_id"].isin(instances) & rows["timestamp"].between(first, last)


def _days(stamps: pd.Series) -> Iterable[datetime]:
    return [moment.to_pydatetime() for moment in stamps.dt.floor("D").unique()]


def _written(store: Store, first: pd.Timestamp, last: pd.Timestamp) -> Iterable[datetime]:
    """The days from the first to the last row in which an earlier import left rows."""
    places = map(keys.parse_hour, store.keys(keys.hours(keys.RAW)))
    days = {place.day for place in places if place is not None and place.part == CSV_PART}
    return [day for day in days if first.floor("D") <= day <= last]


def _spans(days: set[datetime]) -> list[tuple[datetime, datetime]]:
    """Join neighbouring days into intervals [start, end) of `_LONGEST` at most."""
    spans: list[tuple[datetime, datetime]] = []
    for day in sorted(days):
        if spans and spans[-1][1] == day and day - spans[-1][0] < _LONGEST:
            spans[-1] = (spans[-1][0], day + _DAY)
        else:
            spans.append((day, day + _DAY))
    return spans
