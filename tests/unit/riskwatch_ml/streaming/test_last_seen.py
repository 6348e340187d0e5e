"""Who is overdue: by hand on small inventories, and the size of what a large fleet sends."""

import json
import logging
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from riskwatch_ml.core import clock
from riskwatch_ml.schema.inventory import Instance
from riskwatch_ml.storage import keys
from riskwatch_ml.storage.bucket import Store
from riskwatch_ml.streaming import last_seen
from tests.support.bucket import Bucket

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
PERIOD_S = 300


@pytest.fixture
def store():
    return Store(Bucket(), "bucket")


def before_ten(periods):
    """Epoch ms so many periods before ten."""
    return clock.epoch_ms(TEN - timedelta(seconds=periods * PERIOD_S))


def fleet(*names):
    return {name: Instance(name, service="shop") for name in names}


def test_the_newest_row_of_each_instance():
    # GIVEN rows of two instances in any order
    moments = pd.to_datetime([TEN, TEN - timedelta(minutes=5), TEN - timedelta(minutes=5)]).as_unit("ms")
    rows = pd.DataFrame({"instance_id": ["a", "a", "b"], "timestamp": moments})

    # WHEN / THEN
    assert last_seen.newest_rows(rows) == {"a": before_ten(0), "b": before_ten(1)}
    assert last_seen.newest_rows(rows.iloc[:0]) == {}


@pytest.mark.parametrize(("periods", "is_silent"), [(1, False), (3, False), (4, True), (5, True)])
def test_silent_is_who_misses_three_whole_periods(store, periods, is_silent):
    # GIVEN the newest row so many periods before the end: a row of one period before is that of the last period
    expected = fleet("a", "b", "c")
    last_seen.update_last_seen(
        store, expected, {"a": before_ten(periods), "b": before_ten(1), "c": before_ten(1)}, TEN, PERIOD_S
    )

    # WHEN / THEN
    found = last_seen.overdue(store, expected)
    assert found == ([["a", "shop", before_ten(periods)]] if is_silent else [])


def test_an_instance_that_never_reported_is_expected_from_when_it_was_listed(store):
    # GIVEN an instance that is new in the inventory at ten
    expected = fleet("old", "new")
    last_seen.update_last_seen(store, expected, {"old": before_ten(1)}, TEN, PERIOD_S)

    # WHEN periods pass in which only the other one reports
    found = []
    for passed in (1, 2, 3):
        last_seen.update_last_seen(
            store, expected, {"old": before_ten(1 - passed)}, TEN + timedelta(minutes=5 * passed), PERIOD_S
        )
        found.append(last_seen.overdue(store, expected))

    # THEN it is silent after three
    assert found == [[], [], [["new", "shop", before_ten(1)]]]


def test_who_leaves_the_inventory_is_not_silent_and_who_is_in_none_is_never(store):
    # GIVEN one that stopped long ago, and one that is in no inventory
    rows = {"gone": before_ten(20), "a": before_ten(1), "stranger": before_ten(20)}
    last_seen.update_last_seen(store, fleet("gone", "a"), rows, TEN, PERIOD_S)
    assert [name for name, *_ in last_seen.overdue(store, fleet("gone", "a"))] == ["gone"]

    # WHEN it leaves, THEN it is not named, and the document forgets it
    assert last_seen.overdue(store, fleet("a")) == []
    last_seen.update_last_seen(store, fleet("a"), {}, TEN, PERIOD_S)
    assert store.get_json(keys.LAST_SEEN)["last"] == {"a": before_ten(1)}


@pytest.mark.parametrize(("silent", "count"), [(18, 18), (19, 1), (20, 1)])
def test_where_nearly_all_are_silent_one_entry_says_so(store, silent, count):
    # GIVEN twenty instances, so many of them silent
    names = [f"web-{number:02}" for number in range(20)]
    newest = {name: before_ten(9 if place < silent else 1) for place, name in enumerate(names)}
    last_seen.update_last_seen(store, fleet(*names), newest, TEN, PERIOD_S)

    # WHEN / THEN
    found = last_seen.overdue(store, fleet(*names))
    assert len(found) == count
    assert (found == [["*", "*", before_ten(9)]]) is (count == 1)


def test_one_instance_alone_is_not_everybody(store):
    # GIVEN / WHEN / THEN
    last_seen.update_last_seen(store, fleet("a"), {"a": before_ten(9)}, TEN, PERIOD_S)
    assert last_seen.overdue(store, fleet("a")) == [["a", "shop", before_ten(9)]]


def test_the_event_of_ten_thousand_instances_with_the_longest_names_fits(store):
    # GIVEN ten thousand names of 254 bytes that JSON escapes, nine thousand of them silent
    expected = {
        name: Instance(name, service=name) for name in (f"{number:06}" + "\u00fc" * 124 for number in range(10_000))
    }
    newest = {name: before_ten(9 if place < 9_000 else 1) for place, name in enumerate(expected)}
    last_seen.update_last_seen(store, expected, newest, TEN, PERIOD_S)

    # WHEN / THEN as many are named as there is room for
    found = last_seen.overdue(store, expected)
    assert 4_900_000 < len(json.dumps({"tick": {"now": 1, "overdue": found}})) < 5_000_100


def test_all_of_nine_thousand_silent_instances_are_named(store):
    # GIVEN ten thousand hosts of usual names, nine thousand of them silent
    expected = fleet(*(f"123456789012.eu-west-1:ip-10-20-{n // 256}-{n % 256}.internal" for n in range(10_000)))
    newest = {name: before_ten(9 if place < 9_000 else 1) for place, name in enumerate(expected)}
    last_seen.update_last_seen(store, expected, newest, TEN, PERIOD_S)

    # WHEN / THEN
    assert len(last_seen.overdue(store, expected)) == 9_000


@pytest.mark.parametrize(
    "damage",
    [
        b"no json",
        b"\xff",
        b"[" * 100_000,
        b"[]",
        b"{}",
        b'{"end": 5, "period_s": 300, "last": {}}',
        b'{"end": "2026-11-22T10:00:00Z", "period_s": 300, "last": {"a": 1e999}}',
        b'{"end": "2026-11-22T10:00:00Z", "period_s": 300, "last": {"a": "5"}}',
        b'{"end": "2026-11-22T10:00:00Z", "period_s": 300, "last": {"a": -99999999999999999999}}',
        b'{"end": "2026-11-22T10:00:00Z", "period_s": 300, "last": []}',
        b'{"end": "2026-11-22T10:00:00Z", "period_s": 1e999, "last": {}}',
        b'{"end": "2026-11-22T10:00:00Z", "period_s": -300, "last": {}}',
        b'{"end": "0001-01-01T00:00:00+14:00", "period_s": 300, "last": {}}',
        b'{"end": "2026-11-22T10:00:00Z", "period_s": 300, "last": {}, "behind": {"east": 1e999}}',
        b'{"end": "2026-11-22T10:00:00Z", "period_s": 300, "last": {}, "anew": 1e999}',
    ],
)
def test_a_damaged_document_is_replaced(store, caplog, damage):
    # GIVEN / WHEN / THEN
    store.put_bytes(keys.LAST_SEEN, damage)
    with caplog.at_level(logging.WARNING):
        assert last_seen.overdue(store, fleet("a")) is None
    assert "it is replaced" in caplog.text
    last_seen.update_last_seen(store, fleet("a"), {"a": before_ten(1)}, TEN, PERIOD_S)
    assert store.get_json(keys.LAST_SEEN)["last"] == {"a": before_ten(1)}


def test_after_damage_nothing_is_said_until_who_is_silent_is_overdue_again(store):
    # GIVEN an instance that has been silent for long, and a document that was damaged
    expected = fleet("a", "silent")
    store.put_bytes(keys.LAST_SEEN, b"no json")

    # WHEN periods pass in which the other one reports
    found = []
    for passed in range(5):
        end = TEN + timedelta(minutes=5 * passed)
        last_seen.update_last_seen(store, expected, {"a": before_ten(1 - passed)}, end, PERIOD_S)
        found.append(last_seen.overdue(store, expected))

    # THEN no tick says that all instances report, which would end its episode
    assert found == [None, None, None, *[[["silent", "shop", before_ten(1)]]] * 2]


@pytest.mark.parametrize(
    ("name", "said", "is_silent"),
    [("east:a", "", False), ("i-00000000", "east", False), ("i-00000000", "", False), ("west:a", "", True)],
)
def test_who_could_not_be_read_is_not_silent(store, name, said, is_silent):
    # GIVEN two instances heard of an hour ago, when the shard east could be read for the last time
    expected = {name: Instance(name, service="shop", account_region=said), "west:b": Instance("west:b")}
    behind = {"east": TEN - timedelta(minutes=55)}
    last_seen.update_last_seen(store, expected, {name: before_ten(12), "west:b": before_ten(1)}, TEN, PERIOD_S, behind)

    # WHEN / THEN
    assert last_seen.overdue(store, expected) == ([[name, "shop", before_ten(12)]] if is_silent else [])


def test_who_was_silent_before_its_shard_could_not_be_read_stays_so(store):
    # GIVEN
    expected = {name: Instance(name, service="shop") for name in ("east:a", "west:b")}
    newest, behind = {"east:a": before_ten(20), "west:b": before_ten(1)}, {"east": TEN - timedelta(minutes=55)}
    last_seen.update_last_seen(store, expected, newest, TEN, PERIOD_S, behind)

    # WHEN / THEN it is named, since who is not named counts as heard again
    assert last_seen.overdue(store, expected) == [["east:a", "shop", before_ten(20)]]


def test_names_that_no_record_may_have_are_left_out(store):
    # GIVEN an inventory with a name that cannot be printed, and a service that is too long
    odd = {"a\nb": Instance("a\nb"), "c": Instance("c", service="s" * 300), "d": Instance("d")}
    last_seen.update_last_seen(store, odd, dict.fromkeys(odd, before_ten(9)), TEN, PERIOD_S)

    # WHEN / THEN
    assert last_seen.overdue(store, odd) == [["d", "d", before_ten(9)]]


def test_a_row_of_the_future_is_not_the_last_one_seen(store):
    # GIVEN an instance for which a row of the future was recorded, and one that reads ahead now
    expected = fleet("a", "b", "c")
    ahead = before_ten(-1000)
    document = {"end": clock.iso(TEN), "period_s": PERIOD_S, "last": {"a": ahead, "b": before_ten(1)}}
    store.put_json(keys.LAST_SEEN, document)

    # WHEN the next interval has rows of b and c only
    later = TEN + timedelta(seconds=PERIOD_S)
    last_seen.update_last_seen(store, expected, {"b": ahead, "c": before_ten(0)}, later, PERIOD_S)

    # THEN neither is seen in the future: a is expected from now on, b was seen when it was
    assert store.get_json(keys.LAST_SEEN)["last"] == {"a": before_ten(0), "b": before_ten(1), "c": before_ten(0)}
