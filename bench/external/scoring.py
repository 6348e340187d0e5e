"""The score of pages by the rules of the Numenta Anomaly Benchmark (NAB).

Source of the rules: A. Lavin and S. Ahmad, "Evaluating Real-time Anomaly Detection Algorithms – the Numenta Anomaly
Benchmark", ICMLA 2015. The costs of the profiles, the positions of rows, the probationary period and the far limit
agree with the scores and counts that NAB publishes for each file (results/<detector>/*_scores.csv).
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

PROBATION_SHARE = 0.15
PROBATION_FILE_ROWS = 5000  # a longer file has the probationary period of one of this length
STEEPNESS = 5.0
FAR = 3.0  # widths past a window; a page beyond costs as much as one before any window


@dataclass(frozen=True)
class Profile:
    """The costs of an application: of a page outside windows and of a missed window.

    A window with a page on its first row earns 1. ``key`` is the name in NAB's files.
    """

    key: str
    title: str
    false_page: float
    missed: float


PROFILES = (
    Profile("standard", "standard", 0.11, 1.0),
    Profile("reward_low_FP_rate", "reward low FP", 0.22, 1.0),
    Profile("reward_low_FN_rate", "reward low FN", 0.11, 2.0),
)


class Window(NamedTuple):
    """The first and the last row of a labelled anomaly, both inside."""

    first: int
    last: int


@dataclass(frozen=True)
class Tally:
    """What a profile scores, summed over files.

    ``gain`` sums the earliest pages of the windows, each from 0 to 1; ``false_gain`` sums the pages outside windows,
    each from -1 to 0.
    """

    windows: int = 0
    met: int = 0
    gain: float = 0.0
    pages: int = 0
    false_pages: int = 0
    false_gain: float = 0.0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))


def probation_rows(rows: int) -> int:
    """Return the length of the probationary period: its rows are for learning, and pages there do not count."""
    return int(PROBATION_SHARE * min(rows, PROBATION_FILE_ROWS))


def scaled_sigmoid(position: np.ndarray) -> np.ndarray:
    """Return 2 / (1 + exp(5 y)) - 1 of positions y relative to a window, and -1 beyond three widths.

    y is -1 at the left edge of the window, 0 at its right edge and positive after it.
    """
    position = np.asarray(position, float)
    return np.where(position > FAR, -1.0, -np.tanh(STEEPNESS / 2 * position))  # the same function, without overflow


def tally(pages: np.ndarray, windows: Sequence[Window], probation: int) -> Tally:
    """Count and weigh the pages (rows) of a file.

    ``windows`` are in order and do not overlap. Pages within the first ``probation`` rows are left out.
    """
    pages = np.unique(np.asarray(pages, np.int64))
    pages = pages[pages >= probation]
    if not windows:
        return Tally(pages=len(pages), false_pages=len(pages), false_gain=-float(len(pages)))
    first, last = np.array(windows).T
    number = np.searchsorted(first, pages, side="right") - 1  # of the last window that began, -1 before all
    inside = (number >= 0) & (pages <= last[number])
    met, earliest = np.unique(number[inside], return_index=True)
    begin, end = first[met], last[met]
    gain = scaled_sigmoid((pages[inside][earliest] - end - 1) / (end - begin + 1)) / scaled_sigmoid(np.array(-1.0))
    outside, before = pages[~inside], number[~inside]
    distance = (outside - last[before]) / np.maximum(last[before] - first[before], 1)
    false_gain = np.where(before < 0, -1.0, scaled_sigmoid(distance))
    return Tally(len(windows), len(met), float(gain.sum()), len(pages), len(outside), float(false_gain.sum()))


def raw_score(result: Tally, profile: Profile) -> float:
    """Return the score as NAB publishes it for a file: at most the number of windows, without a lower limit."""
    missed = result.windows - result.met
    return result.gain + profile.false_page * result.false_gain - profile.missed * missed


def normalised_score(result: Tally, profile: Profile) -> float:
    """Return the score with 0 for the null detector and 100 for the perfect one; NaN without a window."""
    if not result.windows:
        return float("nan")
    null = raw_score(Tally(windows=result.windows), profile)
    perfect = raw_score(Tally(windows=result.windows, met=result.windows, gain=result.windows), profile)
    return 100 * (raw_score(result, profile) - null) / (perfect - null)
