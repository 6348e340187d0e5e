"""Filters are part of the URL of a view: parsing a query reverses writing a link."""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl

import pytest

from riskwatch_dashboard.filters import Filters, parse

ELEVEN = datetime(2026, 11, 22, 11, tzinfo=UTC)
METRICS = ("cpu_utilization", "latency_ms")


def test_a_link_leads_back_to_the_same_filters():
    # GIVEN filters with everything set, and a name that needs quoting
    filters_with_all = Filters(
        "High Load", "a&b=c +é", "latency_ms", -0.5, 1e9, True, 3, 50, True, ELEVEN, ELEVEN + timedelta(hours=1), "rds"
    )
    # WHEN they are written as a query and read again
    parsed, problems = parse(dict(parse_qsl(filters_with_all.query().removeprefix("?"))), METRICS)
    # THEN they are the same
    assert parsed == filters_with_all
    assert problems == []


def test_defaults_are_left_out_of_a_link():
    assert Filters().query() == "?"
    assert Filters(page=4).query(risk="Critical", page=1) == "?risk=Critical"


def test_an_empty_form_asks_for_everything():
    empty = dict.fromkeys(("risk", "instance", "metric", "min", "max"), "")
    assert parse(empty, METRICS) == (Filters(), [])
    assert not Filters().active


def test_a_kind_without_rows_is_named_and_ignored():
    assert parse({"kind": "rds"}, METRICS, ("ec2", "rds")) == (Filters(kind="rds"), [])
    assert parse({"kind": "rds"}, METRICS) == (Filters(kind="rds"), [])
    assert parse({"kind": "rds"}, METRICS, ("ec2",)) == (Filters(), ["kind is 'rds': use one of ec2."])


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"risk": "critical"}, "risk is 'critical'"),
        ({"metric": "cpu"}, "metric is 'cpu'"),
        ({"metric": "latency_ms", "min": "1,5"}, "min is '1,5'"),
        ({"metric": "latency_ms", "max": "nan"}, "max is 'nan'"),
        ({"metric": "latency_ms", "max": "-inf"}, "max is '-inf'"),
        ({"metric": "latency_ms", "min": "2", "max": "1"}, "min 2 is above max 1"),
        ({"min": "2"}, "choose one"),
        ({"page": "0"}, "page is '0'"),
        ({"page": "-1"}, "page is '-1'"),
        ({"page": "²"}, "page is '²'"),
        ({"page": "9" * 5000}, "page is"),
        ({"size": "1001"}, "size is '1001'"),
        ({"since": "yesterday"}, "since is 'yesterday'"),
        ({"until": "0001-01-01T00:00+14:00"}, "until is"),
        ({"since": "2026-11-22", "until": "2026-11-21"}, "swap them"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_and_ignored(query, message):
    filters, problems = parse(query, METRICS)
    assert len(problems) == 1
    assert message in problems[0]
    assert len(problems[0]) < 200
    assert (filters.low, filters.high, filters.page, filters.size) == (None, None, 1, 200)


def test_without_rows_any_metric_is_accepted():
    assert parse({"metric": "cpu"}, ()) == (Filters(metric="cpu"), [])


def test_an_exact_name_is_one_instance_and_a_part_many():
    assert [Filters(instance="web-1").selection.matches(name) for name in ("web-1", "WEB-11", "db")] == [
        True,
        True,
        False,
    ]
    exact = Filters(instance="web-1", exact=True).selection
    assert [exact.matches(name) for name in ("web-1", "web-11", "WEB-1")] == [True, False, False]
