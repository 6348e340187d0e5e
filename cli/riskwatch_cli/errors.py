"""Errors of the commands: a clear message and an exit code, no bare traceback."""

from __future__ import annotations

import sys
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
import typer
from rich.console import Console

from riskwatch_ml.core import disk
from riskwatch_ml.core.errors import RiskwatchError, UserInputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STATE = ".riskwatch"
errors = Console(stderr=True)

# The package of the Lambda function has no dependencies, so its errors do not derive from RiskwatchError.
_SERVING = "riskwatch_lambda"


@contextmanager
def report_errors(state: Path, stopped: str) -> Iterator[None]:
    """Turn exceptions into a message and an exit code.

    Ctrl-C prints `stopped` and exits with 130; all other errors exit with 1. User errors are printed as one line; for
    all others the traceback is written to `error.log` in the folder `state`. A full disk is named first.
    """
    try:
        yield
    except KeyboardInterrupt:
        print_error(stopped)
        raise typer.Exit(130) from None
    except (typer.Exit, click.ClickException):
        raise
    except Exception as error:
        _report(error, state)
        raise typer.Exit(1) from None


def print_error(text: str) -> None:
    """Print a message for the user to stderr."""
    errors.print(f"riskwatch: {text}", highlight=False, markup=False, soft_wrap=True)


def _report(error: Exception, state: Path) -> None:
    serving = type(error).__module__.split(".")[0] == _SERVING
    if isinstance(error, UserInputError) or (serving and isinstance(error, ValueError)):
        print_error(str(error))
        return
    if full := disk.explanation(error, state):
        print_error(full)
    trace = state / "error.log"
    text = "".join(traceback.format_exception(error))
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        trace.touch(mode=0o600)
        trace.write_text(text, encoding="utf-8")
        logs = f"; logs: {state / 'logs'}" if (state / "logs").is_dir() else ""
        details = f"details: {trace}{logs}"
    except OSError:
        sys.stderr.write(text)
        details = f"nothing could be written to {state}"
    kind = "" if serving or isinstance(error, RiskwatchError) else f"{type(error).__name__}: "
    print_error(f"{kind}{error}\n  ({details})")
