"""Coverage: a model must have a baseline of each instance that reports and has enough rows for one.

A training on the wrong rows, for example on those of a laboratory, gives a model that knows none of the instances of
the fleet: they would page only as new instances do. Instances that left, and those that are too new for a baseline, are
listed and accepted: an autoscaled fleet changes daily.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from riskwatch_ml.artifact import archive
from riskwatch_ml.core import clock
from riskwatch_ml.core.listing import some
from riskwatch_ml.features.baselines import suffices
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.storage.bucket import Store

RECENT = timedelta(hours=24)  # an instance with a row in this time reports
EARLIER = timedelta(hours=48)  # rows before the training that are counted: enough for a baseline, and quick to read
# Rows may reach the bucket this long after their time: the training could not learn from later ones.
SETTLED = timedelta(hours=3)
NAMES = 10  # instances that a text names
_READ = timedelta(hours=6)  # rows of a fleet in memory at a time


class Seen(NamedTuple):
    """The validated rows of one instance: their number, and the first and the last as UTC epoch in milliseconds."""

    rows: int
    first_ms: int
    last_ms: int

    @property
    def suffices(self) -> bool:
        """Whether the rows are enough for a baseline."""
        return bool(suffices(self.rows, self.last_ms - self.first_ms))


class Coverage(NamedTuple):
    """The instances that differ between a model and the fleet, each sorted.

    ``missing`` report, have enough rows for a baseline, and have none in the model. ``too_new`` report and have too few
    rows. ``left`` have a baseline and do not report. ``in_episode`` would be missing, but the training may have left
    out the rows of their episode.
    """

    missing: tuple[str, ...] = ()
    too_new: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    in_episode: tuple[str, ...] = ()

    def without_episodes(self, instances: Collection[str]) -> Coverage:
        """Return the coverage with the missing ones among the instances with an episode accepted."""
        missing = tuple(name for name in self.missing if name not in instances)
        return self._replace(missing=missing, in_episode=tuple(name for name in self.missing if name in instances))

    @property
    def refusal(self) -> str:
        """Why the model must not be released; empty if it may."""
        if not self.missing:
            return ""
        return (
            f"it has no baseline of {_counted(self.missing)} that reported in the last 24 hours and had enough rows "
            "for one: run train_models, and check that its rows are those of this fleet"
        )

    @property
    def note(self) -> str:
        """The accepted differences in words; empty if there are none."""
        parts = [
            f"{_counted(names)} {what}"
            for names, what in (
                (self.too_new, "too new for a baseline"),
                (self.left, "without rows for 24 hours"),
                (self.in_episode, "without a baseline after an episode"),
            )
            if names
        ]
        return "; ".join(parts)


def compare(known: Collection[str], recent: Collection[str], earlier: Mapping[str, Seen]) -> Coverage:
    """Compare the instances with a baseline in a model with those that report.

    ``known`` are the instances of the model, ``recent`` those with a row in the last 24 hours, ``earlier`` the rows
    from which the model could have learned.
    """
    unknown = set(recent) - set(known)
    missing = {name for name in unknown if name in earlier and earlier[name].suffices}
    return Coverage(
        *(tuple(sorted(names)) for names in (missing, unknown - missing, set(known) - set(recent))),
    )


def learnable_until(training_id: str, now: datetime) -> datetime:
    """Return the time (UTC) until which rows count for a model.

    It is three hours before its training began, but not more than 24 hours before ``now``: a model that waited longer
    for its release is compared with what a daily refresh would know.
    """
    try:
        began = keys.training_started(training_id)
    except ValueError:
        return now - RECENT
    return max(began - SETTLED, now - RECENT)


def read_seen(store: Store, kinds: Sequence[Catalogue], start: datetime, end: datetime) -> dict[str, Seen]:
    """Return the validated rows of some kinds in [start, end), both aware, by instance."""
    seen: dict[str, Seen] = {}
    while start < end:
        stop = min(start + _READ, end)
        for metrics in kinds:
            layer = keys.of_kind(keys.VALIDATED, metrics)
            rows = store.read_hours(layer, start, stop, columns=(), damaged=[])
            by_instance = rows.groupby("instance_id")["timestamp"].agg(["size", "min", "max"])
            for name, size, first, last in by_instance.itertuples():
                first_ms, last_ms = (clock.epoch_ms(moment.to_pydatetime()) for moment in (first, last))
                before = seen.get(str(name), Seen(0, first_ms, first_ms))
                seen[str(name)] = Seen(before.rows + int(size), before.first_ms, last_ms)
        start = stop
    return seen


def of_artifact(
    store: Store, zip_bytes: bytes, training_id: str, now: datetime, kinds: Sequence[Catalogue]
) -> Coverage:
    """Return the coverage of an artifact with parts for some kinds at ``now`` (aware), from the validated rows.

    Nothing is missing if no instance reports. Raises ArtifactError if the artifact cannot be read.
    """
    recent = read_seen(store, kinds, now - RECENT, now)
    if not recent:
        return Coverage()
    until = learnable_until(training_id, now)
    earlier = read_seen(store, kinds, until - EARLIER, until)
    return compare(archive.known_names(zip_bytes).instances, recent, earlier)


def _counted(names: tuple[str, ...]) -> str:
    return f"{len(names)} instance{'' if len(names) == 1 else 's'} ({some(names, NAMES)})"
