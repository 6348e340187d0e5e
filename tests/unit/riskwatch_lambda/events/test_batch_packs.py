"""Batches of packs: every row is counted, and a batch that is cut elsewhere when it comes again changes no verdict."""

from __future__ import annotations

import base64
import json

import pytest

from tests.support import tiny
from tests.support.packing import entry, pack
from tests.support.tiny import NET, PERIOD_MS
from tests.support.world import DONE, ELEVEN, INSTANCES, PAGING_CPU, QUIET_CPU, World, backlogged, notified_lines

INCIDENT = [PAGING_CPU, QUIET_CPU, QUIET_CPU]


@pytest.fixture
def world() -> World:
    return backlogged()


def rows(*cpus: float) -> list[list[float | None]]:
    return [[cpu, NET] for cpu in cpus]


def verdicts(world: World) -> dict[tuple[str, str], set[str]]:
    """Give all verdicts that were stored on each row, over all objects."""
    found: dict[tuple[str, str], set[str]] = {}
    for label in world.s3.lines("labelled/"):
        found.setdefault((label["instance_id"], label["timestamp"]), set()).add(json.dumps(label, sort_keys=True))
    return found


def test_rows_sent_are_rows_labelled_and_rows_quarantined(world, capsys):
    # GIVEN two packs and a one-row record: 5 + 1 rows, one without a possible value and one with an impossible value,
    # an instance of 3 that cannot be read, 1 row, and a pack of 2 whose head is damaged
    several = pack(
        entry("web-1", [*rows(10, 10, PAGING_CPU, 150), [150, None], [10, None]], 5),
        entry("web-2", [[30, 300]]),  # as usual for its role
        {**entry("web-3", rows(1, 2, 3), 3), "role": None},
    )
    single = tiny.stream_record([[30, 300]], "web-3")
    headless = {**pack(entry("web-1", rows(1, 2), 2)), "features": ["disk", "net"]}

    # WHEN
    assert world.send(several, single, headless) == DONE

    # THEN the row that came first has its own verdict, and so has each one of the pack
    labels = world.s3.lines("labelled/")
    assert [(label["instance_id"], label["alert"]) for label in labels] == [
        ("web-1", False),
        ("web-1", True),
        ("web-1", True),
        ("web-1", True),
        ("web-2", False),
        ("web-3", False),
    ]
    assert [label["missing"] for label in labels] == [[], [], ["cpu"], ["net"], [], []]
    assert [label["refused_values"] for label in labels if label["refused_values"]] == [
        [{"feature": "cpu", "value": 150.0, "reason": "cpu is 150, above its upper bound 100"}]
    ]
    # AND the others are in quarantine: 12 rows in all
    refused = world.s3.lines("quarantine/")
    assert [(part["rows"], part["reason"]) for part in refused] == [
        (1, "cpu is 150, above its upper bound 100"),
        (3, "role must be printable text, found None"),
        (2, "features has no cpu, which the model needs"),
    ]
    metrics = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (metrics["RowsLabelled"], metrics["RowsQuarantined"], metrics["records"]) == (6, 6, 3)
    # AND so are the 22 values: 11 of labelled rows with one refused, 1 + 6 + 4 of the others
    assert (metrics["ValuesKept"], metrics["ValuesRefused"]) == (10, 1 + 1 + 6 + 4)
    assert (metrics["ValuesMissing"], metrics["RowsIncomplete"]) == (2, 2)


def test_what_was_refused_of_a_pack_can_be_sent_again(world):
    # GIVEN a row without a possible value and a damaged instance in a pack
    world.send(pack(entry("web-1", [[10, NET], [150, None]], 2), {**entry("web-2", rows(10, 10), 2), "role": ""}))
    first = world.s3.lines("quarantine/")

    # WHEN the data of both is sent as it stands, the bound mended
    world.model = tiny.model(bounds=[[0, 200], [None, None]])
    world.send(*(part["data"] for part in first))

    # THEN the row is labelled, and the instance is refused for the same reason with the same rows
    assert [label["cpu"] for label in world.s3.lines("labelled/")] == [10, 150]
    again = world.s3.lines("quarantine/")[-1]
    assert (again["reason"], again["rows"]) == (first[1]["reason"], 2)
    assert json.loads(base64.b64decode(again["data"])) == json.loads(base64.b64decode(first[1]["data"]))


def test_a_row_without_context_gets_a_level():
    # GIVEN a model with a window of two rows and one without any other, WHEN two single rows come in a pack
    extra = tiny.two_members()
    world = World(tiny.model(extra["arrays"], members=extra["members"]))
    world.send(pack(entry("web-1", rows(10, 10), 2)))

    # THEN the first has a level all the same, and says that it had no context
    labels = world.s3.lines("labelled/")
    assert [(label["level"], label["context"]) for label in labels] == [("Normal", False), ("Normal", True)]


def test_an_episode_runs_through_the_rows_of_a_pack(world):
    # GIVEN a page, a quiet row, and two that close, in one pack, WHEN it comes
    world.send(pack(entry("web-1", rows(PAGING_CPU, QUIET_CPU, PAGING_CPU, QUIET_CPU, QUIET_CPU), 5)))

    # THEN
    assert [label["alert"] for label in world.s3.lines("labelled/")] == [True, True, True, True, False]
    assert world.dynamodb.state("web-1")["closed_ms"] == ELEVEN
    assert len(world.sns.messages) == 1


@pytest.mark.parametrize("cuts", [[1, 3], [3, 1], [2, 2], [1, 1, 1, 1]])
def test_a_batch_that_is_cut_elsewhere_when_it_comes_again_changes_no_verdict(world, cuts):
    # GIVEN four packs of one instance with an incident each, as a replay has them, all processed
    packs = [pack(entry("web-1", rows(*INCIDENT), 3, ELEVEN + 20 * at * PERIOD_MS)) for at in range(4)]
    event = world.event(*packs)
    world.handle(event)
    before, items = verdicts(world), repr(list(world.dynamodb.items.values()))
    messages = len(world.sns.messages)

    # WHEN they come again in other batches
    records = event["Records"]
    for size in cuts:
        world.handle({"Records": records[:size]}, world.wall)
        records = records[size:]

    # THEN the objects overlap, and say the same of every row; episodes and messages are as they were
    assert len(world.s3.objects) == 1 + len(cuts)
    assert verdicts(world) == before
    assert all(len(said) == 1 for said in before.values())
    assert repr(list(world.dynamodb.items.values())) == items
    assert len(world.sns.messages) == messages == len(notified_lines(world))


def test_rows_that_are_new_cost_no_query(world):
    # GIVEN an instance with episodes behind it, WHEN its next rows come, THEN the lists of the days are left alone
    world.send(pack(entry("web-1", rows(*INCIDENT, *INCIDENT), 6)))
    world.dynamodb.queries = 0
    world.send(pack(entry("web-1", rows(10, 10), 1, ELEVEN + PERIOD_MS)))
    assert world.dynamodb.queries == 0


def test_a_batch_of_many_rows_goes_into_one_object(world):
    # GIVEN 2,000 rows of three instances in packs, WHEN they come in one batch
    cpus = [10 + place % 3 for place in range(667)]
    answer = world.send(*(pack(entry(name, rows(*cpus), 667)) for name in INSTANCES["instances"]))

    # THEN they are in one object, in the order in which they came
    assert answer == DONE
    assert len(world.s3.objects) == 1
    labels = world.s3.lines("labelled/")
    assert [label["cpu"] for label in labels] == cpus * 3


def test_a_part_that_is_nested_too_deeply_to_write_costs_its_instance_only(world):
    # GIVEN packs of a good instance and one with brackets in brackets, up to the depth that no decoder reads
    texts = []
    for depth in range(900, 1010):
        good = json.dumps(entry(f"web-{depth}", rows(10)))
        odd = good.replace(f"web-{depth}", "odd")[:-1] + f', "x": {"[" * depth}{"]" * depth}, "role": null}}'
        odd = odd.replace('"role": "web", ', "")
        texts.append(json.dumps(pack()).replace("[]", f"[{good}, {odd}]"))
    datas = [base64.b64encode(text.encode()).decode() for text in texts]

    # WHEN
    for data in datas:
        assert world.send(data) == DONE

    # THEN each odd part, or each record, is refused once with data that can be sent again, and the rest is labelled
    refused = world.s3.lines("quarantine/")
    labelled = world.s3.lines("labelled/")
    readable = [item for item in refused if "role must be" in item["reason"]]
    assert len(refused) == len(texts)
    assert len(labelled) == len(readable) > 20
    whole = [item for item in readable if item["data"] in datas]
    assert all(item["data"] in datas for item in refused if item not in readable)
    assert len(whole) < 10
