"""Silent episodes: instances that should send data and do not.

The caller of the tick decides which instances are overdue: it knows the inventory and each instance's last row. If all
of them are overdue, a common cause is likely, and the caller names ``ALL`` instead.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from riskwatch_lambda.episode_rule import EpisodeState
from riskwatch_lambda.episodes.episode import NO_DATA, Change, Episode
from riskwatch_lambda.episodes.lifecycle import new_notification

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from riskwatch_lambda.episode_rule import RuleOf

ALL = "*"
# Episodes that one tick opens, so that it ends in time; the next tick continues.
MAX_OPENED = 1000


class Overdue(NamedTuple):
    """An overdue instance, the time of its last row (epoch ms), and its kind.

    Instance and service may be ``ALL``. An instance without a kind is of the first kind of the model.
    """

    instance_id: str
    service: str
    last_ms: int
    resource_kind: str = ""


def opening(
    overdue: Sequence[Overdue], stored: Mapping[tuple[str, str], Episode], rule_of: RuleOf, moment_ms: int, now_ms: int
) -> list[Change]:
    """Open an episode for each overdue instance, oldest last row first.

    An instance gets none if it has an open one, or had one since its last row. ``moment_ms`` is the time up to which
    rows were published, ``now_ms`` the wall clock; both are epoch milliseconds.
    """
    changes: list[Change] = []
    for instance_id, service, last_ms, kind in sorted(overdue, key=lambda item: (item.last_ms, item.instance_id)):
        before = stored.get((instance_id, NO_DATA))
        if before is not None and (before.state.is_open or last_ms <= before.since_ms):
            continue
        after = Episode(
            instance_id=instance_id,
            service=service,
            kind=NO_DATA,
            state=EpisodeState(True, last_ms, moment_ms),
            notice=new_notification(before, last_ms, rule_of(kind), now_ms),
            revision=None if before is None else before.revision,
            resource_kind=kind,
        )
        changes.append(Change(before, after, listed=(after,), opened=frozenset({after.episode_id})))
        if len(changes) == MAX_OPENED:
            break
    return changes


def closing(overdue: Iterable[Overdue], is_open: Iterable[Episode], moment_ms: int) -> list[Change]:
    """Close the silent episodes of instances that are no longer overdue.

    They send data again, or have left the inventory. If the clock of the caller went back, the end is not before the
    begin.
    """
    names = {instance.instance_id for instance in overdue}
    if ALL in names:
        # The caller names no single instance, and none sends data.
        return []
    return [
        Change(episode, after, listed=(after,), closed=1)
        for episode in is_open
        if episode.instance_id not in names
        for end_ms in [max(moment_ms, episode.since_ms)]
        for after in [replace(episode, state=episode.state._replace(is_open=False, last_ms=end_ms, closed_ms=end_ms))]
    ]
