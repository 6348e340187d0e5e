"""`riskwatch demo`: the whole loop on the embedded AWS."""

from __future__ import annotations

import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from riskwatch_cli.console import console
from riskwatch_cli.errors import STATE, explained, say

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

HOLD_POLL_S = 2.0

app = typer.Typer()


@app.command()
def demo(
    leave: Annotated[bool, typer.Option("--exit", help="End after the summary instead of staying up.")] = False,
    fleet: Annotated[
        Path | None,
        typer.Option(help="Your own metrics: a CSV, or a folder with history.parquet and replay.parquet."),
    ] = None,
    days: Annotated[
        float, typer.Option(min=1, max=13, help="Days of metrics to use, history and stream together.")
    ] = 4,
    until: Annotated[
        datetime | None,
        typer.Option(help="With --fleet: the end of the stretch to use (UTC); the end of the data without it."),
    ] = None,
    stream_hours: Annotated[
        float | None, typer.Option(min=0.5, help="Newest hours to stream; 6 for the simulated fleet, 24 for your own.")
    ] = None,
    state: Annotated[Path, typer.Option(help="Folder for everything that the demo makes.")] = Path(STATE),
    airflow_port: Annotated[
        int | None, typer.Option(help="Port of Airflow on loopback; a free one without it.")
    ] = None,
    mlflow_port: Annotated[int | None, typer.Option(help="Port of MLflow on loopback; a free one without it.")] = None,
) -> None:
    """Run the whole loop on the embedded AWS: export, train, promote, stream, alert, watch."""
    state = state.resolve()
    # Also where the shell has set them to be ignored, as it does for a job in the background: they end the demo.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    with explained(state, "stopped; every process of the demo has ended"):
        ok = _demo(leave, fleet, days, until, stream_hours, state, airflow_port, mlflow_port)
    raise typer.Exit(0 if ok else 1)


def _demo(
    leave: bool,
    fleet: Path | None,
    days: float,
    until: datetime | None,
    stream_hours: float | None,
    state: Path,
    airflow_port: int | None,
    mlflow_port: int | None,
) -> bool:
    from riskwatch_local.demo import preflight

    problems = preflight.check(state, {"Airflow": airflow_port, "MLflow": mlflow_port})
    if problems:
        for problem in problems:
            say(problem)
        return False

    from riskwatch_local.demo import data, run
    from riskwatch_ml.core import clock

    if fleet is None:
        chosen = data.simulated(clock.now(), stream_hours or data.STREAM_HOURS_SIMULATED, int(days))
    else:
        moment = until.replace(tzinfo=UTC) if until and until.tzinfo is None else until
        chosen = data.own(fleet, clock.now(), stream_hours or data.STREAM_HOURS_FLEET, days, moment)
    result = run.run(
        chosen, state, console, hold=None if leave else _hold, airflow_port=airflow_port, mlflow_port=mlflow_port
    )
    return bool(result["ok"])


def _hold(poll: Callable[[], None]) -> None:
    """Call `poll` every few seconds until Ctrl-C or SIGTERM."""
    try:
        while True:
            poll()
            time.sleep(HOLD_POLL_S)
    except KeyboardInterrupt:
        console.print("\nStopping.")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
