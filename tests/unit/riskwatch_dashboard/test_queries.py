"""The queries on an in-memory bucket: rows, counts and model."""

from datetime import UTC, datetime, timedelta

from riskwatch_dashboard import formatting, queries
from riskwatch_dashboard.filters import Filters
from riskwatch_lambda.scoring.reasons import TOGETHER

NOW = datetime(2026, 11, 22, 12, 2, tzinfo=UTC)


def at(minutes: int) -> datetime:
    """Return the time that many minutes before 12:00."""
    return datetime(2026, 11, 22, 12, tzinfo=UTC) - timedelta(minutes=minutes)


def names(reading, **filters) -> list[str]:
    return [item.instance_id for item in queries.page(reading, Filters(**filters)).rows]


def test_rows_and_shares_of_the_last_day(store, fill, row):
    # GIVEN two rows compacted, one of them older than a day, and three that just arrived
    fill([row("a", at(24 * 60)), row("a", at(60))], compacted=True)
    fill([row("a", at(5), "Idle"), row("b", at(5), "Critical"), row("a", at(0))], name="s0-3-5")

    # WHEN the bucket is read
    reading = queries.read(store, NOW)

    # THEN the newest come first, of one time the Critical one, and the shares are those of the four rows of the day
    assert [(item.instance_id, item.timestamp) for item in queries.page(reading, Filters()).rows] == [
        ("a", at(0)),
        ("b", at(5)),
        ("a", at(5)),
        ("a", at(60)),
    ]
    assert queries.distribution(reading) == (
        queries.Share("Idle", 1, 0.25),
        queries.Share("Normal", 2, 0.5),
        queries.Share("High Load", 0, 0.0),
        queries.Share("Critical", 1, 0.25),
    )
    assert reading.newest == at(0)
    assert reading.metrics == ("cpu_utilization", "latency_ms")
    assert queries.abnormal_count(reading) == 1


def test_filters_leave_only_what_they_name(store, fill, row):
    fill(
        [
            row("web-1", at(5), cpu_utilization=10.0),
            row("WEB-2", at(10), "High Load", cpu_utilization=80.0),
            row("db.1", at(15), "Critical", cpu_utilization=90.0, latency_ms=5.0),
            row("db-1", at(20), unusual=True, cpu_utilization=95.0),
        ]
    )
    reading = queries.read(store, NOW)
    assert names(reading, risk="High Load") == ["WEB-2"]
    assert names(reading, instance="web") == ["web-1", "WEB-2"]
    # A name is no pattern.
    assert names(reading, instance="db.1") == ["db.1"]
    assert names(reading, metric="cpu_utilization", low=80.0, high=90.0) == ["WEB-2", "db.1"]
    # A row without a value lies in no range.
    assert names(reading, metric="latency_ms", low=0.0) == ["db.1"]
    assert names(reading, abnormal=True) == ["db.1", "db-1"]
    assert names(reading, risk="Critical", instance="web") == []


def test_pages_divide_the_rows_and_a_page_too_far_is_the_last(store, fill, row):
    # GIVEN five rows, in pages of two
    fill([row("a", at(5 * index)) for index in range(5)])
    reading = queries.read(store, NOW)
    # WHEN the last page and one beyond it are requested
    last, beyond = (queries.page(reading, Filters(page=number, size=2)) for number in (3, 9))
    # THEN both are the fifth row
    assert (last.first, last.last, last.total, last.pages) == (5, 5, 5, 3)
    assert [item.timestamp for item in last.rows] == [at(20)]
    assert beyond == last


def test_only_abnormal_rows_say_why(store, fill, row):
    # GIVEN a normal row, two unusual ones, of which one has no reason, and one that is Critical only because its
    # episode has not ended
    within = {"feature": "cpu_utilization", "value": 5.0, "low": 0.0, "high": 10.0, "share": 0.5}
    calm = row("c", at(0), "Critical", unusual=False, episode_id="c@2026-11-22T11:35:00.000Z", reasons=[within])
    fill([row("a", at(0)), row("b", at(0), unusual=True), calm, row("d", at(0), unusual=True, reasons=[])])
    shown = {item.instance_id: item for item in queries.page(queries.read(store, NOW), Filters()).rows}
    assert shown["a"].reasons == ()
    assert shown["b"].reasons == ("latency_ms 812, above the usual 40 to 190",)
    assert shown["c"].reasons == ("in an episode since 2026-11-22 11:35",)
    assert shown["d"].reasons == (TOGETHER,)
    assert {name: item.abnormal for name, item in shown.items()} == {"a": False, "b": True, "c": True, "d": True}


def test_more_rows_than_the_limit_are_cut_and_reported(store, fill, row, monkeypatch):
    monkeypatch.setattr(queries, "MAX_ROWS", 3)
    fill([row("a", at(5 * index)) for index in range(6)])
    reading = queries.read(store, NOW)
    assert len(reading.rows) == 3
    assert not reading.complete
    assert reading.since == at(10)


def test_an_empty_bucket_is_no_error(store):
    reading = queries.read(store, NOW)
    assert reading.newest is None
    assert reading.model is None
    assert queries.page(reading, Filters(metric="cpu_utilization", low=1.0)).rows == ()
    assert [share.share for share in queries.distribution(reading)] == [0.0] * 4


def test_the_newest_row_is_found_when_the_stream_stood_still(store, fill, row):
    # GIVEN rows of two days ago only
    fill([row("a", at(48 * 60)), row("a", at(48 * 60 + 5))], compacted=True)
    reading = queries.read(store, NOW)
    assert reading.rows.empty
    assert reading.newest == at(48 * 60)


def test_the_model_in_service_is_what_the_ledger_put_there_last(store, promote):
    # GIVEN two promotions and a dry run
    promote("2", 1)
    promote("3", 2)
    promote("9", 3, action="dry_run")
    # THEN the second is in service
    model = queries.model_in_service(store)
    assert (model.family, model.version, model.function_version, model.by) == ("kmeans", "13", "3", "ada")
    assert model.promoted == datetime(2026, 11, 21, 2, tzinfo=UTC)

    # WHEN its promotion is undone, and then that of an older one too
    promote("2", 4, action="restore")
    # THEN the one before is in service
    assert queries.model_in_service(store).function_version == "2"

    # WHEN an operator rolls back and forth
    promote("3", 5, action="rollback")
    assert queries.model_in_service(store).function_version == "3"


def test_a_promotion_undone_to_the_placeholder_leaves_no_model(store, promote):
    promote("2", 1)
    promote("1", 2, action="restore")
    assert queries.model_in_service(store) is None


def test_numbers_ages_and_reasons_in_words():
    assert [formatting.number(value) for value in (None, 0.0, 0.0001, 0.25, 12.345, 812.0, 812.46, 12170.4)] == [
        *("–", "0", "0", "0.25", "12.35", "812", "812.5", "12,170"),
    ]
    assert formatting.age(timedelta(seconds=-5)) == "less than a minute"
    assert formatting.age(timedelta(minutes=125, seconds=59)) == "2 h 5 min"
    assert formatting.age(timedelta(days=3, minutes=2)) == "3 d 2 min"
    missing = '[{"feature": "cpu", "value": null, "low": 1, "high": 2, "share": 1}]'
    assert formatting.reasons(missing) == ("cpu missing, expected 1 to 2",)
    small = '[{"feature": "cpu", "value": 1.5, "low": 1, "high": 2, "share": 0.01}]'
    assert formatting.reasons(small) == ()


def test_reasons_that_are_none_are_left_out():
    for text in (None, "", "nonsense", "5", '{"a": 1}', "[1, null, []]", '[{"share": "x"}]', '[{"share": NaN}]'):
        assert formatting.reasons(text) == ()
    assert formatting.reasons('[{"feature": "cpu", "share": 1, "value": 3, "low": "<b>", "high": 9}]') == ("cpu 3",)


def test_dry_runs_do_not_hide_the_model_in_service(store, promote):
    # GIVEN a promotion and more dry runs than a page of the ledger
    promote("2", 1)
    for number in range(60):
        promote("9", 2, action="dry_run", by=str(number))

    # WHEN / THEN
    assert queries.model_in_service(store).function_version == "2"


def test_rows_of_another_model_than_the_ledgers_are_noticed(store, fill, row, promote, at):
    # GIVEN rows that another model labelled after the promotion of m-3
    promote("3", 2)
    fill([row("a", at(5), model_id="m-2")])
    assert queries.unexpected_model(queries.read(store, NOW)) == queries.UnexpectedModel("m-2", "m-3")

    # WHEN the newest is of the ledger's model THEN older rows do not matter
    fill([row("a", at(0), model_id="m-3")], name="s0-1-3")
    assert queries.unexpected_model(queries.read(store, NOW)) is None

    # WHEN another model was promoted since THEN rows of before have the id of the model before
    promote("4", 36)
    assert queries.unexpected_model(queries.read(store, NOW)) is None


def test_the_model_of_another_kind_is_not_unexpected(store, fill, row, promote, at):
    # GIVEN the newest row is of another kind, with a model of its own
    promote("3", 2)
    fill([row("db", at(0), model_id="d-1", resource_kind="rds"), row("a", at(5), model_id="m-3", resource_kind="ec2")])
    assert queries.unexpected_model(queries.read(store, NOW)) is None

    # WHEN no kind has rows of the ledger's model THEN that of the newest row is named
    fill([row("a", at(1), model_id="m-2", resource_kind="ec2")], name="s0-1-3")
    assert queries.unexpected_model(queries.read(store, NOW)) == queries.UnexpectedModel("d-1", "m-3")


def test_the_newest_row_of_each_kind_is_of_the_model_that_the_ledger_names_for_it(store, fill, row, at, two_kinds):
    # GIVEN rows of both kinds by the models of the ledger
    fill([row("rds/orders", at(5), model_id="d-2", resource_kind="rds"), row("a", at(5), model_id="m-1")])
    assert queries.unexpected_model(queries.read(store, NOW, first_kind="ec2")) is None

    # WHEN a row of databases has the model of instances THEN it is noticed, though instances have theirs
    fill([row("rds/orders", at(0), model_id="m-1", resource_kind="rds")], name="s0-1-3")
    found = queries.unexpected_model(queries.read(store, NOW, first_kind="ec2"))
    assert found == queries.UnexpectedModel("m-1", "d-2", "rds")
