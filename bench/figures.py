"""Figures of labels against truth, as operators meet them: VUS-PR, Fc1, false alerts a day, delay.

VUS-PR is threshold-free (``riskwatch_ml.selection.vus``, buffer of at most an hour). Fc1 is the harmonic mean of row
precision and event recall, without point adjustment. Alert runs closer than 15 minutes are one episode, an episode
counts again for every full hour, and one within 10 minutes of an incident is not false. All are per instance; means are
the reader's.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from riskwatch_ml.selection.vus import runs, vus_pr

MERGE_MIN, NEAR_MIN, RENOTIFY_MIN = 15, 10, 60
FIGURES = ("VUS_PR", "Fc1", "precision", "recall", "fa_day", "delay")


def of_replay(labels: pd.DataFrame, labelled: pd.DataFrame, buffer_rows: int | None = None) -> pd.DataFrame:
    """Figures of every instance: one row each, indexed by instance_id.

    ``labels`` has instance_id, timestamp and label (0/1), ``labelled`` instance_id, timestamp, score and alert.
    ``buffer_rows`` is the buffer of VUS-PR, an hour without it. Raises ValueError where a labelled row has no score.
    """
    joined = labels.merge(labelled, on=["instance_id", "timestamp"], how="left", validate="1:1")
    if joined["score"].isna().any():
        raise ValueError(f"{int(joined['score'].isna().sum())} labelled rows have no score")
    rows = []
    for instance, part in joined.sort_values("timestamp").groupby("instance_id"):
        step = max(1, round(float(part["timestamp"].diff().median().total_seconds()) / 60))
        truth, alert = part["label"].to_numpy(bool), part["alert"].to_numpy(bool)
        buffer = RENOTIFY_MIN // step if buffer_rows is None else buffer_rows
        volume = vus_pr(truth, part["score"].to_numpy(float), buffer)
        rows.append({"instance_id": instance, "VUS_PR": volume, **alert_figures(truth, alert, step)})
    return pd.DataFrame(rows).set_index("instance_id")


def alert_figures(truth: np.ndarray, alert: np.ndarray, step: int) -> dict[str, float]:
    """Figures of alerts (n,) against incidents (n,), rows ``step`` minutes apart in time order."""
    starts, ends = runs(truth)
    delays = [
        float(np.argmax(alert[low:high]) * step)
        for low, high in zip(starts, ends, strict=True)
        if alert[low:high].any()
    ]
    near = np.zeros(len(truth), bool)
    for low, high in zip(starts, ends, strict=True):
        near[max(0, low - NEAR_MIN // step) : high + NEAR_MIN // step] = True
    false = sum(not near[low:high].any() for low, high in _told(alert, step))
    precision = float((alert & truth).sum() / alert.sum()) if alert.any() else 0.0
    recall = len(delays) / len(starts) if len(starts) else float("nan")
    both = precision + recall
    return {
        "Fc1": float("nan") if not len(starts) else 2 * precision * recall / both if both else 0.0,
        "precision": precision if len(starts) else float("nan"),
        "recall": recall,
        "fa_day": false / max(float((~near).sum()) * step / 1440, 1e-9),
        "delay": float(np.median(delays)) if delays else float("nan"),
    }


def _told(alert: np.ndarray, step: int) -> list[tuple[int, int]]:
    """What an operator is told of: alert runs merged across short pauses and cut every hour."""
    starts, ends = runs(alert)
    hour = max(1, RENOTIFY_MIN // step)
    merged: list[list[int]] = []
    for low, high in zip(starts.tolist(), ends.tolist(), strict=True):
        if merged and low - (merged[-1][1] - 1) <= MERGE_MIN // step:
            merged[-1][1] = high
        else:
            merged.append([low, high])
    return [(at, min(at + hour, high)) for low, high in merged for at in range(low, high, hour)]
