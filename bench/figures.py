"""Figures of labels against truth: VUS-PR, Fc1, false alerts a day, delay.

VUS-PR is threshold-free (``riskwatch_ml.selection.vus``, buffer of at most an hour). Fc1 is the harmonic mean of row
precision and event recall, without point adjustment. Alert runs closer than 15 minutes form one episode, an episode
counts again for every full hour, and an episode within 10 minutes of an incident is not false. All figures are per
instance.

``pages`` are the episodes of an instance, however long, ``near_pages`` those near an incident, ``days`` the days of its
rows: ``pooled`` makes pages a day and page precision of them, over the instances of a set.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from riskwatch_ml.selection.vus import runs, vus_pr

MERGE_MIN, NEAR_MIN, RENOTIFY_MIN = 15, 10, 60
FIGURES = ("VUS_PR", "Fc1", "precision", "recall", "fa_day", "delay")
COUNTS = ("pages", "near_pages", "days")


def of_replay(labels: pd.DataFrame, labelled: pd.DataFrame, buffer_rows: int | None = None) -> pd.DataFrame:
    """Return the figures of every instance: one row each, indexed by instance_id.

    ``labels`` has instance_id, timestamp and label (0/1), ``labelled`` has instance_id, timestamp, score and alert.
    ``buffer_rows`` is the buffer of VUS-PR, by default an hour. Raises ValueError if a labelled row has no score.
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
    """Return the figures of alerts (n,) against incidents (n,).

    Rows are ``step`` minutes apart and in time order.
    """
    starts, ends = runs(truth)
    delays = [
        float(np.argmax(alert[low:high]) * step)
        for low, high in zip(starts, ends, strict=True)
        if alert[low:high].any()
    ]
    near = np.zeros(len(truth), bool)
    for low, high in zip(starts, ends, strict=True):
        near[max(0, low - NEAR_MIN // step) : high + NEAR_MIN // step] = True
    pages = _episodes(alert, step)
    false = sum(not near[low:high].any() for low, high in _alert_runs(alert, step))
    precision = float((alert & truth).sum() / alert.sum()) if alert.any() else 0.0
    recall = len(delays) / len(starts) if len(starts) else float("nan")
    both = precision + recall
    return {
        "Fc1": float("nan") if not len(starts) else 2 * precision * recall / both if both else 0.0,
        "precision": precision if len(starts) else float("nan"),
        "recall": recall,
        "fa_day": false / max(float((~near).sum()) * step / 1440, 1e-9),
        "delay": float(np.median(delays)) if delays else float("nan"),
        "pages": len(pages),
        "near_pages": sum(bool(near[low:high].any()) for low, high in pages),
        "days": len(truth) * step / 1440,
    }


def pooled(counts: pd.DataFrame) -> pd.DataFrame:
    """Return pages a day and instance, and page precision, from sums of the counts."""
    return pd.DataFrame(
        {"pages_day": counts["pages"] / counts["days"], "page_precision": counts["near_pages"] / counts["pages"]}
    )


def _alert_runs(alert: np.ndarray, step: int) -> list[tuple[int, int]]:
    """Return the alerts that an operator receives, as [low, high) in rows: episodes, cut every hour."""
    hour = max(1, RENOTIFY_MIN // step)
    return [
        (start, min(start + hour, high)) for low, high in _episodes(alert, step) for start in range(low, high, hour)
    ]


def _episodes(alert: np.ndarray, step: int) -> list[tuple[int, int]]:
    """Return the alert runs, merged across short pauses, as [low, high) in rows."""
    starts, ends = runs(alert)
    merged: list[list[int]] = []
    for low, high in zip(starts.tolist(), ends.tolist(), strict=True):
        if merged and low - (merged[-1][1] - 1) <= MERGE_MIN // step:
            merged[-1][1] = high
        else:
            merged.append([low, high])
    return [(low, high) for low, high in merged]
