"""Tasks of stream_metrics when a region cannot be read."""

import pytest
from airflow.sdk.exceptions import AirflowFailException

from riskwatch_airflow.tasks import stream
from riskwatch_ml.ingest.reader import ForbiddenError
from riskwatch_ml.storage import keys
from tests.support import runs
from tests.support.streaming import entries, minutes, streamed, ticked


@pytest.mark.parametrize("method", ["paginate", "get_metric_data"])
def test_a_region_that_fails_stops_no_other_and_catches_up(regions, context, at, method):
    # GIVEN both regions streamed until ten
    stream.tick(stream.publish(context))
    regions.kinesis.records.clear()

    # WHEN the second one cannot be read for half an hour, a run every five minutes
    regions.broken["us-east-1"] = method
    for passed in range(13, 43, 5):
        at(passed)
        published = runs.handed_on(stream.publish(context))
        answered = stream.tick(published)

        # THEN the first is streamed, the tick comes, nobody is silent, and the run ends in an error that names it
        assert answered["open"] == 1
        with pytest.raises(
            AirflowFailException, match=r"us-east-1 were not streamed.*is not allowed.*next runs catch up"
        ):
            stream.complete(published)
    assert {entry["id"] for entry in entries(regions)} == {"eu-west-1:host"}
    assert streamed(regions) == list(range(0, 35, 5))
    assert [tick["overdue"] for tick in ticked(regions)] == [[]] * 7
    assert regions.store.get_json(keys.STREAM_MARK) == {
        "end": "2026-11-22T10:35:00.000Z",
        "newest": "2026-11-22T10:30:00.000Z",
        "shards": {"us-east-1": "2026-11-22T10:00:00.000Z"},
    }

    # AND when it can be read again, nothing of it is lost
    regions.kinesis.records.clear()
    regions.broken.clear()
    at(43)
    published = stream.publish(context)
    stream.complete(published)
    assert published["end"] == "2026-11-22T10:40:00.000Z"
    own = {entry["id"]: minutes(entry)[-entry["newest"] :] for entry in entries(regions)}
    assert own == {"us-east-1:host": list(range(0, 40, 5)), "eu-west-1:host": [35]}
    assert regions.store.get_json(keys.STREAM_MARK)["end"] == "2026-11-22T10:40:00.000Z"


def test_where_no_region_can_be_read_the_run_fails_and_the_mark_stays(regions, context, at):
    # GIVEN
    stream.publish(context)
    regions.broken.update({"eu-west-1": "paginate", "us-east-1": "get_metric_data"})

    # WHEN / THEN
    at(13)
    with pytest.raises(ForbiddenError, match="is not allowed"):
        stream.publish(context)
    assert regions.store.get_json(keys.STREAM_MARK)["end"] == "2026-11-22T10:00:00.000Z"
