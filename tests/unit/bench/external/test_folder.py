"""A folder of NAB: what is read, and which file an error names."""

import json

import numpy as np
import pytest

from bench.external.folder import FolderError, read_detectors, read_series
from bench.external.scoring import Window
from tests.unit.bench.external.conftest import NAMES, WINDOW, write_csv, write_json

ALL = "realAWSCloudwatch/*"


def change_json(path, **changes):
    write_json(path, {**json.loads(path.read_text()), **changes})


def test_series_have_their_windows_and_their_probationary_period(nab):
    # WHEN
    first, second = read_series(nab, ALL)

    # THEN
    assert (first.name, second.name) == NAMES
    assert first.windows == second.windows == (Window(*WINDOW),)
    assert (len(first.times), first.probation) == (600, 90)
    assert str(first.times[0]) == "2026-01-01 00:00:00+00:00"


def test_a_pattern_chooses_files(nab):
    assert [one.name for one in read_series(nab, "*_b.csv")] == [NAMES[1]]


def test_a_pattern_without_a_file_names_the_folders(nab):
    with pytest.raises(FolderError, match=r"no file matches 'realTweets/\*': .* folders: realAWSCloudwatch"):
        read_series(nab, "realTweets/*")


def test_a_missing_folder_is_named(nab):
    with pytest.raises(FolderError, match=r"elsewhere/data is not a folder"):
        read_series(nab / "elsewhere", ALL)


def test_a_missing_file_is_named(nab):
    # GIVEN labels of a file that was not downloaded
    (nab / "data" / NAMES[1]).unlink()

    # WHEN / THEN
    with pytest.raises(FolderError, match=r"data/realAWSCloudwatch/cpu_b\.csv is missing"):
        read_series(nab, ALL)
    assert [one.name for one in read_series(nab, "*_a.csv")] == [NAMES[0]]


def test_a_missing_label_is_named(nab):
    # GIVEN
    write_json(nab / "labels" / "combined_windows.json", {NAMES[0]: []})

    # WHEN / THEN
    with pytest.raises(FolderError, match=r"combined_windows\.json has no label of realAWSCloudwatch/cpu_b\.csv"):
        read_series(nab, ALL)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"combined_windows\.json is missing"),
        ("{", r"combined_windows\.json is not JSON"),
        ("[]", r"combined_windows\.json is not a JSON object"),
    ],
)
def test_labels_that_cannot_be_read_are_named(nab, text, message):
    path = nab / "labels" / "combined_windows.json"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(FolderError, match=message):
        read_series(nab, ALL)


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        ([["2026-01-01 01:00:00", "2026-01-01 02:00:00"]], "from 2026-01-01 01:00 has no row after the probationary"),
        ([["2025-01-01 01:00:00", "2025-01-01 02:00:00"]], "from 2025-01-01 01:00 has no row"),
        ([["2026-01-02"]], "are not pairs of times"),
        ([["soon", "later"]], "are not pairs of times"),
        (None, "are not pairs of times"),
    ],
)
def test_a_window_that_no_page_can_meet_is_an_error(nab, windows, message):
    change_json(nab / "labels" / "combined_windows.json", **{NAMES[0]: windows})
    with pytest.raises(FolderError, match=message):
        read_series(nab, "*_a.csv")


@pytest.mark.parametrize("columns", [{"timestamp": ["soon"], "value": [1]}, {"timestamp": ["2026-01-01"], "load": [1]}])
def test_a_file_of_another_form_is_named(nab, columns):
    write_csv(nab / "data" / NAMES[0], **columns)
    with pytest.raises(FolderError, match=r"cpu_a\.csv cannot be read as timestamp,value"):
        read_series(nab, ALL)


def test_detectors_have_thresholds_and_scores(nab):
    # WHEN
    detectors, left_out = read_detectors(nab, read_series(nab, ALL))

    # THEN
    assert [detector.name for detector in detectors] == ["null", "perfect"]
    assert detectors[1].thresholds == dict.fromkeys(["standard", "reward_low_FP_rate", "reward_low_FN_rate"], 0.75)
    assert np.flatnonzero(detectors[1].scores[NAMES[0]]).tolist() == [WINDOW[0]]
    assert left_out == {}


def test_a_detector_without_an_output_threshold_or_equal_rows_is_left_out(nab):
    # GIVEN a detector without a threshold, one without a file and one with other rows
    series = read_series(nab, ALL)
    (nab / "results" / "mystery").mkdir()
    (nab / "results" / "null" / "realAWSCloudwatch" / "null_cpu_b.csv").unlink()
    path = nab / "results" / "perfect" / "realAWSCloudwatch" / "perfect_cpu_a.csv"
    write_csv(path, timestamp=["2026-01-01"], anomaly_score=[1])

    # WHEN
    detectors, left_out = read_detectors(nab, series)

    # THEN
    assert detectors == []
    assert left_out["mystery"].endswith("config/thresholds.json has no threshold for each profile")
    assert left_out["null"].endswith("null_cpu_b.csv is missing")
    assert left_out["perfect"].split(" has other timestamps")[0].endswith("perfect_cpu_a.csv")


def test_outputs_without_published_thresholds_are_an_error(nab):
    (nab / "config" / "thresholds.json").unlink()
    with pytest.raises(FolderError, match=r"config/thresholds\.json is missing"):
        read_detectors(nab, read_series(nab, ALL))


def test_a_folder_without_outputs_has_no_detectors(tmp_path):
    detectors, left_out = read_detectors(tmp_path, [])
    assert detectors == []
    assert "results has none" in left_out["detectors"]
