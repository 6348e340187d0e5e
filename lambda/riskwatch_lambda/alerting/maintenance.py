"""Maintenance windows: intervals in which an operator has muted alerts.

One item per window: pk ``maintenance``, sk the window id. A removed window ends at the time of its removal and stays in
the table; DynamoDB deletes it ``KEPT_S`` after its planned end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from riskwatch_lambda.items import DamagedItemError, choice, log_damaged, moment, optional, parse_items, required
from riskwatch_lambda.table import EXPIRES, Table, number, update

if TYPE_CHECKING:
    from collections.abc import Iterable

    from riskwatch_lambda.episodes.episode import Episode
    from riskwatch_lambda.items import Report
    from riskwatch_lambda.table import Attributes, Changes

PARTITION = "maintenance"
KEPT_S = 90 * 86_400
ALL, SERVICE, INSTANCE = "all", "service", "instance"


class MaintenanceWindow(NamedTuple):
    """A maintenance window [from, until), times in epoch milliseconds.

    ``scope`` is all, service or instance; ``name`` is the service or the instance. ``removed_ms`` and ``removed_by``
    are set if an operator ended the window early.
    """

    window_id: str
    scope: str
    name: str
    from_ms: int
    until_ms: int
    reason: str
    by: str
    created_ms: int
    removed_ms: int | None = None
    removed_by: str = ""

    @property
    def end_ms(self) -> int:
        """Return the effective end: the removal, if it came before the planned end."""
        return self.until_ms if self.removed_ms is None else min(self.until_ms, self.removed_ms)

    def covers(self, service: str, instance_id: str, moment_ms: int) -> bool:
        """Return whether the window mutes an instance of a service at a time."""
        matches = {ALL: True, SERVICE: self.name == service, INSTANCE: self.name == instance_id}
        return matches[self.scope] and self.from_ms <= moment_ms < self.end_ms


class MaintenanceWindows:
    """The maintenance windows in the table; ``report`` gets each damaged item that is met."""

    def __init__(self, table: Table, report: Report = log_damaged) -> None:
        self._table = table
        self._report = report

    def read(self) -> list[MaintenanceWindow]:
        """Return all stored windows that can be read; raises TableError."""
        return list(parse_items(self._table.find("pk", PARTITION), _window, self._report))

    def add(self, window: MaintenanceWindow) -> None:
        """Store a new window.

        Raises ConflictError if its id exists, TableError if the table cannot be written.
        """
        values: Changes = {
            **{name: {"S": getattr(window, name)} for name in ("scope", "name", "reason", "by")},
            **{name: number(getattr(window, name)) for name in ("from_ms", "until_ms", "created_ms")},
            EXPIRES: number(window.until_ms // 1000 + KEPT_S),
        }
        self._table.update(update(_key(window.window_id), values, {"from_ms": None}))

    def remove(self, window: MaintenanceWindow, now_ms: int, by: str) -> None:
        """End a window now and record who removed it.

        Raises ConflictError if another operator has removed it already, TableError if the table fails.
        """
        values: Changes = {"removed_ms": number(now_ms), "removed_by": {"S": by}}
        guard: Changes = {"from_ms": number(window.from_ms), "removed_ms": None}
        self._table.update(update(_key(window.window_id), values, guard))


def active_window(windows: Iterable[MaintenanceWindow], episode: Episode, moment_ms: int) -> MaintenanceWindow | None:
    """Return the first window that mutes an episode at a time, None without one."""
    return next((window for window in windows if window.covers(episode.service, episode.instance_id, moment_ms)), None)


def _key(window_id: str) -> Attributes:
    return {"pk": {"S": PARTITION}, "sk": {"S": window_id}}


def _window(item: Attributes) -> MaintenanceWindow:
    from_ms, until_ms = moment(item, "from_ms"), moment(item, "until_ms")
    if from_ms is None or until_ms is None:
        raise DamagedItemError("from_ms or until_ms is absent")
    return MaintenanceWindow(
        window_id=required(item, "sk"),
        scope=choice(item, "scope", (ALL, SERVICE, INSTANCE)),
        name=optional(item, "name"),
        from_ms=from_ms,
        until_ms=until_ms,
        reason=optional(item, "reason"),
        by=optional(item, "by"),
        created_ms=moment(item, "created_ms") or 0,
        removed_ms=moment(item, "removed_ms"),
        removed_by=optional(item, "removed_by"),
    )
