"""Damaged and foreign items of the table while rows arrive and a tick runs."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from bench.faults.accounts import identities
from bench.faults.outcome import Healing, Outcome
from bench.faults.records import Form, clone, grid, pack, put_rows
from bench.faults.world import RUN_S, NotHealedError
from riskwatch_lambda.episodes.attributes import read_state, state_key
from riskwatch_lambda.episodes.episode import BEHAVIOUR
from riskwatch_lambda.items import DamagedItem, parse_item
from riskwatch_ml.core import aws, clock, settings

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from bench.faults.world import World

    Item = dict[str, Any]

LABELLED_S = 120.0
BEFORE, OPENED, AFTER = timedelta(hours=2), timedelta(minutes=25), timedelta(minutes=60)
CLONES = 4  # of each episode
EPISODES = 4
DAMAGES: dict[str, Callable[[Item], object]] = {
    "peak missing": lambda item: item.pop("peak", None),
    "peak as text": lambda item: item.update(peak={"S": "1"}),
    "status OPENED": lambda item: item.update(status={"S": "OPENED"}),
    "reasons no JSON": lambda item: item.update(reasons={"S": "[{"}),
    "reasons of another shape": lambda item: item.update(reasons={"S": '[{"feature":"cpu"}]'}),
    "since_ms 1.5": lambda item: item.update(since_ms={"N": "1.5"}),
    "model_id missing": lambda item: item.pop("model_id", None),
    "revision missing": lambda item: item.pop("revision", None),
    "foreign attribute": lambda item: item.update(note={"S": "x"}, map={"M": {}}),
}


def _clones(world: World, form: Form) -> tuple[dict[str, Item], list[tuple[str, str, str, pd.DataFrame]]]:
    """Open episodes on clones of instances with an episode; return their states, and their following rows."""
    source, following, wanted = world.demo.source, [], set()
    for place, alert in enumerate(world.demo.summary["alerts"]["list"][:EPISODES]):
        since, original = clock.parse(alert["since"]), alert["instance_id"]
        own = source.first.rows[source.first.rows["instance_id"] == original]
        first = own[(own["timestamp"] >= since - BEFORE) & (own["timestamp"] <= since + OPENED)]
        whole = own[(own["timestamp"] >= since - BEFORE) & (own["timestamp"] <= since + AFTER)]
        role = source.inventory[original].role
        for number in range(CLONES):
            name, service = f"item-{place}-{number}", f"items-{place}"
            rows = identities(first.assign(instance_id=name))
            put_rows(world, clone(form, service, name, role, first, len(first)), service, rows)
            wanted |= rows
            following.append((name, service, role, whole))
    if missing := world.wait_labelled(wanted, LABELLED_S):
        raise NotHealedError(f"{len(missing)} rows of the clones were not labelled")
    states = {name: item for name, *_ in following if (item := _state(name)) is not None}
    return states, following


def _state(name: str) -> Item | None:
    answer = aws.client("dynamodb").get_item(
        TableName=settings.load().table, Key=state_key(name, BEHAVIOUR), ConsistentRead=True
    )
    item: Item | None = answer.get("Item")
    return item


def _is_damaged(item: Item | None) -> bool:
    damaged: list[DamagedItem] = []
    if item is not None:
        parse_item(item, read_state, damaged.append)
    return bool(damaged)


def _foreign() -> list[Item]:
    """Return two list items that no release writes."""
    day = f"{clock.now():%Y-%m-%d}"
    key = {"pk": {"S": f"episodes#{day}"}, "unfinished": {"S": "yes"}}
    return [
        {**key, "sk": {"S": f"{day}T00:00:00.000Z#foreign"}, "note": {"S": "someone wrote this"}},
        {**key, "sk": {"S": f"{day}T00:00:01.000Z#half"}, "status": {"S": "OPENED"}, "instance_id": {"S": "half"}},
    ]


def damaged_items(world: World) -> list[Outcome]:
    """F19: damage the states of instances with episodes and add foreign items; rows arrive and a tick runs."""
    form, dynamodb, name_of_table = Form.of(world), aws.client("dynamodb"), settings.load().table
    states, following = _clones(world, form)
    if not states:
        raise NotHealedError("no clone opened an episode")
    for (damage, change), item in zip(DAMAGES.items(), states.values(), strict=False):
        changed = {**item, "bench": {"S": damage}}
        change(changed)
        dynamodb.put_item(TableName=name_of_table, Item=changed)
    foreign = _foreign()
    for item in foreign:
        dynamodb.put_item(TableName=name_of_table, Item=item)
    count = min(len(DAMAGES), len(states))
    damaged = [name for name in list(states)[:count] if _is_damaged(_state(name))]
    batch = _batch(world, form, following, damaged)
    tick = _tick(world)
    for item in foreign:
        dynamodb.delete_item(TableName=name_of_table, Key={"pk": item["pk"], "sk": item["sk"]})
    moment = f"{count} variants"
    return [
        Outcome("F19 damaged states, batch", f"{moment}, rows arrive", *batch),
        Outcome("F19 foreign items, tick", f"{len(foreign)} items, a stream run", tick[0], tick[1], tick[2],
                unit="ticks"),
    ]  # fmt: skip


def _batch(
    world: World, form: Form, following: list[tuple[str, str, str, pd.DataFrame]], damaged: list[str]
) -> tuple[Healing, float, str, int, int]:
    """Send the following rows of all clones and rows of innocent instances; return what became of them."""
    began = time.monotonic()
    wanted = set()
    for name, service, role, rows in following:
        whole = identities(rows.assign(instance_id=name))
        put_rows(world, clone(form, service, name, role, rows, len(rows)), service, whole)
        innocent = {(f"innocent-{name}", moment) for moment in grid(3)}
        put_rows(world, pack(form, service, f"innocent-{name}", grid(3)), service, innocent)
        wanted |= whole | innocent
    missing = world.wait_labelled(wanted, LABELLED_S)
    replaced = [name for name in damaged if not _is_damaged(_state(name))]
    message = f"{len(replaced)} of {len(damaged)} damaged states were replaced; log: {_reason(world)}"
    return Healing.ITSELF, time.monotonic() - began, message, len(missing), len(wanted)


def _reason(world: World) -> str:
    """Return what the function logs about a damaged state."""
    line = world.function_log("instance#item-")
    document = json.loads(line) if line.startswith("{") else {}
    return f"{document.get('event', 'nothing')}: {document.get('pk')}, {document.get('reason')}"


def _tick(world: World) -> tuple[Healing, float, str]:
    """Run the stream once and look at the page; return what both say."""
    began = time.monotonic()
    run = world.airflow.trigger("stream_metrics")
    world.airflow.wait("stream_metrics", run, RUN_S)
    seconds = time.monotonic() - began
    answer = world.airflow.page("/riskwatch/api/rows?size=1&instance=item-")
    text = str(answer.json().get("quiet_problem")) if answer.status_code == 200 else answer.text
    healing = Healing.ITSELF if answer.status_code == 200 else Healing.NOT
    return healing, seconds, f"page {answer.status_code}: {text}"
