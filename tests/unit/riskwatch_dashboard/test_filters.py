"""Filters are the address of a page: what is read from a query is what a link writes."""

from urllib.parse import parse_qsl

import pytest

from riskwatch_dashboard.filters import Filters, parse

METRICS = ("cpu_utilization", "latency_ms")


def test_a_link_leads_back_to_the_same_filters():
    # GIVEN filters with everything set, and a name that needs quoting
    wanted = Filters("High Load", "a&b=c +é", "latency_ms", -0.5, 1e9, True, 3, 50)
    # WHEN they are written as a query and read again
    found, problems = parse(dict(parse_qsl(wanted.query().removeprefix("?"))), METRICS)
    # THEN they are the same
    assert found == wanted
    assert problems == []


def test_defaults_are_left_out_of_a_link():
    assert Filters().query() == "?"
    assert Filters(page=4).query(risk="Critical", page=1) == "?risk=Critical"


def test_an_empty_form_asks_for_everything():
    empty = dict.fromkeys(("risk", "instance", "metric", "min", "max"), "")
    assert parse(empty, METRICS) == (Filters(), [])
    assert not Filters().active


@pytest.mark.parametrize(
    ("query", "told"),
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
    ],
)
def test_what_cannot_be_used_is_named_and_ignored(query, told):
    filters, problems = parse(query, METRICS)
    assert len(problems) == 1
    assert told in problems[0]
    assert len(problems[0]) < 200
    assert (filters.low, filters.high, filters.page, filters.size) == (None, None, 1, 200)


def test_without_rows_any_metric_is_accepted():
    assert parse({"metric": "cpu"}, ()) == (Filters(metric="cpu"), [])
