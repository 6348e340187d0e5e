"""`riskwatch demo`: run the whole loop on the embedded AWS."""

from __future__ import annotations

import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from riskwatch_cli.console import console
from riskwatch_cli.errors import STATE, print_error, report_errors

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

HOLD_POLL_S = 2.0

app = typer.Typer()


@app.command()
def demo(
    leave: Annotated[bool, typer.Option("--exit", help="Exit after the summary instead of staying up.")] = False,
    fleet: Annotated[
        Path | None,
        typer.Option(help="Your own metrics: a CSV file, or a folder with history.parquet and replay.parquet."),
    ] = None,
    days: Annotated[float, typer.Option(min=1, max=13, help="Days of metrics to use, history plus stream.")] = 4,
    until: Annotated[
        datetime | None,
        typer.Option(help="With --fleet: the end of the interval to use (UTC); default: the end of the data."),
    ] = None,
    stream_hours: Annotated[
        float | None,
        typer.Option(min=0.5, help="Newest hours to stream; default: 6 for the simulated fleet, 24 for your own."),
    ] = None,
    state: Annotated[Path, typer.Option(help="Folder for all files of the demo.")] = Path(STATE),
    airflow_port: Annotated[int | None, typer.Option(help="Port of Airflow on loopback; default: a free port.")] = None,
    mlflow_port: Annotated[int | None, typer.Option(help="Port of MLflow on loopback; default: a free port.")] = None,
) -> None:
    """Run the whole loop on the embedded AWS.

    The steps are export, train, promote, stream, alert and watch.
    """
    state = state.resolve()
    # These signals end the demo even if the shell ignores them, as it does for background jobs.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    with report_errors(state, "stopped; all processes of the demo have ended"):
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
            print_error(problem)
        return False

    from riskwatch_local.demo import data, run
    from riskwatch_ml.core import clock

    if fleet is None:
        demo_data = data.simulated(clock.now(), stream_hours or data.STREAM_HOURS_SIMULATED, int(days))
    else:
        end = until.replace(tzinfo=UTC) if until and until.tzinfo is None else until
        demo_data = data.own(fleet, clock.now(), stream_hours or data.STREAM_HOURS_FLEET, days, end)
    result = run.run(
        demo_data, state, console, hold=None if leave else _hold, airflow_port=airflow_port, mlflow_port=mlflow_port
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
