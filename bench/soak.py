"""A soak: the demo stays up with a stream run every minute, and its memory and logs are measured.

    python -m bench.soak [--minutes 30] [--state FOLDER] [--json FILE]

After the stages of the demo, memory is sampled every ten seconds. The first fifth of the time is the warm-up. The
figures are megabytes of each component with all of its processes (PSS, so that shared pages count once): the lowest
sample just after the warm-up and the lowest sample at the end, because tasks come and go in between. Printed beside
them: log lines that repeat more than once a minute, whatever their times and numbers, and the Lambda workers. The exit
code is 1 if a component has grown by more than 5 %, if a line repeats, or if more than one Lambda worker is left.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import psutil
from rich.console import Console

from bench.live_demo import live_demo, state_folder
from riskwatch_ml.core import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from riskwatch_local.demo.schedule import Schedule
    from riskwatch_local.services.supervisor import Supervisor
    from riskwatch_local.services.system import System

_OF_TASK = re.compile(r"\[task\]| ti_id=")
SAMPLE_S = 10.0
WARM_UP = 0.2
GROWTH = 0.05
AWS = "the embedded AWS"
EVERY_MINUTE = {**settings.DEFAULT_SCHEDULES, "stream_metrics": "* * * * *"}
# Times, numbers and identifiers, by which two lines of the same message differ.
_VARYING = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{8,}\b|\d[\d.:TZ_-]*")


@dataclass
class Samples:
    """Megabytes of each component over time, and the number of Lambda workers at the last sample."""

    seconds: list[float] = field(default_factory=list)
    megabytes: list[dict[str, float]] = field(default_factory=list)
    workers: int = 0

    def take(self, supervisor: Supervisor, second: float) -> None:
        """Measure all components; `second` is the time since the start of the soak."""
        families = {child.name: child.family() for child in supervisor.children}
        self.seconds.append(second)
        self.megabytes.append({name: _megabytes(family) for name, family in families.items()})
        self.workers = sum("_worker.py" in " ".join(_command(process)) for process in families.get(AWS, ()))


class Figures(TypedDict):
    """The result of a soak: megabytes after the warm-up and at the end, and repeated lines a minute by log."""

    minutes: float
    stream_runs: dict[str, int]
    megabytes: dict[str, tuple[float, float]]
    repeated_lines: dict[str, dict[str, float]]
    lambda_workers: int


def _megabytes(processes: Iterable[psutil.Process]) -> float:
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total / 1e6


def _command(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return list(process.cmdline())
    return []


def growth(samples: Samples) -> dict[str, tuple[float, float]]:
    """Return megabytes after the warm-up and at the end, by component.

    Both are the lowest of the samples in a window as long as the warm-up.
    """
    end = samples.seconds[-1]
    window = WARM_UP * end
    early = [mb for second, mb in zip(samples.seconds, samples.megabytes, strict=True) if window <= second < 2 * window]
    late = [mb for second, mb in zip(samples.seconds, samples.megabytes, strict=True) if second >= end - window]
    names = [name for name in late[-1] if all(name in mb for mb in (*early, *late))]
    return {name: (min(mb[name] for mb in early), min(mb[name] for mb in late)) for name in names}


def repeated(lines: Iterable[str], minutes: float) -> dict[str, float]:
    """Return the messages that repeat more than once a minute, with their number a minute, most frequent first.

    Airflow copies the logs of tasks to that of the scheduler; these lines do not count. In n minutes, a run every
    minute may begin n + 1 times.
    """
    own = (line.strip() for line in lines if _OF_TASK.search(line) is None)
    counts = Counter(_VARYING.sub("#", line) for line in own if line)
    limit = max(minutes, 1.0) + 1
    return {line: count / minutes for line, count in counts.most_common() if count > limit}


def soak(running: System, schedule: Schedule, minutes: float, report: Callable[[str], None]) -> Samples:
    """Run for so many minutes and return the samples."""
    samples = Samples()
    started = time.monotonic()
    while (second := time.monotonic() - started) <= minutes * 60:
        schedule.poll()
        samples.take(running.supervisor, second)
        if len(samples.seconds) % 6 == 1:
            total = sum(samples.megabytes[-1].values())
            report(f"  {second / 60:5.1f} min  {total:7,.0f} MB, {samples.workers} Lambda workers")
        time.sleep(SAMPLE_S)
    return samples


def measure(folder: Path, minutes: float, console: Console) -> Figures:
    """Run the demo and the soak; return the figures."""
    with live_demo(folder, console) as live:
        running, schedule = live.system, live.schedule
        running.write_settings({dag: str(cron) for dag, cron in EVERY_MINUTE.items()})
        schedule.airflow.parse_again("stream_metrics")
        sizes = {path: path.stat().st_size for path in (running.state / "logs").glob("*.log")}
        samples = soak(running, schedule, minutes, console.print)
        lines = {path.name: repeated(_after(path, size), minutes) for path, size in sizes.items()}
        runs = [run["state"] for run in schedule.airflow.runs("stream_metrics")]
    return {
        "minutes": minutes,
        "stream_runs": dict(Counter(runs)),
        "megabytes": growth(samples),
        "repeated_lines": {name: found for name, found in lines.items() if found},
        "lambda_workers": samples.workers,
    }


def _after(path: Path, offset: int) -> Sequence[str]:
    with path.open("rb") as log:
        log.seek(offset)
        return log.read().decode("utf-8", errors="replace").splitlines()


def problems(figures: Figures) -> list[str]:
    """Return a line for each limit that the figures exceed."""
    grown = [
        f"{name} grew from {before:,.0f} to {after:,.0f} MB"
        for name, (before, after) in figures["megabytes"].items()
        if after > before * (1 + GROWTH)
    ]
    lines = [f"{name} repeats lines" for name in figures["repeated_lines"]]
    workers = figures["lambda_workers"]
    return [*grown, *lines, *([f"{workers} Lambda workers are left"] if workers > 1 else [])]


def main() -> None:
    """Print the figures and the limits that they exceed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--state", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    with state_folder(options.state) as folder:
        figures = measure(folder, options.minutes, console)
    console.print_json(json.dumps(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    found = problems(figures)
    for line in found:
        console.print(f"soak: {line}")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
