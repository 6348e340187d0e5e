"""Active maintenance windows, instances without data, and held openings.

They come from the DynamoDB table: the windows that `riskwatch silence list` shows, the open episodes of instances
without data, and the openings of the last day that were held. If the table or one of its items cannot be read, the view
leaves that out and says so.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from riskwatch_lambda.alerting import held_text, maintenance
from riskwatch_lambda.alerting.maintenance import MaintenanceWindows
from riskwatch_lambda.episodes.episode import NO_DATA
from riskwatch_lambda.episodes.no_data import ALL
from riskwatch_lambda.episodes.repository import UNFINISHED, EpisodeRepository
from riskwatch_lambda.paging_rule import PAGED
from riskwatch_lambda.table import TableError
from riskwatch_ml.core import aws_errors, clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from riskwatch_dashboard.filters import Selection
    from riskwatch_lambda.episodes.episode import Episode
    from riskwatch_lambda.episodes.openings import HeldOpening
    from riskwatch_lambda.items import DamagedItem
    from riskwatch_lambda.table import Table

_log = logging.getLogger(__name__)

HELD_FOR = timedelta(hours=24)  # held openings are shown for a day


class ActiveWindow(maintenance.MaintenanceWindow):
    """An active maintenance window."""

    __slots__ = ()

    def silences(self, service: str, instance_id: str) -> bool:
        """Return whether the window mutes an instance of a service."""
        return self.covers(service, instance_id, self.from_ms)

    @property
    def until(self) -> datetime:
        """The time (UTC) at which the window ends."""
        return clock.from_epoch_ms(self.end_ms)

    @property
    def what(self) -> str:
        """The scope of the window as text, e.g. `service shop`."""
        return "all instances" if self.scope == maintenance.ALL else f"{self.scope} {self.name}"


@dataclass(frozen=True)
class NoData:
    """An instance without data since its last row at `since` (UTC).

    Both names are empty if the whole fleet sends no data.
    """

    instance_id: str
    service: str
    since: datetime


@dataclass(frozen=True)
class Held:
    """An opening that was held, from `since` to `end` (UTC); `end` is None while it goes on."""

    instance_id: str
    service: str
    since: datetime
    end: datetime | None
    score: float
    what: str
    why: str


@dataclass(frozen=True)
class AlertState:
    """Active maintenance windows, instances without data, and held openings.

    `windows` are ordered by their end, the earliest first; `silent` by the last row, the oldest first; `held` has the
    newest opening first. A `problem` says why none is known, and `left_out` which damaged item is missing in them.
    """

    windows: tuple[ActiveWindow, ...] = ()
    silent: tuple[NoData, ...] = ()
    held: tuple[Held, ...] = ()
    problem: str = ""
    left_out: str = ""

    def window_of(self, service: str, instance_id: str) -> ActiveWindow | None:
        """Return the window that mutes an instance of a service.

        Of several windows, return the one that ends last.
        """
        return next((window for window in reversed(self.windows) if window.silences(service, instance_id)), None)

    def no_data_since(self, instance_id: str) -> datetime | None:
        """Return the time of the last row of an instance without data, else None."""
        return next((instance.since for instance in self.silent if instance.instance_id == instance_id), None)

    def filtered(self, selection: Selection, known: Iterable[tuple[str, str]]) -> AlertState:
        """Return the part that concerns the selected instances.

        `known` are the (service, instance) pairs that have rows: they show which
        instances the window of a service covers.
        """
        if not selection.instance:
            return self
        pairs = [*known, *((instance.service, instance.instance_id) for instance in self.silent)]
        matching = [pair for pair in pairs if selection.matches(pair[1])]
        windows = [
            window
            for window in self.windows
            if (window.scope == maintenance.INSTANCE and selection.matches(window.name))
            or any(window.silences(*pair) for pair in matching)
            or window.scope == maintenance.ALL
        ]
        silent = [
            instance for instance in self.silent if not instance.instance_id or selection.matches(instance.instance_id)
        ]
        held = [opening for opening in self.held if selection.matches(opening.instance_id)]
        return AlertState(tuple(windows), tuple(silent), tuple(held), self.problem, self.left_out)


def read(table: Table, now: datetime) -> AlertState:
    """Read the state at `now` from the table.

    A table that cannot be read is reported as `problem`, not as an exception.
    """
    now_ms = clock.epoch_ms(now)
    damaged: list[DamagedItem] = []
    try:
        windows = MaintenanceWindows(table, damaged.append).read()
        repository = EpisodeRepository(table, damaged.append)
        episodes = repository.unfinished()
        begin = now - HELD_FOR
        held = [
            opening for day in sorted({f"{at:%Y-%m-%d}" for at in (begin, now)}) for opening in repository.held(day)
        ]
    except TableError as error:
        _log.warning("maintenance windows and instances without data are not shown: %s", error)
        return AlertState(problem=_problem(table.name, error))
    active = [window for window in windows if window.from_ms <= now_ms < window.end_ms]
    silent = [episode for episode in episodes if episode.kind == NO_DATA and episode.state.is_open]
    return AlertState(
        tuple(ActiveWindow(*window) for window in sorted(active, key=lambda window: window.end_ms)),
        tuple(_silent(episode) for episode in sorted(silent, key=lambda episode: episode.since_ms)),
        _held(held, begin),
        left_out=_left_out(table.name, damaged),
    )


def _left_out(table: str, damaged: Sequence[DamagedItem]) -> str:
    """Return which items of the table are left out and what to do, empty without any."""
    if not damaged:
        return ""
    more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
    return f"the table {table} has an item that cannot be read: {damaged[0]}{more}; correct it or delete it"


def _problem(table: str, error: TableError) -> str:
    """Return what is wrong and what to do.

    The messages of AWS name roles and accounts, so they go to the log only.
    """
    cause = error.__cause__
    if not isinstance(cause, ClientError):
        return str(error)
    code = aws_errors.code(cause) or "?"
    if code == "ResourceNotFoundException":
        return (
            f"the table {table} does not exist: deploy infra/riskwatch_infra/stack.yaml, or correct the setting table"
        )
    if code in aws_errors.REFUSED:
        return (
            f"AWS answered {code}: the api-server needs dynamodb:Query on the table {table} and its index {UNFINISHED}"
        )
    return f"the table {table} cannot be read, AWS answered {code}: see the log of the api-server"


def _held(openings: Iterable[HeldOpening], begin: datetime) -> tuple[Held, ...]:
    """Return the openings since a time that did not page later, the newest first."""
    return tuple(
        Held(
            instance_id=held.instance_id,
            service=held.service,
            since=clock.from_epoch_ms(held.opening.since_ms),
            end=None if held.opening.end_ms is None else clock.from_epoch_ms(held.opening.end_ms),
            score=held.opening.peak,
            what=held_text.what(held),
            why=held_text.why(held),
        )
        for held in sorted(openings, key=lambda held: (-held.opening.since_ms, held.instance_id))
        if held.opening.outcome != PAGED and held.opening.since_ms >= clock.epoch_ms(begin)
    )


def _silent(episode: Episode) -> NoData:
    since = clock.from_epoch_ms(episode.since_ms)
    if episode.instance_id == ALL:
        return NoData("", "", since)
    return NoData(episode.instance_id, episode.service, since)
