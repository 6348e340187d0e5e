"""A made-up folder in the layout of NAB: two files, and the null and the perfect detector."""

import json

import numpy as np
import pandas as pd
import pytest

from bench.external.scoring import PROFILES

ROWS, WINDOW = 600, (300, 359)
NAMES = ("realAWSCloudwatch/cpu_a.csv", "realAWSCloudwatch/cpu_b.csv")


def write_csv(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(columns).to_csv(path, index=False)


def write_json(path, document):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")


@pytest.fixture
def nab(tmp_path):
    """Return a folder of two series of 600 rows, the first 90 (45 hours) for learning, with a burst of 60 rows."""
    times = pd.Series(pd.date_range("2026-01-01", periods=ROWS, freq="30min"))
    text = times.dt.strftime("%Y-%m-%d %H:%M:%S")
    rows = np.arange(ROWS)
    inside = (rows >= WINDOW[0]) & (rows <= WINDOW[1])
    window = [f"{times[row]:%Y-%m-%d %H:%M:%S}.000000" for row in WINDOW]
    for seed, name in enumerate(NAMES):
        folder, file = name.split("/")
        value = 40 + np.random.default_rng(seed).normal(0, 1, ROWS) + 50 * inside
        write_csv(tmp_path / "data" / name, timestamp=text, value=value)
        scores = {"null": np.full(ROWS, 0.5), "perfect": (rows == WINDOW[0]).astype(float)}
        for detector, score in scores.items():
            path = tmp_path / "results" / detector / folder / f"{detector}_{file}"
            write_csv(path, timestamp=text, value=value, anomaly_score=score, label=inside.astype(int))
    write_json(tmp_path / "labels" / "combined_windows.json", {name: [window] for name in NAMES})
    threshold = {profile.key: {"score": 0.0, "threshold": 0.75} for profile in PROFILES}
    write_json(tmp_path / "config" / "thresholds.json", {"null": threshold, "perfect": threshold})
    return tmp_path
