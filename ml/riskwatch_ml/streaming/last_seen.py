"""Last row of each expected instance, and the instances that are overdue.

`stream/seen.json` (`LastSeen`) has the state at the end of the last published interval. An instance that leaves the
inventory leaves the document; an instance outside the inventory is never in it.

Instances of an account and region that could not be read up to the end are judged by the time up to which it was read,
so rows that Riskwatch did not read do not count as missing. After a damaged document, no instance is reported until
every instance has had time to become overdue, because an instance absent from the list counts as recovered.
"""

from __future__ import annotations

import json
import logging
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, NotRequired, TypedDict

from riskwatch_lambda.episodes.no_data import ALL
from riskwatch_lambda.scoring.record_form import NAME_LIMIT
from riskwatch_ml.core import accounts, clock
from riskwatch_ml.core.errors import UserInputError
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    import pandas as pd

    from riskwatch_ml.schema.inventory import Instance
    from riskwatch_ml.storage.bucket import Store

# Whole periods without a row before an instance is reported: one row may be lost, and one may be late.
NO_DATA_PERIODS = 3
# Share of the expected instances; if so many are overdue at once, they have a common cause.
ALL_SHARE = 0.95
# Bytes of JSON; an event of Lambda has at most 6 MB. Enough for ten thousand instances, unless names are very long.
MAX_NAMED = 5_000_000

_log = logging.getLogger(__name__)


class LastSeen(TypedDict):
    """The document `stream/seen.json`; times as ISO 8601 text in UTC.

    `last` is the newest row of each expected instance in epoch ms, or the time when it was first expected if it never
    had a row. `behind` is the time up to which rows were read, for each account and region that could not be read up to
    `end`. `anew` is the `end` of the run that replaced a damaged document.
    """

    end: str
    period_s: int
    last: dict[str, int]
    behind: NotRequired[dict[str, str]]
    anew: NotRequired[str]


def newest_rows(rows: pd.DataFrame) -> dict[str, int]:
    """Return the time of the newest metric row of each instance, in epoch ms."""
    if rows.empty:
        return {}
    stamps = rows["timestamp"].astype("datetime64[ms, UTC]").astype("int64")
    newest = stamps.groupby(rows["instance_id"].to_numpy()).max()
    return {str(name): int(moment) for name, moment in newest.items()}


def update_last_seen(
    store: Store,
    expected: Mapping[str, Instance],
    newest: Mapping[str, int],
    end: datetime,
    period_s: int,
    behind: Mapping[str, datetime] | None = None,
) -> None:
    """Update the document after an interval was published.

    Times at or after its end, which rows ahead of the clock have left behind, do not count.

    Parameters
    ----------
    store
        The bucket.
    expected
        The inventory.
    newest
        Newest row of each instance in the interval, in epoch ms.
    end
        End of the interval, aware.
    period_s
        Period of the rows in seconds.
    behind
        For accounts and regions that were not read up to `end`: the time up to which they were read.
    """
    earlier = _read(store)
    end_ms = clock.epoch_ms(end)
    first_expected = end_ms - period_s * 1000
    last = {name: _latest((earlier.last, newest), name, end_ms) or first_expected for name in expected}
    restarted_ms = end_ms if earlier.is_damaged else earlier.restarted_ms
    document: LastSeen = {"end": clock.iso(end), "period_s": period_s, "last": last}
    if behind:
        document["behind"] = {name: clock.iso(moment) for name, moment in behind.items()}
    if restarted_ms is not None and end_ms < restarted_ms + NO_DATA_PERIODS * period_s * 1000:
        document["anew"] = clock.iso(restarted_ms)
    store.put_json(keys.LAST_SEEN, document)


def overdue(store: Store, expected: Mapping[str, Instance]) -> list[list[str | int]] | None:
    """Return the overdue instances as a tick event has them.

    Each is [instance, service, time of the last row in epoch ms], the oldest first. If nearly all instances are
    overdue, and at least two, the only entry is `ALL` with the newest of their rows. Instances with names that a record
    may not have are left out. None means that the state is lost, so no instance can be judged.
    """
    seen = _read(store)
    if seen.is_damaged or seen.restarted_ms is not None:
        return None
    last = {name: moment for name, moment in seen.last.items() if name in expected and _usable(expected[name])}
    late = sorted((moment, name) for name, moment in last.items() if moment <= seen.deadline(expected[name]))
    if len(last) > 1 and len(late) >= ALL_SHARE * len(last):
        return [[ALL, ALL, late[-1][0]]]
    entries: list[list[str | int]] = []
    free_bytes = MAX_NAMED
    for moment, name in late:
        entry: list[str | int] = [name, expected[name].service, moment]
        # Plus the comma and the space after it.
        free_bytes -= len(json.dumps(entry)) + 2
        if free_bytes < 0:
            _log.warning("%d overdue instances are not listed: the event is full", len(late) - len(entries))
            break
        entries.append(entry)
    return entries


def _latest(times: Sequence[Mapping[str, int]], name: str, end_ms: int) -> int:
    """Return the newest time of an instance before `end_ms`, 0 if it has none."""
    return max((known[name] for known in times if name in known and known[name] < end_ms), default=0)


class _Seen(NamedTuple):
    """The document with times in epoch ms."""

    end_ms: int = 0
    period_ms: int = 0
    last: Mapping[str, int] = MappingProxyType({})
    behind: Mapping[str, int] = MappingProxyType({})
    restarted_ms: int | None = None
    is_damaged: bool = False

    def deadline(self, instance: Instance) -> int:
        """Return the latest time of a last row with which the instance is overdue."""
        end_ms = self.end_ms
        if self.behind:
            # An id without account and region may be in any of them.
            account_region = accounts.of_instance(instance.instance_id, instance.account_region)
            end_ms = (
                min(self.behind.values())
                if account_region == accounts.DEFAULT
                else self.behind.get(account_region, end_ms)
            )
        return end_ms - (NO_DATA_PERIODS + 1) * self.period_ms


def _read(store: Store) -> _Seen:
    """Return the document, empty if it is missing or damaged."""
    try:
        document: LastSeen | None = store.get_json(keys.LAST_SEEN)
        if document is None:
            return _Seen()
        return _Seen(
            end_ms=clock.epoch_ms(clock.parse(document["end"])),
            period_ms=_whole(document["period_s"], 1, clock.DAY_S) * 1000,
            last={name: _whole(moment, 0, clock.LATEST_MS) for name, moment in document["last"].items()},
            behind={name: clock.epoch_ms(clock.parse(moment)) for name, moment in document.get("behind", {}).items()},
            restarted_ms=clock.epoch_ms(clock.parse(document["anew"])) if "anew" in document else None,
        )
    except (UserInputError, ValueError, KeyError, TypeError, AttributeError) as error:
        _log.warning(
            "%s cannot be read (%r): it is replaced, and missing data are reported later", keys.LAST_SEEN, error
        )
        return _Seen(is_damaged=True)


def _whole(value: object, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{value!r} is no whole number from {low} to {high}")
    return value


def _usable(instance: Instance) -> bool:
    return all(
        name.isprintable() and len(name.encode()) <= NAME_LIMIT for name in (instance.instance_id, instance.service)
    )
