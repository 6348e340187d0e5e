"""`riskwatch silence`: maintenance windows, which mute alerts.

Episodes are still recorded during a window.
"""

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
from riskwatch_cli.errors import STATE, print_error, report_errors
from riskwatch_ml.core.errors import UserInputError

if TYPE_CHECKING:
    from riskwatch_lambda.alerting.maintenance import MaintenanceWindow, MaintenanceWindows
    from riskwatch_lambda.items import DamagedItem

app = typer.Typer(no_args_is_help=True, help="Mute alerts during maintenance windows.")
PIPE_WIDTH = 240

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class SilenceError(UserInputError):
    """A maintenance window cannot be added or removed.

    The message says why and what to do.
    """


@app.command()
def add(
    reason: Annotated[str, typer.Option(help="Why; kept on record.")],
    service: Annotated[str | None, typer.Option(help="Mute the instances of a service.")] = None,
    instance: Annotated[str | None, typer.Option(help="Mute one instance.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Mute the whole fleet.")] = False,
    start: Annotated[str | None, typer.Option("--from", help="Start, e.g. 2026-11-22T10:00Z; default: now.")] = None,
    until: Annotated[str | None, typer.Option(help="End, e.g. 2026-11-22T12:00Z.")] = None,
    length: Annotated[str | None, typer.Option("--for", help="Duration instead of an end: 30m, 2h, 1d.")] = None,
    by: Annotated[str | None, typer.Option(help="Who requests it; default: the user of this machine.")] = None,
) -> None:
    """Add a maintenance window.

    Episodes that are still open at its end are alerted then.
    """
    with report_errors(Path(STATE), "stopped; no window was added"):
        from riskwatch_ml.core import clock

        now = clock.now()
        scope, name = _scope(service, instance, everything)
        first = clock.parse(start) if start else now
        window = _window(scope, name, first, _end(first, until, length), reason, by or getpass.getuser(), now)
        _windows().add(window)
        show(f"{window.window_id}: {_text(window)}")


@app.command("list")
def list_windows(
    past: Annotated[bool, typer.Option("--all", help="Include past windows; they are kept for 90 days.")] = False,
) -> None:
    """List the maintenance windows."""
    with report_errors(Path(STATE), "stopped"):
        from riskwatch_ml.core import clock

        now_ms = clock.epoch_ms(clock.now())
        windows = [window for window in _windows().read() if past or window.end_ms > now_ms]
        if not windows:
            console.print("no maintenance windows" if past else "no active or future maintenance windows")
            return
        table = Table("id", "what", "from", "until", "state", "by", "reason", box=None)
        for window in sorted(windows, key=lambda window: window.from_ms):
            times = (clock.iso(window.from_ms)[:16], clock.iso(window.until_ms)[:16])
            cells = (window.window_id, _what(window), *times, _state(window, now_ms), window.by, window.reason)
            table.add_row(*map(_cell, cells))
        # Output to a pipe or a file is not cut to the width of a terminal.
        (console if console.is_terminal else Console(width=PIPE_WIDTH)).print(table)


@app.command()
def remove(
    window_id: Annotated[str, typer.Argument(help="The id, as `list` shows it.")],
    by: Annotated[str | None, typer.Option(help="Who ends it; default: the user of this machine.")] = None,
) -> None:
    """End a maintenance window now; the window and `by` stay on record."""
    with report_errors(Path(STATE), "stopped; no window was removed"):
        from riskwatch_lambda.table import ConflictError
        from riskwatch_ml.core import clock

        windows, now_ms = _windows(), clock.epoch_ms(clock.now())
        window = next((window for window in windows.read() if window.window_id == window_id), None)
        if window is None:
            raise SilenceError(
                f"there is no maintenance window {window_id!r}: `riskwatch silence list` shows all windows"
            )
        if window.end_ms <= now_ms:
            raise SilenceError(f"the maintenance window {window_id} ended at {clock.iso(window.end_ms)}")
        try:
            windows.remove(window, now_ms, by or getpass.getuser())
        except ConflictError as error:
            raise SilenceError(f"another user has just removed the maintenance window {window_id}") from error
        show(f"{window_id}: ended")


def _windows() -> MaintenanceWindows:
    from riskwatch_lambda.alerting import maintenance
    from riskwatch_lambda.table import Table as Items
    from riskwatch_ml.core import aws, settings

    return maintenance.MaintenanceWindows(Items(aws.client("dynamodb"), settings.load().table), _warn)


def _warn(item: DamagedItem) -> None:
    print_error(f"a maintenance window cannot be read and mutes nothing: {item}; delete this item of the table")


def _scope(service: str | None, instance: str | None, everything: bool) -> tuple[str, str]:
    from riskwatch_lambda.alerting import maintenance

    scopes = [
        *([(maintenance.SERVICE, service)] if service else []),
        *([(maintenance.INSTANCE, instance)] if instance else []),
        *([(maintenance.ALL, "")] if everything else []),
    ]
    if len(scopes) != 1:
        raise SilenceError("give exactly one of --service NAME, --instance NAME and --all")
    return scopes[0]


def _end(start: datetime, until: str | None, length: str | None) -> datetime:
    from riskwatch_ml.core import clock

    if (until is None) == (length is None):
        raise SilenceError("give the end: either --until TIME or --for DURATION")
    if until is not None:
        return clock.parse(until)
    match = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", length or "")
    if match is None:
        raise SilenceError(f"--for is {length!r}: write a number with m, h or d, e.g. 30m, 2h or 1d")
    return start + timedelta(**{_UNITS[match[2]]: int(match[1])})


def _window(
    scope: str, name: str, start: datetime, end: datetime, reason: str, by: str, now: datetime
) -> MaintenanceWindow:
    from riskwatch_lambda.alerting.maintenance import MaintenanceWindow
    from riskwatch_ml.core import clock

    if not reason.strip():
        raise SilenceError("--reason is empty: give the reason for the maintenance window")
    if end <= start:
        raise SilenceError(f"the window would end at {clock.iso(end)}, before its start at {clock.iso(start)}")
    if end <= now:
        raise SilenceError(f"the end of the window, {clock.iso(end)}, is in the past: give a later --until or --for")
    from_ms, until_ms, created_ms = map(clock.epoch_ms, (start, end, now))
    return MaintenanceWindow(secrets.token_hex(4), scope, name, from_ms, until_ms, reason.strip(), by, created_ms)


def _what(window: MaintenanceWindow) -> str:
    return f"{window.scope} {window.name}".rstrip()


def _state(window: MaintenanceWindow, now_ms: int) -> str:
    if window.removed_ms is not None:
        return f"removed by {window.removed_by}"
    if window.until_ms <= now_ms:
        return "over"
    return "active" if window.from_ms <= now_ms else "future"


def _text(window: MaintenanceWindow) -> str:
    from riskwatch_ml.core import clock

    return f"{_what(window)} muted from {clock.iso(window.from_ms)} until {clock.iso(window.until_ms)}"


def _cell(text: str) -> str:
    from rich.markup import escape

    return escape(text)
