"""Planning GetMetricData: the fewest calls within the limits, their price, and what CloudWatch still keeps."""

import math
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from riskwatch_ml.ingest import call_plan
from riskwatch_ml.ingest.call_plan import Query, RetentionError, Segment, Usage
from riskwatch_ml.schema.metric import Metric

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
DAY = timedelta(days=1)
CPU = Metric("cpu", "AWS/EC2", "CPUUtilization")


def queries(count, period_s=300):
    return [Query(f"i-{place}", CPU, period_s) for place in range(count)]


def asked(calls, period_s):
    """Return every (instance, moment) that the calls ask for, and check them against the limits."""
    found = []
    for call in calls:
        points = math.ceil((call.end - call.start).total_seconds() / period_s)
        assert 0 < len(call.queries) <= 500
        assert call.points == len(call.queries) * points <= 100_800
        found += [(query.instance_id, call.start, call.end) for query in call.queries]
    return found


@pytest.mark.parametrize("count", [1, 10, 120, 500, 501, 1_200, 10_000])
@pytest.mark.parametrize("points", [1, 12, 201, 202, 288, 864, 1_500, 8_064])
def test_no_fewer_calls_are_possible(count, points):
    # GIVEN
    start, end = TEN - timedelta(seconds=300 * points), TEN
    asked = queries(count)

    # WHEN
    calls = list(call_plan.calls(asked, start, end, 300))

    # THEN the plan needs what the limits make necessary: ever 500 queries, ever 100,800 datapoints
    assert len(calls) == max(math.ceil(count / 500), math.ceil(count * points / 100_800))
    assert len(calls) == call_plan.min_calls(asked, start, end)
    assert all(0 < len(call.queries) <= 500 and call.points <= 100_800 for call in calls)
    assert sum(call.points for call in calls) == count * points


def test_every_query_is_asked_for_the_whole_interval_once():
    # GIVEN 11 queries of 100,801 points: each has to be cut in time
    start = TEN - timedelta(seconds=60 * 100_801)

    # WHEN
    parts = asked(call_plan.calls(queries(11, 60), start, TEN, 60), 60)

    # THEN the stretches of each follow each other from start to end
    by_query = {}
    for name, low, high in parts:
        by_query.setdefault(name, []).append((low, high))
    assert len(by_query) == 11
    for stretches in by_query.values():
        assert stretches[0][0] == start
        assert stretches[-1][1] == TEN
        assert all(before[1] == after[0] for before, after in pairwise(stretches))


def test_calls_are_cut_on_the_grid_of_the_longest_period():
    # GIVEN 300 metrics of 300 s and 300 of 900 s over two days
    asked = [*queries(300), *queries(300, 900)]

    # WHEN
    calls = list(call_plan.calls(asked, TEN - 2 * DAY, TEN, 300))

    # THEN
    assert len(calls) > 1
    assert all(moment.timestamp() % 900 == 0 for call in calls for moment in (call.start, call.end))


def test_nothing_to_ask_is_no_call():
    assert list(call_plan.calls([], TEN - DAY, TEN, 300)) == []


def test_what_it_took_stands_beside_what_it_had_to():
    # GIVEN two intervals, the second read with one call more than necessary
    total = Usage(1, 1, 120, 120) + Usage(3, 2, 620, 600)

    # WHEN / THEN
    assert str(total) == (
        "4 calls of GetMetricData (the limits allow no fewer than 3), 740 metrics (720 predicted), $0.0074 ($0.0072 "
        "predicted)"
    )


@pytest.mark.parametrize(
    ("age", "period_s"),
    [(timedelta(days=15), 60), (timedelta(days=63), 300), (timedelta(days=63), 900), (timedelta(days=455), 3600)],
)
def test_up_to_the_cliff_everything_is_kept(age, period_s):
    # GIVEN / WHEN / THEN
    assert call_plan.segments(TEN - age, TEN, period_s, TEN) == [Segment(TEN - age, TEN, period_s)]


@pytest.mark.parametrize(
    ("days", "period_s", "words"),
    [
        (16, 60, r"60 s for 15 days: the oldest data are from 2026-11-07T10:00:00.000Z.* in rows of 300 s"),
        (64, 300, r"300 s for 63 days: .* in rows of 3600 s"),
        (456, 3600, r"3600 s for 455 days: .* there is no coarser period"),
    ],
)
def test_beyond_the_cliff_is_refused_with_what_can_be_had(days, period_s, words):
    # GIVEN / WHEN / THEN
    with pytest.raises(RetentionError, match=words):
        call_plan.segments(TEN - days * DAY, TEN, period_s, TEN)


def test_coarsening_reads_each_age_as_finely_as_it_is_kept():
    # GIVEN 70 days at 60 s
    start = TEN - 70 * DAY

    # WHEN
    found = call_plan.segments(start, TEN, 60, TEN + timedelta(minutes=7), coarsen=True)

    # THEN 3,600 s up to 63 days ago, 300 s up to 15 days ago, cut at full periods inside of what is kept
    assert found == [
        Segment(start, TEN - 63 * DAY + timedelta(hours=1), 3600),
        Segment(TEN - 63 * DAY + timedelta(hours=1), TEN - 15 * DAY + timedelta(minutes=10), 300),
        Segment(TEN - 15 * DAY + timedelta(minutes=10), TEN, 60),
    ]


def test_coarsening_does_not_reach_what_is_gone():
    # GIVEN / WHEN / THEN
    with pytest.raises(RetentionError, match="455 days"):
        call_plan.segments(TEN - 500 * DAY, TEN - 480 * DAY, 300, TEN, coarsen=True)
