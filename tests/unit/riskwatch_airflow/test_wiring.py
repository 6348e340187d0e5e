"""What all tasks share: a task that fails because of a full disk says so at the end of its log."""

import errno
import logging

import pytest

from riskwatch_airflow import wiring


@pytest.mark.parametrize(
    ("exception", "lines"),
    [
        (
            OSError(errno.ENOSPC, "No space left", "/tmp/x"),
            ["the disk is full: free some space for /tmp/x and try again"],
        ),
        (ValueError("no rows"), []),
        (None, []),
        ("killed", []),
    ],
)
def test_a_full_disk_is_named_in_the_task_log(caplog, exception, lines):
    with caplog.at_level(logging.ERROR):
        wiring.name_full_disk({"exception": exception})
    assert [record.getMessage() for record in caplog.records] == lines


def test_every_task_has_the_callback_for_a_failure_and_for_a_retry():
    assert wiring.DEFAULT_ARGS["on_failure_callback"] is wiring.name_full_disk
    assert wiring.DEFAULT_ARGS["on_retry_callback"] is wiring.name_full_disk
