"""The prototype map: document, ties, radius and table."""

import numpy as np
import pytest

from riskwatch_ml.families import FAMILIES
from riskwatch_ml.families.prototype_map import PrototypeMap, Stage, make_stage, nearest


@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_map_survives_its_document(family, blobs):
    # GIVEN a fitted map
    x, _ = blobs()
    fitted = FAMILIES[family](x, {"budget": 32}, 0).map
    # WHEN it goes through its document and float32 arrays
    document, arrays = fitted.to_document("m")
    again = PrototypeMap.from_document(document, {name: values.astype(np.float32) for name, values in arrays.items()})
    # THEN it gives the same labels and distances
    far = np.concatenate([x, x * 10])
    assert np.array_equal(fitted.assign(far).labels, again.assign(far).labels)
    assert np.array_equal(fitted.assign(far).distance, again.assign(far).distance)


def test_a_document_has_no_field_without_a_value():
    # GIVEN a map of one stage without a radius
    where = PrototypeMap((make_stage(np.array([[0.0], [2.0]]), [0, 1]),))
    # WHEN
    document, arrays = where.to_document("m")
    # THEN its document has the prototypes and labels only, and nulls, as earlier releases write them, are the same
    assert document == {"stages": [{"prototypes": "m_stage0", "labels": [0, 1]}]}
    earlier = {"stages": [{**document["stages"][0], "radius": None, "outside": None}], "table": None}
    for stored in (document, earlier):
        again = PrototypeMap.from_document(stored, arrays)
        assert again.assign(np.array([[5.0]])).labels.tolist() == [1]
        assert (again.table, again.stages[0].radius) == (None, None)


def test_nearest_gives_ties_to_the_lowest_index():
    # GIVEN a vector half way between two prototypes, and equal prototypes
    index, distance = nearest(np.array([[0.5, 0.0]]), np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]))
    # THEN
    assert index.tolist() == [0]
    assert distance.tolist() == [0.5]


def test_radius_outside_and_table():
    # GIVEN two stages on a line, the first with a radius of 1
    first = make_stage(np.array([[0.0], [10.0]]), [0, 1], radius=1.0, outside=2)
    second = Stage(np.array([[4.0]]), np.array([0]))
    where = PrototypeMap((first, second), {(0, 0): 0, (1, 0): 1, (2, 0): 2})
    # WHEN a vector lies at the radius, beyond it, and near the other prototype
    assigned = where.assign(np.array([[1.0], [2.0], [9.5]]))
    # THEN the distance is the mean of both stages: (1 + 3) / 2, (2 + 2) / 2, (0.5 + 5.5) / 2
    assert assigned.labels.tolist() == [0, 2, 1]
    assert assigned.distance.tolist() == [2.0, 2.0, 3.0]
    assert where.n_labels == 3
