"""The checked input of a backtest: history and replay in one frame."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.families import FAMILIES
from riskwatch_ml.features.training_set import KEY, repeated_keys
from riskwatch_ml.schema.metric import Metric

if TYPE_CHECKING:
    from collections.abc import Mapping

    from riskwatch_ml.model.page_budget import PageBudget
    from riskwatch_ml.schema.catalogue import Catalogue

AUTO = "auto"
MIN_REFIT_HOURS = 1 / 60
USUAL_PERIOD_S = 300  # if no instance has two rows
RESULTS = ("score", "alert", "risk", "level", "unusual")  # columns that a replay adds
WHOLE = 2**53  # up to here a float holds every whole number


class BacktestError(UserInputError):
    """The rows or options cannot be used; the message says what to change."""


def joined_rows(
    history: pd.DataFrame, replay: pd.DataFrame, catalogue: Catalogue
) -> tuple[pd.DataFrame, list[tuple[Metric, str]]]:
    """Return history and replay in one frame, and the metric of each column.

    The frame is sorted by key and has the numeric columns that both have; ``replayed`` marks the rows of the replay.

    Raises BacktestError if there is no such column or no row, if a key is absent, unreadable or repeated, or if the
    history of an instance comes after its replay.
    """
    for name, frame in (("history", history), ("replay", replay)):
        absent = [key for key in KEY if key not in frame.columns]
        if absent:
            raise BacktestError(f"the {name} has no column {' and no '.join(absent)}: name the columns so")
        if not len(frame):
            raise BacktestError(f"the {name} has no rows")
    ignored = unwatched(history, replay)
    columns = [column for column in history.columns if column not in ignored and column not in KEY]
    if not columns:
        raise BacktestError(f"history and replay share no numeric column: there is nothing to watch{_unused(ignored)}")
    metrics = [(_metric(str(column), position, catalogue), column) for position, column in enumerate(columns)]
    if len({metric.name for metric, _ in metrics}) < len(metrics):
        raise BacktestError(f"two of the columns {', '.join(map(str, columns[:8]))} are the same metric: drop one")
    frames = []
    for replayed, name, frame in ((False, "history", history), (True, "replay", replay)):
        part = frame[[*KEY, *columns]].rename(columns={column: metric.name for metric, column in metrics})
        frames.append(
            part.assign(
                instance_id=instances(part["instance_id"], name),
                timestamp=moments(part["timestamp"], name),
                replayed=replayed,
            )
        )
    rows = pd.concat(frames, ignore_index=True).sort_values(KEY, kind="stable", ignore_index=True)
    _check_order(rows)
    if repeats := repeated_keys(rows, "rows"):
        raise BacktestError(f"{repeats}: keep one row each, or give rows of different instances different names")
    return rows, metrics


def unwatched(history: pd.DataFrame, replay: pd.DataFrame) -> dict[Any, str]:
    """Return the columns, except keys, that cannot be watched, each with the reason."""
    reasons = {}
    for column in dict.fromkeys([*history.columns, *replay.columns]):
        absent = [name for name, frame in (("history", history), ("replay", replay)) if column not in frame.columns]
        if column in KEY:
            continue
        if absent:
            reasons[column] = f"not in the {absent[0]}"
            continue
        kinds = {name: frame[column].dtype for name, frame in (("history", history), ("replay", replay))}
        odd = [name for name, kind in kinds.items() if not pd.api.types.is_numeric_dtype(kind)]
        if odd:
            reasons[column] = f"{kinds[odd[0]]} in the {odd[0]}, not a number"
    return reasons


def checked_labels(labels: pd.DataFrame) -> pd.DataFrame:
    """Return labels with the keys of a replay.

    The columns are instance_id, timestamp (UTC) and label, 0 or 1.

    Raises BacktestError if a column is absent, a label is not a number, or a key is absent, unreadable or repeated.
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


def _unused(left: Mapping[Any, str]) -> str:
    """Return the first few unwatched columns in brackets, empty if there are none."""
    return f" ({', '.join(f'{column}: {why}' for column, why in list(left.items())[:4])})" if left else ""


def shown_columns(metrics: list[tuple[Metric, str]]) -> dict[str, str]:
    """Return the column of each metric in the result, by the metric's name.

    A column with the name of a result gets the suffix " (metric)".
    """
    taken = {*RESULTS, *(column for _, column in metrics)}
    columns = {}
    for metric, column in metrics:
        unique = column
        while column in RESULTS and unique in taken:
            unique = f"{unique} (metric)"
        columns[metric.name] = unique
    return columns


def instances(values: pd.Series, frame: str) -> pd.Series:
    """Return instance ids as text; whole numbers of any type have no fraction.

    Raises BacktestError, with ``frame`` as the name of the frame, if one is absent.
    """
    if values.isna().any():
        raise BacktestError(f"some rows of the {frame} have no instance_id: drop them")
    if pd.api.types.is_float_dtype(values.dtype):
        number = values.to_numpy(np.float64)
        if (number == np.round(number)).all() and (np.abs(number) < WHOLE).all():
            values = values.astype("int64")
    return values.astype(str)


def moments(values: pd.Series, frame: str) -> pd.DatetimeIndex:
    """Return timestamps in UTC with milliseconds; a timestamp without a zone is UTC.

    Raises BacktestError, with ``frame`` as the name of the frame, if one is absent, a number, or unreadable.
    """
    if values.isna().any():
        raise BacktestError(f"some rows of the {frame} have no timestamp: drop them")
    kind = pd.api.types.infer_dtype(values)
    if pd.api.types.is_numeric_dtype(values.dtype) or kind in ("integer", "floating", "mixed-integer-float", "decimal"):
        number = next(iter(values), values.dtype)
        raise BacktestError(
            f"timestamp of the {frame} is a number ({number}) of unknown unit: convert it with "
            'pd.to_datetime(..., unit="ms", utc=True), or with unit "s", "us" or "ns"'
        )
    try:
        with warnings.catch_warnings():  # pandas can read text of unknown format, or raises the error below
            warnings.filterwarnings("ignore", "Could not infer format")
            parsed = pd.to_datetime(values, utc=True)
    except (ValueError, TypeError, OverflowError) as error:
        first = str(error).splitlines()[0].split(". You might")[0]
        raise BacktestError(
            f"timestamp of the {frame} cannot be read ({first}): write all of them in one format, all with a zone or "
            "all without, and convert them with pd.to_datetime(..., utc=True)"
        ) from None
    return pd.DatetimeIndex(parsed).as_unit("ms")


def _check_order(rows: pd.DataFrame) -> None:
    """Raise BacktestError if the history of an instance begins after its replay.

    Instances may have existed at different times. A part of the replay may lie before or within the history, because
    the user can choose the days.
    """
    swapped = rows[~rows["replayed"] & (_edge(rows, False, "min") > _edge(rows, True, "max"))]
    if len(swapped):
        name = swapped["instance_id"].iloc[0]
        ended = rows.loc[(rows["instance_id"] == name) & rows["replayed"], "timestamp"].max()
        count, total = swapped["instance_id"].nunique(), rows["instance_id"].nunique()
        raise BacktestError(
            f"the history of {name} begins at {swapped['timestamp'].iloc[0]}, after its replay ended at {ended}, as "
            f"it does for {count} of {total} instances: are the two swapped?"
        )


def early_rows(rows: pd.DataFrame) -> int:
    """Return the number of replay rows that are older than their instance's history.

    The first model has learned from what came after them.
    """
    return int((rows["replayed"] & (rows["timestamp"] < _edge(rows, False, "max"))).sum())


def _edge(rows: pd.DataFrame, replayed: bool, which: str) -> pd.Series:
    """Return the "min" or "max" time of each row's instance in replay or history.

    It is NaT if the instance has no row there.
    """
    edges = rows[rows["replayed"] == replayed].groupby("instance_id")["timestamp"].agg(which)
    return rows["instance_id"].map(edges)


def _metric(column: str, position: int, catalogue: Catalogue) -> Metric:
    """Return the catalogue's metric of that name or alias.

    Another column is a metric without bounds, of unknown harmful direction.
    """
    for metric in catalogue.metrics:
        if column == metric.name or column in metric.aliases:
            return metric
    return Metric(name=f"column_{position}", namespace="Backtest", metric=column)


def usual_period(rows: pd.DataFrame) -> int:
    """Return the usual distance between two rows of an instance in whole seconds.

    It is the median in the history. If no instance has two rows there, it is the first distance in the replay, so that
    later rows do not change the labels of earlier ones. ``rows`` have the mark ``replayed``.
    """
    steps = _steps(rows[~rows["replayed"]])
    if not len(steps):
        replayed = rows[rows["replayed"]]
        replay_steps = _steps(replayed)
        ends = replayed.loc[replay_steps.index, "timestamp"]
        steps = replay_steps[ends == ends.min()]
    return max(1, round(float(steps.median().total_seconds()))) if len(steps) else USUAL_PERIOD_S


def _steps(rows: pd.DataFrame) -> pd.Series:
    """Return the distance of each row to the previous row of its instance.

    First rows are left out.
    """
    return rows.groupby("instance_id")["timestamp"].diff().dropna()


def check_options(family: str, budget: PageBudget | None, refit_hours: float) -> None:
    """Raise BacktestError for an unknown family, or a number that is not above its limit."""
    if family != AUTO and family not in FAMILIES:
        raise BacktestError(f"family {family!r} is unknown: use {AUTO} or one of {', '.join(FAMILIES)}")
    if budget is not None and not 0 < budget.pages < np.inf:
        raise BacktestError(f"{budget.pages} pages for each instance and day are no budget: use a number above 0")
    if not MIN_REFIT_HOURS <= refit_hours < np.inf:
        raise BacktestError(f"refit-hours {refit_hours} must be at least {MIN_REFIT_HOURS:.3f}, a minute")
