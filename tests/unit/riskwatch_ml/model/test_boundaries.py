import numpy as np
import pytest

from riskwatch_ml.model.boundaries import fallback_boundary, own_boundaries


def test_boundary_is_the_own_quantile_pulled_to_the_fleets_where_rows_are_few():
    # GIVEN 200 rows of one instance at distance 1, 9,800 of another at 4, and one without rows
    distance, baseline = np.repeat([1.0, 4.0], [200, 9800]), np.repeat([0, 1], [200, 9800])
    # WHEN
    boundary = own_boundaries(distance, baseline, 3)
    # THEN with 200 rows own and fleet weigh the same: sqrt(1 * 4)
    assert boundary == pytest.approx([2.0, 4.0, 4.0], rel=1e-6)


def test_boundaries_of_rows_that_never_move_are_above_zero():
    assert (own_boundaries(np.zeros(500), np.repeat([0, 1], 250), 2) > 0).all()
    assert fallback_boundary(np.zeros(10), 0.5) == 0.5
