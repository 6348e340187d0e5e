import numpy as np
import pytest

from riskwatch_ml.selection.vus import soft_labels, vus_pr


def test_without_a_buffer_it_is_average_precision_weighted_by_incidents_met():
    # GIVEN rows ranked incident, quiet, incident (one incident of two rows), quiet
    label, score = np.array([0, 1, 1, 0], bool), np.array([3.0, 4.0, 2.0, 1.0])
    # THEN recall 1/2 at precision 1, then 1/2 more at precision 2/3
    assert vus_pr(label, score, 0) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_two_incidents_of_which_one_is_found_late():
    # GIVEN scores that rank the first incident first and the second one last of four
    label, score = np.array([1, 0, 0, 1], bool), np.array([4.0, 3.0, 2.0, 1.0])
    # THEN recall is 1/2 (of rows) times 1/2 (of incidents) at precision 1 until the last row, where precision is 2/4
    assert vus_pr(label, score, 0) == pytest.approx(0.25 * 1 + 0.75 * 0.5)


def test_slopes_of_the_soft_labels():
    label = np.array([0, 0, 0, 1, 0, 0, 0], bool)
    soft = soft_labels(label, np.array([3]), np.array([4]), 4)
    near, far = np.sqrt(1 - 1 / 4), np.sqrt(1 - 2 / 4)
    assert soft == pytest.approx([0, far, near, 1, near, far, 0])


def test_perfect_and_useless_scores():
    label = np.zeros(300, bool)
    label[100:110] = label[200:220] = True
    assert vus_pr(label, label.astype(float), 0) == pytest.approx(1.0)
    assert vus_pr(label, np.random.default_rng(0).random(300), 0) < 0.25
    assert np.isnan(vus_pr(np.zeros(5, bool), np.ones(5), 3))


def test_a_near_miss_counts_with_a_buffer_only():
    label = np.zeros(200, bool)
    label[100:105] = True
    score = np.zeros(200)
    score[98:103] = 1.0
    assert vus_pr(label, score, 12) > vus_pr(label, score, 0)
