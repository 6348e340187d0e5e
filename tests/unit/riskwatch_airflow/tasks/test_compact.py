"""Task compact of watch_model: objects that cannot be read are reported once."""

from riskwatch_airflow.tasks import watch
from tests.support.labelled import T1, arrive, row

CUT = "labelled/arrived/dt=2026-11-22/hh=09/shard-2-2.json.gz"


def test_a_batch_that_cannot_be_read_is_reported_when_it_comes_and_when_it_is_mended(aws, topic):
    # GIVEN a batch, and one that was cut
    arrive(aws.s3, "shard-1-1", [row("a", 1, T1, hour=9)], hour=9)
    whole = arrive(aws.s3, "shard-2-2", [row("b", 1, T1, hour=9)], hour=9)
    data = aws.s3.objects[whole]
    aws.s3.objects[whole] = data[: len(data) // 2]

    # WHEN compaction runs twice, THEN the other rows are there, and one message names the batch
    counts = [watch.compact() for _ in range(2)]
    assert [(each["rows_out"], each["unreadable"]) for each in counts] == [(1, 1), (0, 1)]
    (message,) = topic.messages
    assert f"- s3://bucket/{CUT} cannot be read" in message["Message"]

    # AND WHEN it is restored THEN its rows are there, and a message says so
    aws.s3.objects[whole] = data
    assert watch.compact()["rows_out"] == 1
    assert f"restored, or given up after two days: s3://bucket/{CUT} cannot be read" in topic.messages[1]["Message"]


def test_a_watch_without_a_damaged_object_says_nothing(aws, topic):
    watch.compact()
    assert topic.messages == []
