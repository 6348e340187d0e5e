"""Silent episodes: instances that should report and do not, as a tick names them.

Which instances are overdue is the caller's finding: he knows who should report and when each last did. Where all of
them are, he names ``ALL`` instead, since then something common to them has failed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from riskwatch_lambda.episode_rule import EpisodeState
from riskwatch_lambda.episodes.lifecycle import SILENT, Change, Episode, claimed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from riskwatch_lambda.episode_rule import Rule

ALL = "*"
# What one tick opens at most, so that it ends in time; the next one goes on.
MOST_OPENED = 1000


class Overdue(NamedTuple):
    """An instance that should have reported, and when its last row was (epoch ms); instance and service may be ALL."""

    instance_id: str
    service: str
    last_ms: int


def opening(
    overdue: Sequence[Overdue], stored: Mapping[tuple[str, str], Episode], rule: Rule, moment_ms: int, now_ms: int
) -> list[Change]:
    """Open an episode for each overdue instance that has none since then, those that are silent longest first.

    ``moment_ms`` is the time that the rows have reached, ``now_ms`` the wall clock.
    """
    changes: list[Change] = []
    for each in sorted(overdue, key=lambda item: (item.last_ms, item.instance_id)):
        before = stored.get((each.instance_id, SILENT))
        if before is not None and (before.state.is_open or each.last_ms <= before.since_ms):
            continue
        after = Episode(
            instance_id=each.instance_id,
            service=each.service,
            kind=SILENT,
            state=EpisodeState(True, each.last_ms, moment_ms),
            notice=claimed(before, each.last_ms, rule, now_ms),
            revision=0 if before is None else before.revision,
        )
        changes.append(Change(before, after, listed=(after,), opened=frozenset({after.episode_id})))
        if len(changes) == MOST_OPENED:
            break
    return changes


def closing(overdue: Iterable[Overdue], is_open: Iterable[Episode], moment_ms: int) -> list[Change]:
    """Close the silent episodes of instances that are not overdue any more: they report, or need not."""
    names = {each.instance_id for each in overdue}
    if ALL in names:
        # Nobody is named, and nobody has come back.
        return []
    return [
        Change(episode, after, listed=(after,), closed=1)
        for episode in is_open
        if episode.instance_id not in names
        for after in [
            replace(episode, state=episode.state._replace(is_open=False, last_ms=moment_ms, closed_ms=moment_ms))
        ]
    ]
