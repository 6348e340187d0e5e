"""The page about a validation: Great Expectations' own, of a bounded size, and harmless whatever the rows hold."""

import re
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from riskwatch_expectations import data_docs
from riskwatch_expectations.validate import Interval, validate
from riskwatch_ml.schema.catalogue import Catalogue
from riskwatch_ml.schema.metric import Metric
from riskwatch_ml.storage import keys
from riskwatch_ml.storage.bucket import Store
from tests.support.bucket import Bucket

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
INTERVAL = Interval(TEN, TEN + timedelta(hours=1), 300)
CATALOGUE = Catalogue((Metric("cpu", "Test", "CPU", lower=0.0, upper=100.0),))
HOSTILE = "<script>alert(1)</script>"


def outcomes(count=1, name="web-1"):
    """Results of a validation in which `count` rows are out of bounds and each is there twice."""
    rows = pd.DataFrame(
        {
            "instance_id": [f"{name}{place:04d}" for place in range(count) for _ in range(2)],
            "timestamp": pd.DatetimeIndex([TEN] * 2 * count).as_unit("ms"),
            "cpu": 500.0,
        }
    ).astype({"instance_id": "str"})
    return validate(rows, CATALOGUE, INTERVAL).outcomes


@pytest.fixture
def store():
    return Store(Bucket(), "bucket")


def test_the_page_names_what_failed_in_one_object(store):
    # WHEN
    key = data_docs.write(store, outcomes(), INTERVAL, "default")

    # THEN
    assert key == "docs/validation/2026-11-22T1000Z--2026-11-22T1100Z-default.html"
    text = store.get_bytes(key).decode()
    for words in ("Great Expectations", "default: 2026-11-22T10:00:00.000Z", "must be unique", "500", "Failed"):
        assert words in text
    assert "could not be rendered" not in text.lower()


def test_a_name_in_a_row_is_text_and_nothing_else(store):
    # GIVEN an instance with a name that is a script, found among the duplicates
    text = data_docs.render(outcomes(name=HOSTILE), HOSTILE)

    # THEN
    assert "&lt;script&gt;alert(1)" in text
    assert "<script>alert(1)" not in text


def test_the_document_loads_and_runs_nothing():
    text = data_docs.render(outcomes(name=HOSTILE), HOSTILE)
    # THEN no tag loads or runs anything, and the policy, which precedes everything else, would refuse it
    assert re.findall(r"<(?:script|link|img|iframe|object|embed)\b|\bon\w+\s*=|@import|url\(", text) == []
    head = text[text.index("<head>") :]
    assert re.match(r"<head>\s*<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; ", head)
    # AND links are the only use of other hosts
    assert [tag for tag in re.findall(r"<[^>]*//[^>]*>", text) if not tag.startswith("<a ")] == []


def test_many_bad_rows_do_not_make_it_long():
    small, large = (len(data_docs.render(outcomes(count), "x")) for count in (20, 2_000))
    assert large < 1.5 * small


def of_day(day, part):
    return f"{keys.DATA_DOCS}2026-11-{day}T1000Z--2026-11-{day}T1100Z-{part}.html"


def test_of_each_part_the_pages_written_last_stay(store, monkeypatch):
    # GIVEN room for two pages a part, three newer ones of a part with a name of two words, one of another
    monkeypatch.setattr(data_docs, "KEPT", 2)
    for part, days in (("other", (23,)), ("1.eu-west-1", (23, 24, 25))):
        for day in days:
            store.put_html(of_day(day, part), "")

    # WHEN a backfill writes a page of the past
    key = data_docs.write(store, outcomes(), INTERVAL, "1.eu-west-1")
    data_docs.tidy(store, [key])

    # THEN it stays with the one written before it, also when somebody else tidies, and the other part has its own
    assert store.keys(keys.DATA_DOCS) == sorted([key, of_day(25, "1.eu-west-1"), of_day(23, "other")])
    data_docs.tidy(store, [])
    assert key in store.keys(keys.DATA_DOCS)


def test_a_run_keeps_every_page_that_it_has_written(store, monkeypatch):
    # GIVEN a run of more pages than there is room for, and an older one
    monkeypatch.setattr(data_docs, "KEPT", 2)
    store.put_html(of_day(10, "default"), "")
    written = [of_day(day, "default") for day in (22, 23, 24)]
    for key in written:
        store.put_html(key, "")

    # WHEN / THEN
    data_docs.tidy(store, written)
    assert store.keys(keys.DATA_DOCS) == written


@pytest.mark.parametrize(
    ("endpoint", "address"),
    [
        ("http://127.0.0.1:4566", "http://127.0.0.1:4566/bucket/docs/a%20b.html"),
        (
            "https://s3.eu-west-1.amazonaws.com",
            "https://eu-west-1.console.aws.amazon.com/s3/object/bucket?region=eu-west-1&prefix=docs/a%20b.html",
        ),
        ("https://amazonaws.com.example.org", "https://amazonaws.com.example.org/bucket/docs/a%20b.html"),
    ],
)
def test_the_link_is_one_that_a_person_can_open(store, monkeypatch, endpoint, address):
    monkeypatch.setattr(store.client.meta, "endpoint_url", endpoint)
    assert data_docs.link(store, "docs/a b.html") == address
