"""The time column of a CSV file: formats, the order of day and month, refusals."""

import numpy as np
import pandas as pd
import pytest

from riskwatch_ml.ingest import csv_timestamps
from riskwatch_ml.ingest.csv_timestamps import TimeError


def parse(texts):
    """Parse texts that begin on line 2, after the header."""
    return csv_timestamps.parse(texts, range(2, 2 + len(texts)))


@pytest.mark.parametrize(
    ("texts", "expected", "note"),
    [
        (["2/17/2025 0:05", "2/17/2025 13:10"], ["2025-02-17 00:05", "2025-02-17 13:10"], None),
        (["2/17/25 12:05 AM", "2/17/25 12:05 PM"], ["2025-02-17 00:05", "2025-02-17 12:05"], None),
        (["2/3/2025 0:05", "2/3/2025 0:10"], ["2025-02-03 00:05", "2025-02-03 00:10"], "read as month/day/year"),
        (["3/2/2025 0:05", "17/2/2025 0:05"], ["2025-02-03 00:05", "2025-02-17 00:05"], "'17/2/2025 0:05' on line 3"),
        (["2025/2/17 0:05", "2025-02-17T00:10"], ["2025-02-17 00:05", "2025-02-17 00:10"], None),
        (["2025-02-17T01:05:00+01:00"], ["2025-02-17 00:05"], None),
        (["1739750700", "1739751000"], ["2025-02-17 00:05", "2025-02-17 00:10"], None),
        (["1739750700000", "1739751000000"], ["2025-02-17 00:05", "2025-02-17 00:10"], None),
    ],
)
def test_times_are_read_in_utc(texts, expected, note):
    # GIVEN / WHEN
    times = parse(texts)

    # THEN
    assert times.ms.dtype == np.int64
    assert pd.to_datetime(times.ms, unit="ms").strftime("%Y-%m-%d %H:%M").tolist() == expected
    assert (note in times.note) if note else times.note is None


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["2/17/2025 0:05", "2025-02-17 00:10"], "'2/17/2025 0:05' on line 2 and '2025-02-17 00:10' on line 3"),
        (["2/17/2025 0:00", "19/2/2025 0:00"], r"line 2 has the month first, '19/2/2025 0:00' on line 3 the day"),
        (["2/30/2025 0:05"], "line 2, column timestamp: '2/30/2025 0:05' is no time"),
        (["2/17/202 0:05"], "line 2, column timestamp: '2/17/202 0:05' is no time"),
        (["17/17/2025"], "mixed dates"),
        (["9" * 20], r"line 2, column timestamp: '9{20}' is no time: write"),
        (["9" * 5000], r"line 2, column timestamp: '9{59}…' is no time: write"),
        (
            ["1739750700", "9" * 18, "1739751000"],
            "line 3, .*'9{18}' is no time: as seconds since 1970 it lies after the year 9999",
        ),
        (["1739750700000", "9" * 18, "1739750700000"], "line 3, .* as milliseconds since 1970 it lies after"),
        (["9999-12-31T23:59:59-12:00"], "line 2, column timestamp: .* outside the years 1 to 9999 in UTC"),
        (["0001-01-01T00:00:00+14:00"], "line 2, column timestamp: .* outside the years 1 to 9999 in UTC"),
        (["soon" * 20_000], "line 2, column timestamp: '(soon){14}soo…' is no time: write"),
        (["2/17/2025 0:05", f"2025-02-17 00:10:00.{'0' * 90_000}"], "'2025-02-17 00:10:00.0{39}…' on line 3"),
        (["2/17/2025 13:05 PM"], "the hour is 1 to 12"),
        (["soon"], "line 2, column timestamp: 'soon' is no time: write 2025-02-17T00:05:00Z or 2/17/2025 0:05"),
    ],
)
def test_times_that_cannot_be_read_are_refused(texts, words):
    # GIVEN / WHEN
    with pytest.raises(TimeError, match=words) as error:
        parse(texts)

    # THEN a long text is cut
    assert len(str(error.value)) < 250
