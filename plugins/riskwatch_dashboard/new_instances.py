"""New instances: those of which the model in service has no baseline, and how long that lasts."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from riskwatch_lambda.model.baselines import DEFAULT_ROLE

if TYPE_CHECKING:
    from riskwatch_dashboard.queries import RecentRows
    from riskwatch_ml.artifact.archive import KnownNames
    from riskwatch_ml.storage.bucket import Store

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NewInstance:
    """An instance without a baseline of its own.

    `role` is its role if the model has a baseline of it, else empty. `learnable` is the time (UTC) at which the shown
    rows are enough for a baseline: the first training after it gives one.
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
    known = _cache.get(store, reading.model.digest)
    name, role = reading.selection.instance, str(reading.rows["role"].iloc[0])
    if known is None or name in known.instances:
        return None
    first = reading.rows["timestamp"].min().to_pydatetime()
    has_role = role in known.roles and role != DEFAULT_ROLE
    return NewInstance(name, role if has_role else "", first + timedelta(milliseconds=MIN_SPAN_MS))


class _Cache:
    """The names of the model that was read last, by the checksum of its artifact."""

    def __init__(self) -> None:
        self._last: tuple[str, KnownNames] | None = None

    def get(self, store: Store, digest: str) -> KnownNames | None:
        """Return the names of a model; None, with a warning in the log, if its artifact cannot be read."""
        from riskwatch_ml.artifact import archive
        from riskwatch_ml.storage import keys

        last = self._last
        if last is not None and last[0] == digest:
            return last[1]
        zip_bytes = store.get_bytes(keys.artifact(digest))
        try:
            names = None if zip_bytes is None else archive.known_names(zip_bytes)
        except archive.ArtifactError as error:
            _log.warning("the view does not say whether an instance is new: %s", error)
            return None
        if names is not None:
            self._last = (digest, names)
        return names


_cache = _Cache()
