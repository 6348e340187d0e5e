"""Follows one instance through the rows of a batch: which rows are alerts, which episodes open, get worse and close.

Pure: stored episode and rows in, changed episodes out. Writing them is the registry's work, telling the teller's.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from riskwatch_lambda.clock import iso
from riskwatch_lambda.episode_rule import QUIET, EpisodeState, Rule, advance, cooling, worse
from riskwatch_lambda.scoring.labelled_row import reason_document

if TYPE_CHECKING:
    from collections.abc import Sequence

    from riskwatch_lambda.scoring.records import Record
    from riskwatch_lambda.scoring.scorer import Verdict

BEHAVIOUR, SILENT = "behaviour", "silent"
# What became of the opening of an episode: on its way, paged, held by one of three, told in a digest.
PENDING, SENT, COOLDOWN, BUDGET, MAINTENANCE, DIGESTED = (
    "pending",
    "sent",
    "cooldown",
    "budget",
    "maintenance",
    "digested",
)


class Notice(NamedTuple):
    """Who was told of an episode. ``notified_ms`` and ``claimed_ms`` are wall clock, the other times those of rows.

    ``notified`` is one of the six words above, ``notified_ms`` when the opening was told. ``claimed_ms`` is when the
    message that is due was claimed; None while none is. ``told_since_ms`` is when the last episode of the instance
    opened that was claimed or told, ``told_before_ms`` what that was before this one. ``told_ms``, ``told_peak`` and
    ``told_level`` say how bad it was when it was last told, or put
    down for a digest; ``escalated`` is pending or budget while it has become worse than that and nobody knows.
    ``window_id`` is the maintenance window that held it; ``resolved_ms`` when its end was told.
    """

    notified: str = COOLDOWN
    notified_ms: int | None = None
    claimed_ms: int | None = None
    told_since_ms: int | None = None
    told_before_ms: int | None = None
    told_ms: int | None = None
    told_peak: float | None = None
    told_level: str = ""
    escalated: str = ""
    window_id: str = ""
    resolved_ms: int | None = None


UNTOLD = Notice()


@dataclass(frozen=True, slots=True)
class Episode:
    """An episode of an instance, as the table holds it; times in epoch milliseconds.

    ``kind`` is behaviour, or silent for an instance that sends no rows. ``level`` and ``reasons`` are those of the row
    that opened it or at which it became markedly worse. ``revision`` counts the writes of the stored state.
    """

    instance_id: str
    service: str
    kind: str = BEHAVIOUR
    state: EpisodeState = QUIET
    level: str = ""
    reasons: tuple[dict[str, Any], ...] = field(default=())
    model_id: str = ""
    model_version: str = ""
    notice: Notice = UNTOLD
    revision: int = 0

    @property
    def key(self) -> tuple[str, str]:
        """Give instance and kind: of each pair there is one state."""
        return self.instance_id, self.kind

    @property
    def since_ms(self) -> int:
        """Give when it opened; 0 while there never was an episode."""
        return self.state.since_ms or 0

    @property
    def episode_id(self) -> str:
        """Give ``<instance>@<since>``, for a silent one ``<instance>@<since>~silent``; empty without an episode."""
        if self.state.since_ms is None:
            return ""
        return f"{self.instance_id}@{iso(self.state.since_ms)}" + ("" if self.kind == BEHAVIOUR else f"~{self.kind}")


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
    """What the rows of a batch, or a tick, do to one instance.

    ``rows`` are the rows it was decided on; ``episode_ids`` has one entry a row, None where the row is no alert.
    ``listed`` are the episodes to write to the list, ``opened`` and ``escalated`` the ids of those that opened here and
    of those that became markedly worse, ``closed`` the number of those that closed.
    """

    before: Episode | None
    after: Episode | None
    rows: tuple[Scored, ...] = ()
    episode_ids: tuple[str | None, ...] = ()
    listed: tuple[Episode, ...] = ()
    opened: frozenset[str] = frozenset()
    escalated: frozenset[str] = frozenset()
    closed: int = 0

    @property
    def is_needed(self) -> bool:
        """Tell whether there is anything to write."""
        return self.after is not self.before

    @property
    def to_tell(self) -> tuple[Episode, ...]:
        """Give the episodes whose opening, or getting worse, a message must tell, oldest first."""
        return tuple(
            each
            for each in self.listed
            if (each.episode_id in self.opened and each.notice.notified == PENDING)
            or (each.episode_id in self.escalated and each.notice.escalated == PENDING)
        )


def follow(before: Episode | None, rows: Sequence[Scored], rule: Rule, stamp: Stamp) -> Change:
    """Apply the rows of one instance, oldest first, to its stored episode."""
    current = before
    listed: dict[str, Episode] = {}
    opened: set[str] = set()
    escalated: set[str] = set()
    closed = 0
    episode_ids: list[str | None] = []
    for record, verdict in rows:
        previous = current
        state = QUIET if previous is None else previous.state
        step = advance(state, record.ts[-1], verdict.pages, verdict.score, rule, verdict.known)
        if step.opened:
            current = _open(previous, step.state, record, verdict, rule, stamp)
            opened.add(current.episode_id)
        elif step.state is not state:
            current = replace(previous or Episode(record.instance_id, record.service), state=step.state)
            if step.closed:
                # The message about its end says how bad it was.
                current = replace(current, notice=current.notice._replace(escalated=""))
            elif _escalates(current, verdict, rule):
                current = _escalate(current, verdict, stamp)
                escalated.add(current.episode_id)
        if current is not None and (step.closed or current.episode_id in opened | escalated):
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
        escalated=frozenset(escalated),
        closed=closed,
    )


def expire(episode: Episode, now_ms: int) -> Change:
    """Close an open episode of which nothing has been heard for too long."""
    closed = replace(
        episode,
        state=episode.state._replace(is_open=False, closed_ms=now_ms),
        notice=episode.notice._replace(escalated=""),
    )
    return Change(episode, closed, listed=(closed,), closed=1)


def claimed(previous: Episode | None, since_ms: int, rule: Rule, now_ms: int) -> Notice:
    """Claim the message about a new episode, unless the last told one of the instance opened too short a time ago."""
    told_since = None if previous is None else previous.notice.told_since_ms
    if cooling(rule, told_since, since_ms):
        return Notice(COOLDOWN, told_since_ms=told_since)
    return Notice(PENDING, claimed_ms=now_ms, told_since_ms=since_ms, told_before_ms=told_since)


def _open(
    previous: Episode | None, state: EpisodeState, record: Record, verdict: Verdict, rule: Rule, stamp: Stamp
) -> Episode:
    """Make a new episode."""
    return Episode(
        instance_id=record.instance_id,
        service=record.service,
        state=state,
        level=verdict.level,
        reasons=tuple(reason_document(reason) for reason in verdict.reasons),
        model_id=stamp.model_id,
        model_version=stamp.model_version,
        notice=claimed(previous, record.ts[-1], rule, stamp.now_ms),
        revision=0 if previous is None else previous.revision,
    )


def _escalates(episode: Episode, verdict: Verdict, rule: Rule) -> bool:
    """Tell whether an open episode that was paged has become so much worse that it is paged again."""
    notice, moment = episode.notice, episode.state.last_ms
    if notice.notified != SENT or notice.escalated or not verdict.pages or notice.told_ms is None or moment is None:
        return False
    if moment - notice.told_ms < rule.cooldown_s * 1000:
        return False
    return worse(notice.told_peak or 0.0, notice.told_level, episode.state.peak, verdict.level)


def _escalate(episode: Episode, verdict: Verdict, stamp: Stamp) -> Episode:
    """Claim the message that an episode has become worse; it explains itself by the row that shows it."""
    return replace(
        episode,
        level=verdict.level,
        reasons=tuple(reason_document(reason) for reason in verdict.reasons),
        model_id=stamp.model_id,
        model_version=stamp.model_version,
        notice=episode.notice._replace(escalated=PENDING, claimed_ms=stamp.now_ms),
    )
