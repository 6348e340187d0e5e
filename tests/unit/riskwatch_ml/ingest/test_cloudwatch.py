"""Arithmetic of reading CloudWatch: intervals, long periods, dimensions, chunks."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from riskwatch_ml.core import clock
from riskwatch_ml.ingest import cloudwatch
from riskwatch_ml.ingest.call_plan import Segment
from riskwatch_ml.ingest.reader import CloudWatchError
from riskwatch_ml.schema.metric import Metric
from riskwatch_ml.schema.metric_rows import Series

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def series(*minutes):
    stamps = np.array([clock.epoch_ms(TEN + minute * MINUTE) for minute in minutes], np.int64)
    return Series("i", "cpu", stamps, np.arange(1.0, 1 + len(minutes)))


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        (TEN + MINUTE, TEN + timedelta(hours=1), "start 2026-11-22T10:01:00.000Z is not on the grid of 300 s"),
        (TEN, TEN + MINUTE, "end 2026-11-22T10:01:00.000Z is not on the grid of 300 s"),
        (TEN, TEN, "is empty"),
    ],
)
def test_an_interval_off_the_grid_or_without_length_is_refused(start, end, words):
    # GIVEN / WHEN / THEN
    with pytest.raises(CloudWatchError, match=words):
        cloudwatch.checked_interval(start, end, 300)


def test_a_value_of_a_longer_period_is_in_each_of_its_rows():
    # GIVEN sums of ten minutes for rows of five, which have half of each
    found = cloudwatch.spread(series(0, 10), 0.5, 600, 300)

    # WHEN / THEN
    assert found.stamps.tolist() == series(0, 5, 10, 15).stamps.tolist()
    assert found.values.tolist() == [0.5, 0.5, 1.0, 1.0]


def test_values_outside_the_interval_are_left_out():
    # GIVEN / WHEN
    found = cloudwatch.within(series(-5, 0, 55, 60), TEN, TEN + timedelta(hours=1))

    # THEN the start belongs to the interval, the end does not
    assert found.values.tolist() == [2.0, 3.0]


def test_the_instance_is_found_in_the_dimensions_of_the_metric_alone():
    # GIVEN a metric of one disk of an instance
    metric = Metric("disk", "CWAgent", "used", dimensions={"host": "ip-{instance_id}", "path": "/"})

    # WHEN / THEN
    listed = [{"Name": "host", "Value": "ip-web-1"}, {"Name": "path", "Value": "/"}]
    assert metric.instance_of(listed) == "web-1"
    assert metric.instance_of(listed[:1]) is None
    assert metric.instance_of([{"Name": "host", "Value": "web-1"}, listed[1]]) is None
    assert cloudwatch.dimension_filters(metric) == [{"Name": "host"}, {"Name": "path", "Value": "/"}]


def test_several_dimensions_make_one_name():
    # GIVEN services of clusters
    metric = Metric(
        "cpu", "AWS/ECS", "CPUUtilization", dimensions={"ClusterName": "{cluster}", "ServiceName": "{service}"}
    )
    listed = [{"Name": "ServiceName", "Value": "orders/v2"}, {"Name": "ClusterName", "Value": "prod"}]

    # WHEN / THEN the name leads back to the dimensions, whatever their order in the answer
    assert metric.instance_of(listed) == "prod/orders/v2"
    assert metric.dimensions_of("prod/orders/v2") == listed[::-1]
    assert metric.instance_of([{"Name": "ServiceName", "Value": "a"}, {"Name": "ClusterName", "Value": "x/y"}]) is None
    assert metric.dimensions_of("prod")[1] == {"Name": "ServiceName", "Value": ""}


def test_chunks_end_at_full_hours_and_have_at_least_one(monkeypatch):
    # GIVEN room for two hours of one query of five minutes
    monkeypatch.setattr(cloudwatch, "CHUNK_POINTS", 24)
    part = Segment(TEN + 30 * MINUTE, TEN + timedelta(hours=4), 300)

    # WHEN / THEN
    assert list(cloudwatch.chunks(part, 1)) == [
        (TEN + 30 * MINUTE, TEN + timedelta(hours=2)),
        (TEN + timedelta(hours=2), TEN + timedelta(hours=4)),
    ]
    assert len(list(cloudwatch.chunks(part, 1_000))) == 4
