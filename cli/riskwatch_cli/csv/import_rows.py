"""Import of a CSV file: write the rows to `raw/` and validate them.

All CSV files about one kind of resource share one part of each layer of the kind. An import replaces the rows that
earlier imports wrote for the same instances between its first and its last row. It does not change other instances or
the rows of the export.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pandas as pd

from riskwatch_expectations.pipeline import CSV_PART, RESULTS, split_interval
from riskwatch_expectations.validate import REASONS, Interval
from riskwatch_ml.schema import metric_rows
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.storage.bucket import Store

_DAY = timedelta(days=1)
# Short enough for the progress bar to move, long enough to make the start of a validation cheap beside its rows.
_LONGEST = 3 * _DAY


@dataclass(frozen=True)
class Imported:
    """The counts of an import: `rows` = `validated` + `quarantined`, `values` = `values_kept` + `values_refused`.

    `reasons` counts the quarantined rows by reason; a row may have several reasons. `value_reasons` counts the refused
    values of validated rows by reason, which names the metric. A quarantined row refuses all its values.
    """

    rows: int
    validated: int
    quarantined: int
    reasons: Mapping[str, int]
    values: int
    values_kept: int
    values_refused: int
    value_reasons: Mapping[str, int]

    @property
    def adds_up(self) -> bool:
        """Whether every row and every value has an outcome."""
        return (self.rows, self.values) == (
            self.validated + self.quarantined,
            self.values_kept + self.values_refused,
        )


def bring_in(
    store: Store, rows: pd.DataFrame, catalogue: Catalogue, period_s: int, progress: Callable[[int, int], None]
) -> Imported:
    """Write metric rows to `raw/` and split them into `validated/` and `quarantine/`.

    The layers are those of the kind of the catalogue. `rows` has its columns and at least one row, and may repeat an
    (instance, time). `period_s` is the period of the rows in seconds. `progress` is called with the number of days done
    and their total.
    """
    raw, *results = (keys.of_kind(layer, catalogue) for layer in (keys.RAW, *RESULTS))
    first, last = rows["timestamp"].min(), rows["timestamp"].max()
    instances = set(rows["instance_id"])
    spans = _spans({*_days(rows["timestamp"]), *_written(store, raw, first, last)})
    total = sum((end - start) // _DAY for start, end in spans)
    tally = _Tally()
    done = 0
    for start, end in spans:
        progress(done, total)
        fresh = rows[(rows["timestamp"] >= start) & (rows["timestamp"] < end)]
        old = store.read_hours(raw, start, end, part=CSV_PART)
        replaced = old["instance_id"].isin(instances) & old["timestamp"].between(first, last)
        others = old[~replaced]
        merged = fresh if others.empty else pd.concat([fresh, others], ignore_index=True)
        store.write_hours(raw, merged, start, end, CSV_PART)
        if not merged.empty:
            outcome = split_interval(store, catalogue, Interval(start, end, period_s), CSV_PART)
            tally.add(
                *(
                    table[_of(table, instances, first, last)]
                    for table in (outcome.validated, outcome.quarantined, outcome.refused)
                )
            )
        else:
            for layer in results:
                store.write_hours(layer, merged, start, end, CSV_PART)
        done += (end - start) // _DAY
    return Imported(
        rows=len(rows),
        validated=tally.validated,
        quarantined=tally.quarantined,
        reasons=dict(tally.reasons.most_common()),
        values=metric_rows.count_values(rows),
        values_kept=tally.values_kept,
        values_refused=tally.values_refused,
        value_reasons=dict(tally.value_reasons.most_common()),
    )


@dataclass
class _Tally:
    """Counts over the intervals of an import."""

    validated: int = 0
    quarantined: int = 0
    values_kept: int = 0
    values_refused: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    value_reasons: Counter[str] = field(default_factory=Counter)

    def add(self, validated: pd.DataFrame, quarantined: pd.DataFrame, refused: pd.DataFrame) -> None:
        """Add the outcome of one interval: rows of the file only."""
        self.validated += len(validated)
        self.quarantined += len(quarantined)
        self.values_kept += metric_rows.count_values(validated)
        self.values_refused += len(refused) + metric_rows.count_values(quarantined)
        self.reasons.update(reason for text in quarantined[REASONS] for reason in str(text).split("; "))
        self.value_reasons.update(refused["reason"].map(str))


def _of(rows: pd.DataFrame, instances: set[str], first: pd.Timestamp, last: pd.Timestamp) -> pd.Series:
    return rows["instance_id"].isin(instances) & rows["timestamp"].between(first, last)


def _days(stamps: pd.Series) -> Iterable[datetime]:
    return [moment.to_pydatetime() for moment in stamps.dt.floor("D").unique()]


def _written(store: Store, raw: str, first: pd.Timestamp, last: pd.Timestamp) -> Iterable[datetime]:
    """Return the days from `first` to `last` that have rows of an earlier import in the layer."""
    hours = map(keys.parse_hour, store.keys(keys.hours(raw)))
    days = {hour.day for hour in hours if hour is not None and hour.part == CSV_PART}
    return [day for day in days if first.floor("D") <= day <= last]


def _spans(days: set[datetime]) -> list[tuple[datetime, datetime]]:
    """Join adjacent days into intervals [start, end) of at most `_LONGEST`."""
    spans: list[tuple[datetime, datetime]] = []
    for day in sorted(days):
        if spans and spans[-1][1] == day and day - spans[-1][0] < _LONGEST:
            spans[-1] = (spans[-1][0], day + _DAY)
        else:
            spans.append((day, day + _DAY))
    return spans
