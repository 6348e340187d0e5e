"""The counting of incidents and delays, worked out by hand."""

import json
from datetime import UTC, datetime, timedelta

from riskwatch_local.demo.alerts import Alert, delays, match_incidents, parse_message, receive
from riskwatch_local.demo.data import KnownIncident
from tests.support.contract import imitates

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def _alert(instance, minutes):
    return Alert(instance, NOON + minutes * MINUTE, NOON + (minutes + 3) * MINUTE)


def test_incidents_are_met_on_their_own_instance_and_within_tolerance():
    # GIVEN three incidents, one of them before the interval, and four alerts
    incidents = [
        KnownIncident("web-1", "surge", NOON, NOON + 30 * MINUTE),
        KnownIncident("db-1", "outage", NOON, NOON + 30 * MINUTE),
        KnownIncident("db-2", "outage", NOON - 600 * MINUTE, NOON - 500 * MINUTE),
    ]
    alerts = [_alert("web-1", -10), _alert("web-1", 41), _alert("cache-1", 5), _alert("db-1", -11)]

    # WHEN they are paired
    counts = match_incidents(incidents, alerts, NOON - 60 * MINUTE, NOON + 60 * MINUTE)

    # THEN the tolerance of ten minutes includes its edge, another instance's alert meets nothing
    assert (counts["made"], counts["met"], counts["missed"], counts["false_alerts"]) == (2, 1, 1, 3)
    assert [item["met"] for item in counts["list"]] == [True, False]


@imitates("sqs")
class Queue:
    """A queue with two messages that gives one at a time and forgets what is deleted."""

    def __init__(self, *bodies):
        sent = {"SentTimestamp": str(int(NOON.timestamp() * 1000))}
        self.messages = [
            {"Body": json.dumps(body), "ReceiptHandle": str(index), "Attributes": sent}
            for index, body in enumerate(bodies)
        ]

    def receive_message(self, **asked):
        return {"Messages": self.messages[:1]} if self.messages else {}

    def delete_message(self, QueueUrl, ReceiptHandle):  # noqa: N803 - as boto3 names them
        self.messages = [message for message in self.messages if message["ReceiptHandle"] != ReceiptHandle]


def test_the_queue_is_emptied_and_pages_are_counted():
    # GIVEN a page and the end of an episode
    episode = {"instance_id": "web-1", "since": "2026-11-22T12:00:00.000Z"}
    queue = Queue(
        {"version": 1, "event": "opened", "opened": [episode]}, {"version": 1, "event": "resolved", "resolved": []}
    )

    # WHEN / THEN
    assert receive(queue, "url") == ([Alert("web-1", NOON, NOON)], [NOON])
    assert queue.messages == []


def test_one_message_may_open_several_episodes():
    body = json.dumps(
        {
            "version": 1,
            "event": "opened",
            "opened": [
                {"instance_id": "web-1", "since": "2026-11-22T12:00:00.000Z"},
                {"instance_id": "web-2", "since": "2026-11-22T12:05:00.000Z"},
            ],
        }
    )
    sent_ms = int(NOON.timestamp() * 1000)
    assert parse_message(body, sent_ms) == [
        Alert("web-1", NOON, NOON),
        Alert("web-2", NOON + 5 * MINUTE, NOON),
    ]


def test_a_message_that_is_no_page_announces_nothing():
    # GIVEN a digest, which has lines about episodes, too
    body = json.dumps({"event": "digest", "opened": [{"instance_id": "web-1", "since": "2026-11-22T12:00:00.000Z"}]})

    # WHEN / THEN
    assert parse_message(body, int(NOON.timestamp() * 1000)) == []


def test_the_delay_is_the_sum_of_its_parts():
    # GIVEN rows put into the stream 10 to 12 seconds after the run was triggered, and their messages 1 to 3 s later
    deliveries = [
        (NOON + timedelta(seconds=10 + number), NOON + timedelta(seconds=11 + 2 * number, milliseconds=500))
        for number in range(3)
    ]

    # WHEN / THEN
    assert delays(deliveries, NOON, settle_s=180, schedule_s=300) == {
        "settle_s": 180,
        "schedule_wait_max_s": 300,
        "run_to_put_p95_s": 12,
        "put_to_message_p95_s": 3.5,
        "datapoint_to_message_p95_s": 495.5,
    }


def test_without_a_message_there_is_no_delay():
    assert delays([], NOON, 180, 300) == {}
