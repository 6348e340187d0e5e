"""The state folder of a run: only what is ours is ever emptied, and one run at a time."""

import pytest

from riskwatch_local.services.system import StateFolderError, state_folder


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path):
    # GIVEN somebody's home with an Airflow in it
    (tmp_path / "airflow").mkdir()
    (tmp_path / "airflow" / "airflow.db").write_text("precious")

    # WHEN / THEN
    with pytest.raises(StateFolderError, match="not Riskwatch's"), state_folder(tmp_path):
        pass
    assert (tmp_path / "airflow" / "airflow.db").read_text() == "precious"
    with pytest.raises(StateFolderError), state_folder(tmp_path):
        pass


def test_what_the_last_run_left_is_removed_but_its_summary_stays(tmp_path):
    # GIVEN a folder that a run has used
    with state_folder(tmp_path / "state") as folder:
        (folder / "mlflow").mkdir()
        (folder / "demo.json").write_text("{}")

    # WHEN the next one takes it
    with state_folder(tmp_path / "state") as folder:
        # THEN
        assert not (folder / "mlflow").exists()
        assert (folder / "demo.json").exists()


def test_two_runs_cannot_share_a_folder(tmp_path):
    with (
        state_folder(tmp_path / "state"),
        pytest.raises(StateFolderError, match="another run"),
        state_folder(tmp_path / "state"),
    ):
        pass
