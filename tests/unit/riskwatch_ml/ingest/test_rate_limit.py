"""The allowance of a region: calls and datapoints a second, counted on a clock of the test's own."""

import pytest

from riskwatch_ml.ingest.rate_limit import TokenBucket


class Time:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.seconds = 0.0

    def now(self):
        return self.seconds

    def sleep(self, seconds):
        self.seconds += seconds


def sent(time, rate, calls, points, age_s):
    """Return when each of so many calls may be sent."""
    moments = []
    for _ in range(calls):
        rate.wait(points, age_s)
        moments.append(time.seconds)
    return moments


@pytest.mark.parametrize(
    ("points", "age_s", "gap"),
    [
        (10, 60, 0.02),  # 50 calls a second
        (90_000, 3 * 3600, 0.5),  # 180,000 datapoints a second up to three hours ago
        (90_000, 3 * 3600 + 1, 1.0),  # half of that beyond
    ],
)
def test_calls_are_as_far_apart_as_the_quota_asks(points, age_s, gap):
    # GIVEN
    time = Time()
    rate = TokenBucket(time.now, time.sleep)

    # WHEN / THEN the first goes at once
    assert sent(time, rate, 4, points, age_s) == pytest.approx([0, gap, 2 * gap, 3 * gap])


def test_time_that_passed_is_not_saved_up():
    # GIVEN a second without a call
    time = Time()
    rate = TokenBucket(time.now, time.sleep)
    time.seconds = 1.0

    # WHEN / THEN the next two are still one step apart
    assert sent(time, rate, 2, 90_000, 0) == pytest.approx([1.0, 1.5])
