"""Episodes and incidents of a replay."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from riskwatch_lambda.episode_rule import is_expired
from riskwatch_ml.backtest.inputs import checked_labels
from riskwatch_ml.core.errors import UserInputError

if TYPE_CHECKING:
    from riskwatch_ml.core.arrays import BoolArray, FloatArray, IntArray

NEAR = pd.Timedelta(minutes=10)
MERGE_MS = 15 * 60_000


class ReportError(UserInputError):
    """The labels do not match the replay; the message says why."""


def episodes(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the episodes of labelled rows, which are sorted by instance and time; each is one page.

    The columns are instance_id, start and end (UTC), rows (the number of alert rows), peak (highest score), first and
    last (positions in ``rows``). Runs of alert rows closer than 15 minutes are one episode.
    """
    return _stretches(rows, rows["alert"].to_numpy(bool), MERGE_MS)


def given_labels(rows: pd.DataFrame, labels: pd.DataFrame) -> FloatArray:
    """Return the label of each row, (n,), NaN for rows without one.

    Raises BacktestError if the labels cannot be read, ReportError if none of them belongs to one of the rows.
    """
    keys = checked_labels(labels)
    joined = rows[["instance_id", "timestamp"]].merge(keys, on=["instance_id", "timestamp"], how="left")
    if not joined["label"].notna().any():
        raise ReportError(
            f"none of the {len(keys):,} labels is of a replay row: the labels begin with {_first(keys)}, the replay "
            f"with {_first(rows)}; both need the same instances and times, and a time without a zone is read as UTC"
        )
    given: FloatArray = joined["label"].to_numpy(float)
    return given


def incidents(rows: pd.DataFrame, label: FloatArray) -> pd.DataFrame:
    """Return the incidents: runs of rows with a ``label`` (n,) above 0.

    The columns are those of ``episodes``, with ``met`` and ``delay_min``, the minutes to the first alert.
    """
    spans = _stretches(rows, label > 0)
    alert, moments = rows["alert"].to_numpy(bool), rows["timestamp"]
    delays = []
    for first, last in zip(spans["first"], spans["last"], strict=True):
        hits = np.flatnonzero(alert[first : last + 1])
        delay = (moments.iloc[first + hits[0]] - moments.iloc[first]).total_seconds() / 60 if len(hits) else np.nan
        delays.append(delay)
    return spans.assign(met=np.isfinite(delays), delay_min=delays)


def near(alerted: pd.DataFrame, truth: pd.DataFrame) -> BoolArray:
    """Return a mask (n,) of the episodes within ten minutes of an incident."""
    mask = np.zeros(len(alerted), bool)
    for number, episode in enumerate(alerted.itertuples()):
        known = truth[truth["instance_id"] == episode.instance_id]
        mask[number] = ((known["start"] <= episode.end + NEAR) & (known["end"] >= episode.start - NEAR)).any()
    return mask


def _stretches(rows: pd.DataFrame, mask: BoolArray, merge_ms: int = 0) -> pd.DataFrame:
    """Return the runs of True in a mask of rows.

    The rows are sorted by instance and time. Runs of an instance that are at most ``merge_ms`` apart are one. A day
    without a row ends a run.
    """
    index = np.flatnonzero(mask)
    code, ms = pd.factorize(rows["instance_id"])[0][index], _epoch_ms(rows)[index]
    begins = np.ones(len(index), bool)
    begins[1:] = (np.diff(code) != 0) | ((np.diff(index) > 1) & (np.diff(ms) > merge_ms))
    begins[1:] |= np.array([is_expired(before, now) for before, now in pairwise(ms.tolist())], bool)
    starts = np.flatnonzero(begins)
    stops = np.append(starts[1:], len(index))[: len(starts)]
    first, last = index[starts], index[stops - 1]
    score = rows["score"].to_numpy()
    return pd.DataFrame(
        {
            "instance_id": rows["instance_id"].to_numpy()[first],
            "start": rows["timestamp"].iloc[first].to_numpy(),
            "end": rows["timestamp"].iloc[last].to_numpy(),
            "rows": stops - starts,
            "peak": [float(np.nanmax(score[a : b + 1], initial=0.0)) for a, b in zip(first, last, strict=True)],
            "first": first,
            "last": last,
        }
    ).assign(start=lambda x: pd.to_datetime(x["start"], utc=True), end=lambda x: pd.to_datetime(x["end"], utc=True))


def _epoch_ms(rows: pd.DataFrame) -> IntArray:
    ms: IntArray = rows["timestamp"].dt.as_unit("ms").astype("int64").to_numpy()
    return ms


def _first(rows: pd.DataFrame) -> str:
    return f"{rows['instance_id'].iloc[0]} at {rows['timestamp'].iloc[0]}"
