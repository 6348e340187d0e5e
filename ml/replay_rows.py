"""The rows of a replay, checked: history and what came next in one frame, and which metric each column is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from ml.catalogue import Metric
from ml.space import KEY

if TYPE_CHECKING:
    from ml.catalogue import Catalogue


class BacktestError(ValueError):
    """The rows or options cannot be replayed; the message says what to change."""


def joined_rows(
    history: pd.DataFrame, replay: pd.DataFrame, catalogue: Catalogue
) -> tuple[pd.DataFrame, list[tuple[Metric, str]]]:
    """History and replay in one frame sorted by key with a ``replayed`` mark, and the metric of each column.

    The columns are the numeric ones that both have. Raises BacktestError where there is none, no row, or a key that is
    absent or repeated.
    """
    for name, frame in (("history", history), ("replay", replay)):
        absent = [key for key in KEY if key not in frame.columns]
        if absent:
            raise BacktestError(f"the {name} has no column {' and no '.join(absent)}: name the columns so")
        if not len(frame):
            raise BacktestError(f"the {name} has no rows")
    shared = [column for column in history.columns if column in replay.columns and column not in KEY]
    columns = [column for column in shared if pd.api.types.is_numeric_dtype(history[column].dtype)]
    columns = [column for column in columns if pd.api.types.is_numeric_dtype(replay[column].dtype)]
    if not columns:
        raise BacktestError("history and replay share no numeric column: there is nothing to watch")
    named = [(_metric(str(column), place, catalogue), column) for place, column in enumerate(columns)]
    if len({metric.name for metric, _ in named}) < len(named):
        raise BacktestError(f"two of the columns {', '.join(map(str, columns[:8]))} are the same metric: drop one")
    frames = []
    for replayed, frame in ((False, history), (True, replay)):
        taken = frame[[*KEY, *columns]].rename(columns={column: metric.name for metric, column in named})
        if taken["instance_id"].isna().any() or taken["timestamp"].isna().any():
            raise BacktestError("some rows have no instance_id or no timestamp: drop them")
        moments = pd.to_datetime(taken["timestamp"], utc=True)
        frames.append(
            taken.assign(
                instance_id=taken["instance_id"].astype(str),
                timestamp=pd.DatetimeIndex(moments).as_unit("ms"),
                replayed=replayed,
            )
        )
    rows = pd.concat(frames, ignore_index=True).sort_values(KEY, kind="stable", ignore_index=True)
    repeated = rows.duplicated(KEY)
    if repeated.any():
        first = rows[repeated].iloc[0]
        raise BacktestError(
            f"{int(repeated.sum())} rows repeat an (instance_id, timestamp), the first is {first['instance_id']} at "
            f"{first['timestamp']}: keep one row each, or give rows of different instances different names"
        )
    return rows, named


def _metric(column: str, place: int, catalogue: Catalogue) -> Metric:
    """The catalogue's metric of that name or alias, else one without bounds whose harmful direction is unknown."""
    for metric in catalogue.metrics:
        if column == metric.name or column in metric.aliases:
            return metric
    return Metric(name=f"column_{place}", namespace="Backtest", metric=column)


def usual_period(rows: pd.DataFrame) -> int:
    """Usual distance between two rows of an instance in whole seconds."""
    steps = rows.groupby("instance_id")["timestamp"].diff().dropna()
    return max(1, round(float(steps.median().total_seconds()))) if len(steps) else 300
