import numpy as np
import pandas as pd

from ml.inject import KINDS, inject


def rows(names=("a", "b"), n=1440, seed=0):
    rng = np.random.default_rng(seed)
    times = pd.date_range("2026-11-01", periods=n, freq="5min", tz="UTC").as_unit("ms")
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "instance_id": name,
                    "timestamp": times,
                    "cpu": rng.normal(50, 5, n),
                    "flat": 3.0,
                    "queue": rng.random(n),
                }
            )
            for name in names
        ],
        ignore_index=True,
    )


FEATURES, BOUNDS = ["cpu", "flat", "queue"], [(0, 100), (None, None), (0, None)]


def test_only_labelled_rows_of_the_newest_fifth_change():
    # GIVEN / WHEN
    clean = rows()
    injected = inject(clean, FEATURES, BOUNDS, seed=1)
    # THEN the newest 288 rows of each are there, and differ from before nowhere but at labels
    before = clean.groupby("instance_id").tail(288).reset_index(drop=True)
    assert injected.rows[["instance_id", "timestamp"]].equals(before[["instance_id", "timestamp"]])
    changed = (injected.rows[FEATURES].to_numpy() != before[FEATURES].to_numpy()).any(axis=1)
    assert not (changed & ~injected.labels).any()
    assert changed.sum() > 0.9 * injected.labels.sum() > 20
    assert (injected.rows["flat"] == 3.0).all()


def test_values_stay_within_the_bounds_and_the_input_is_left_alone():
    clean = rows()
    copy = clean.copy()
    injected = inject(clean.sample(frac=1, random_state=0), FEATURES, BOUNDS, seed=1)
    assert injected.rows["cpu"].between(0, 100).all()
    assert (injected.rows["queue"] >= 0).all()
    assert clean.equals(copy)


def test_all_kinds_occur_and_the_seed_decides():
    one, again, other = (inject(rows(n=3000), FEATURES, BOUNDS, seed=seed) for seed in (4, 4, 5))
    assert set(one.kinds) - {""} == set(KINDS)
    assert [bool(kind) for kind in one.kinds] == one.labels.tolist()
    assert one.rows.equals(again.rows)
    assert not one.rows.equals(other.rows)


def test_instances_with_few_rows_or_nothing_that_moves_are_left_out():
    assert len(inject(rows(n=47), FEATURES, BOUNDS, seed=0).rows) == 0
    still = rows().assign(cpu=1.0, queue=np.nan)
    assert not inject(still, FEATURES, BOUNDS, seed=0).labels.any()
