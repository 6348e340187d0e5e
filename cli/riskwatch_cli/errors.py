"""How every command ends when something goes wrong: one clear message and an exit code, never a bare traceback."""

from __future__ import annotations

import sys
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
import typer
from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STATE = ".riskwatch"
errors = Console(stderr=True)

_OURS = ("cli", "expectations", "infra", "local", "ml", "riskwatch")


@contextmanager
def explained(state: Path, stopped: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into a message and an exit code: 130 after Ctrl-C (`stopped`), else 1.

    An error of ours in what the user gave says everything. Of any other the traceback goes to a file in `state`.
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
    ours = type(error).__module__.split(".")[0].startswith(_OURS)
    if ours and isinstance(error, ValueError):
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
    kind = "" if ours else f"{type(error).__name__}: "
    say(f"{kind}{error}\n  ({where})")
