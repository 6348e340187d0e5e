"""Quarantined metric rows, judged again: what passes now moves to `validated/`, the rest stays with its reasons.

For rows that were refused by a rule that has been corrected since, above all a bound of the catalogue. Only the
quarantine is read, so it works when `raw/` has expired. Rows are added to `validated/` before they leave the
quarantine: killed in between, the next replay takes them out.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from riskwatch_expectations.pipeline import TAKEN
from riskwatch_expectations.suites.rows import REPEATED
from riskwatch_expectations.validate import REASONS, Interval, split_rows
from riskwatch_ml.core import clock
from riskwatch_ml.schema import metric_rows
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.storage.bucket import Store

_DAY = timedelta(days=1)
_KEYS = list(metric_rows.KEYS)


@dataclass(frozen=True)
class Replayed:
    """What became of quarantined rows: `rows` = `validated` + `left`; `reasons` counts why rows were left."""

    rows: int
    validated: int
    left: int
    reasons: Mapping[str, int]


def held(store: Store, start: datetime, end: datetime) -> pd.DataFrame:
    """Return quarantined rows with start <= timestamp < end, with their `reasons` and the `part` they belong to."""
    found = [
        store.read_hours(keys.QUARANTINE, *span, part=part).assign(part=part)
        for span, parts in _spans(store, start, end)
        for part in parts
    ]
    filled = [rows for rows in found if not rows.empty]
    if not filled:
        return pd.DataFrame(columns=[*_KEYS, REASONS, "part"])
    return pd.concat(filled, ignore_index=True)


def replay(store: Store, catalogue: Catalogue, interval: Interval) -> Replayed:
    """Judge the quarantined rows of an interval again, day by day and part by part; safe to repeat.

    A row whose instance and time is validated by now stays where it is. Raises ValidationError where quarantined rows
    are no metric rows, StoreError where an object cannot be read; what was done until then stays done.
    """
    rows = validated = 0
    reasons: Counter[str] = Counter()
    for (start, end), parts in _spans(store, interval.start, interval.end):
        for part in parts:
            found, moved, left = _again(store, catalogue, Interval(start, end, interval.period_s), part)
            rows += found
            validated += moved
            reasons.update(reason for text in left[REASONS] for reason in str(text).split("; "))
    return Replayed(rows, validated, rows - validated, dict(reasons.most_common()))


def _spans(store: Store, start: datetime, end: datetime) -> list[tuple[tuple[datetime, datetime], list[str]]]:
    """The days of the interval that have quarantined rows, cut to the interval, and the parts that those are in."""
    days: dict[datetime, set[str]] = {}
    day = clock.floor(start, 86_400)
    while day < end:
        for place in map(keys.parse_hour, store.keys(keys.day_prefix(keys.QUARANTINE, day))):
            if place is not None:
                days.setdefault(day, set()).add(place.part)
        day += _DAY
    return [((max(day, start), min(day + _DAY, end)), sorted(parts)) for day, parts in days.items()]


def _again(store: Store, catalogue: Catalogue, interval: Interval, part: str) -> tuple[int, int, pd.DataFrame]:
    """Judge one part of a day again; return the number of rows, how many moved, and the rows that are left."""
    start, end = interval.start, interval.end
    held = store.read_hours(keys.QUARANTINE, start, end, part=part)
    if held.empty:
        return 0, 0, held.assign(**{REASONS: ""})
    # A metric that the catalogue has had only since then is missing, one that it has no longer is not judged.
    rows = held.reindex(columns=metric_rows.columns(catalogue)).astype(dict.fromkeys(catalogue.names, np.float64))
    own = store.read_hours(keys.VALIDATED, start, end, part=part)
    others = store.read_hours(keys.VALIDATED, start, end, without=part)
    done = _moved_before(held, rows, own)
    held, rows = held[~done], rows[~done]
    judged = split_rows(rows, catalogue, interval) if len(rows) else None
    passed = judged.validated if judged else rows
    refused = [judged.quarantined] if judged else []
    for validated, why in ((own, REPEATED), (others, TAKEN)):
        there = _in(passed, validated)
        refused.append(passed[there].assign(**{REASONS: why}))
        passed = passed[~there]
    left = pd.concat([rows for rows in refused if not rows.empty] or refused, ignore_index=True)
    for hour in passed["timestamp"].dt.floor("h").unique():
        first, last = max(start, hour.to_pydatetime()), min(end, hour.to_pydatetime() + timedelta(hours=1))
        fresh = passed[passed["timestamp"].dt.floor("h") == hour]
        standing = store.read_hours(keys.VALIDATED, first, last, part=part)
        both = fresh if standing.empty else pd.concat([standing, fresh], ignore_index=True)
        store.write_hours(keys.VALIDATED, both, first, last, part)
    if len(passed) or done.any():
        store.write_hours(keys.QUARANTINE, left, start, end, part)
    return len(passed) + len(left), len(passed), left


def _moved_before(held: pd.DataFrame, rows: pd.DataFrame, own: pd.DataFrame) -> pd.Series:
    """Which rows an earlier replay has moved without taking them out of the quarantine, as it was killed in between."""
    first = ~held[REASONS].astype(str).str.contains(REPEATED, regex=False) & _in(rows, own)
    same = pd.MultiIndex.from_frame(own[_KEYS])
    for place in np.flatnonzero(first):
        row = rows.iloc[[place]].reset_index(drop=True)
        twin = own[same.isin(pd.MultiIndex.from_frame(row[_KEYS]))].reset_index(drop=True)
        first.iloc[place] = row.equals(twin.reindex(columns=row.columns))
    return first


def _in(rows: pd.DataFrame, others: pd.DataFrame) -> pd.Series:
    there = pd.MultiIndex.from_frame(others[_KEYS])
    return pd.Series(pd.MultiIndex.from_frame(rows[_KEYS]).isin(there), index=rows.index)
