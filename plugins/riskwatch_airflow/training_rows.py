"""The rows that a training learns from: the newest days of one kind, without those of open episodes."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from riskwatch_airflow import intervals, past_episodes
from riskwatch_ml.core import clock
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd
    from airflow.sdk import Context

    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.features.history import History
    from riskwatch_ml.model.document import NewNormal
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.storage.bucket import Store

_log = logging.getLogger(__name__)


def end_of_rows(context: Context, store: Store, metrics: Catalogue) -> datetime:
    """Return the end of the newest hour that has rows, or now if that is earlier; rows ahead of now do not count.

    Fail if there is none, or skip on the schedule, or for a further kind.
    """
    layer = keys.of_kind(keys.VALIDATED, metrics)
    end = store.end_of_rows(layer, clock.now())
    if end is None:
        message = f"s3://{store.bucket}/{layer}/ has no rows to train on: run export_metrics for the days to learn from"
        # A new installation is no failure, nor is a kind without instances: the next run on the schedule tries again.
        is_failure = metrics.is_first and not intervals.is_scheduled(context)
        raise AirflowFailException(message) if is_failure else AirflowSkipException(message)
    return end


def require_enough(rows: pd.DataFrame, metrics: Catalogue) -> None:
    """Skip a further kind of which no instance has enough rows for a baseline."""
    from riskwatch_ml.features.baselines import suffices

    if metrics.is_first:
        return
    moments = rows.groupby("instance_id")["timestamp"].agg(["size", "min", "max"])
    span_ms = ((moments["max"] - moments["min"]) / timedelta(milliseconds=1)).to_numpy()
    if not suffices(moments["size"].to_numpy(), span_ms).any():
        raise AirflowSkipException(
            f"{metrics.kind} has too few rows to learn from ({len(rows)} rows of {len(moments)} instances, none with "
            "enough for a baseline): what serves stays, and a later training tries again"
        )


def history(store: Store, config: Settings, kind: Catalogue, end: datetime) -> tuple[History, int, str]:
    """Return the rows to learn from, the bytes that a train task holds for them, and a note on unreadable hours.

    Warn if the rows are too many. Fail if no hour can be read.
    """
    from functools import partial

    from riskwatch_ml.features import history as features_history

    metrics, layer = len(kind.names), keys.of_kind(keys.VALIDATED, kind)
    start = end - timedelta(days=config.history_days)
    limit = features_history.most_rows(metrics, config.period_s)
    damaged: list[str] = []
    collected = features_history.collect(partial(store.read_hours, layer, damaged=damaged), start, end, limit)
    if damaged and not len(collected.rows):
        raise AirflowFailException(f"no hour of {layer}/ can be read; the first: {damaged[0]}")
    held_bytes = features_history.held_bytes(len(collected.rows), metrics, config.period_s)
    if collected.note:
        _log.warning("%s", collected.note)
    if len(collected.rows) > limit:
        _log.warning(
            "the newest days alone are %d rows, for which a train task needs about %.1f GB: give the workers as much, "
            "export with a longer period_s, or split the fleet between two installations",
            len(collected.rows),
            held_bytes / 1e9,
        )
    unreadable = f"{len(damaged)} objects of {layer}/ that cannot be read" if damaged else ""
    return collected, held_bytes, unreadable


def without_episodes(config: Settings, rows: pd.DataFrame, end: datetime) -> tuple[pd.DataFrame, str, list[NewNormal]]:
    """Return the rows to learn from, a note on those left out, and the episodes that are learned as normal.

    Fail if no row is left.
    """
    import pandas as pd

    from riskwatch_ml.features.left_out import metric_changes, rows_left_out

    episodes = past_episodes.read(config, end - timedelta(days=config.history_days), end)
    code, names = pd.factorize(rows["instance_id"])
    ms = rows["timestamp"].dt.as_unit("ms").astype("int64").to_numpy()
    left_out = rows_left_out(list(names), code, ms, episodes, clock.epoch_ms(end), config.new_normal_hours)
    if not left_out.kept.any():
        raise AirflowFailException(
            f"all {len(rows)} rows lie in open episodes: what serves stays. Training goes on once an episode is over, "
            f"or older than new_normal_hours ({config.new_normal_hours})"
        )
    if left_out.note:
        _log.warning("left out: %s", left_out.note)
    new_normals: list[NewNormal] = [
        {"episode_id": episode.episode_id, "changes": metric_changes(rows, episode)} for episode in left_out.new_normals
    ]
    for entry in new_normals:
        _log.warning("learned as normal: %s, %s", entry["episode_id"], entry["changes"])
    kept = rows[left_out.kept].reset_index(drop=True) if left_out.note else rows
    return kept, left_out.note, new_normals
