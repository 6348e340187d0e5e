"""Which instances should report and do not: when each of the inventory last had a row, and who is overdue.

`stream/seen.json` holds {"end": ..., "period_s": ..., "last": {instance: epoch ms}} as of the last published stretch:
the newest row of each instance of the inventory, or, where it never had one, when it was first expected. An instance
that leaves the inventory leaves the document; one that is in no inventory is never in it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ml import clock
from riskwatch_lambda.records import NAME_LIMIT
from riskwatch_lambda.silence import ALL

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    import pandas as pd

    from ml.inventory import Instance
    from ml.store import Store

SEEN = "stream/seen.json"
# Whole periods without a row after which an instance is silent: one may be lost, and one come late.
SILENT_PERIODS = 3
# Of the instances that should report: where so many are overdue at once, what failed is common to all of them.
ALL_SHARE = 0.95
# Named in one tick, those that are silent longest first: with the longest names, escaped, 4 MB of the 6 MB that an
# event of Lambda holds.
MOST_NAMED = 2_500

_log = logging.getLogger(__name__)


def newest_rows(rows: pd.DataFrame) -> dict[str, int]:
    """Return the time of the newest metric row of each instance, in epoch ms."""
    if rows.empty:
        return {}
    stamps = rows["timestamp"].astype("datetime64[ms, UTC]").astype("int64")
    newest = stamps.groupby(rows["instance_id"].to_numpy()).max()
    return {str(name): int(moment) for name, moment in newest.items()}


def remember(
    store: Store, expected: Mapping[str, Instance], newest: Mapping[str, int], end: datetime, period_s: int
) -> None:
    """Bring the document up to the end of a published stretch whose newest rows these are."""
    _, _, before = _read(store)
    first_expected = clock.epoch_ms(end) - period_s * 1000
    last = {name: max(before.get(name, 0), newest.get(name, 0)) or first_expected for name in expected}
    store.put_json(SEEN, {"end": clock.iso(end), "period_s": period_s, "last": last})


def overdue(store: Store, expected: Mapping[str, Instance]) -> list[list[str | int]]:
    """Return [instance, service, time of the last row in epoch ms] of those that are overdue, as a tick takes them.

    Where nearly all are, which takes two at least, the one entry is that of ``ALL``, with the newest row of them. Names
    that no record may have are left out.
    """
    end_ms, period_ms, seen = _read(store)
    deadline = end_ms - (SILENT_PERIODS + 1) * period_ms
    last = {name: moment for name, moment in seen.items() if name in expected and _usable(expected[name])}
    late = sorted((moment, name) for name, moment in last.items() if moment <= deadline)
    if len(last) > 1 and len(late) >= ALL_SHARE * len(last):
        return [[ALL, ALL, late[-1][0]]]
    return [[name, expected[name].service, moment] for moment, name in late[:MOST_NAMED]]


def _read(store: Store) -> tuple[int, int, dict[str, int]]:
    """The end of the last stretch and its period, both in ms, and the newest rows; nothing of a damaged document."""
    try:
        document: Any = store.get_json(SEEN)
        if document is None:
            return 0, 0, {}
        last = {str(name): int(moment) for name, moment in document["last"].items()}
        return clock.epoch_ms(clock.parse(document["end"])), int(document["period_s"]) * 1000, last
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        _log.warning("%s cannot be read (%r): silence is judged anew from now on", SEEN, error)
        return 0, 0, {}


def _usable(instance: Instance) -> bool:
    return all(
        name.isprintable() and len(name.encode()) <= NAME_LIMIT for name in (instance.instance_id, instance.service)
    )
