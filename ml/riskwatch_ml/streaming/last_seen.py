"""Which instances should report and do not: when each of the inventory last had a row, and who is overdue.

`stream/seen.json` holds {"end": ..., "period_s": ..., "last": {instance: epoch ms}} as of the last published stretch:
the newest row of each instance of the inventory, or, where it never had one, when it was first expected. An instance
that leaves the inventory leaves the document; one that is in no inventory is never in it.

"behind" is {shard: end} of the accounts and regions that could not be read up to the end: their instances are judged as
of then, so that what we did not read is not taken for silence. "anew" is the end at which a damaged document was begun
again: until everybody has had time to become overdue, nothing is said, because who is not named counts as heard again.
"""

from __future__ import annotations

import json
import logging
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from riskwatch_lambda.episodes.no_data import ALL
from riskwatch_lambda.scoring.records import NAME_LIMIT
from riskwatch_ml.core import accounts, clock

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    import pandas as pd

    from riskwatch_ml.schema.inventory import Instance
    from riskwatch_ml.storage.bucket import Store

SEEN = "stream/seen.json"
# How far the stream is: {"end": ..., "shards": {shard: end}} as ISO text, shards that are behind alone.
MARK = "stream/mark.json"
# Whole periods without a row after which an instance is silent: one may be lost, and one come late.
SILENT_PERIODS = 3
# Of the instances that should report: where so many are overdue at once, what failed is common to all of them.
ALL_SHARE = 0.95
# Bytes of JSON, those that are silent longest first, of the 6 MB that an event of Lambda holds: ten thousand instances,
# unless their names are very long.
MOST_NAMED = 5_000_000

_log = logging.getLogger(__name__)


def newest_rows(rows: pd.DataFrame) -> dict[str, int]:
    """Return the time of the newest metric row of each instance, in epoch ms."""
    if rows.empty:
        return {}
    stamps = rows["timestamp"].astype("datetime64[ms, UTC]").astype("int64")
    newest = stamps.groupby(rows["instance_id"].to_numpy()).max()
    return {str(name): int(moment) for name, moment in newest.items()}


def remember(
    store: Store,
    expected: Mapping[str, Instance],
    newest: Mapping[str, int],
    end: datetime,
    period_s: int,
    behind: Mapping[str, datetime] | None = None,
) -> None:
    """Bring the document up to the end of a published stretch whose newest rows these are.

    `behind` says up to when those shards were read that were not read up to the end.
    """
    before = _read(store)
    end_ms = clock.epoch_ms(end)
    first_expected = end_ms - period_s * 1000
    last = {name: max(before.last.get(name, 0), newest.get(name, 0)) or first_expected for name in expected}
    anew_ms = end_ms if before.is_damaged else before.anew_ms
    document = {"end": clock.iso(end), "period_s": period_s, "last": last}
    if behind:
        document["behind"] = {name: clock.iso(moment) for name, moment in behind.items()}
    if anew_ms is not None and end_ms < anew_ms + SILENT_PERIODS * period_s * 1000:
        document["anew"] = clock.iso(anew_ms)
    store.put_json(SEEN, document)


def overdue(store: Store, expected: Mapping[str, Instance]) -> list[list[str | int]] | None:
    """Return [instance, service, time of the last row in epoch ms] of those that are overdue, as a tick takes them.

    Where nearly all are, which takes two at least, the one entry is that of ``ALL``, with the newest row of them. Names
    that no record may have are left out. None where nothing can be said, because what was known is lost.
    """
    seen = _read(store)
    if seen.is_damaged or seen.anew_ms is not None:
        return None
    last = {name: moment for name, moment in seen.last.items() if name in expected and _usable(expected[name])}
    late = sorted((moment, name) for name, moment in last.items() if moment <= seen.deadline(expected[name]))
    if len(last) > 1 and len(late) >= ALL_SHARE * len(last):
        return [[ALL, ALL, late[-1][0]]]
    found: list[list[str | int]] = []
    room = MOST_NAMED
    for moment, name in late:
        entry: list[str | int] = [name, expected[name].service, moment]
        # With the comma and the space after it.
        room -= len(json.dumps(entry)) + 2
        if room < 0:
            _log.warning("%d overdue instances are not named: the event holds no more", len(late) - len(found))
            break
        found.append(entry)
    return found


class _Seen(NamedTuple):
    """The document, times in epoch ms."""

    end_ms: int = 0
    period_ms: int = 0
    last: Mapping[str, int] = MappingProxyType({})
    behind: Mapping[str, int] = MappingProxyType({})
    anew_ms: int | None = None
    is_damaged: bool = False

    def deadline(self, instance: Instance) -> int:
        """Give the time of the newest row with which an instance is overdue."""
        end_ms = self.end_ms
        if self.behind:
            # An id that does not tell its shard may be in any of them.
            shard = accounts.of_instance(instance.instance_id, instance.shard)
            end_ms = min(self.behind.values()) if shard == accounts.DEFAULT else self.behind.get(shard, end_ms)
        return end_ms - (SILENT_PERIODS + 1) * self.period_ms


def _read(store: Store) -> _Seen:
    """Read the document; nothing where there is none, or where it is damaged."""
    try:
        document: Any = store.get_json(SEEN)
        if document is None:
            return _Seen()
        return _Seen(
            end_ms=clock.epoch_ms(clock.parse(document["end"])),
            period_ms=int(document["period_s"]) * 1000,
            last={str(name): int(moment) for name, moment in document["last"].items()},
            behind={
                str(name): clock.epoch_ms(clock.parse(moment)) for name, moment in document.get("behind", {}).items()
            },
            anew_ms=clock.epoch_ms(clock.parse(document["anew"])) if "anew" in document else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        _log.warning("%s cannot be read (%r): silence is judged anew from now on", SEEN, error)
        return _Seen(is_damaged=True)


def _usable(instance: Instance) -> bool:
    return all(
        name.isprintable() and len(name.encode()) <= NAME_LIMIT for name in (instance.instance_id, instance.service)
    )
