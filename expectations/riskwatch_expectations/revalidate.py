"""Validation of quarantined metric rows by the current rules.

Rows that pass move to `validated/`, without impossible values; the others stay with their reasons. Refused values of
validated rows that are possible now return to their rows. Use it after a rule was corrected, above all a bound of the
catalogue. It reads the quarantine only, so it works even if `raw/` has expired. Rows and values are added to
`validated/` before they leave the quarantine: if the process is killed in between, the next replay removes them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from riskwatch_expectations import refused_values
from riskwatch_expectations.pipeline import RESULTS, TAKEN
from riskwatch_expectations.suites.rows import REPEATED
from riskwatch_expectations.validate import REASONS, Interval, split_rows
from riskwatch_lambda.arrival import was_ahead
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
class Revalidated:
    """The counts of a replay: `rows` = `validated` + `left`.

    `reasons` counts the reasons of the rows that are left. `values_returned` counts refused values that returned to
    their validated rows; `value_reasons` counts those that are still refused by reason.
    """

    rows: int
    validated: int
    left: int
    reasons: Mapping[str, int]
    values_returned: int = 0
    value_reasons: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Revalidated) -> Revalidated:
        """Return the counts of two replays."""
        return Revalidated(
            self.rows + other.rows,
            self.validated + other.validated,
            self.left + other.left,
            dict((Counter(self.reasons) + Counter(other.reasons)).most_common()),
            self.values_returned + other.values_returned,
            dict((Counter(self.value_reasons) + Counter(other.value_reasons)).most_common()),
        )


def read_quarantined(store: Store, catalogue: Catalogue, start: datetime, end: datetime) -> pd.DataFrame:
    """Return the quarantined rows of a kind with start <= timestamp < end.

    The columns `reasons` and `part` say why a row was quarantined and to which part it belongs.
    """
    return _read(store, keys.of_kind(keys.QUARANTINE, catalogue), start, end, [*_KEYS, REASONS])


def read_refused_values(store: Store, catalogue: Catalogue, start: datetime, end: datetime) -> pd.DataFrame:
    """Return the refused values of validated rows of a kind with start <= timestamp < end.

    The columns are those of `riskwatch_expectations.refused_values`, and the `part` of the row.
    """
    return _read(store, keys.of_kind(keys.REFUSED_VALUES, catalogue), start, end, list(refused_values.COLUMNS))


def _read(store: Store, layer: str, start: datetime, end: datetime, columns: list[str]) -> pd.DataFrame:
    frames = [
        store.read_hours(layer, *span, part=part).assign(part=part)
        for span, parts in _spans(store, layer, start, end)
        for part in parts
    ]
    filled = [rows for rows in frames if not rows.empty]
    if not filled:
        return pd.DataFrame(columns=[*columns, "part"])
    return pd.concat(filled, ignore_index=True)


def revalidate(store: Store, catalogue: Catalogue, interval: Interval) -> Revalidated:
    """Validate the quarantined rows of an interval again; safe to repeat.

    The replay works day by day and part by part. A row stays in quarantine if its instance and time have been validated
    meanwhile, or if it was refused for a time ahead of its arrival. Raises ValidationError if quarantined rows are not
    metric rows, and StoreError if an object cannot be read; the work until then remains.
    """
    rows = validated = 0
    reasons: Counter[str] = Counter()
    for (start, end), parts in _spans(store, keys.of_kind(keys.QUARANTINE, catalogue), interval.start, interval.end):
        for part in parts:
            count, moved, left = _again(store, catalogue, Interval(start, end, interval.period_s), part)
            rows += count
            validated += moved
            reasons.update(reason for text in left[REASONS] for reason in str(text).split("; "))
    returned, left_values = _return_values(store, catalogue, interval)
    return Revalidated(
        rows, validated, rows - validated, dict(reasons.most_common()), returned, dict(left_values.most_common())
    )


def _return_values(store: Store, catalogue: Catalogue, interval: Interval) -> tuple[int, Counter[str]]:
    """Return refused values that are possible now to their rows.

    Returns their number, and the reasons of the values that are left.
    """
    returned = 0
    left: Counter[str] = Counter()
    layer, of_rows = (keys.of_kind(name, catalogue) for name in (keys.REFUSED_VALUES, keys.VALIDATED))
    for (start, end), parts in _spans(store, layer, interval.start, interval.end):
        for part in parts:
            values = refused_values.typed(store.read_hours(layer, start, end, part=part))
            validated = store.read_hours(of_rows, start, end, part=part)
            possible = refused_values.are_possible(values, catalogue) & refused_values.of_rows(values, validated)
            left.update(values.loc[~possible, "reason"].map(str))
            if not possible.any():
                continue
            returned += int(possible.sum())
            # A metric that no validated row of these hours had is not a column yet.
            missing = [name for name in values.loc[possible, "metric"].unique() if name not in validated.columns]
            complete = refused_values.put_back(validated.assign(**dict.fromkeys(missing, np.nan)), values[possible])
            store.write_hours(of_rows, complete, start, end, part)
            store.write_hours(layer, values[~possible], start, end, part)
    return returned, left


def _spans(
    store: Store, layer: str, start: datetime, end: datetime
) -> list[tuple[tuple[datetime, datetime], list[str]]]:
    """Return the days with rows of a layer, cut to the interval, and their parts."""
    days: dict[datetime, set[str]] = {}
    day = clock.floor(start, 86_400)
    while day < end:
        for hour in map(keys.parse_hour, store.keys(keys.day_prefix(layer, day))):
            if hour is not None:
                days.setdefault(day, set()).add(hour.part)
        day += _DAY
    return [((max(day, start), min(day + _DAY, end)), sorted(parts)) for day, parts in days.items()]


def _again(store: Store, catalogue: Catalogue, interval: Interval, part: str) -> tuple[int, int, pd.DataFrame]:
    """Validate a part of a day; return the counts of all and moved rows, and the rest."""
    start, end = interval.start, interval.end
    validated_layer, quarantine, values_layer = (keys.of_kind(layer, catalogue) for layer in RESULTS)
    held = store.read_hours(quarantine, start, end, part=part)
    if held.empty:
        return 0, 0, held.assign(**{REASONS: ""})
    # A metric added to the catalogue since then has no value; a removed one is not validated.
    rows = held.reindex(columns=metric_rows.columns(catalogue)).astype(dict.fromkeys(catalogue.names, np.float64))
    same_part = store.read_hours(validated_layer, start, end, part=part)
    others = store.read_hours(validated_layer, start, end, without=part)
    done = _moved_before(held, _without_impossible(rows, catalogue), same_part)
    # A row that came from the future is past by now; its time is as wrong as before.
    ahead = ~done & held[REASONS].astype(str).map(was_ahead)
    remaining = rows[ahead].assign(**{REASONS: held.loc[ahead, REASONS]})
    held, rows = held[~done & ~ahead], rows[~done & ~ahead]
    judged = split_rows(rows, catalogue, interval) if len(rows) else None
    passed = judged.validated if judged else rows
    values = refused_values.typed(judged.refused if judged else pd.DataFrame())
    refused = [remaining, *([judged.quarantined] if judged else [])]
    for validated, reason in ((same_part, REPEATED), (others, TAKEN)):
        present = _in(passed, validated)
        refused.append(refused_values.put_back(passed[present], values).assign(**{REASONS: reason}))
        passed = passed[~present]
    values = values[refused_values.of_rows(values, passed)]
    if not values.empty:
        earlier = store.read_hours(values_layer, start, end, part=part)
        store.write_hours(values_layer, refused_values.merge(earlier, values), start, end, part)
    left = pd.concat([rows for rows in refused if not rows.empty] or refused, ignore_index=True)
    for hour in passed["timestamp"].dt.floor("h").unique():
        first, last = max(start, hour.to_pydatetime()), min(end, hour.to_pydatetime() + timedelta(hours=1))
        fresh = passed[passed["timestamp"].dt.floor("h") == hour]
        existing = store.read_hours(validated_layer, first, last, part=part)
        both = fresh if existing.empty else pd.concat([existing, fresh], ignore_index=True)
        store.write_hours(validated_layer, both, first, last, part)
    if len(passed) or done.any():
        store.write_hours(quarantine, left, start, end, part)
    return len(passed) + len(left), len(passed), left


def _without_impossible(rows: pd.DataFrame, catalogue: Catalogue) -> pd.DataFrame:
    impossible = metric_rows.find_impossible(rows[list(catalogue.names)].to_numpy(dtype=np.float64), catalogue)
    return refused_values.take_out(rows, impossible, dict.fromkeys(catalogue.names, ""))[0]


def _moved_before(held: pd.DataFrame, rows: pd.DataFrame, validated: pd.DataFrame) -> pd.Series:
    """Return a mask of the rows that a killed replay validated but left in quarantine."""
    moved = ~held[REASONS].astype(str).str.contains(REPEATED, regex=False) & _in(rows, validated)
    keys_validated = pd.MultiIndex.from_frame(validated[_KEYS])
    for position in np.flatnonzero(moved):
        row = rows.iloc[[position]].reset_index(drop=True)
        twin = validated[keys_validated.isin(pd.MultiIndex.from_frame(row[_KEYS]))].reset_index(drop=True)
        moved.iloc[position] = row.equals(twin.reindex(columns=row.columns))
    return moved


def _in(rows: pd.DataFrame, others: pd.DataFrame) -> pd.Series:
    present = pd.MultiIndex.from_frame(rows[_KEYS]).isin(pd.MultiIndex.from_frame(others[_KEYS]))
    return pd.Series(present, index=rows.index)
