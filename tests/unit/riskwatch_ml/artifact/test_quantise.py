"""The grid of centre and scale: what is rounded to it comes back exactly, and the rounding is small."""

import numpy as np
import pytest

from riskwatch_ml.artifact.quantise import GridError, decode, encode, on_grid

HOURS = 24


def columns(seed: int = 0) -> np.ndarray:
    """Columns (40, 24, 6) of very different size: around 0, far from it, tiny, huge, constant, and of two values."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, (40, HOURS, 6))
    values[..., 1] = 1e6 + values[..., 1]
    values[..., 2] *= 1e-9
    values[..., 3] *= 1e12
    values[..., 4] = rng.normal(5, 1, (40, 1))
    values[..., 5] = np.where(rng.random((40, HOURS)) < 0.5, -7.25, 1e5)
    return values


def test_what_is_on_the_grid_is_stored_exactly():
    # GIVEN columns of any size, rounded
    center, scale = on_grid(columns()), on_grid(np.abs(columns(1)) + 1e-12, positive=True)

    # WHEN they are encoded and decoded, THEN they are the same, in float32 too
    stored = encode(center, scale)
    for given, back in zip((center, scale), decode(stored), strict=True):
        np.testing.assert_array_equal(back, given)
        np.testing.assert_array_equal(given.astype(np.float32), given)
    # AND columns without an hour's own value take no counts
    assert stored["profile_counts"].shape == (int((stored["profile_step"] > 0).sum()), HOURS)
    assert not stored["profile_step"][:, 0, 4].any()


def test_only_baselines_with_day_types_store_all_slots():
    # GIVEN 40 baselines of which every fourth has other values on days off and in the first hours
    def slots(values, others):
        whole = np.concatenate([values, values[:, :3], values, values[:, :3]], axis=1)
        whole[::4, 24:] = np.concatenate([others[::4, :3], others[::4], others[::4, -3:]], axis=1)
        return whole

    center = on_grid(slots(columns(), columns(2)))
    scale = on_grid(slots(np.abs(columns(1)) + 1e-12, np.abs(columns(3)) + 1e-12), positive=True)

    # WHEN
    stored = encode(center, scale)

    # THEN they come back, and the others take 24 counts
    for given, back in zip((center, scale), decode(stored), strict=True):
        np.testing.assert_array_equal(back, given)
    varies = stored["profile_step"] > 0
    assert stored["profile_day_types"].tolist() == [1, 0, 0, 0] * 10
    assert stored["profile_day_type_counts"].shape == (int(varies[::4].sum()), 54)
    assert stored["profile_counts"].shape == (int(varies.sum() - varies[::4].sum()), 24)


def test_rounding_again_changes_nothing():
    once = on_grid(columns())
    np.testing.assert_array_equal(on_grid(once), once)


def test_the_error_is_a_part_in_sixty_thousand_of_the_day_or_what_float32_has():
    values = columns()
    error = np.abs(on_grid(values) - values).max(axis=1)
    day = np.ptp(values, axis=1)
    assert (error <= np.maximum(day / 60_000, np.abs(values).max(axis=1) * 2.0**-23)).all()


def test_scales_stay_above_zero():
    # GIVEN a scale that is nothing beside another hour's
    scale = np.ones((1, HOURS, 1))
    scale[0, 3, 0] = 1e-9
    # WHEN it is rounded, THEN it is the least step and not zero
    assert 0 < on_grid(scale, positive=True)[0, 3, 0] < 1 / 30_000


def test_what_is_off_the_grid_is_refused():
    # GIVEN float32 values that were not rounded to the grid
    values = columns().astype(np.float32)
    with pytest.raises(GridError, match="round with on_grid"):
        encode(values, on_grid(np.ones((40, HOURS, 6))))
