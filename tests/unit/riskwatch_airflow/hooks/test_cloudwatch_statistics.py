"""The CloudWatch hook: values of each statistic, in rows of the period and of coarser ones."""

from datetime import timedelta

import pytest

from riskwatch_ml.schema.catalogue import Catalogue
from riskwatch_ml.schema.metric import Metric
from tests.support.contract import imitates
from tests.unit.riskwatch_airflow.hooks.conftest import TEN, rows_of

# Twelve periods of 300 s as CloudWatch has them for each statistic, and its answer for the hour.
RECORDED = {
    "Sum": ([10.0, 20.0] * 6, 180.0),
    "SampleCount": ([5.0] * 12, 60.0),
    "Average": ([2.0, 4.0] * 6, 3.0),
    "Minimum": ([1.0, 0.5] * 6, 0.5),
    "Maximum": ([7.0, 9.0] * 6, 9.0),
    "p99": ([6.0, 8.0] * 6, 7.9),
    "tm90": ([2.0, 3.0] * 6, 2.5),
    "IQM": ([2.0, 3.5] * 6, 2.75),
    "PR(:300)": ([90.0, 80.0] * 6, 85.0),
    "ts90": ([9.0, 18.0] * 6, 162.0),
    "tc90": ([4.0] * 12, 48.0),
    "TS(10%:90%)": ([8.0, 16.0] * 6, 144.0),
    "TC(0:5)": ([3.0] * 12, 36.0),
}
# A row of the hour has its share of what was counted or added up, and the hour's own value of all else.
OF_THE_HOUR = {
    "Sum": 15.0,
    "SampleCount": 5.0,
    "Average": 3.0,
    "Minimum": 0.5,
    "Maximum": 9.0,
    "p99": 7.9,
    "tm90": 2.5,
    "IQM": 2.75,
    "PR(:300)": 85.0,
    "ts90": 13.5,
    "tc90": 4.0,
    "TS(10%:90%)": 12.0,
    "TC(0:5)": 3.0,
}
NAMES = {stat: f"metric_{place}" for place, stat in enumerate(RECORDED)}
ALL = Catalogue(tuple(Metric(name, "My/App", "Metric", stat) for stat, name in NAMES.items()))


@imitates("cloudwatch")
class CloudWatch:
    """CloudWatch that answers an hour from 10:00 as it was recorded."""

    def get_metric_data(self, **asked):
        return {"MetricDataResults": [self._result(query) for query in asked["MetricDataQueries"]]}

    def _result(self, query):
        fine, coarse = RECORDED[query["MetricStat"]["Stat"]]
        period = query["MetricStat"]["Period"]
        values = {300: fine, 3600: [coarse]}[period]
        moments = [TEN + timedelta(seconds=period * place) for place in range(len(values))]
        return {"Id": query["Id"], "Timestamps": moments, "Values": values, "StatusCode": "Complete"}


def read(hook, metrics, period_s, sums_per_s=None):
    end = TEN + timedelta(hours=1)
    rows = rows_of(hook(CloudWatch()), ["a"], metrics, TEN, end, period_s, sums_per_s=sums_per_s).rows
    return {metric.stat: rows[metric.name].tolist() for metric in metrics.metrics}


def test_rows_of_the_period_have_the_values_of_cloudwatch(hook):
    # GIVEN / WHEN / THEN
    assert read(hook, ALL, 300) == {stat: fine for stat, (fine, _) in RECORDED.items()}


def test_coarser_rows_have_shares_of_sums_and_counts_and_all_else_as_it_is(hook):
    # GIVEN an hour of a fleet with rows of 300 s, WHEN it is read as one row
    values = read(hook, ALL, 3600, sums_per_s=300)

    # THEN it is comparable with the rows of 300 s
    assert {stat: found[0] for stat, found in values.items()} == pytest.approx(OF_THE_HOUR)


def test_a_metric_of_an_hour_gives_its_share_to_each_row(hook):
    # GIVEN metrics that are published once an hour, WHEN they are read in rows of 300 s
    hourly = Catalogue(
        tuple(Metric(name, "My/App", "Metric", stat, period_s=3600) for stat, name in NAMES.items()),
    )
    values = read(hook, hourly, 300)

    # THEN each of the twelve rows has the share or the value
    for stat, expected in OF_THE_HOUR.items():
        assert values[stat] == pytest.approx([expected] * 12), stat
