"""How every command ends when something goes wrong: one clear message and an exit code, never a bare traceback."""

from __future__ import annotations

import sys
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
import typer
from rich.console import Console

from riskwatch_ml.core.errors import RiskwatchError, UserInputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STATE = ".riskwatch"
errors = Console(stderr=True)

# What serves stands alone, so its errors have no root in common with ours.
_SERVING = "riskwatch_lambda"


@contextmanager
def explained(state: Path, stopped: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into a message and an exit code: 130 after Ctrl-C (`stopped`), else 1.

    A UserInputError says everything. Of any other error the traceback goes to a file in `state`.
    """
    try:
        yield
    except KeyboardInterrupt:
        say(stopped)
        raise typer.Exit(130) from None
    except (typer.Exit, click.ClickException):
        raise
    except Exception as error:
        _tell(error, state)
        raise typer.Exit(1) from None


def say(text: str) -> None:
    """Print a message for the user to stderr."""
    errors.print(f"riskwatch: {text}", highlight=False, markup=False, soft_wrap=True)


def _tell(error: Exception, state: Path) -> None:
    serving = type(error).__module__.split(".")[0] == _SERVING
    if isinstance(error, UserInputError) or (serving and isinstance(error, ValueError)):
        say(str(error))
        return
    trace = state / "error.log"
    text = "".join(traceback.format_exception(error))
    try:
        state.mkdir(parents=True, exist_ok=True)
        trace.write_text(text, encoding="utf-8")
        logs = f"; logs: {state / 'logs'}" if (state / "logs").is_dir() else ""
        where = f"details: {trace}{logs}"
    except OSError:
        sys.stderr.write(text)
        where = f"nothing could be written to {state}"
    kind = "" if serving or isinstance(error, RiskwatchError) else f"{type(error).__name__}: "
    say(f"{kind}{error}\n  ({where})")
