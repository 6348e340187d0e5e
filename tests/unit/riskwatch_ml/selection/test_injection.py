import numpy as np

from riskwatch_ml.features.table import MetricTable
from riskwatch_ml.selection.injection import INCIDENT_SHARE, KINDS, inject, newest_rows
from riskwatch_ml.selection.vus import runs

BOUNDS = [(0, 100), (None, None), (0, None)]


def table(n=1440, names=("a", "b"), seed=0):
    rng = np.random.default_rng(seed)
    code = np.repeat(np.arange(len(names)), n)
    values = np.stack(
        [rng.normal(50, 5, len(code)), np.full(len(code), 3.0), rng.random(len(code))],
        axis=1,
    )
    ms = np.tile(np.arange(n) * 300_000, len(names))
    return MetricTable(("cpu", "flat", "queue"), names, code, ms, code.copy(), values)


def write(rows, seed=1):
    return inject(rows, BOUNDS, period_s=300, seed=seed)


def test_rows_change_at_labels_only_and_within_the_bounds():
    # GIVEN / WHEN
    clean = table()
    before = clean.values.copy()
    done = write(clean)
    # THEN the input is as it was, and the copy differs nowhere but at labels
    assert np.array_equal(clean.values, before)
    changed = (done.table.values != before).any(axis=1)
    assert not (changed & ~done.labels).any()
    assert changed.sum() > 0.8 * done.labels.sum()
    assert (done.table.values[:, 1] == 3.0).all()
    assert (done.table.values[:, 0] >= 0).all()
    assert (done.table.values[:, 0] <= 100).all()
    assert (done.table.values[:, 2] >= 0).all()


def test_trouble_is_rare_lasts_up_to_hours_and_leaves_quiet_rows_between():
    done = write(table(n=8_000))
    assert 0.5 * INCIDENT_SHARE < done.labels.mean() < 2.5 * INCIDENT_SHARE
    starts, ends = runs(done.labels)
    lengths = ends - starts
    assert lengths.max() <= 48
    assert lengths.min() >= 1
    assert (starts[1:] > ends[:-1]).all()


def test_all_kinds_occur_and_the_seed_decides():
    one, again, other = (write(table(n=8_000), seed=seed) for seed in (4, 4, 5))
    assert set(one.kinds) - {""} == set(KINDS)
    assert [bool(kind) for kind in one.kinds] == one.labels.tolist()
    assert np.array_equal(one.table.values, again.table.values)
    assert not np.array_equal(one.table.values, other.table.values)


def test_a_kind_comes_back_in_the_same_form():
    # GIVEN rows long enough for several drops of one instance
    clean = table(n=8_000, names=("a",))
    done = write(clean)
    kinds = np.array(done.kinds)
    starts, ends = runs(kinds == "drop")
    assert len(starts) > 1
    # THEN each touches the same metrics
    touched = {
        tuple((done.table.values[low:high] != clean.values[low:high]).any(axis=0))
        for low, high in zip(starts, ends, strict=True)
    }
    assert len(touched) == 1


def test_instances_with_few_rows_or_nothing_that_moves_are_left_alone():
    assert not write(table(n=47)).labels.any()
    still = table()
    still.values[:, [0, 2]] = 1.0, np.nan
    assert not write(still).labels.any()


def test_newest_rows_are_those_of_each_instance():
    assert np.flatnonzero(newest_rows(table(n=10), 0.2)).tolist() == [8, 9, 18, 19]
