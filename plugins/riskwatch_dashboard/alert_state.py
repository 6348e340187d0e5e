"""Of whom nothing is heard, and why: maintenance windows that run now, and instances that send no rows.

Both stand in the table of the episodes: the windows that `riskwatch silence list` shows, and the open silent episodes.
The page does without them where the table cannot be read, and says so.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from riskwatch_lambda.alerting import maintenance
from riskwatch_lambda.alerting.maintenance import Windows
from riskwatch_lambda.episodes.lifecycle import SILENT
from riskwatch_lambda.episodes.no_data import ALL
from riskwatch_lambda.episodes.repository import UNFINISHED, Registry
from riskwatch_lambda.table import RegistryError
from riskwatch_ml.core import clock

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from riskwatch_lambda.episodes.lifecycle import Episode
    from riskwatch_lambda.table import Table

_NOT_ALLOWED = (
    "AccessDenied",
    "AccessDeniedException",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidSignatureException",
    "UnrecognizedClientException",
)

_log = logging.getLogger(__name__)


class Window(maintenance.Window):
    """A maintenance window that runs."""

    __slots__ = ()

    def silences(self, service: str, instance_id: str) -> bool:
        """Tell whether it silences an instance of a service."""
        return self.covers(service, instance_id, self.from_ms)

    @property
    def until(self) -> datetime:
        """When it ends."""
        return clock.from_epoch_ms(self.end_ms)

    @property
    def what(self) -> str:
        """Whom it silences, in words."""
        return "all instances" if self.scope == maintenance.ALL else f"{self.scope} {self.name}"


@dataclass(frozen=True)
class Silent:
    """An instance whose last row was at `since`; both names are empty where the whole fleet is silent."""

    instance_id: str
    service: str
    since: datetime


@dataclass(frozen=True)
class Quiet:
    """Windows that run, those that end first before the others, and silent instances, those silent longest first.

    `problem` says why neither is known.
    """

    windows: tuple[Window, ...] = ()
    silent: tuple[Silent, ...] = ()
    problem: str = ""

    def window_of(self, service: str, instance_id: str) -> Window | None:
        """Return the window that silences an instance of a service, the one that ends last of several."""
        return next((each for each in reversed(self.windows) if each.silences(service, instance_id)), None)

    def silent_since(self, instance_id: str) -> datetime | None:
        """Return when the last row of a silent instance was, None for one that is not silent."""
        return next((each.since for each in self.silent if each.instance_id == instance_id), None)

    def narrowed(self, part: str, known: Iterable[tuple[str, str]]) -> Quiet:
        """Return what concerns the instances with this part in their name, whatever its case.

        `known` are (service, instance) of those that have rows: a window of a service is about its instances.
        """
        if not part:
            return self
        wanted = part.casefold()
        pairs = [*known, *((each.service, each.instance_id) for each in self.silent)]
        meant = [pair for pair in pairs if wanted in pair[1].casefold()]
        windows = [
            each
            for each in self.windows
            if (each.scope == maintenance.INSTANCE and wanted in each.name.casefold())
            or any(each.silences(*pair) for pair in meant)
            or each.scope == maintenance.ALL
        ]
        silent = [each for each in self.silent if not each.instance_id or wanted in each.instance_id.casefold()]
        return Quiet(tuple(windows), tuple(silent), self.problem)


def read(table: Table, now: datetime) -> Quiet:
    """Look at the table once. A table that cannot be read is a `problem` and no error."""
    moment = clock.epoch_ms(now)
    try:
        windows = Windows(table).read()
        episodes = Registry(table).unfinished()
    except RegistryError as error:
        _log.warning("neither maintenance windows nor silent instances are shown: %s", error)
        return Quiet(problem=_problem(table.name, error))
    running = sorted((each for each in windows if each.from_ms <= moment < each.end_ms), key=lambda each: each.end_ms)
    silent = sorted(
        (each for each in episodes if each.kind == SILENT and each.state.is_open), key=lambda each: each.since_ms
    )
    return Quiet(tuple(Window(*each) for each in running), tuple(map(_silent, silent)))


def _problem(table: str, error: RegistryError) -> str:
    """What is wrong and what to do. AWS's own words name roles and accounts: they are for the log alone."""
    refusal = error.__cause__
    if not isinstance(refusal, ClientError):
        return str(error)
    code = refusal.response.get("Error", {}).get("Code", "?")
    if code == "ResourceNotFoundException":
        return (
            f"the table {table} does not exist: deploy infra/riskwatch_infra/stack.yaml, or correct the setting table"
        )
    if code in _NOT_ALLOWED:
        return (
            f"AWS answered {code}: the api-server needs dynamodb:Query on the table {table} and its index {UNFINISHED}"
        )
    return f"the table {table} cannot be read, AWS answered {code}: the log of the api-server has the rest"


def _silent(episode: Episode) -> Silent:
    since = clock.from_epoch_ms(episode.since_ms)
    if episode.instance_id == ALL:
        return Silent("", "", since)
    return Silent(episode.instance_id, episode.service, since)
