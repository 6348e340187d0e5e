"""Faults of the stream: killed workers, two senders, two compactions, records that come twice, hostile records."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from bench.faults.accounts import identities
from bench.faults.outcome import Healing, Outcome
from bench.faults.records import HOSTILE_NAMES, Form, bombs, crowd, grid, pack, put, put_rows
from bench.faults.world import NotHealedError
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.faults.accounts import Row
    from bench.faults.world import World

STREAM = [sys.executable, "-c", "from riskwatch_cli.main import app; app()", "stream", "--csv"]
ROOT = Path(__file__).resolve().parents[2]
HELPER = [sys.executable, "-m", "bench.faults.helper"]
SENDER_INSTANCES, SENDER_ROWS, RATE = 80, 250, 3000  # a pace that gives many batches, so that kills hit one
KILLS = 3
LABELLED_S = 180.0
BOMB_DAYS = 9000


def _csv(world: World, path: Path, first: int) -> set[Row]:
    """Write the rows of a quiet instance under many names and return their identities."""
    source = world.demo.source
    rows = source.first.rows
    rows = rows[(rows["instance_id"] == "cache-1") & (rows["timestamp"] < source.cut)]
    rows = rows.dropna().tail(SENDER_ROWS)
    names = [f"load-{number:03d}" for number in range(first, first + SENDER_INSTANCES)]
    whole = pd.concat([rows.assign(instance_id=name) for name in names], ignore_index=True)
    whole.to_csv(path, index=False)
    return identities(whole)


def killed_workers(world: World) -> list[Outcome]:
    """F12, F13, F14: kill the Lambda worker three times while two senders stream, partly the same rows."""
    paths = [world.state / f"sender-{number}.csv" for number in (1, 2)]
    wanted = [_csv(world, path, first) for path, first in zip(paths, (0, SENDER_INSTANCES // 2), strict=True)]
    world.sent |= wanted[0] | wanted[1]
    command = [[*STREAM, str(path), "--rate", str(RATE)] for path in paths]
    started = time.monotonic()
    senders = [
        subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=_plain(os.environ))
        for line in command
    ]
    kills = _kill_workers(world, senders)
    killed = time.monotonic()
    outputs = [sender.communicate(timeout=LABELLED_S * 2)[0] for sender in senders]
    missing = world.wait_labelled(wanted[0] | wanted[1], LABELLED_S)
    seconds = time.monotonic() - killed
    counts = [next((line for line in text.splitlines() if " rows = " in line), text[-300:]) for text in outputs]
    rows = len(wanted[0] | wanted[1])
    healing = Healing.ITSELF if not any(sender.returncode for sender in senders) else Healing.NOT
    shared = len(wanted[0] & wanted[1])
    return [
        Outcome(f"F12 Lambda worker kill -9, {kills} times", "between and in batches of two senders", healing, seconds,
                counts[0], len(missing), rows),
        Outcome("F13/F14 two `riskwatch stream` at once", f"{shared:,} of the rows are in both", healing,
                time.monotonic() - started, counts[1], len(missing), rows),
    ]  # fmt: skip


def _plain(environment: os._Environ[str]) -> dict[str, str]:
    return {**environment, "NO_COLOR": "1", "COLUMNS": "200"}


def _kill_workers(world: World, senders: list[subprocess.Popen[str]]) -> int:
    """Kill the workers whenever new labelled objects show that they work; return the number of kills."""
    kills, before = 0, len(world.store.keys(keys.ARRIVED))
    while kills < KILLS and any(sender.poll() is None for sender in senders):
        now = len(world.store.keys(keys.ARRIVED))
        workers = world.workers() if now > before else []
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
            world.crashes += 1
        kills += bool(workers)
        before = now
        time.sleep(0.2)
    return kills


def two_compactions(world: World) -> list[Outcome]:
    """F15: run two compactions at once and kill one while it writes."""
    world.rows.update()
    expected = set(world.rows.labelled)
    before = _tags(world)
    pair = [subprocess.Popen([*HELPER, "compact"], stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)]
    changed = 0
    while changed < 3 and pair[0].poll() is None:
        now = _tags(world)
        changed = sum(before.get(key) != tag for key, tag in now.items())
    was_alive = pair[0].poll() is None
    pair[0].kill()
    killed = time.monotonic()
    pair[0].communicate()
    result = json.loads(pair[1].communicate(timeout=LABELLED_S)[0].splitlines()[-1])
    seconds = time.monotonic() - killed
    table = world.rows.in_table()
    missing = expected - set(table)
    twice = sum(count > 1 for count in table.values())
    moment = f"{changed} hours written" + ("" if was_alive else ", it was over already")
    message = f"the other one: {result['rows_in']:,} rows read, {result['rows_out']:,} new in the table, {twice} twice"
    return [
        Outcome("F15 two compactions, one kill -9", moment, Healing.NOT if twice else Healing.ITSELF, seconds, message,
                len(missing), len(expected))
    ]  # fmt: skip


def _tags(world: World) -> dict[str, str]:
    pages = world.store.client.get_paginator("list_objects_v2")
    listed = pages.paginate(Bucket=world.store.bucket, Prefix=keys.hours(keys.LABELLED_ROWS))
    return {entry["Key"]: entry["ETag"] for page in listed for entry in page.get("Contents", ())}


def duplicates(world: World) -> list[Outcome]:
    """F16: put 60 records, which are 20 rows three times, in random order."""
    form, moments = Form.of(world), grid(20)
    datas = [pack(form, "twice", "twice-1", [moment]) for moment in moments] * 3
    random.Random(16).shuffle(datas)  # noqa: S311
    rows = {("twice-1", moment) for moment in moments}
    began = time.monotonic()
    for data in datas:
        put_rows(world, data, "twice", rows)
    missing = world.wait_labelled(rows, LABELLED_S)
    return [
        Outcome("F16 records twice and shuffled", f"{len(datas)} records of {len(rows)} rows", Healing.ITSELF,
                time.monotonic() - began, "", len(missing), len(rows))
    ]  # fmt: skip


def hostile(world: World) -> list[Outcome]:
    """F17: hostile names, records that are no records, and a crowd in one record."""
    form = Form.of(world)
    moment = grid(1)[0]
    crowded, crowd_rows = crowd(form, 2500)
    began = time.monotonic()
    named = {name: put(world, pack(form, "hostile", name, [moment]), "hostile") for name in HOSTILE_NAMES}
    broken = [put(world, data, "hostile") for data in bombs(form)]
    put_rows(world, crowded, "crowd", crowd_rows)
    world.records |= set(broken)
    unsettled: list[str] = []

    def is_settled() -> bool:
        world.rows.update()
        labelled, refused = world.rows.labelled, world.rows.refused_records
        unsettled[:] = [
            name for name, number in named.items() if (name, moment) not in labelled and number not in refused
        ]
        unsettled.extend(number for number in broken if number not in refused)
        return not unsettled

    is_whole = _within(world, is_settled)
    missing = world.wait_labelled(crowd_rows, LABELLED_S)
    seconds = time.monotonic() - began
    reasons = sorted(set(world.rows.reasons), key=len)
    count = len(named) + len(broken) + len(crowd_rows)
    message = f"{len(reasons)} reasons, such as: {reasons[len(reasons) // 2] if reasons else ''}"
    return [
        Outcome("F17 hostile names and records", f"{len(named)} names, {len(broken)} records, a crowd",
                Healing.ITSELF if is_whole else Healing.NOT, seconds, message, len(unsettled) + len(missing), count)
    ]  # fmt: skip


def _within(world: World, reached: Callable[[], bool]) -> bool:
    try:
        world.wait("all records settled", reached, LABELLED_S, 0.5)
    except NotHealedError:
        return False
    return True


def day_bomb(world: World) -> list[Outcome]:
    """F18: one record with a row a day of 25 years, of an instance with an episode; a record follows it."""
    form = Form.of(world)
    name = world.demo.summary["alerts"]["list"][0]["instance_id"]
    last = grid(1)[0] + 1  # beside the grid: no row of the fleet has these times
    moments = [last - 86_400_000 * (BOMB_DAYS - number) for number in range(BOMB_DAYS)]
    rows = {(name, moment) for moment in moments}
    behind = {("behind-1", moment) for moment in grid(3)}
    data = pack(form, "bomb", name, moments, 1)  # short values: a larger record is refused as a whole
    began = time.monotonic()
    put_rows(world, data, "bomb", rows)
    put_rows(world, pack(form, "bomb", "behind-1", grid(3)), "bomb", behind)
    missing = world.wait_labelled(behind, LABELLED_S)
    seconds = time.monotonic() - began
    missing |= world.wait_labelled(rows, LABELLED_S)
    return [
        Outcome("F18 day bomb", f"{BOMB_DAYS:,} days in {len(data) // 1000} KB", Healing.ITSELF, seconds,
                "the record behind it is labelled", len(missing), len(rows) + len(behind))
    ]  # fmt: skip
