"""Stories of batches, ticks, faults, redeliveries and damaged items, drawn at random and replayed on the function."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import json
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from riskwatch_lambda.clock import iso
from riskwatch_lambda.episodes import attributes, seen
from riskwatch_lambda.items import DamagedItem, parse_item
from riskwatch_lambda.table import TableError
from tests.support import tiny
from tests.support.fakes import stored
from tests.support.tiny import NET, PERIOD_MS
from tests.support.world import DAY_MS, DONE, ELEVEN, INSTANCES, PAGING_CPU, QUIET_CPU, World, all_told

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMES = ("web-1", "web-2", "web-3")
VICTIM = "web-1"
SOME = settings(suppress_health_check=list(HealthCheck))

_VALUES = st.one_of(
    st.builds(lambda text: {"S": text}, st.text(max_size=8) | st.sampled_from(["[]", "[{}]", "{}", "open", "sent"])),
    st.builds(lambda number: {"N": str(number)}, st.integers() | st.floats(allow_nan=False, allow_infinity=False)),
    st.builds(lambda flag: {"BOOL": flag}, st.booleans()),
    st.builds(lambda data: {"B": data}, st.binary(max_size=8)),
    st.just(None),
)
_DAMAGE = st.tuples(st.sampled_from(["state", "list"]), st.integers(0, 30), _VALUES)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("rows"), st.lists(st.sampled_from(NAMES), min_size=1, max_size=3), st.booleans()),
        st.tuples(st.just("again"), st.integers(0, 9)),
        st.tuples(st.just("tick")),
        st.tuples(st.just("fault"), st.sampled_from(["s3", "dynamodb", "sns", "reads"])),
        st.tuples(st.just("damage"), _DAMAGE),
        st.tuples(st.just("swap")),
    ),
    min_size=4,
    max_size=25,
)


class _Story:
    """A world in which steps happen, and the events that were sent."""

    def __init__(self) -> None:
        self.world = World()
        # For this model the quiet rows are unusual.
        self.swapped = tiny.model({"center": [tiny.baseline(1, 10)] * 3}, baselines=INSTANCES, model_id="tiny-2")
        self.events: list[dict[str, Any]] = []
        self.rows: set[tuple[str, str]] = set()
        self.at = 0
        self.is_damaged = self.lost_marks = False

    def play(self, steps: list[tuple[Any, ...]]) -> None:
        for name, *given_ in steps:
            with contextlib.redirect_stdout(io.StringIO()) as log:
                getattr(self, f"_{name}")(*given_)
            self.lost_marks |= "newest rows not marked" in log.getvalue()

    def end(self) -> None:
        """Let two quiet rows and some days of ticks go by, with the first model and without a fault."""
        if self.world.model.model_id == "tiny-2":
            self._swap()
        self.world.dynamodb.failing = self.world.dynamodb.failing_reads = 0
        self.world.s3.failing = self.world.sns.failing = 0
        self.play([("rows", list(NAMES), False)] * 2)
        for days in range(1, 5):
            with contextlib.redirect_stdout(io.StringIO()):
                self.world.tick(ELEVEN + self.at * PERIOD_MS + days * DAY_MS, [])

    def _rows(self, names: list[str], pages: bool) -> None:
        self.at += 1
        ms = ELEVEN + self.at * PERIOD_MS
        cpu = PAGING_CPU if pages else QUIET_CPU
        names = sorted(set(names))
        self.rows |= {(name, iso(ms)) for name in names}
        self.events.append(self.world.event(*(tiny.stream_record([[cpu, NET]], name, last_ms=ms) for name in names)))
        self._deliver(self.events[-1], ms)

    def _deliver(self, event: dict[str, Any], ms: int) -> None:
        # Kinesis delivers a batch again until it is answered as done.
        assert any(self.world.handle(event, ms) == DONE for _ in range(40)), "an endless retry"

    def _again(self, index: int) -> None:
        if self.events:
            self._deliver(self.events[index % len(self.events)], self.world.wall)

    def _tick(self) -> None:
        # Airflow repeats a tick that fails.
        with contextlib.suppress(TableError):
            self.world.tick(ELEVEN + self.at * PERIOD_MS, [])

    def _fault(self, where: str) -> None:
        if where == "reads":
            self.world.dynamodb.failing_reads = 1
        else:
            getattr(self.world, where).failing = 1

    def _swap(self) -> None:
        self.world.model, self.swapped = self.swapped, self.world.model

    def _damage(self, damage: tuple[str, int, Mapping[str, Any] | None]) -> None:
        where, index, value = damage
        prefix = f"instance#{VICTIM}" if where == "state" else "episodes#"
        items = [item for (pk, sk), item in sorted(self.world.dynamodb.items.items()) if pk.startswith(prefix)]
        items = [item for item in items if where == "state" or item["sk"]["S"].endswith(f"#{VICTIM}")]
        for item in items[:1]:
            self.is_damaged = True
            names = sorted(set(item) - {"pk", "sk", "unfinished"})
            name = names[index % len(names)] if names else "status"
            item.pop(name, None)
            if value is not None:
                item[name] = stored(dict(value))  # as DynamoDB writes numbers: 1e16 is 10000000000000000

    def lines(self, part: str, names: set[str]) -> list[str]:
        return [line for line in all_told(self.world, part) if line.split("@")[0] in names]


@SOME
@example([("rows", ["web-1"], True), ("damage", ("state", 14, {"N": "1e16"}))])
@example([("fault", "dynamodb"), ("rows", ["web-1"], False), ("swap",), ("again", 0)])
@given(_STEPS)
def test_every_row_is_labelled_and_each_episode_opens_and_ends_once(steps):
    # WHEN a story happens, and everything is quiet after it
    story = _Story()
    story.play(steps)
    story.end()

    # THEN every row sent has a label
    world = story.world
    labels = world.s3.lines("labelled/")
    assert {(label["instance_id"], label["timestamp"]) for label in labels} == story.rows
    # AND each episode of an instance without a damaged item is told once, and its end once, and is closed
    names = set(NAMES) - ({VICTIM} if story.is_damaged else set())
    listed = [item for item in world.dynamodb.listed() if item.get("instance_id") in names]
    episodes = sorted(item["episode_id"] for item in listed)
    assert {item["status"] for item in listed} <= {"closed"}
    assert sorted(story.lines("opened", names)) == episodes
    assert sorted(story.lines("resolved", names) + story.lines("new_normal", names)) == episodes
    assert not [item for item in listed if "unfinished" in item]
    # AND each opened at a row whose first verdict said so: no row that came again opened one, unless its mark was lost
    first = {f"{label['instance_id']}@{label['timestamp']}": label["episode_id"] for label in labels}
    assert story.lost_marks or [first[episode_id] for episode_id in episodes] == episodes
    # AND no state is left open
    state = world.dynamodb.items.get((f"instance#{VICTIM}", "current"))
    if state is not None and not story.is_damaged:
        assert state["status"] == {"S": "closed"}


@functools.cache
def _paged():
    """Give the items of an open and paged episode."""
    world = World()
    with contextlib.redirect_stdout(io.StringIO()):
        world.send(tiny.stream_record([[PAGING_CPU, NET]]))
    return world.dynamodb.items


@SOME
@given(st.sampled_from(["state", "list"]), st.dictionaries(st.integers(0, 30), _VALUES, min_size=1, max_size=3))
def test_an_item_is_read_as_written_or_reported(which, changes):
    # GIVEN an item of a paged episode WHEN attributes are removed or have other values
    pk, read = ("instance#", attributes.read_state) if which == "state" else ("episodes#", attributes.read_listed)
    item = copy.deepcopy(next(item for key, item in _paged().items() if key[0].startswith(pk)))
    names = sorted(item)
    for index, value in changes.items():
        item.pop(names[index % len(names)], None)
        if value is not None:
            item[names[index % len(names)]] = dict(value)

    # THEN it gives an episode that can be written, or is reported with a short text, and nothing else is raised
    damaged: list[DamagedItem] = []
    episode = parse_item(item, read, damaged.append)
    assert (episode is None) == bool(damaged)
    if episode is not None:
        key = attributes.state_key(*episode.key) if which == "state" else attributes.list_key(episode)
        assert {name: item[name] for name in ("pk", "sk")} == key
        json.dumps([attributes.facts(episode), attributes.notification(episode.notice)])
    assert all(len(text) <= 120 for one in damaged for text in one)


@SOME
@given(st.dictionaries(st.text(max_size=12), st.integers(0, 253_402_300_799_999), max_size=20), st.binary(max_size=40))
def test_marks_are_read_as_written_and_damaged_ones_are_reported(marks, garbage):
    key = {"pk": {"S": "seen#shard"}, "sk": {"S": "0"}}
    damaged: list[DamagedItem] = []
    assert parse_item({**key, "rows": {"B": seen.encode(marks)}}, seen.read_marks, damaged.append) == marks
    assert damaged == []
    assert parse_item({**key, "rows": {"B": garbage}}, seen.read_marks, damaged.append) is None
    assert len(damaged) == 1
