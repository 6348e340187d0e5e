"""Life cycle of an episode: apply rows to an instance's stored episode.

Pure functions: stored episode and rows in, changed episodes out. ``repository`` writes them, ``alerting`` sends the
messages.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from riskwatch_lambda.arrival import is_old
from riskwatch_lambda.episode_rule import NO_EPISODE, Metrics, advance, in_cooldown, is_escalation
from riskwatch_lambda.episodes.endings import become_normal, cut_back
from riskwatch_lambda.episodes.episode import COOLDOWN, PENDING, SENT, Change, Episode, NotificationState
from riskwatch_lambda.scoring.labelled_row import reason_document

if TYPE_CHECKING:
    from collections.abc import Sequence

    from riskwatch_lambda.episode_rule import EpisodeState, Rule
    from riskwatch_lambda.episodes.episode import ModelContext, Scored
    from riskwatch_lambda.scoring.records import Record
    from riskwatch_lambda.scoring.scorer import Verdict


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
    opened: set[str] = set()
    escalated: set[str] = set()
    closed = 0 if repair is None else repair.closed
    episode_ids: list[str | None] = []
    for scored in rows:
        ts_ms = scored.record.ts[-1]
        if is_old(ts_ms, scored.arrived_ms) or (seen_ms is not None and ts_ms <= seen_ms):
            covers = current is not None and current.state.covers(ts_ms)
            episode_ids.append(current.episode_id if covers and current is not None else None)
            continue
        seen_ms = ts_ms
        effect = _apply(current, scored, rule, model_context)
        current = effect.episode
        listed |= {episode.episode_id: episode for episode in effect.listed}
        if current is not None and effect.opened:
            opened.add(current.episode_id)
        if current is not None and effect.escalated:
            escalated.add(current.episode_id)
        closed += effect.closed
        episode_ids.append(current.episode_id if effect.alert and current is not None else None)
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


class _Effect(NamedTuple):
    """Effect of one row: the episode after it, the episodes to list, and what happened; ``closed`` is a number."""

    episode: Episode | None
    listed: tuple[Episode, ...]
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
    state = NO_EPISODE if previous is None else previous.state
    metrics = Metrics(verdict.missing, verdict.decisive)
    step = advance(state, record.ts[-1], verdict.pages, verdict.score, rule, metrics)
    episode, escalated = previous, False
    if step.opened:
        episode = _open(previous, step.state, record, verdict, rule, model_context)
    elif step.state is not state:
        new = Episode(record.instance_id, record.service, resource_kind=record.resource_kind)
        episode = replace(previous or new, state=step.state)
        episode = _judged(episode, state, verdict, model_context)
        if step.closed:
            # The message about the end contains the peak, so an unsent escalation is obsolete.
            episode = replace(episode, notice=episode.notice._replace(escalated=""))
        elif _escalates(episode, verdict, rule):
            episode = _escalate(episode, verdict, model_context)
            escalated = True
    is_listed = episode is not None and (step.closed or step.opened or escalated)
    listed = (*ended, episode) if is_listed and episode is not None else ended
    return _Effect(episode, listed, step.alert, step.opened, escalated, len(ended) + step.closed)


def new_notification(previous: Episode | None, since_ms: int, rule: Rule, now_ms: int) -> NotificationState:
    """Return the notice of a new episode.

    Its page is claimed, unless the instance is in cool-down.
    """
    reported_since = None if previous is None else previous.notice.reported_since_ms
    if in_cooldown(rule, reported_since, since_ms):
        return NotificationState(COOLDOWN, reported_since_ms=reported_since)
    return NotificationState(PENDING, claimed_ms=now_ms, reported_since_ms=since_ms, reported_before_ms=reported_since)


def _open(
    previous: Episode | None,
    state: EpisodeState,
    record: Record,
    verdict: Verdict,
    rule: Rule,
    model_context: ModelContext,
) -> Episode:
    """Return a new episode, opened by the newest row of the record."""
    return Episode(
        instance_id=record.instance_id,
        service=record.service,
        state=state,
        level=verdict.level,
        reasons=tuple(reason_document(reason) for reason in verdict.reasons),
        model_id=model_context.model_id,
        model_version=model_context.model_version,
        notice=new_notification(previous, record.ts[-1], rule, model_context.now_ms),
        revision=None if previous is None else previous.revision,
        resource_kind=record.resource_kind,
    )


def _judged(episode: Episode, before: EpisodeState, verdict: Verdict, model_context: ModelContext) -> Episode:
    """Return the episode with what the model of the newest row makes of it; ``before`` is its state before that row.

    If a new model finds the first row that it judges normal, the behaviour need not have changed.
    """
    if not before.is_open:
        return episode
    if verdict.pages:
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
        or not verdict.pages
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
