"""The contract of a family: its settings by name."""

from riskwatch_ml.families.base import FitSettings


def test_settings_are_read_by_name():
    # GIVEN the settings of a level map as a model document stores them, with one that belongs to another family
    params = {"budget": 256, "eps": 5, "kmeans_clusters": 30, "linkage": "ward"}

    # WHEN / THEN
    assert FitSettings.read(params) == FitSettings(budget=256, eps=5.0, kmeans_clusters=30)


def test_a_setting_of_zero_counts_as_not_given():
    assert FitSettings.read({"budget": 8, "clusters": 0, "eps": 0.0}) == FitSettings(budget=8)
