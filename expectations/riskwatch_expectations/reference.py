"""The reference of an interval: earlier validated rows and expected instances."""

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
# This is four hours of five-minute rows for ten thousand instances.
MAX_ROWS = 500_000
# An instance that reported within this time before the interval is expected in it.
EXPECTED = timedelta(hours=3)
_HOUR = timedelta(hours=1)


def _nothing() -> pd.DataFrame:
    stamps = pd.Series([], dtype="datetime64[ms, UTC]")
    return pd.DataFrame({"instance_id": pd.Series([], dtype="str"), "timestamp": stamps})


@dataclass(frozen=True)
class Reference:
    """Validated rows before an interval (may be empty) and its expected instances."""

    rows: pd.DataFrame = field(default_factory=_nothing)
    expected: frozenset[str] = frozenset()


def read(
    store: Store, catalogue: Catalogue, start: datetime, known: Iterable[str] = (), part: str | None = None
) -> Reference:
    """Return the reference for an interval that begins at `start` (aware).

    Its rows are the newest validated rows of the 24 hours before, limited to about 500,000. If `part` is given, only
    rows of that part count. Expected are `known` and the instances of the last three of these hours.
    """
    damaged: list[str] = []
    layer = keys.of_kind(keys.VALIDATED, catalogue)
    rows = store.read_hours(layer, start - _HOUR, start, part=part, damaged=damaged)
    hours = min(SPAN // _HOUR, MAX_ROWS // max(len(rows), 1))
    if hours > 1:
        earlier = store.read_hours(layer, start - hours * _HOUR, start - _HOUR, part=part, damaged=damaged)
        rows = pd.concat([frame for frame in (earlier, rows) if not frame.empty] or [rows], ignore_index=True)
    rows = rows[["instance_id", "timestamp", *(name for name in catalogue.names if name in rows.columns)]]
    recent = rows["timestamp"] >= pd.Timestamp(start - EXPECTED)
    return Reference(rows, frozenset(rows.loc[recent, "instance_id"]) | frozenset(known))
