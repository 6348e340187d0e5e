"""Publishing: every finite value once, in catalogue units, within the limits of a call."""

import math
import threading
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from riskwatch_local.demo import publish
from riskwatch_ml.schema import catalogue
from riskwatch_ml.schema.catalogue import Catalogue
from riskwatch_ml.schema.metric import Metric
from tests.support.contract import imitates

LAMBDA = replace(catalogue.load("lambda"), is_first=False)


@imitates("cloudwatch")
class FakeCloudWatch:
    """Stores what it is given, as PutMetricData does."""

    def __init__(self):
        self.calls = []
        self._lock = threading.Lock()

    def put_metric_data(self, *, Namespace, MetricData):  # noqa: N803 - the API's names
        with self._lock:
            self.calls.append((Namespace, MetricData))

    def points(self):
        return {
            (namespace, datum["MetricName"], datum["Dimensions"][0]["Value"], datum["Timestamp"].isoformat()): datum[
                "Value"
            ]
            for namespace, data in self.calls
            for datum in data
        }


def rows(values, start="2026-11-22T10:00Z", instance="web-1"):
    times = pd.date_range(start, periods=len(values), freq="5min").as_unit("ms")
    return pd.DataFrame({"instance_id": instance, "timestamp": times, "network_in_mb": values})


def test_missing_and_infinite_values_are_not_published():
    # GIVEN four rows of which one is missing and one infinite
    cloudwatch = FakeCloudWatch()
    counts = publish.publish(cloudwatch, rows([12.0, math.nan, math.inf, 3.5]), catalogue.load())
    # THEN two points are there, in bytes
    assert counts == publish.Counts(points=2, rows=2, calls=1)
    points = cloudwatch.points()
    assert points["AWS/EC2", "NetworkIn", "web-1", "2026-11-22T10:00:00+00:00"] == pytest.approx(12e6)
    assert points["AWS/EC2", "NetworkIn", "web-1", "2026-11-22T10:15:00+00:00"] == pytest.approx(3.5e6)


def test_a_call_holds_one_namespace_and_at_most_a_thousand_datums():
    # GIVEN 1,500 points of one namespace and 1,500 of another
    frame = rows([1.0] * 1500).assign(memory_utilization=50.0)
    cloudwatch = FakeCloudWatch()
    reported = []
    counts = publish.publish(
        cloudwatch, frame, catalogue.load(), progress=lambda done, total: reported.append((done, total))
    )
    # THEN each namespace takes a full call and a half one
    assert counts == publish.Counts(points=3000, rows=1500, calls=4)
    assert sorted((name, len(data)) for name, data in cloudwatch.calls) == [
        ("AWS/EC2", 500),
        ("AWS/EC2", 1000),
        ("CWAgent", 500),
        ("CWAgent", 1000),
    ]
    assert reported[-1] == (3000, 3000)
    assert len(cloudwatch.points()) == 3000


def test_long_names_make_smaller_calls():
    # GIVEN a metric whose datums take about 180 + 200 + 10 + 1,000 bytes each
    metric = Metric("network_in_mb", "Fleet", "n" * 200, dimensions={"InstanceId": "{instance_id}"})
    cloudwatch = FakeCloudWatch()
    publish.publish(cloudwatch, rows([1.0] * 1000, instance="i" * 1000), Catalogue((metric,)))
    # THEN a call holds floor(900,000 / 1,390) = 647 of them
    assert sorted(len(data) for _, data in cloudwatch.calls) == [353, 647]


def test_every_instance_is_published_with_its_own_times():
    # GIVEN two instances in one frame, the second a day later
    frame = pd.concat([rows([1.0, 2.0]), rows([3.0], start="2026-11-23T10:00Z", instance="web-2")], ignore_index=True)
    cloudwatch = FakeCloudWatch()
    publish.publish(cloudwatch, frame, catalogue.load())
    assert cloudwatch.points() == {
        ("AWS/EC2", "NetworkIn", "web-1", "2026-11-22T10:00:00+00:00"): pytest.approx(1e6),
        ("AWS/EC2", "NetworkIn", "web-1", "2026-11-22T10:05:00+00:00"): pytest.approx(2e6),
        ("AWS/EC2", "NetworkIn", "web-2", "2026-11-23T10:00:00+00:00"): pytest.approx(3e6),
    }


def test_statistics_of_one_metric_are_the_samples_of_one_datum():
    # GIVEN a period of a function
    times = pd.DatetimeIndex(["2026-11-22T10:00Z"]).as_unit("ms")
    durations = {"duration_ms": 80.0, "duration_p99_ms": 250.0, "duration_max_ms": 900.0}
    frame = pd.DataFrame({"instance_id": "lambda/search", "timestamp": times, **durations})
    cloudwatch = FakeCloudWatch()

    # WHEN
    counts = publish.publish(cloudwatch, frame, LAMBDA)

    # THEN its samples have the three statistics
    assert counts == publish.Counts(points=1, rows=1, calls=1)
    ((namespace, (datum,)),) = cloudwatch.calls
    assert (namespace, datum["MetricName"], datum["Unit"]) == ("AWS/Lambda", "Duration", "Milliseconds")
    assert datum["Dimensions"] == [{"Name": "FunctionName", "Value": "search"}]
    samples = np.repeat(datum["Values"], np.array(datum["Counts"], dtype=int))
    assert (samples.mean(), np.percentile(samples, 99), samples.max()) == pytest.approx((80, 250, 900))


def test_average_and_p99_take_two_samples():
    datum = publish.samples({"Average": 40.0, "p99": 160.0})
    samples = np.repeat(datum["Values"], np.array(datum["Counts"], dtype=int))
    assert len(datum["Values"]) == 2
    assert (samples.mean(), np.percentile(samples, 99)) == pytest.approx((40, 160))


def test_statistics_that_no_samples_have_are_refused():
    with pytest.raises(ValueError, match="no statistics of 200 samples"):
        publish.samples({"Average": 10.0, "p99": 900.0})
    with pytest.raises(ValueError, match="use Average, p99 and Maximum"):
        publish.samples({"Average": 10.0, "Maximum": 20.0})


def test_what_is_absent_has_no_datum():
    # GIVEN a function that ran without an error
    times = pd.DatetimeIndex(["2026-11-22T10:00Z"]).as_unit("ms")
    frame = pd.DataFrame({"instance_id": "lambda/search", "timestamp": times, "invocations": 7.0, "errors": 0.0})
    cloudwatch = FakeCloudWatch()

    # WHEN / THEN
    publish.publish(cloudwatch, frame, LAMBDA)
    assert [datum["MetricName"] for _, data in cloudwatch.calls for datum in data] == ["Invocations"]


def test_an_error_of_the_service_reaches_the_caller():
    class Refuses(FakeCloudWatch):
        def put_metric_data(self, **_):
            raise ConnectionError("refused")

    with pytest.raises(ConnectionError):
        publish.publish(Refuses(), rows([1.0]), catalogue.load())
