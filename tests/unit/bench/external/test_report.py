"""The comparison: a score at the threshold is a page, and files are summed before they are normalised."""

import numpy as np
import pandas as pd
import pytest

from bench.external.folder import Detector, Series
from bench.external.report import OURS, compare, tables
from bench.external.scoring import PROFILES, Window

TIMES = pd.date_range("2026-01-01", periods=100, freq="5min", tz="UTC")
SERIES = [
    Series("folder/a.csv", TIMES, np.zeros(100), (Window(20, 29), Window(60, 69))),
    Series("folder/b.csv", TIMES, np.zeros(100), ()),
]
PAGES = {"folder/a.csv": np.array([20, 60]), "folder/b.csv": np.array([50])}


def detector(level):
    """Return a detector whose threshold is 0.5 and whose score in row 60 of the first series is a level."""
    scores = {one.name: np.zeros(100) for one in SERIES}
    scores["folder/a.csv"][60] = level
    return Detector("other", {profile.key: 0.5 for profile in PROFILES}, scores)


def lines_of(level):
    return {(line.profile, line.detector): line for line in compare(SERIES, PAGES, [detector(level)])}


@pytest.mark.parametrize(("level", "met"), [(0.5, 1), (0.4999, 0), (float("nan"), 0)])
def test_a_score_at_the_threshold_is_a_page(level, met):
    line = lines_of(level)["standard", "other"]
    assert (line.windows_met, line.windows, line.pages, line.threshold) == (met, 2, met, 0.5)


def test_files_are_summed():
    # GIVEN both windows met on their first row, and a page in the file without windows
    line = lines_of(0)["standard", OURS]

    # WHEN / THEN 100 (2 - 0.11 + 2) / 4
    assert line.score == pytest.approx(97.25)
    assert (line.pages, line.false_pages, line.threshold) == (3, 1, None)


def test_the_best_score_comes_first_in_each_table():
    # WHEN
    text = tables(compare(SERIES, PAGES, [detector(1.0)]))

    # THEN
    assert text.count("windows met") == 3
    rows = [line.split() for line in text.splitlines() if line.split()[:1] in ([OURS], ["other"])]
    assert [row[0] for row in rows] == [OURS, "other"] * 3
    assert rows[0] == [OURS, "97.2", "3", "2", "of", "2", "1", "–"]
    assert rows[1] == ["other", "50.0", "1", "1", "of", "2", "0", "0.5"]
