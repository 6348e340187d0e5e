"""One model small enough to work out by hand: one feature, one instance, one member of two rows and one of one row."""

import numpy as np
import pandas as pd

E1 = np.e - 1  # squash(E1) = 1


def one_stage(prototypes, labels):
    return {"stages": [{"prototypes": prototypes, "labels": labels, "radius": None, "outside": None}], "table": None}


def document(direction="up", exhaustion=None, threshold=1.0):
    return {
        "features": ["a"],
        "bounds": [[0, None]],
        "directions": [direction],
        "exhaustion": [exhaustion],
        "baselines": {"instances": {"i": 0}, "roles": {}, "fleet": 1},
        "level": {"map": one_stage("level", [0, 1]), "names": ["Idle", "High Load"]},
        "members": [
            {"window": 2, "weight": 1.0, "boundary": "two", "map": one_stage("p2", [0])},
            {"window": 1, "weight": 3.0, "boundary": "one", "map": one_stage("p1", [0])},
        ],
        "rule": {"m": 1, "n": 1, "close_rows": 2, "paging_threshold": threshold, "cooldown_s": 3600, "group_s": 900},
        "context_rows": 2,
        "max_gap_s": 1800,
    }


ARRAYS = {
    "center": np.stack([np.full((24, 1), 10.0), np.full((24, 1), 0.0)]),
    "scale": np.ones((2, 24, 1)),
    "level_center": np.array([10.0]),
    "level_scale": np.array([1.0]),
    "level": np.array([[0.0], [1.0]]),
    "p2": np.array([[0.0, 0.0]]),
    "p1": np.array([[0.0]]),
    "two": np.array([0.5, 5.0]),
    "one": np.array([2.0, 5.0]),
}


def rows(values, instance="i", step="5min"):
    times = pd.date_range("2026-11-01", periods=len(values), freq=step, tz="UTC").as_unit("ms")
    return pd.DataFrame({"instance_id": instance, "timestamp": times, "a": values})
