"""What an interval is compared with: the validated rows right before it, and the instances expected to report."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import pandas as pd

from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.storage.bucket import Store

SPAN = timedelta(hours=24)
# Ten thousand instances have four hours of five-minute rows in these.
MOST_ROWS = 500_000
# An instance that reported this shortly before the interval is expected in it.
EXPECTED = timedelta(hours=3)
_HOUR = timedelta(hours=1)


def _nothing() -> pd.DataFrame:
    stamps = pd.Series([], dtype="datetime64[ms, UTC]")
    return pd.DataFrame({"instance_id": pd.Series([], dtype="str"), "timestamp": stamps})


@dataclass(frozen=True)
class Reference:
    """Validated rows before an interval (none where there are none) and the instances expected in it."""

    rows: pd.DataFrame = field(default_factory=_nothing)
    expected: frozenset[str] = frozenset()


def read(
    store: Store, catalogue: Catalogue, start: datetime, known: Iterable[str] = (), part: str | None = None
) -> Reference:
    """Return the newest validated rows of the 24 hours before `start` (aware), of a part, about `MOST_ROWS` at most.

    Expected are the instances of the last three of these hours, and `known`.
    """
    rows = store.read_hours(keys.VALIDATED, start - _HOUR, start, part=part)
    hours = min(SPAN // _HOUR, MOST_ROWS // max(len(rows), 1))
    if hours > 1:
        earlier = store.read_hours(keys.VALIDATED, start - hours * _HOUR, start - _HOUR, part=part)
        rows = pd.concat([part for part in (earlier, rows) if not part.empty] or [rows], ignore_index=True)
    rows = rows[["instance_id", "timestamp", *(name for name in catalogue.names if name in rows.columns)]]
    lately = rows["timestamp"] >= pd.Timestamp(start - EXPECTED)
    return Reference(rows, frozenset(rows.loc[lately, "instance_id"]) | frozenset(known))
