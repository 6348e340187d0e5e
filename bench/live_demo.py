"""A live demo for benches: its stages have run, the simulated fleet keeps sending and the schedules are on."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from riskwatch_local.demo import data
from riskwatch_local.demo.run import Demo
from riskwatch_local.demo.schedule import on_schedule
from riskwatch_local.services import system
from riskwatch_ml.core import clock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from riskwatch_local.demo.data import DemoData
    from riskwatch_local.demo.figures import Summary
    from riskwatch_local.demo.schedule import Schedule
    from riskwatch_local.services.system import System

DAYS = 2


@dataclass(frozen=True)
class LiveDemo:
    """A running demo: its data, its processes, the summary of its stages, and the observer of its schedules."""

    source: DemoData
    system: System
    summary: Summary
    schedule: Schedule


@contextmanager
def live_demo(folder: Path, console: Console) -> Iterator[LiveDemo]:
    """Run the demo in `folder` and keep it up for the duration of a context.

    The caller calls `schedule.poll` every few seconds, which restarts components that have died. `console` gets the
    lines that the demo prints.
    """
    source = data.simulated(clock.now(), data.STREAM_HOURS_SIMULATED, DAYS, further_kinds=())
    options = {"history_days": 1 + -(-(source.cut - source.start) // timedelta(days=1))}
    with system.session(
        folder, source.catalogues, source.inventory, period_s=source.period_s, overrides=options
    ) as running:
        summary = Demo(source, running, console).run()
        with on_schedule(source, running, console) as schedule:
            yield LiveDemo(source, running, summary, schedule)


@contextmanager
def state_folder(path: Path | None) -> Iterator[Path]:
    """Give `path`, or without one a folder that is removed at the end."""
    if path is not None:
        yield path
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield Path(folder)
