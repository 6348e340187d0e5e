"""Follows one instance through the rows of a batch: which rows are alerts, which episodes open and close, who is told.

Pure: stored episode and rows in, changed episodes out. Writing them is the registry's work, sending the publisher's.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from riskwatch_lambda.clock import iso
from riskwatch_lambda.episodes import QUIET, EpisodeState, Rule, advance, cooling
from riskwatch_lambda.rows import reason_document

if TYPE_CHECKING:
    from collections.abc import Sequence

    from riskwatch_lambda.records import Record
    from riskwatch_lambda.scorer import Verdict

PENDING, SENT, COOLDOWN = "pending", "sent", "cooldown"


@dataclass(frozen=True, slots=True)
class Episode:
    """An episode of an instance, as the table holds it; times in epoch milliseconds.

    ``level`` and ``reasons`` are those of the row that opened it. ``notified`` is pending, sent or cooldown;
    ``notified_ms`` is when the last message about the instance went out, whichever episode it told of; ``claimed_ms``
    is when the pending message was claimed. ``told_since_ms`` is when the last episode of the instance opened whose
    message was claimed or sent; only the state item holds it.
    """

    instance_id: str
    service: str
    state: EpisodeState = QUIET
    level: str = ""
    reasons: tuple[dict[str, Any], ...] = field(default=())
    model_id: str = ""
    model_version: str = ""
    notified: str = COOLDOWN
    notified_ms: int | None = None
    claimed_ms: int | None = None
    told_since_ms: int | None = None

    @property
    def episode_id(self) -> str:
        """Give ``<instance>@<since>``; empty while the instance never had an episode."""
        return "" if self.state.since_ms is None else f"{self.instance_id}@{iso(self.state.since_ms)}"


class Scored(NamedTuple):
    """One row of a batch and what the model said of it."""

    record: Record
    verdict: Verdict


class Stamp(NamedTuple):
    """Who judges, and when: the model, the version of the function, and the wall clock in epoch milliseconds."""

    model_id: str
    model_version: str
    now_ms: int


class Change(NamedTuple):
    """What the rows of a batch do to one instance.

    ``rows`` are the rows it was decided on; ``episode_ids`` has one entry a row, None where the row is no alert.
    ``listed`` are the episodes to write to the list, ``opened`` the ids of the new ones, whose notification was decided
    here, ``closed`` the number of those that closed.
    """

    before: Episode | None
    after: Episode | None
    rows: tuple[Scored, ...] = ()
    episode_ids: tuple[str | None, ...] = ()
    listed: tuple[Episode, ...] = ()
    opened: frozenset[str] = frozenset()
    closed: int = 0

    @property
    def is_needed(self) -> bool:
        """Tell whether there is anything to write."""
        return self.after is not self.before

    @property
    def to_tell(self) -> tuple[Episode, ...]:
        """Give the episodes that the batch opened and that a message must tell of, oldest first."""
        return tuple(each for each in self.listed if each.episode_id in self.opened and each.notified == PENDING)


def follow(before: Episode | None, rows: Sequence[Scored], rule: Rule, stamp: Stamp) -> Change:
    """Apply the rows of one instance, oldest first, to its stored episode."""
    current = before
    listed: dict[str, Episode] = {}
    opened: set[str] = set()
    closed = 0
    episode_ids: list[str | None] = []
    for record, verdict in rows:
        previous = current
        state = QUIET if previous is None else previous.state
        step = advance(state, record.ts[-1], verdict.pages, verdict.score, rule, verdict.known)
        if step.opened:
            current = _open(previous, step.state, record, verdict, rule, stamp)
            opened.add(current.episode_id)
            listed[current.episode_id] = current
        elif step.state is not state:
            current = replace(previous or Episode(record.instance_id, record.service), state=step.state)
            if step.closed or current.episode_id in opened:
                listed[current.episode_id] = current
        closed += step.closed
        episode_ids.append(current.episode_id if step.alert and current is not None else None)
    return Change(
        before=before,
        after=current,
        rows=tuple(rows),
        episode_ids=tuple(episode_ids),
        listed=tuple(listed.values()),
        opened=frozenset(opened),
        closed=closed,
    )


def expire(episode: Episode, now_ms: int) -> Change:
    """Close an open episode of which nothing has been heard for too long."""
    closed = replace(episode, state=episode.state._replace(is_open=False, closed_ms=now_ms))
    return Change(episode, closed, listed=(closed,), closed=1)


def _open(
    previous: Episode | None, state: EpisodeState, record: Record, verdict: Verdict, rule: Rule, stamp: Stamp
) -> Episode:
    """Make a new episode and claim its message, unless the last told episode of the instance is too recent."""
    told_since = None if previous is None else previous.told_since_ms
    since = record.ts[-1]
    quiet = cooling(rule, told_since, since)
    return Episode(
        instance_id=record.instance_id,
        service=record.service,
        state=state,
        level=verdict.level,
        reasons=tuple(reason_document(reason) for reason in verdict.reasons),
        model_id=stamp.model_id,
        model_version=stamp.model_version,
        notified=COOLDOWN if quiet else PENDING,
        notified_ms=None if previous is None else previous.notified_ms,
        claimed_ms=None if quiet else stamp.now_ms,
        told_since_ms=told_since if quiet else since,
    )
