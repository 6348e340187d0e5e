"""The predicted cost of a fleet: calls and dollars, worked out by hand."""

import pytest

from riskwatch_ml.ingest import cost
from riskwatch_ml.ingest.call_plan import MAX_QUERIES
from riskwatch_ml.ingest.cost import ALL_KINDS, Cost, CostError, Plan, Requests
from riskwatch_ml.schema import catalogue
from riskwatch_ml.schema.catalogue import Catalogue
from riskwatch_ml.schema.metric import Metric

EC2, RDS, ALB = (catalogue.load(name) for name in ("ec2", "rds", "alb"))


def test_a_month_of_a_hundred_instances():
    # GIVEN 1,000 metrics: an export of 4 hours has 48,000 points in two calls of 500 metrics, the first one of a day
    # 73 hours or 876 points of each metric, of which 115 fit into a call
    (found,) = cost.predict([(EC2, 100)], Plan())

    # WHEN / THEN 690 + 30 exports and 8,640 runs of the stream, each for one cent
    assert found == Cost(
        "ec2",
        100,
        Requests(calls=2, metrics=1_000),
        Requests(calls=690 * 2 + 30 * 9, metrics=720_000),
        Requests(calls=8_640 * 2, metrics=8_640_000),
    )
    assert found.export.dollars == pytest.approx(0.01)
    assert found.exports.dollars == pytest.approx(7.20)
    assert found.streaming.dollars == pytest.approx(86.40)
    assert found.dollars == pytest.approx(93.60)


def test_kinds_that_are_read_together_share_calls():
    # GIVEN three kinds with 300, 156 and 40 metrics, each of which needs a call of its own
    fleet = [(EC2, 30), (RDS, 13), (ALB, 4)]
    kinds, together = cost.predict(fleet, Plan()), cost.total(fleet, Plan())

    # WHEN / THEN the 496 metrics fit into one call; the price is that of all kinds
    assert [found.export for found in kinds] == [Requests(1, 300), Requests(1, 156), Requests(1, 40)]
    assert together.export == Requests(calls=1, metrics=496)
    assert (together.kind, together.instances) == (ALL_KINDS, 47)
    assert together.dollars == pytest.approx(sum(found.dollars for found in kinds))


@pytest.mark.parametrize("instances", [1, 7, 40, 333])
def test_all_kinds_together_need_the_fewest_calls_that_the_limits_allow(instances):
    # GIVEN every packaged kind, WHEN an hour is exported
    fleet = [(catalogue.load(name), instances) for name in catalogue.PROFILES]
    export = cost.total(fleet, Plan()).export

    # THEN every call but the last has 500 metrics
    metrics = instances * sum(len(one.metrics) for one, _ in fleet)
    assert export == Requests(-(-metrics // MAX_QUERIES), metrics)


def test_a_longer_period_is_streamed_less_often():
    # GIVEN rows of an hour, WHEN / THEN a day has 24 of them, exported hour by hour
    (found,) = cost.predict([(ALB, 1)], Plan(period_s=3600, reread_hours=0, reread_days=0))
    assert found.exports == Requests(720, 7_200)
    assert found.streaming == Requests(720, 7_200)


def test_no_instance_costs_nothing():
    assert cost.total([(EC2, 0)], Plan()).dollars == 0
    assert cost.total([], Plan()).export == Requests()


def test_metrics_of_a_period_that_rows_do_not_divide_are_refused():
    metrics = Catalogue((Metric("slow", "My/App", "Slow", period_s=900),))
    with pytest.raises(CostError, match="slow: its period of 900 s is no multiple of the rows' 600 s"):
        cost.predict([(metrics, 1)], Plan(period_s=600))
