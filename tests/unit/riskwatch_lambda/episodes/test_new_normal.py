"""A model swap never tells that an incident is over: what the new model takes for normal is told as just that."""

from __future__ import annotations

from typing import Any

import pytest

from riskwatch_lambda.model.document import ModelError
from tests.support import tiny
from tests.support.tiny import CPU, NET
from tests.support.world import (
    AN_HOUR,
    DAY_MS,
    EPISODE,
    HOUR_MS,
    INSTANCES,
    NOW,
    PAGING_CPU,
    QUIET_CPU,
    TWICE_CPU,
    World,
    notified_lines,
    row,
    spent,
    unfinished,
)

CHANGES = [{"feature": "cpu", "before": CPU, "after": PAGING_CPU}]
LEARNED = [{"episode_id": EPISODE, "changes": CHANGES}]


def _model(cpu: float = CPU, model_id: str = "tiny-2", **changes: Any) -> Any:
    """Give another model, for which a CPU is the normal one of all instances."""
    center = [tiny.baseline(50, 500), tiny.baseline(30, 300), tiny.baseline(cpu, NET)]
    return tiny.model({"center": center}, model_id=model_id, baselines=INSTANCES, **changes)


def _later(at: int) -> int:
    return NOW + at * tiny.PERIOD_MS


@pytest.fixture
def paged(world) -> World:
    """Give a world in which an episode was paged an hour ago and goes on."""
    for at in range(AN_HOUR):
        world.send(row(PAGING_CPU, at), now=_later(at))
    assert notified_lines(world) == [[EPISODE]]
    return world


def _messages(world: World) -> list[str]:
    return [message["event"] for message in world.sns.messages[1:]]


def test_an_episode_that_training_learned_ends_as_new_normal_and_one_message_says_so(paged):
    # GIVEN a refresh that learned the episode
    paged.model = _model(PAGING_CPU, new_normals=LEARNED)

    # WHEN the behaviour goes on, for two hours and their ticks
    for at in range(AN_HOUR, 3 * AN_HOUR):
        paged.send(row(PAGING_CPU, at), now=_later(at))
        paged.tick(_later(at))

    # THEN one message says what became normal, and none that the incident is resolved
    assert _messages(paged) == ["new_normal"]
    (message,) = paged.sns.messages[1:]
    assert message["resolved"] == []
    (entry,) = message["new_normal"]
    assert (entry["episode_id"], entry["changes"]) == (EPISODE, CHANGES)
    assert "web-1: unusual for 1 h; from now on treated as normal; cpu was 10, is 16.3891" in message["text"]
    # AND the episode is over, needs nothing more, and its later rows are no alerts
    assert unfinished(paged) == []
    assert paged.dynamodb.state("web-1")["status"] == "closed"
    assert [labelled["alert"] for labelled in paged.s3.lines("labelled")[-3:]] == [False] * 3


def test_an_episode_that_training_learned_reopens_if_it_is_more_severe(paged):
    paged.model = _model(new_normals=LEARNED)
    paged.send(row(TWICE_CPU, AN_HOUR), row(TWICE_CPU, AN_HOUR + 1), now=_later(AN_HOUR))
    (new,) = unfinished(paged)[1:]
    assert new == "web-1@2026-11-22T12:00:00.000Z"


def test_a_later_model_or_another_episode_is_not_ended(paged):
    # GIVEN a refresh that learned an episode of another time
    paged.model = _model(new_normals=[{"episode_id": "web-1@2026-11-21T11:00:00.000Z", "changes": []}])
    paged.send(row(PAGING_CPU, AN_HOUR), now=_later(AN_HOUR))
    assert paged.dynamodb.state("web-1")["status"] == "open"


def test_a_second_delivery_and_an_older_row_do_not_end_it_earlier(paged):
    paged.model = _model(PAGING_CPU, new_normals=LEARNED)
    paged.send(row(PAGING_CPU, AN_HOUR - 1), now=_later(AN_HOUR))
    assert paged.dynamodb.state("web-1")["status"] == "open"


def test_rows_that_only_a_new_model_finds_normal_are_not_told_as_resolved(paged):
    # GIVEN a change of the model that finds the behaviour normal, without having learned the episode
    paged.model = _model(PAGING_CPU)

    # WHEN two rows close the episode
    for at in (AN_HOUR, AN_HOUR + 1):
        paged.send(row(PAGING_CPU, at), now=_later(at))
    paged.tick(_later(AN_HOUR + 2))

    # THEN the message says what is known
    assert _messages(paged) == ["new_normal"]
    text = paged.sns.messages[-1]["text"]
    assert "the model that went into service meanwhile finds it normal: check whether it is over" in text


@pytest.mark.parametrize("swap_after", [0, 1], ids=["pages under the new model", "is quiet under the old one"])
def test_an_end_that_one_model_saw_is_told_as_resolved(paged, swap_after):
    # GIVEN a refresh; before it the behaviour is normal once, or after it unusual once
    rows = [row(QUIET_CPU, AN_HOUR), row(QUIET_CPU, AN_HOUR + 1)]
    if swap_after == 0:
        paged.model = _model()
        paged.send(row(PAGING_CPU, AN_HOUR), now=_later(AN_HOUR))
        rows = [row(QUIET_CPU, AN_HOUR + 1), row(QUIET_CPU, AN_HOUR + 2)]
    else:
        paged.send(rows.pop(0), now=_later(AN_HOUR))
        paged.model = _model()

    # WHEN it stays normal
    for at, data in enumerate(rows, AN_HOUR + 1):
        paged.send(data, now=_later(at))
    paged.tick(_later(AN_HOUR + 3))

    # THEN it is over
    assert _messages(paged) == ["resolved"]


def test_a_row_that_pages_again_takes_the_doubt_back(paged):
    # GIVEN a new model whose first row is normal and whose second one pages
    paged.model = _model()
    paged.send(row(QUIET_CPU, AN_HOUR), row(PAGING_CPU, AN_HOUR + 1), now=_later(AN_HOUR + 1))
    assert paged.dynamodb.state("web-1")["status"] == "open"

    # WHEN it ends under this model
    paged.send(row(QUIET_CPU, AN_HOUR + 2), row(QUIET_CPU, AN_HOUR + 3), now=_later(AN_HOUR + 3))
    paged.tick(_later(AN_HOUR + 4))

    # THEN it is resolved
    assert _messages(paged) == ["resolved"]


def test_a_new_normal_that_was_not_paged_is_a_line_of_the_daily_summary():
    # GIVEN an episode beyond the budget
    world = spent()
    world.send(row(PAGING_CPU), row(PAGING_CPU, 1))
    world.model = _model(PAGING_CPU, new_normals=LEARNED)
    world.send(row(PAGING_CPU, 2), now=_later(2))

    # WHEN the daily summary is due
    world.tick(NOW + DAY_MS, daily_summary=True)

    # THEN it has the line, under its own name
    (message,) = world.sns.messages
    assert message["event"] == "digest"
    assert [entry["episode_id"] for entry in message["new_normal"]] == [EPISODE]
    assert message["resolved"] == []
    assert message["subject"].endswith("1 opened, 0 got worse, 0 resolved, 1 new normal")


def test_a_document_without_the_key_has_no_new_normals_and_a_wrong_one_is_refused():
    assert tiny.model().new_normals == {}
    assert _model(new_normals=LEARNED).new_normals == {EPISODE: tuple(CHANGES)}
    with pytest.raises(ModelError, match="new_normals is"):
        _model(new_normals=[{"episode_id": EPISODE}])


def test_an_episode_of_an_expired_instance_is_no_new_normal(paged):
    # GIVEN a model that learned the episode, and no further row
    paged.model = _model(PAGING_CPU, new_normals=LEARNED)
    paged.tick(_later(AN_HOUR) + DAY_MS + HOUR_MS)
    assert _messages(paged) == ["resolved"]
    assert "closed, no data on cpu for 24 h" in paged.sns.messages[-1]["text"]
