"""Episodes and incidents of a labelled replay, counted as the budget counts alerts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from riskwatch_lambda.episode_rule import EXPIRE_AFTER_MS
from riskwatch_ml.backtest.inputs import checked_labels
from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.model.boundaries import MERGE_MS, count_episodes

if TYPE_CHECKING:
    from riskwatch_ml.core.arrays import BoolArray, FloatArray, IntArray

NEAR = pd.Timedelta(minutes=10)


class ReportError(UserInputError):
    """The labels do not fit the replay; the message says how."""


def episodes(rows: pd.DataFrame) -> pd.DataFrame:
    """Episodes of labelled rows: instance_id, start, end, rows (that are alerts), peak score, first and last (row).

    Runs of alert rows closer than 15 minutes are one episode; ``alerts`` is what it counts as: one, and one more for
    every full hour.
    """
    alert = rows["alert"].to_numpy(bool)
    found = _stretches(rows, alert, MERGE_MS)
    ms = _epoch_ms(rows)
    counts = []
    for first, last in zip(found["first"], found["last"], strict=True):
        own = slice(first, last + 1)
        counts.append(count_episodes(alert[own], np.zeros(last + 1 - first, np.int64), ms[own]))
    return found.assign(alerts=np.array(counts, np.int64))


def given_labels(rows: pd.DataFrame, labels: pd.DataFrame) -> FloatArray:
    """The label of each labelled row, NaN where it has none.

    Raises BacktestError for labels that cannot be read, and ReportError where none of them is of a labelled row.
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
    """Incidents, where ``label`` (n,) is above 0, like episodes: with ``met``, and ``delay_min`` to the first alert."""
    found = _stretches(rows, label > 0)
    alert, moments = rows["alert"].to_numpy(bool), rows["timestamp"]
    delays = []
    for first, last in zip(found["first"], found["last"], strict=True):
        hits = np.flatnonzero(alert[first : last + 1])
        delay = (moments.iloc[first + hits[0]] - moments.iloc[first]).total_seconds() / 60 if len(hits) else np.nan
        delays.append(delay)
    return found.assign(met=np.isfinite(delays), delay_min=delays)


def near(told: pd.DataFrame, truth: pd.DataFrame) -> BoolArray:
    """Which episodes lie within ten minutes of an incident of their instance, (n,)."""
    found = np.zeros(len(told), bool)
    for number, episode in enumerate(told.itertuples()):
        own = truth[truth["instance_id"] == episode.instance_id]
        found[number] = ((own["start"] <= episode.end + NEAR) & (own["end"] >= episode.start - NEAR)).any()
    return found


def _stretches(rows: pd.DataFrame, mask: BoolArray, merge_ms: int = 0) -> pd.DataFrame:
    """Runs of True within an instance, rows sorted by instance and time; runs up to ``merge_ms`` apart are one.

    None goes on after a day without a row.
    """
    place = np.flatnonzero(mask)
    code, ms = pd.factorize(rows["instance_id"])[0][place], _epoch_ms(rows)[place]
    begins = np.ones(len(place), bool)
    begins[1:] = (np.diff(code) != 0) | ((np.diff(place) > 1) & (np.diff(ms) > merge_ms))
    begins[1:] |= np.diff(ms) > EXPIRE_AFTER_MS
    starts = np.flatnonzero(begins)
    stops = np.append(starts[1:], len(place))[: len(starts)]
    first, last = place[starts], place[stops - 1]
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
