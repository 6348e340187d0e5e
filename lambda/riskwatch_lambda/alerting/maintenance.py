"""Maintenance windows: who asked for silence about what, from when until when, and why.

One item a window: pk ``maintenance``, sk the window's id. A window that is removed ends at that moment and stays on
record; DynamoDB deletes it ``KEPT_S`` after its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from riskwatch_lambda.table import EXPIRES, Attributes, Table, number, text, update, whole

if TYPE_CHECKING:
    from collections.abc import Iterable

    from riskwatch_lambda.episodes.lifecycle import Episode

PARTITION = "maintenance"
KEPT_S = 90 * 86_400
ALL, SERVICE, INSTANCE = "all", "service", "instance"


class Window(NamedTuple):
    """A maintenance window [from, until), times in epoch milliseconds.

    ``scope`` is all, service or instance, ``name`` the service or instance. ``removed_ms`` and ``removed_by`` say when
    it was ended before its time, and by whom.
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
        """Give when it ends, or has ended."""
        return self.until_ms if self.removed_ms is None else min(self.until_ms, self.removed_ms)

    def covers(self, service: str, instance_id: str, moment_ms: int) -> bool:
        """Tell whether it silences an instance of a service at a moment."""
        asked = {ALL: True, SERVICE: self.name == service, INSTANCE: self.name == instance_id}
        return asked[self.scope] and self.from_ms <= moment_ms < self.end_ms


class Windows:
    """The maintenance windows in a table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def read(self) -> list[Window]:
        """Give all windows on record; raises RegistryError."""
        return [_window(item) for item in self._table.find("pk", PARTITION)]

    def add(self, window: Window) -> None:
        """Store a new window; raises ConflictError where its id is taken, RegistryError."""
        values = {
            **{name: {"S": getattr(window, name)} for name in ("scope", "name", "reason", "by")},
            **{name: number(getattr(window, name)) for name in ("from_ms", "until_ms", "created_ms")},
            EXPIRES: number(window.until_ms // 1000 + KEPT_S),
        }
        self._table.update(update(_key(window.window_id), values, {"from_ms": None}))

    def remove(self, window: Window, now_ms: int, by: str) -> None:
        """End a window now and record who did; raises ConflictError where somebody was faster, RegistryError."""
        values = {"removed_ms": number(now_ms), "removed_by": {"S": by}}
        guard = {"from_ms": number(window.from_ms), "removed_ms": None}
        self._table.update(update(_key(window.window_id), values, guard))


def covering(windows: Iterable[Window], episode: Episode, moment_ms: int) -> Window | None:
    """Give the window that silences an episode at a moment, None where none does."""
    return next((each for each in windows if each.covers(episode.service, episode.instance_id, moment_ms)), None)


def _key(window_id: str) -> Attributes:
    return {"pk": {"S": PARTITION}, "sk": {"S": window_id}}


def _window(item: Attributes) -> Window:
    return Window(
        window_id=item["sk"]["S"],
        scope=item["scope"]["S"],
        name=text(item, "name"),
        from_ms=whole(item, "from_ms") or 0,
        until_ms=whole(item, "until_ms") or 0,
        reason=text(item, "reason"),
        by=text(item, "by"),
        created_ms=whole(item, "created_ms") or 0,
        removed_ms=whole(item, "removed_ms"),
        removed_by=text(item, "removed_by"),
    )
