"""Silent episodes: opened, paged, suppressed and closed by ticks that name the overdue instances."""

from __future__ import annotations

from riskwatch_lambda.alerting.budget import Limits
from riskwatch_lambda.episodes import no_data
from tests.support.tiny import PERIOD_MS
from tests.support.world import ELEVEN, HOUR_MS, PAGING_CPU, World, notified_lines, row

# The tick finds it when the rows reach 11:20: three periods after the one that it last reported.
LAST = ELEVEN
FOUND = ELEVEN + 4 * PERIOD_MS
SILENT_ID = "web-1@2026-11-22T11:00:00.000Z~silent"


def silent(*names: str, service: str = "shop", last: int = LAST) -> list[list[object]]:
    """Give the part of a tick that names some instances of a service."""
    return [[name, service, last] for name in names]


def test_an_instance_that_stops_is_told_once_and_its_return_once(world):
    # GIVEN an instance that is overdue for three ticks, and then is not
    for late in range(3):
        world.tick(FOUND + late * PERIOD_MS, silent("web-1"))
    for late in range(3, 6):
        world.tick(FOUND + late * PERIOD_MS, [])

    # THEN one message opened and one ended it
    opened, resolved = world.sns.messages
    assert opened["subject"] == "Riskwatch: shop: no data from web-1"
    assert opened["attributes"] == {"event": "opened", "service": "shop", "risk": "Critical"}
    assert (opened["opened"][0]["episode_id"], opened["opened"][0]["kind"]) == (SILENT_ID, "silent")
    assert "- web-1: no data since 2026-11-22 11:00 UTC" in opened["text"]
    assert resolved["subject"] == "Riskwatch: shop: web-1 sends data again"
    assert [each["episode_id"] for each in resolved["resolved"]] == [SILENT_ID]
    # AND the list has it, closed and finished, beside what rows opened
    (listed,) = world.dynamodb.listed()
    assert (listed["sk"], listed["status"]) == ("2026-11-22T11:00:00.000Z~silent#web-1", "closed")
    assert (listed["kind"], listed["closed_ms"], "unfinished" in listed) == ("silent", FOUND + 3 * PERIOD_MS, False)


def test_a_silence_does_not_end_before_it_began_if_the_clock_went_back(world):
    # GIVEN a silence, and a caller whose clock is two hours behind the rows
    world.tick(FOUND, silent("web-1"))
    world.tick(LAST - 2 * HOUR_MS, [])

    # THEN the message and the item end where it began
    *_, resolved = world.sns.messages
    assert resolved["resolved"][0]["closed"] == resolved["resolved"][0]["since"]
    (listed,) = world.dynamodb.listed()
    assert listed["closed_ms"] == LAST


def test_ten_silent_instances_of_a_service_are_one_message(world):
    # GIVEN ten instances of one service, with last rows at different times, and one of another
    shop = [[f"web-{number}", "shop", LAST - number * HOUR_MS] for number in range(10)]

    # WHEN a tick names them
    answer = world.tick(FOUND, [*shop, *silent("db-1", service="store")])

    # THEN each service has one message
    assert (answer["silent"], answer["open"], answer["sent"]) == (11, 11, 2)
    assert [message["subject"] for message in world.sns.messages] == [
        "Riskwatch: shop: no data from 10 instances",
        "Riskwatch: store: no data from db-1",
    ]


def test_a_silence_of_everybody_is_one_message_that_says_so(world):
    # GIVEN one silent instance, and then a tick that says that no instance sends data
    world.tick(FOUND, silent("web-1"))
    world.tick(FOUND + PERIOD_MS, silent("*", service="*", last=LAST + PERIOD_MS))

    # WHEN one of two is back
    world.tick(FOUND + 2 * PERIOD_MS, silent("web-1"))

    # THEN there is a message about the one, about all, and that data is arriving again
    assert [message["subject"] for message in world.sns.messages] == [
        "Riskwatch: shop: no data from web-1",
        "Riskwatch: no data from any instance",
        "Riskwatch: data is arriving again",
    ]
    everybody = world.sns.messages[1]
    assert everybody["service"] == "fleet"
    assert "no instance has sent data since 2026-11-22 11:05 UTC" in everybody["text"]
    assert everybody["link"].startswith("https://link/riskwatch/?abnormal=1&since=")
    # AND the first one stays silent
    assert [item["instance_id"] for item in world.dynamodb.listed() if item["status"] == "open"] == ["web-1"]


def test_silence_and_behaviour_of_an_instance_are_told_apart(world):
    # GIVEN an instance that pages and then says nothing any more
    world.send(row(PAGING_CPU))
    world.tick(FOUND, silent("web-1"))

    # THEN both are open, each with its message
    assert [ids for ids in notified_lines(world)] == [["web-1@2026-11-22T11:00:00.000Z"], [SILENT_ID]]
    assert world.tick(FOUND + PERIOD_MS, silent("web-1"))["open"] == 2


def test_a_tick_that_comes_again_after_the_return_opens_nothing(world):
    # GIVEN a silence that is over
    world.tick(FOUND, silent("web-1"))
    world.tick(FOUND + PERIOD_MS, [])

    # WHEN the tick that opened it comes again, THEN no message is sent
    world.tick(FOUND, silent("web-1"))
    assert len(world.sns.messages) == 2


def test_a_tick_that_does_not_judge_silence_leaves_it_alone(world):
    # GIVEN a silent instance, WHEN a tick comes after a stretch by hand, THEN it stays silent
    world.tick(FOUND, silent("web-1"))
    assert world.tick(FOUND + PERIOD_MS)["silent"] == 1


def test_an_instance_that_comes_and_goes_is_paged_once_an_hour(world):
    # GIVEN an instance that is silent from 11:00, from 11:30 and from 12:05, and back in between
    for minutes in (0, 30, 65):
        start = LAST + minutes * 60_000
        world.tick(start + 4 * PERIOD_MS, silent("web-1", last=start))
        world.tick(start + 5 * PERIOD_MS, [])

    # THEN the second is held by the cool-down of the first
    assert [item["notified"] for item in world.dynamodb.listed()] == ["sent", "cooldown", "sent"]


def test_a_window_that_begins_after_the_last_row_holds_the_page(world):
    # GIVEN an instance taken down within a window that begins after its last row
    world.window("instance", "web-1", LAST + PERIOD_MS, LAST + HOUR_MS)

    # WHEN it is found silent, THEN no page is sent, and when it is still silent at the end one is
    assert world.tick(FOUND, silent("web-1"))["held"] == 1
    assert world.tick(LAST + HOUR_MS, silent("web-1"))["sent"] == 1
    assert notified_lines(world) == [[SILENT_ID]]


def test_more_silent_instances_than_one_tick_opens_go_on_in_the_next(world, monkeypatch):
    # GIVEN five overdue instances and room for two a tick
    monkeypatch.setattr(no_data, "MAX_OPENED", 2)
    overdue = [[f"web-{number}", "shop", LAST - number] for number in range(5)]

    # WHEN / THEN those that are silent longest come first
    assert [world.tick(FOUND + late * PERIOD_MS, overdue)["silent"] for late in range(3)] == [2, 4, 5]
    assert [ids[0].split("@")[0] for ids in notified_lines(world)] == ["web-3", "web-1", "web-0"]


def test_beyond_the_budget_silence_goes_to_the_digest():
    # GIVEN a budget of one page, and two services with a silent instance each
    world = World(limits=Limits(1, 1, daily_summary_hour=12))
    world.tick(FOUND, [*silent("db-1", service="a"), *silent("web-1", service="b")])
    assert len(notified_lines(world)) == 1

    # WHEN noon has passed, THEN the digest has the other one
    world.tick(ELEVEN + HOUR_MS, [*silent("db-1", service="a"), *silent("web-1", service="b")])
    assert notified_lines(world, "digest") == [[SILENT_ID]]


def test_a_late_row_within_a_silence_is_no_alert(world):
    # GIVEN a silence from 11:00 to 11:25, and an incident at noon
    world.tick(FOUND, silent("web-1"))
    world.tick(FOUND + PERIOD_MS, [])
    world.send(row(PAGING_CPU, 12))

    # WHEN a row of 11:10 comes late, THEN it lies in no episode of rows
    world.send(row(10.0, 2))
    assert [label["alert"] for label in world.s3.lines("labelled/")] == [True, False]
