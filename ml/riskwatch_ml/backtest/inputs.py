"""The rows of a replay, checked: history and what came next in one frame, and which metric each column is."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.features.training_set import KEY, repeated_keys
from riskwatch_ml.schema.catalogue import Metric

if TYPE_CHECKING:
    from collections.abc import Mapping

    from riskwatch_ml.schema.catalogue import Catalogue

USUAL_PERIOD_S = 300  # where no instance has two rows
RESULTS = ("score", "alert", "risk", "level", "unusual")  # columns that a replay adds
WHOLE = 2**53  # up to here a float holds every whole number


class BacktestError(UserInputError):
    """The rows or options cannot be replayed; the message says what to change."""


def joined_rows(
    history: pd.DataFrame, replay: pd.DataFrame, catalogue: Catalogue
) -> tuple[pd.DataFrame, list[tuple[Metric, str]]]:
    """History and replay in one frame sorted by key with a ``replayed`` mark, and the metric of each column.

    The columns are the numeric ones that both have. Raises BacktestError where there is none, no row, a key that is
    absent, unreadable or repeated, or an instance whose history comes after its replay.
    """
    for name, frame in (("history", history), ("replay", replay)):
        absent = [key for key in KEY if key not in frame.columns]
        if absent:
            raise BacktestError(f"the {name} has no column {' and no '.join(absent)}: name the columns so")
        if not len(frame):
            raise BacktestError(f"the {name} has no rows")
    left = unwatched(history, replay)
    columns = [column for column in history.columns if column not in left and column not in KEY]
    if not columns:
        raise BacktestError(f"history and replay share no numeric column: there is nothing to watch{_told(left)}")
    named = [(_metric(str(column), place, catalogue), column) for place, column in enumerate(columns)]
    if len({metric.name for metric, _ in named}) < len(named):
        raise BacktestError(f"two of the columns {', '.join(map(str, columns[:8]))} are the same metric: drop one")
    frames = []
    for replayed, whose, frame in ((False, "history", history), (True, "replay", replay)):
        taken = frame[[*KEY, *columns]].rename(columns={column: metric.name for metric, column in named})
        frames.append(
            taken.assign(
                instance_id=instances(taken["instance_id"], whose),
                timestamp=moments(taken["timestamp"], whose),
                replayed=replayed,
            )
        )
    rows = pd.concat(frames, ignore_index=True).sort_values(KEY, kind="stable", ignore_index=True)
    _check_order(rows)
    if repeats := repeated_keys(rows, "rows"):
        raise BacktestError(f"{repeats}: keep one row each, or give rows of different instances different names")
    return rows, named


def unwatched(history: pd.DataFrame, replay: pd.DataFrame) -> dict[Any, str]:
    """The columns that cannot be watched, beside the keys, each with the reason."""
    left = {}
    for column in dict.fromkeys([*history.columns, *replay.columns]):
        absent = [name for name, frame in (("history", history), ("replay", replay)) if column not in frame.columns]
        if column in KEY:
            continue
        if absent:
            left[column] = f"not in the {absent[0]}"
            continue
        kinds = {name: frame[column].dtype for name, frame in (("history", history), ("replay", replay))}
        odd = [name for name, kind in kinds.items() if not pd.api.types.is_numeric_dtype(kind)]
        if odd:
            left[column] = f"{kinds[odd[0]]} in the {odd[0]}, not a number"
    return left


def checked_labels(labels: pd.DataFrame) -> pd.DataFrame:
    """Labels with their keys as those of a replay: instance_id, timestamp in UTC and label, 0 or 1.

    Raises BacktestError where a column is absent, a label is no number, or a key is absent, unreadable or repeated.
    """
    absent = [name for name in (*KEY, "label") if name not in labels.columns]
    if absent:
        raise BacktestError(f"the labels have no column {' and no '.join(absent)}: name the columns so")
    kind = labels["label"].dtype
    if not pd.api.types.is_numeric_dtype(kind):
        raise BacktestError(f"label is {kind}, not a number: write 1 where an incident is and 0 elsewhere")
    checked = pd.DataFrame(
        {
            "instance_id": instances(labels["instance_id"], "labels"),
            "timestamp": moments(labels["timestamp"], "labels"),
            "label": labels["label"].to_numpy(np.float64, na_value=0),
        }
    )
    if repeats := repeated_keys(checked, "labels"):
        raise BacktestError(f"{repeats}: keep one each")
    return checked


def _told(left: Mapping[Any, str]) -> str:
    """The first few unwatched columns in brackets."""
    return f" ({', '.join(f'{column}: {why}' for column, why in list(left.items())[:4])})" if left else ""


def shown_columns(metrics: list[tuple[Metric, str]]) -> dict[str, str]:
    """Column of each metric beside the results, by name: its own; one called as a result has " (metric)" behind it."""
    taken = {*RESULTS, *(column for _, column in metrics)}
    shown = {}
    for metric, column in metrics:
        apart = column
        while column in RESULTS and apart in taken:
            apart = f"{apart} (metric)"
        shown[metric.name] = apart
    return shown


def instances(values: pd.Series, whose: str) -> pd.Series:
    """Names of instances as text; whole numbers are written without a fraction, whatever type a file holds them in.

    Raises BacktestError, naming ``whose`` rows they are, where one is absent.
    """
    if values.isna().any():
        raise BacktestError(f"some rows of the {whose} have no instance_id: drop them")
    if pd.api.types.is_float_dtype(values.dtype):
        number = values.to_numpy(np.float64)
        if (number == np.round(number)).all() and (np.abs(number) < WHOLE).all():
            values = values.astype("int64")
    return values.astype(str)


def moments(values: pd.Series, whose: str) -> pd.DatetimeIndex:
    """Timestamps in UTC with milliseconds; one without a zone is read as UTC.

    Raises BacktestError, naming ``whose`` rows they are, where one is absent, a number, or no moment.
    """
    if values.isna().any():
        raise BacktestError(f"some rows of the {whose} have no timestamp: drop them")
    kind = pd.api.types.infer_dtype(values)
    if pd.api.types.is_numeric_dtype(values.dtype) or kind in ("integer", "floating", "mixed-integer-float", "decimal"):
        found = next(iter(values), values.dtype)
        raise BacktestError(
            f"timestamp of the {whose} is a number ({found}), whose unit nobody can tell: convert it with "
            'pd.to_datetime(..., unit="ms", utc=True), with "s", "us" or "ns" where it counts those'
        )
    try:
        with warnings.catch_warnings():  # text without a form of its own is read all the same, or is an error below
            warnings.filterwarnings("ignore", "Could not infer format")
            read = pd.to_datetime(values, utc=True)
    except (ValueError, TypeError, OverflowError) as error:
        first = str(error).splitlines()[0].split(". You might")[0]
        raise BacktestError(
            f"timestamp of the {whose} cannot be read ({first}): write all of them in one form, all with a zone or "
            "all without, and convert them with pd.to_datetime(..., utc=True)"
        ) from None
    return pd.DatetimeIndex(read).as_unit("ms")


def _check_order(rows: pd.DataFrame) -> None:
    """Raise BacktestError where the history of an instance begins after its replay has ended.

    Instances may have lived at different times, and a stretch of the replay may lie before or within the history:
    whoever hands over chosen days means them.
    """
    swapped = rows[~rows["replayed"] & (_edge(rows, False, "min") > _edge(rows, True, "max"))]
    if len(swapped):
        name = swapped["instance_id"].iloc[0]
        ended = rows.loc[(rows["instance_id"] == name) & rows["replayed"], "timestamp"].max()
        count, of = swapped["instance_id"].nunique(), rows["instance_id"].nunique()
        raise BacktestError(
            f"the history of {name} begins at {swapped['timestamp'].iloc[0]}, after its replay ended at {ended}; so "
            f"it is with {count} of {of} instances: are the two swapped?"
        )


def early_rows(rows: pd.DataFrame) -> int:
    """Number of replay rows that are older than their instance's history: the first model knew what came after."""
    return int((rows["replayed"] & (rows["timestamp"] < _edge(rows, False, "max"))).sum())


def _edge(rows: pd.DataFrame, replayed: bool, which: str) -> pd.Series:
    """The "min" or "max" moment of each row's instance in the replay or in the history, NaT where it has none there."""
    found = rows[rows["replayed"] == replayed].groupby("instance_id")["timestamp"].agg(which)
    return rows["instance_id"].map(found)


def _metric(column: str, place: int, catalogue: Catalogue) -> Metric:
    """The catalogue's metric of that name or alias, else one without bounds whose harmful direction is unknown."""
    for metric in catalogue.metrics:
        if column == metric.name or column in metric.aliases:
            return metric
    return Metric(name=f"column_{place}", namespace="Backtest", metric=column)


def usual_period(rows: pd.DataFrame) -> int:
    """Usual distance between two rows of an instance in whole seconds, of rows marked as ``replayed`` or not.

    It is that of the history. Where no instance has two rows there, it is the first distance that the replay shows:
    what comes later must not change what was told before.
    """
    past = _steps(rows[~rows["replayed"]])
    if not len(past):
        replayed = rows[rows["replayed"]]
        steps = _steps(replayed)
        ends = replayed.loc[steps.index, "timestamp"]
        past = steps[ends == ends.min()]
    return max(1, round(float(past.median().total_seconds()))) if len(past) else USUAL_PERIOD_S


def _steps(rows: pd.DataFrame) -> pd.Series:
    """Distance of each row to the one before it of its instance, without the first ones."""
    return rows.groupby("instance_id")["timestamp"].diff().dropna()
