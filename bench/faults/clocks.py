"""A clock of the stream that is two hours ahead, and one that is two hours behind."""

from __future__ import annotations

import json
import subprocess
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from bench.faults.accounts import identities
from bench.faults.outcome import Healing, Outcome
from bench.faults.streaming import HELPER, ROOT
from bench.faults.world import RUN_S
from riskwatch_ml.core import clock, settings
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from datetime import datetime

    from bench.faults.world import World

SHIFT_S = 7200
CLEAR_S = 45  # a scheduled run must not come in between
EVERY_S = 300
LABELLED_S = 120.0


def wrong_clocks(world: World) -> list[Outcome]:
    """F33: publish and tick with a clock that is off; then a run of the stream with the right one."""
    return [_wrong(world, SHIFT_S), _wrong(world, -SHIFT_S)]


def _wrong(world: World, shift_s: int) -> Outcome:
    # With settled rows only, the run with the right clock has something to send.
    settled_s = settings.load().settle_s if shift_s > 0 else 0
    world.wait("time without a scheduled run", lambda: _is_clear(world, settled_s), EVERY_S + RUN_S, 1.0)
    fault_at = clock.now()
    world.messages.update()
    heard = len(world.messages.texts)
    done = subprocess.run(
        [*HELPER, "publish", str(shift_s)], capture_output=True, text=True, check=True, cwd=ROOT, timeout=RUN_S
    )
    wrong = json.loads(done.stdout.splitlines()[-1])
    began = time.monotonic()
    run = world.airflow.trigger("stream_metrics")
    world.airflow.wait("stream_metrics", run, RUN_S)
    world.wait("the watermark is right", lambda: _is_right(world, fault_at), EVERY_S + RUN_S, 1.0)
    missing = world.wait_labelled(fleet_rows(world), LABELLED_S)
    seconds = time.monotonic() - began
    world.messages.update()
    texts = [text.replace("\n", " ") for text in world.messages.texts[heard:]]
    moment = f"publish and tick: {wrong['rows']} rows, mark {wrong['end'][11:16]}"
    message = f"{len(texts)} messages: {' / '.join(texts)} | log: {world.logged('stream_metrics', run, 'publish')}"
    return Outcome(
        f"F33 clock {shift_s // 3600:+d} h", moment, Healing.ITSELF, seconds, message, len(missing),
        len(fleet_rows(world)),
    )  # fmt: skip


def _is_right(world: World, moment: datetime) -> bool:
    """Return whether the stream has gone on to where it was at a moment, and not beyond the clock."""
    end = clock.parse(world.store.get_json(keys.STREAM_MARK)["end"])
    reached = clock.floor(moment - timedelta(seconds=settings.load().settle_s), EVERY_S)
    return reached <= end <= clock.now()


def _is_clear(world: World, settled_s: int) -> bool:
    """Return whether no run is active or near, and the newest period is over for so many seconds."""
    since_s = clock.now().timestamp() % EVERY_S
    left_s = EVERY_S - since_s
    active = [run for run in world.airflow.runs("stream_metrics")[-5:] if run["state"] in ("queued", "running")]
    return since_s > settled_s and left_s > CLEAR_S and not active


def fleet_rows(world: World) -> set[tuple[str, int]]:
    """Return the rows that the fleet has sent and the stream must have labelled: up to its watermark."""
    source, ahead = world.demo.source, world.demo.source.first.ahead
    streamed = set().union(*(identities(part.rows) for part in source.newest()))
    if ahead is None:
        return streamed
    mark = clock.parse(world.store.get_json(keys.STREAM_MARK)["end"])
    end = min(mark, clock.now())
    return streamed | identities(ahead[ahead["timestamp"] < end])
