"""New instances: those of which the model in service has no baseline, and how long that lasts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from riskwatch_dashboard import served_parts
from riskwatch_lambda.model.baselines import DEFAULT_ROLE

if TYPE_CHECKING:
    from riskwatch_dashboard.queries import RecentRows
    from riskwatch_ml.storage.bucket import Store


@dataclass(frozen=True)
class NewInstance:
    """An instance without a baseline of its own.

    `role` is its role if the model of its kind has a baseline of it, else empty. `learnable` is the time (UTC) at which
    the shown rows are enough for a baseline: the first training after it gives one.
    """

    instance_id: str
    role: str
    learnable: datetime


def of_selection(store: Store, reading: RecentRows) -> NewInstance | None:
    """Return the selected instance if it has rows and is new to the model in service; else None.

    A selection by a part of the name may be several instances: only the view of exactly one instance says so.
    """
    from riskwatch_ml.features.baselines import MIN_SPAN_MS

    if not reading.selection.exact or reading.rows.empty or reading.model is None:
        return None
    parts = served_parts.read(store, reading.model.digest)
    if parts is None:
        return None
    name, newest = reading.selection.instance, reading.rows.iloc[0]
    kind, role = newest["resource_kind"], str(newest["role"])
    known = served_parts.of_kind(parts, kind if isinstance(kind, str) else None)
    if known is not None and name in known.instances:
        return None
    first = reading.rows["timestamp"].min().to_pydatetime()
    has_role = known is not None and role in known.roles and role != DEFAULT_ROLE
    return NewInstance(name, role if has_role else "", first + timedelta(milliseconds=MIN_SPAN_MS))
