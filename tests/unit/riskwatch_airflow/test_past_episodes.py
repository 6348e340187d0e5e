"""The episodes that matter to a training, as the table has them."""

from datetime import timedelta

import pytest

from riskwatch_airflow import past_episodes
from riskwatch_lambda.table import TableError
from riskwatch_ml.core import settings
from riskwatch_ml.features.left_out import PastEpisode
from tests.support import episodes
from tests.support.trainings import TEN

DAY = timedelta(days=1)
NORMAL = ({"feature": "latency_ms", "before": 40.0, "after": 160.0},)


def test_open_episodes_of_any_age_and_new_normals_of_the_history_matter(aws):
    # GIVEN two open episodes, one older than the history, a new normal, and episodes that ended otherwise
    for name, since in (("old", TEN - 40 * DAY), ("open", TEN - DAY)):
        episodes.write(aws.dynamodb, name, since)
    episodes.write(aws.dynamodb, "normal", TEN - 3 * DAY, TEN - DAY, new_normal=NORMAL)
    episodes.write(aws.dynamodb, "over", TEN - 3 * DAY, TEN - DAY)
    episodes.write(aws.dynamodb, "doubtful", TEN - 3 * DAY, TEN - DAY, new_normal=())
    episodes.write(aws.dynamodb, "long ago", TEN - 40 * DAY, TEN - 39 * DAY, new_normal=NORMAL)
    episodes.write(aws.dynamodb, "no data", TEN - DAY, kind="silent")

    # WHEN
    found = past_episodes.read(settings.load(), TEN - 28 * DAY, TEN)

    # THEN
    assert sorted((episode.instance_id, episode.is_open) for episode in found) == [
        ("normal", False),
        ("old", True),
        ("open", True),
    ]
    # AND an episode names the metrics that say much about it
    since_ms = round((TEN - DAY).timestamp() * 1000)
    assert PastEpisode("open", since_ms, True, "open@2026-11-21T10:00:00.000Z", ("latency_ms",)) in found


def test_a_table_that_cannot_be_read_is_an_error(aws):
    aws.dynamodb.failing_reads = 100
    with pytest.raises(TableError):
        past_episodes.read(settings.load(), TEN - DAY, TEN)


def test_a_damaged_episode_is_named_and_stops_no_training(aws, caplog):
    # GIVEN two open episodes, one of them damaged
    for name in ("web-1", "web-2"):
        episodes.write(aws.dynamodb, name, TEN - DAY)
    for key in [key for key in aws.dynamodb.items if key[1].endswith("#web-1")]:
        aws.dynamodb.items[key]["peak"] = {"S": "high"}

    # WHEN THEN the other one is found
    assert [episode.instance_id for episode in past_episodes.read(settings.load(), TEN - 28 * DAY, TEN)] == ["web-2"]
    assert "#web-1': peak is no number" in caplog.text
