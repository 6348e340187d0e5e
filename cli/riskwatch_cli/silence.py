"""`riskwatch silence`: maintenance windows, in which episodes are recorded and nobody is paged."""

from __future__ import annotations

import getpass
import re
import secrets
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from riskwatch_cli.console import console, show
from riskwatch_cli.errors import STATE, explained
from riskwatch_ml.core.errors import UserInputError

if TYPE_CHECKING:
    from riskwatch_lambda.alerting.maintenance import Window, Windows

app = typer.Typer(no_args_is_help=True, help="Declare maintenance windows, in which nobody is paged.")
PIPE_WIDTH = 240

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class SilenceError(UserInputError):
    """A maintenance window cannot be declared or removed as asked; the message says why and what to do."""


@app.command()
def add(
    reason: Annotated[str, typer.Option(help="Why, for those who read the record.")],
    service: Annotated[str | None, typer.Option(help="Silence the instances of a service.")] = None,
    instance: Annotated[str | None, typer.Option(help="Silence one instance.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Silence the whole fleet.")] = False,
    start: Annotated[str | None, typer.Option("--from", help="Begin, like 2026-11-22T10:00Z; now without it.")] = None,
    until: Annotated[str | None, typer.Option(help="End, like 2026-11-22T12:00Z.")] = None,
    length: Annotated[str | None, typer.Option("--for", help="Length instead of an end: 30m, 2h, 1d.")] = None,
    by: Annotated[str | None, typer.Option(help="Who asks for it; the user of this machine without it.")] = None,
) -> None:
    """Declare a maintenance window. What is still open at its end is told then."""
    with explained(Path(STATE), "stopped; nothing was declared"):
        from riskwatch_ml.core import clock

        began = clock.now()
        scope, name = _scope(service, instance, everything)
        first = clock.parse(start) if start else began
        window = _window(scope, name, first, _end(first, until, length), reason, by or getpass.getuser(), began)
        _windows().add(window)
        show(f"{window.window_id}: {_text(window)}")


@app.command("list")
def list_windows(
    past: Annotated[bool, typer.Option("--all", help="Also those that are over; they are kept for 90 days.")] = False,
) -> None:
    """List the maintenance windows."""
    with explained(Path(STATE), "stopped"):
        from riskwatch_ml.core import clock

        now_ms = clock.epoch_ms(clock.now())
        shown = [each for each in _windows().read() if past or each.end_ms > now_ms]
        if not shown:
            console.print("no maintenance windows" if past else "no maintenance windows now or to come")
            return
        table = Table("id", "what", "from", "until", "state", "by", "reason", box=None)
        for each in sorted(shown, key=lambda window: window.from_ms):
            moments = (clock.iso(each.from_ms)[:16], clock.iso(each.until_ms)[:16])
            table.add_row(
                *map(_cell, (each.window_id, _what(each), *moments, _state(each, now_ms), each.by, each.reason))
            )
        # What goes into a pipe or a file is not cut to the width of a screen that is not there.
        (console if console.is_terminal else Console(width=PIPE_WIDTH)).print(table)


@app.command()
def remove(
    window_id: Annotated[str, typer.Argument(help="The id that `list` shows.")],
    by: Annotated[str | None, typer.Option(help="Who ends it; the user of this machine without it.")] = None,
) -> None:
    """End a maintenance window now. It stays on record, with who ended it."""
    with explained(Path(STATE), "stopped; nothing was removed"):
        from riskwatch_lambda.table import ConflictError
        from riskwatch_ml.core import clock

        windows, now_ms = _windows(), clock.epoch_ms(clock.now())
        window = next((each for each in windows.read() if each.window_id == window_id), None)
        if window is None:
            raise SilenceError(
                f"there is no maintenance window {window_id!r}: `riskwatch silence list` shows those there are"
            )
        if window.end_ms <= now_ms:
            raise SilenceError(f"the maintenance window {window_id} is over since {clock.iso(window.end_ms)}")
        try:
            windows.remove(window, now_ms, by or getpass.getuser())
        except ConflictError as error:
            raise SilenceError(f"somebody has just removed the maintenance window {window_id}") from error
        show(f"{window_id}: ended")


def _windows() -> Windows:
    from riskwatch_lambda.alerting import maintenance
    from riskwatch_lambda.table import Table as Items
    from riskwatch_ml.core import aws, settings

    return maintenance.Windows(Items(aws.client("dynamodb"), settings.load().table))


def _scope(service: str | None, instance: str | None, everything: bool) -> tuple[str, str]:
    from riskwatch_lambda.alerting import maintenance

    chosen = [
        *([(maintenance.SERVICE, service)] if service else []),
        *([(maintenance.INSTANCE, instance)] if instance else []),
        *([(maintenance.ALL, "")] if everything else []),
    ]
    if len(chosen) != 1:
        raise SilenceError("say what to silence: one of --service NAME, --instance NAME and --all")
    return chosen[0]


def _end(start: datetime, until: str | None, length: str | None) -> datetime:
    from riskwatch_ml.core import clock

    if (until is None) == (length is None):
        raise SilenceError("say when it ends: either --until MOMENT or --for LENGTH")
    if until is not None:
        return clock.parse(until)
    found = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", length or "")
    if found is None:
        raise SilenceError(f"--for is {length!r}: write a number with m, h or d, e.g. 30m, 2h or 1d")
    return start + timedelta(**{_UNITS[found[2]]: int(found[1])})


def _window(scope: str, name: str, start: datetime, end: datetime, reason: str, by: str, now: datetime) -> Window:
    from riskwatch_lambda.alerting.maintenance import Window
    from riskwatch_ml.core import clock

    if not reason.strip():
        raise SilenceError("--reason is empty: say why, for those who read the record")
    if end <= start:
        raise SilenceError(f"the window would end at {clock.iso(end)}, before it begins at {clock.iso(start)}")
    if end <= now:
        raise SilenceError(f"the window would have ended at {clock.iso(end)}: it silences nothing any more")
    from_ms, until_ms, created_ms = map(clock.epoch_ms, (start, end, now))
    return Window(secrets.token_hex(4), scope, name, from_ms, until_ms, reason.strip(), by, created_ms)


def _what(window: Window) -> str:
    return f"{window.scope} {window.name}".rstrip()


def _state(window: Window, now_ms: int) -> str:
    if window.removed_ms is not None:
        return f"removed by {window.removed_by}"
    if window.until_ms <= now_ms:
        return "over"
    return "active" if window.from_ms <= now_ms else "to come"


def _text(window: Window) -> str:
    from riskwatch_ml.core import clock

    return f"{_what(window)} is silent from {clock.iso(window.from_ms)} until {clock.iso(window.until_ms)}"


def _cell(text: str) -> str:
    from rich.markup import escape

    return escape(text)
