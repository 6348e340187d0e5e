"""The figures of a soak: growth between warm-up and end, lines that repeat, and the limits."""

import os

import psutil
import pytest

from bench import soak
from bench.soak import Samples


def samples(**components):
    """Samples every ten seconds over 100 s."""
    count = 11
    return Samples(
        [10.0 * number for number in range(count)],
        [{name: values(number) for name, values in components.items()} for number in range(count)],
    )


def test_growth_is_between_the_quiet_moments_after_warm_up_and_at_the_end():
    # GIVEN a start-up that is not counted, a component with a task every other sample, and one that leaks
    found = soak.growth(
        samples(
            flat=lambda number: 10.0 if number < 2 else 100.0 + 50.0 * (number % 2),
            leaks=lambda number: 100.0 + number,
        )
    )
    assert found == {"flat": (100.0, 100.0), "leaks": (102.0, 108.0)}


def test_lines_that_differ_in_times_and_numbers_only_are_the_same_message():
    lines = [f"2026-11-30T12:{minute:02d}:00.1Z deprecated pid={minute * 7} at 0x7f{minute:02x}" for minute in range(6)]
    # WHEN there are six in five minutes THEN they are reported, and other lines are not
    assert soak.repeated([*lines, "once", "", "twice", "twice"], 4.0) == {"# deprecated pid=# at #": 6 / 4}
    assert soak.repeated(lines, 5.0) == {}
    # AND a copied line of a task does not count
    copied = [f"{line} [task] ti_id=01a2" for line in lines]
    assert soak.repeated(copied, 1.0) == {}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"megabytes": {"MLflow": (100.0, 106.0)}}, ["MLflow grew from 100 to 106 MB"]),
        ({"repeated_lines": {"mlflow.log": {"line": 2.0}}}, ["mlflow.log repeats lines"]),
        ({"lambda_workers": 2}, ["2 Lambda workers are left"]),
    ],
)
def test_limits_that_are_exceeded_are_named(change, expected):
    good = {"minutes": 5.0, "stream_runs": {}, "megabytes": {"MLflow": (100.0, 104.0)}, "repeated_lines": {}}
    assert soak.problems({**good, "lambda_workers": 1, **change}) == expected


def test_memory_of_a_family_is_that_of_all_its_processes():
    own = [psutil.Process(os.getpid())]
    assert soak._megabytes(own) > 20
    assert soak._megabytes([*own, *own]) == pytest.approx(2 * soak._megabytes(own), rel=0.2)
