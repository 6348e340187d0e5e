"""A full disk is recognised by the error that names it, wherever it is in the chain, or by the free space."""

import errno
import sqlite3
from types import SimpleNamespace

import pytest

from riskwatch_ml.core import disk

FULL = OSError(errno.ENOSPC, "No space left on device", "/data/a.parquet")


def caused_by(cause):
    try:
        try:
            raise cause
        except Exception as error:
            raise RuntimeError("outer") from error
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    ("error", "place"),
    [
        (FULL, "/data/a.parquet"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/data/b"), "/data/b"),
        (caused_by(FULL), "/data/a.parquet"),
        (caused_by(sqlite3.OperationalError("database or disk is full")), "the database"),
    ],
)
def test_an_error_that_a_full_disk_caused_says_what_to_do(error, place):
    assert disk.explanation(error) == f"the disk is full: free some space for {place} and try again"


def test_other_errors_are_not_blamed_on_the_disk(tmp_path):
    for error in (OSError(errno.EACCES, "Permission denied", "/data/a"), ValueError("disk"), caused_by(KeyError("a"))):
        assert disk.explanation(error, tmp_path) is None


def test_a_folder_without_space_explains_an_error_that_does_not_name_it(tmp_path, monkeypatch):
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=disk.FULL_BYTES - 1))
    assert disk.explanation(RuntimeError("the scheduler died"), tmp_path) == (
        f"the disk is full: free some space for {tmp_path} and try again"
    )
    assert disk.explanation(RuntimeError("the scheduler died"), tmp_path / "absent") is None
