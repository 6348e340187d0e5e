"""Lasting data problems: one message for each change of state."""

from riskwatch_airflow import data_health
from riskwatch_expectations.validate import Finding

MEMORY = {"missing memory_utilization": "memory_utilization is missing for 1 of 2 instances"}


def reported(aws, current):
    from riskwatch_ml.core import settings

    data_health.report(settings.load(), aws.store, current)


def test_problems_are_named_by_check_and_metric_with_a_few_instances():
    # GIVEN a metric that one of two instances lacks, one that vanished for seven, a unit, and what may end by itself
    findings = [
        *(Finding("vanished", "warning", "", f"i-{number}", "latency_ms") for number in range(7)),
        Finding("unit", "warning", "", "i-1", "network_in_mb"),
        Finding("stuck", "warning", "", "i-1", "cpu_utilization"),
        Finding("distribution", "warning", "the median of cpu_utilization is 9"),
    ]

    # WHEN / THEN
    missing = {"memory_utilization": 1, "rds/read_mb_s": 3}
    assert data_health.problems(missing, {"": 2, "ec2": 2, "rds": 4}, findings) == {
        **MEMORY,
        "missing rds/read_mb_s": "rds/read_mb_s is missing for 3 of 4 instances",
        "unit network_in_mb": "network_in_mb may have changed its unit for 1 instance (i-1)",
        "vanished latency_ms": "latency_ms vanished for 7 instances (i-0, i-1, i-2, i-3, i-4 and 2 more)",
    }


def test_a_problem_is_reported_when_it_comes_and_when_it_goes_and_not_each_hour(aws, topic):
    # GIVEN a fleet without a problem, WHEN one comes, stays for hours with other counts, and goes
    reported(aws, {})
    assert topic.messages == []
    reported(aws, MEMORY)
    for count in (2, 3):
        reported(aws, {"missing memory_utilization": f"memory_utilization is missing for {count} of 9 instances"})
    reported(aws, {})
    reported(aws, {})

    # THEN there are two messages
    came, went = [message["Message"].splitlines()[0] for message in topic.messages]
    assert came == "- memory_utilization is missing for 1 of 2 instances"
    assert went == "- no longer: memory_utilization is missing for 1 of 2 instances"


def test_a_message_that_the_topic_refused_is_sent_by_the_next_export(aws, topic):
    # GIVEN a topic that refuses once
    topic.refuses = 1

    # WHEN two exports have the same problem, THEN the second sends it
    reported(aws, MEMORY)
    assert topic.messages == []
    reported(aws, MEMORY)
    assert len(topic.messages) == 1
