"""Ends of an episode that no harmless rows bring.

It expires, its times are ahead of the clock, or the model in service has learned it as normal.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from riskwatch_lambda.arrival import is_ahead
from riskwatch_lambda.episode_rule import NO_EPISODE, close_expired
from riskwatch_lambda.episodes.episode import BUDGET, COOLDOWN, NO_DATA, PENDING, Change, Episode, NotificationState

if TYPE_CHECKING:
    from riskwatch_lambda.episodes.episode import ModelContext


def expire(episode: Episode, now_ms: int) -> Change | None:
    """Return the change that closes an expired episode at ``now_ms``.

    Returns None if the episode is closed or goes on.
    """
    state = close_expired(episode.state, now_ms)
    if state is episode.state:
        return None
    closed = replace(episode, state=state, notice=episode.notice._replace(escalated=""))
    return Change(episode, closed, listed=(closed,), closed=1)


def become_normal(episode: Episode, ts_ms: int, model_context: ModelContext) -> Episode | None:
    """Return the episode closed at a row (epoch ms) if the model that judges the row has learned it as normal.

    Otherwise, None is returned.
    """
    changes = model_context.new_normals.get(episode.episode_id)
    if changes is None or not episode.state.is_open or ts_ms <= (episode.state.last_ms or 0):
        return None
    state = episode.state._replace(is_open=False, closed_ms=ts_ms)
    return replace(episode, state=state, new_normal=changes, notice=episode.notice._replace(escalated=""))


def cut_back(episode: Episode, clock_ms: int) -> Change | None:
    """Return the change that repairs a state with a newest row ahead of the clock.

    Earlier releases accepted such rows: each mutes its instance until its date. The episode closes at ``clock_ms`` and
    the state forgets the times ahead, so that the next harmful row opens an episode. An instance without data since a
    time in the past stays so. What was not reported becomes a line of the next daily summary, never a page. Returns
    None if the newest row is not ahead.
    """
    state = episode.state
    if state.last_ms is None or not is_ahead(state.last_ms, clock_ms):
        return None
    is_past = state.since_ms is not None and not is_ahead(state.since_ms, clock_ms)
    notice = _cut_back_notice(episode.notice, clock_ms)
    if is_past and episode.kind == NO_DATA and state.is_open:
        waiting = replace(episode, state=state._replace(last_ms=clock_ms))
        return Change(episode, waiting, listed=(waiting,))
    was_over = state.closed_ms is not None and state.closed_ms <= clock_ms
    closed_ms = state.closed_ms if was_over else clock_ms
    last_ms = closed_ms if was_over else state.since_ms if is_past else None
    closed = state._replace(is_open=False, last_ms=last_ms, closed_ms=closed_ms, recent=())
    openings = episode.openings and tuple(item for item in episode.openings if not is_ahead(item.since_ms, clock_ms))
    ended = replace(episode, state=closed, notice=notice, held=None, openings=openings)
    # The key of a list item contains the opening: an episode that opened ahead of the clock leaves the state only.
    forgotten = NotificationState(reported_since_ms=notice.reported_since_ms)
    after = ended if is_past else replace(ended, state=NO_EPISODE, notice=forgotten)
    return Change(episode, after, listed=() if state.since_ms is None else (ended,), closed=int(state.is_open))


def _cut_back_notice(notice: NotificationState, clock_ms: int) -> NotificationState:
    """Return a notice that sends no page, with no cool-down ahead of the clock."""
    openings = (notice.reported_since_ms, notice.reported_before_ms)
    reported_ms = next((ms for ms in openings if ms is not None and not is_ahead(ms, clock_ms)), None)
    notice = notice._replace(escalated="", reported_since_ms=reported_ms)
    if notice.notified in (PENDING, COOLDOWN, BUDGET):
        return notice._replace(notified=BUDGET, claimed_ms=None, reported_ms=clock_ms)
    return notice
