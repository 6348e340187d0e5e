import numpy as np

from ml.levels import name_levels, severities, severity_columns


def named(severity, counts):
    return name_levels(np.array(severity, float), np.array(counts))


def test_severity_is_the_mean_of_the_three_metrics_that_speak_of_load():
    # GIVEN features of which cpu_utilization and latency_ms are reported
    features = ("disk_queue_length", "cpu_utilization", "latency_ms", "active_connections")
    columns = severity_columns(features, [True, True, True, False])
    level = np.array([[9.0, 1.0, 3.0, 0.0], [9.0, 3.0, 5.0, 0.0], [9.0, -1.0, -1.0, 0.0]])
    # WHEN
    severity, counts = severities(level, np.array([2, 2, 0]), 3, columns)
    # THEN cluster 2 has (2 + 4) / 2, cluster 0 has -1, cluster 1 has no rows
    assert columns == [1, 2]
    np.testing.assert_array_equal(severity, [-1.0, np.nan, 3.0])
    assert counts.tolist() == [1, 0, 2]


def test_without_those_metrics_all_reported_ones_count():
    assert severity_columns(("x", "y", "z"), [True, False, True]) == [0, 2]


def test_clusters_are_cut_where_the_gaps_are():
    assert named([2.0, -1.0, 0.1, -0.9, 0.0], [10, 10, 10, 10, 10]) == [
        "High Load", "Idle", "Normal", "Idle", "Normal",
    ]  # fmt: skip


def test_counts_weigh_in():
    # Three rows apart by 0.4 cost less in one group than a thousand rows apart by 0.2.
    assert named([0.0, 0.2, 1.0, 1.4], [1000, 1000, 1, 1]) == ["Idle", "Normal", "High Load", "High Load"]


def test_fewer_than_three_clusters():
    assert named([0.3], [5]) == ["Normal"]
    assert named([0.1, 0.9], [90, 10]) == ["Normal", "High Load"]
    assert named([0.1, 0.9], [10, 90]) == ["Idle", "Normal"]
    assert named([0.1, 0.1, 0.1], [10, 90, 3]) == ["Normal"] * 3


def test_a_label_without_rows_is_normal():
    assert named([np.nan, -1.0, 0.0, 1.0], [0, 5, 5, 5]) == ["Normal", "Idle", "Normal", "High Load"]
