"""Life cycle of an episode: apply rows to an instance's stored episode.

Pure functions: stored episode and rows in, changed episodes out. ``repository`` writes them, ``alerting`` sends the
messages.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from riskwatch_lambda.arrival import is_old
from riskwatch_lambda.episode_rule import Metrics, in_cooldown, is_escalation
from riskwatch_lambda.episodes.endings import become_normal, cut_back
from riskwatch_lambda.episodes.episode import COOLDOWN, MAINTENANCE, PENDING, SENT, Change, Episode, NotificationState
from riskwatch_lambda.episodes.openings import HeldOpening
from riskwatch_lambda.paging_rule import (
    COOLING,
    FAMILIAR,
    PAGED,
    InstanceState,
    Row,
    follow_row,
    read_trained,
)
from riskwatch_lambda.scoring.labelled_row import reason_document

if TYPE_CHECKING:
    from collections.abc import Sequence

    from riskwatch_lambda.episode_rule import EpisodeState, Rule
    from riskwatch_lambda.episodes.episode import ModelContext, Scored
    from riskwatch_lambda.paging_rule import Held, InstanceStep, Opening
    from riskwatch_lambda.scoring.records import Record
    from riskwatch_lambda.scoring.scorer import Verdict

HELD = (FAMILIAR, COOLING)


def follow(
    before: Episode | None,
    rows: Sequence[Scored],
    rule: Rule,
    model_context: ModelContext,
    seen_ms: int | None = None,
) -> Change:
    """Apply the rows of one instance, oldest first, to its stored episode.

    A row decides something if it is newer than every labelled row of its instance, the newest of which is ``seen_ms``,
    and not too old at its arrival. Any other row has only a place inside or outside of the stored episode.

    An episode ahead of both the wall clock and the arrival of the rows is cut back first: neither a slow clock of the
    function nor a late delivery cuts back an episode that is right. An episode that the model has learned as normal
    ends at the next row.
    """
    clock_ms = max(model_context.now_ms, *(scored.arrived_ms for scored in rows))
    repair = None if before is None else cut_back(before, clock_ms)
    current = before if repair is None else repair.after
    listed = {} if repair is None else {episode.episode_id: episode for episode in repair.listed}
    held: dict[int, HeldOpening] = {}
    opened, escalated = frozenset[str](), frozenset[str]()
    closed = 0 if repair is None else repair.closed
    episode_ids: list[str | None] = []
    for scored in rows:
        ts_ms = scored.record.ts[-1]
        if is_old(ts_ms, scored.arrived_ms) or (seen_ms is not None and ts_ms <= seen_ms):
            episode_ids.append(current.episode_id if current is not None and current.state.covers(ts_ms) else None)
            continue
        seen_ms = ts_ms
        effect = _apply(current, scored, rule, model_context)
        current = effect.episode
        listed |= {episode.episode_id: episode for episode in effect.listed}
        held |= {opening.opening.since_ms: opening for opening in effect.held}
        episode_id = "" if current is None else current.episode_id
        opened |= {episode_id} if effect.opened else set()
        escalated |= {episode_id} if effect.escalated else set()
        closed += effect.closed
        episode_ids.append(episode_id if effect.alert else None)
    return Change(
        before=before,
        after=current,
        rows=tuple(rows),
        episode_ids=tuple(episode_ids),
        listed=tuple(listed.values()),
        held=tuple(held.values()),
        opened=opened,
        escalated=escalated,
        closed=closed,
    )


class _Effect(NamedTuple):
    """Effect of one row: the episode after it, the episodes and held openings to list, and what happened.

    ``closed`` is a number.
    """

    episode: Episode | None
    listed: tuple[Episode, ...]
    held: tuple[HeldOpening, ...]
    alert: bool
    opened: bool
    escalated: bool
    closed: int


def _apply(current: Episode | None, scored: Scored, rule: Rule, model_context: ModelContext) -> _Effect:
    """Apply a row that is newer than all before it to the episode of its instance."""
    record, verdict, _ = scored
    normal = None if current is None else become_normal(current, record.ts[-1], model_context)
    ended = () if normal is None else (normal,)
    previous = normal or current
    before = _instance_state(previous, record, model_context)
    step = follow_row(before, _row(record, verdict), rule)
    after = step.state
    episode, escalated = previous, False
    if step.opened:
        episode = _open(previous, after, record, verdict, rule, model_context)
    elif after is not before:
        new = Episode(record.instance_id, record.service, resource_kind=record.resource_kind)
        episode = replace(previous or new, state=after.episode, held=after.held, openings=after.openings)
        episode = _judged(episode, before.episode, verdict, model_context)
        if step.closed:
            # The message about the end contains the peak, so an unsent escalation is obsolete.
            episode = replace(episode, notice=episode.notice._replace(escalated=""))
        elif _escalates(episode, verdict, rule):
            episode = _escalate(episode, verdict, model_context)
            escalated = True
    is_listed = episode is not None and (step.closed or step.opened or escalated)
    listed = (*ended, episode) if is_listed and episode is not None else ended
    held = _held(before, step, record, rule)
    return _Effect(episode, listed, held, step.alert, step.opened, escalated, len(ended) + step.closed)


def _instance_state(episode: Episode | None, record: Record, model_context: ModelContext) -> InstanceState:
    """Return the state of an instance as the paging rule sees it.

    An instance without a memory begins with that of the training rows. A muted page of a maintenance window is not
    remembered: what happens in it is no sign of what is usual.
    """
    if episode is None or episode.openings is None:
        openings = read_trained(model_context.trained.get(record.instance_id, ()))
        return InstanceState(openings=openings) if episode is None else InstanceState(episode.state, None, openings)
    openings = episode.openings
    is_muted = episode.notice.notified == MAINTENANCE and not episode.state.is_open
    if is_muted and openings and openings[-1].outcome == PAGED and openings[-1].since_ms <= episode.since_ms:
        openings = openings[:-1]
    return InstanceState(episode.state, episode.held, openings)


def _row(record: Record, verdict: Verdict) -> Row:
    metrics = Metrics(verdict.missing, verdict.decisive)
    return Row(
        *(record.ts[-1], verdict.score, verdict.strength, verdict.opens, verdict.exhausted, verdict.signature, metrics)
    )


def _held(before: InstanceState, step: InstanceStep, record: Record, rule: Rule) -> tuple[HeldOpening, ...]:
    """Return the openings for the list: one that ends or pages at a row, and one that the row begins."""
    after = step.state
    changed: list[tuple[Opening, Held]] = []
    if before.held is not None and before.openings[-1].outcome in HELD and _began(before) != _began(after):
        changed += [(opening, before.held) for opening in after.openings if opening.since_ms == _began(before)]
    if step.held in HELD and after.held is not None:
        changed.append((after.openings[-1], after.held))
    names = record.instance_id, record.service, record.resource_kind
    return tuple(
        HeldOpening(*names, opening, rule.paging_threshold, *(held.familiar[2:] if held.familiar else ()))
        for opening, held in changed
    )


def _began(state: InstanceState) -> int | None:
    return None if state.held is None else state.held.state.since_ms


def new_notification(previous: Episode | None, since_ms: int, rule: Rule, now_ms: int) -> NotificationState:
    """Return the notice of a new episode without data.

    Its page is claimed, unless the instance is in cool-down.
    """
    reported_since = None if previous is None else previous.notice.reported_since_ms
    if in_cooldown(rule, reported_since, since_ms):
        return NotificationState(COOLDOWN, reported_since_ms=reported_since)
    return NotificationState(PENDING, claimed_ms=now_ms, reported_since_ms=since_ms, reported_before_ms=reported_since)


def _open(
    previous: Episode | None,
    state: InstanceState,
    record: Record,
    verdict: Verdict,
    rule: Rule,
    model_context: ModelContext,
) -> Episode:
    """Return a new episode, paged by the newest row of the record."""
    reported_since = None if previous is None else previous.notice.reported_since_ms
    notice = NotificationState(
        PENDING,
        claimed_ms=model_context.now_ms,
        reported_since_ms=record.ts[-1],
        reported_before_ms=reported_since,
    )
    return Episode(
        instance_id=record.instance_id,
        service=record.service,
        state=state.episode,
        level=verdict.level,
        reasons=tuple(reason_document(reason) for reason in verdict.reasons),
        model_id=model_context.model_id,
        model_version=model_context.model_version,
        notice=notice,
        revision=None if previous is None else previous.revision,
        resource_kind=record.resource_kind,
        openings=state.openings,
        opened_ms=state.openings[-1].since_ms,
        paging_threshold=rule.paging_threshold,
    )


def _judged(episode: Episode, before: EpisodeState, verdict: Verdict, model_context: ModelContext) -> Episode:
    """Return the episode with what the model of the newest row makes of it; ``before`` is its state before that row.

    If a new model finds the first row that it judges normal, the behaviour need not have changed.
    """
    if not before.is_open:
        return episode
    if verdict.opens:
        model_id, model_version = model_context.model_id, model_context.model_version
        return replace(episode, model_id=model_id, model_version=model_version, new_normal=None)
    is_swapped = before.below == 0 and episode.model_id != model_context.model_id
    return replace(episode, new_normal=()) if is_swapped else episode


def _escalates(episode: Episode, verdict: Verdict, rule: Rule) -> bool:
    """Return whether a paged episode is so much worse that it is paged again."""
    notice, last_ms = episode.notice, episode.state.last_ms
    if (
        notice.notified != SENT
        or notice.escalated
        or not verdict.opens
        or notice.reported_ms is None
        or last_ms is None
    ):
        return False
    if last_ms - notice.reported_ms < rule.cooldown_s * 1000:
        return False
    return is_escalation(notice.reported_peak or 0.0, notice.reported_level, episode.state.peak, verdict.level)


def _escalate(episode: Episode, verdict: Verdict, model_context: ModelContext) -> Episode:
    """Return the episode with a claimed escalation.

    Level and reasons become those of the row that shows it.
    """
    return replace(
        episode,
        level=verdict.level,
        reasons=tuple(reason_document(reason) for reason in verdict.reasons),
        notice=episode.notice._replace(escalated=PENDING, claimed_ms=model_context.now_ms),
    )
