"""VUS-PR, the volume under the range-based precision-recall surface.

It is a threshold-free figure for scores of time series.

After Paparrizos, Boniol, Palpanas, Tsay, Elmore and Franklin, "Volume Under the Surface: A New Accuracy Evaluation
Measure for Time-Series Anomaly Detection", VLDB 2022. Labels are softened by a buffer of l rows around every incident
(sqrt(1 - distance / l) within l / 2 rows), recall is weighted by the share of incidents that are met at all, and the
area under precision over recall is averaged over l = 0..buffer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from riskwatch_ml.core.arrays import BoolArray, FloatArray, IntArray

THRESHOLDS = 250


def vus_pr(label: BoolArray, score: FloatArray, buffer: int) -> float:
    """Return VUS-PR, in [0, 1], of labels (n,) and scores (n,) in time order.

    ``buffer`` is in rows. The result is NaN if no row or every row is an incident.
    """
    label = np.asarray(label, bool)
    if not label.any() or label.all():
        return float("nan")
    starts, ends = runs(label)
    levels = _levels(score)
    order = np.argsort(-score, kind="stable")
    counts = np.searchsorted(-score[order], -levels, side="right")  # rows at or above each threshold
    hits = np.append(0, np.cumsum(label[order]))[counts]
    areas = []
    for length in range(buffer + 1):
        soft = soft_labels(label, starts, ends, length)
        half = length // 2
        highest = np.array(
            [score[max(0, low - half) : high + half].max() for low, high in zip(starts, ends, strict=True)]
        )
        met_share = (highest[None, :] >= levels[:, None]).mean(axis=1)
        true = np.append(0.0, np.cumsum(soft[order]))[counts]
        # Positives are half way between the hard and the soft labels, as far as the soft ones were reached.
        recall = np.minimum(true / (label.sum() + (true - hits) / 2), 1.0) * met_share
        areas.append(float((np.diff(recall, prepend=0.0) * true / counts).sum()))
    return float(np.mean(areas))


def runs(mask: BoolArray) -> tuple[IntArray, IntArray]:
    """Return the first row of every run of True, and the row after its last."""
    edges = np.diff(mask.astype(np.int8), prepend=0, append=0)
    return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)


def soft_labels(label: BoolArray, starts: IntArray, ends: IntArray, length: int) -> FloatArray:
    """Return labels (n,) with slopes before and after each incident.

    A slope has ``length // 2`` rows. Slopes that overlap add up to at most 1.
    """
    soft = label.astype(np.float64)
    slope = np.sqrt(1 - np.arange(1, length // 2 + 1) / max(length, 1))
    for low, high in zip(starts, ends, strict=True):
        after = min(len(slope), len(label) - high)
        before = min(len(slope), low)
        soft[high : high + after] += slope[:after]
        soft[low - before : low] += slope[:before][::-1]
    soft = np.minimum(soft, 1.0)
    soft[label] = 1.0
    return soft


def _levels(score: FloatArray) -> FloatArray:
    """Return at most 250 of the scores as thresholds, from highest to lowest.

    They are evenly spaced in rank.
    """
    descending = np.sort(score)[::-1]
    ranks = np.unique(np.linspace(0, len(score) - 1, THRESHOLDS).astype(int))
    return np.unique(descending[ranks])[::-1]
