"""Tick event: work that no incoming row triggers.

The caller sends a tick after each publish, with the time up to which rows were published. A tick expires episodes of
instances without a row for a day, opens and closes silent episodes, and sends the messages that are due: pages that
were claimed and not sent, pages of open episodes after the end of their cool-down or maintenance window, ends of
paged episodes, and the daily summary. The index of unfinished episodes finds them at any age.

There are two clocks. ``now`` of the request is the time up to which rows were published. It lies behind the wall clock,
by days if past rows are published, and decides what happens to episodes. The wall clock decides whether a claim is
stale, and whether an episode is ahead of the clock: such an episode is closed and its times cut back, since it would
mute its instance until its date.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from riskwatch_lambda.alerting import held_text
from riskwatch_lambda.alerting.maintenance import active_window
from riskwatch_lambda.alerting.messages import group
from riskwatch_lambda.alerting.notifier import Counts
from riskwatch_lambda.clock import DAY_MS, HOUR_MS, iso
from riskwatch_lambda.episode_rule import in_cooldown
from riskwatch_lambda.episodes import no_data
from riskwatch_lambda.episodes.attributes import next_revision
from riskwatch_lambda.episodes.endings import cut_back, expire
from riskwatch_lambda.episodes.episode import (
    BEHAVIOUR,
    BUDGET,
    COOLDOWN,
    MAINTENANCE,
    NO_DATA,
    PENDING,
    SENT,
    SUMMARISED,
    Change,
    Episode,
    ModelContext,
)
from riskwatch_lambda.episodes.no_data import Overdue
from riskwatch_lambda.logs import heartbeat, log, metrics
from riskwatch_lambda.table import ConflictError, number

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from typing import TypedDict

    from riskwatch_lambda.alerting.notifier import Notifier
    from riskwatch_lambda.episode_rule import RuleOf

    class TickAnswer(TypedDict):
        """Numbers of messages sent and failed, and of episodes by outcome.

        Episodes are suppressed (``held``), expired, silent and open.
        """

        sent: int
        failed: int
        held: int
        expired: int
        silent: int
        open: int


# Longer than a batch may take, so that a tick does not repeat a message that a batch is sending.
RESEND_AFTER_MS = 5 * 60 * 1000
# Episodes that one tick pages, so that it ends in time; the next tick continues.
MAX_PAGED = 1000
ANSWERED = "TicksAnswered"  # the stack has an alarm on the absence of this metric


class TickError(ValueError):
    """The content of a tick event is invalid."""


class Request(NamedTuple):
    """A tick: published up to when, overdue instances, daily summary at once or not.

    ``now_ms`` is epoch milliseconds. ``overdue`` is None if the overdue instances are unknown.
    """

    now_ms: int
    overdue: tuple[Overdue, ...] | None
    daily_summary: bool


def run(document: object, rule_of: RuleOf, notifier: Notifier, model_context: ModelContext) -> TickAnswer:
    """Answer a tick with the numbers of its messages and episodes.

    The request is ``{"now": epoch ms, "overdue": [[instance, service, last row ms], ...], "kinds": {instance: kind},
    "digest": true}``. Without ``overdue``, silent episodes stay as they are. An instance that is not in ``kinds`` is of
    the first kind of the model. Without ``digest``, the daily summary waits for its hour. The rule of an episode is
    that of its kind.

    Raises TickError for another request, TableError if the episodes cannot be read or written.
    """
    request = _read(document)
    repository = notifier.repository
    listed = repository.unfinished()
    silent_keys = [(instance.instance_id, NO_DATA) for instance in request.overdue or ()]
    states, damaged, _ = repository.read_states([*(episode.key for episode in listed), *silent_keys])
    # The state has the newest row and peak. The list has those of the last message, and older episodes.
    episodes = {episode.episode_id: _newest(episode, states) for episode in listed}
    repaired = _repaired(notifier, states, max(request.now_ms, model_context.now_ms))
    states |= {state.key: state for change in repaired if (state := change.after) is not None}
    episodes |= {episode.episode_id: _newest(episode, states) for change in repaired for episode in change.listed}
    changes = [
        *_expiring(episodes.values(), request.now_ms, damaged),
        *_no_data(request, episodes.values(), states, rule_of, model_context),
    ]
    written = [change.after for change in changes if change.after is not None and _written(notifier, change, states)]
    episodes |= {episode.episode_id: episode for episode in written}
    counts = _notify(request, episodes.values(), rule_of, notifier, model_context.now_ms)
    is_open = [episode for episode in episodes.values() if episode.state.is_open]
    answer: TickAnswer = {
        "sent": counts.sent,
        "failed": counts.failed,
        "held": counts.held,
        "expired": sum(episode.kind == BEHAVIOUR for episode in written),
        "silent": sum(episode.kind == NO_DATA for episode in is_open),
        "open": len(is_open),
    }
    heartbeat(model_context.now_ms, ANSWERED)
    log("INFO", "tick", **answer)
    metrics(
        model_context.now_ms,
        model_context.model_version,
        {"MessagesSent": counts.sent, "MessagesFailed": counts.failed},
        {},
    )
    return answer


def _newest(listed: Episode, states: Mapping[tuple[str, str], Episode]) -> Episode:
    """Return the state of a listed episode.

    If the state item has another episode, the listed one is returned.
    """
    state = states.get(listed.key)
    if state is None or state.episode_id != listed.episode_id:
        return listed
    # Ticks write claims to the list only.
    return replace(state, notice=state.notice._replace(claimed_ms=listed.notice.claimed_ms))


def _repaired(notifier: Notifier, states: Mapping[tuple[str, str], Episode], clock_ms: int) -> list[Change]:
    """Cut back the states ahead of the clock and return the changes, with the revisions that they have now."""
    changes = [change for state in states.values() if (change := cut_back(state, clock_ms)) is not None]
    if changes:
        log("WARNING", "episodes ahead of the clock", episodes=len(changes))
    return [
        change._replace(after=replace(change.after, revision=number(next_revision(change.after.revision))))
        for change in changes
        if change.after is not None and _written(notifier, change, states)
    ]


def _expiring(episodes: Iterable[Episode], now_ms: int, damaged: Collection[tuple[str, str]]) -> list[Change]:
    known = (episode for episode in episodes if episode.kind == BEHAVIOUR and episode.key not in damaged)
    expirations = (expire(episode, now_ms) for episode in known)
    return [change for change in expirations if change is not None]


def _no_data(
    request: Request,
    episodes: Iterable[Episode],
    states: Mapping[tuple[str, str], Episode],
    rule_of: RuleOf,
    model_context: ModelContext,
) -> list[Change]:
    if request.overdue is None:
        return []
    is_open = [episode for episode in episodes if episode.kind == NO_DATA and episode.state.is_open]
    return [
        *no_data.closing(request.overdue, is_open, request.now_ms),
        *no_data.opening(request.overdue, states, rule_of, request.now_ms, model_context.now_ms),
    ]


def _written(notifier: Notifier, change: Change, states: Mapping[tuple[str, str], Episode]) -> bool:
    before, after = change.before, change.after
    state = None if before is None else states.get(before.key)
    try:
        if before is not None and after is not None and state is not None and state.episode_id != before.episode_id:
            notifier.repository.write_listed(after)
        else:
            notifier.repository.write(change)
    except ConflictError:
        # A batch or another tick has just changed the episode.
        return False
    return True


def _notify(
    request: Request,
    episodes: Iterable[Episode],
    rule_of: RuleOf,
    notifier: Notifier,
    wall_ms: int,
) -> Counts:
    """Send the messages that are due; finish episodes that need no further one."""
    due = [episode for episode in episodes if _is_free(episode, wall_ms)]
    openings, escalations = _pages(due, rule_of, request.now_ms, notifier)
    counts = Counts()
    remaining = MAX_PAGED
    # Groups are claimed one by one: if a tick ends early, the next tick can page the other groups at once.
    for grouped in (*group(openings, rule_of), *group(escalations, rule_of)):
        if remaining <= 0:
            log("WARNING", "pages left for the next tick", most=MAX_PAGED, due=len(openings) + len(escalations))
            break
        claimed = [item for episode in grouped for item in _claimed(episode, notifier, wall_ms)]
        counts = counts.plus(notifier.page(claimed, rule_of, wall_ms, request.now_ms))
        remaining -= len(grouped)
    closed = [episode for episode in due if not episode.state.is_open]
    ended = [item for item in closed if item.notice.notified == SENT and item.notice.resolved_ms is None]
    counts = counts.plus(notifier.resolve(ended, wall_ms))
    paged_ids = {episode.episode_id for episode in (*openings, *escalations)}
    waiting = [item for item in due if item.episode_id not in paged_ids and _waits_for_summary(item, request, notifier)]
    if waiting:
        counts = counts.plus(notifier.send_daily_summary(waiting, wall_ms, _held(notifier, request.now_ms)))
    for episode in closed:
        if episode.notice.notified == MAINTENANCE or episode.notice.resolved_ms is not None:
            notifier.finish(episode)
    return counts


def _held(notifier: Notifier, now_ms: int) -> dict[str, int]:
    """Return the number of openings held in the day before ``now_ms`` by reason."""
    days = sorted({iso(now_ms)[:10], iso(max(0, now_ms - DAY_MS))[:10]})
    held = [opening for day in days for opening in notifier.repository.held(day)]
    return held_text.counts(item for item in held if now_ms - DAY_MS < item.opening.since_ms <= now_ms)


def _is_free(episode: Episode, wall_ms: int) -> bool:
    """Return whether no other invocation is sending a message about an episode.

    That is so without a claim, with a claim of this tick, and with a stale claim. A claim by an environment with a fast
    clock is stale if it lies equally far in the future.
    """
    claimed = episode.notice.claimed_ms
    return claimed is None or claimed == wall_ms or abs(wall_ms - claimed) > RESEND_AFTER_MS


def _pages(
    due: Iterable[Episode], rule_of: RuleOf, now_ms: int, notifier: Notifier
) -> tuple[list[Episode], list[Episode]]:
    """Return the openings and the escalations to page.

    These are unsent ones, and openings after the end of their cool-down or window.
    """
    openings = [item for item in due if item.notice.notified == PENDING]
    escalations = [item for item in due if item.notice.notified != PENDING and item.notice.escalated == PENDING]
    suppressed = [item for item in due if item.state.is_open and item.notice.notified in (COOLDOWN, MAINTENANCE)]
    windows = notifier.windows.read() if suppressed else []
    for episode in suppressed:
        notice, rule = episode.notice, rule_of(episode.resource_kind)
        is_cooling = notice.notified == COOLDOWN and in_cooldown(rule, notice.reported_since_ms, now_ms)
        # Past rows may already reach beyond ``now``; a window at their newest time suppresses the page, too.
        reached_ms = max(now_ms, episode.state.last_ms or 0)
        if not is_cooling and active_window(windows, episode, reached_ms) is None:
            openings.append(episode)
    return openings, escalations


def _claimed(episode: Episode, notifier: Notifier, wall_ms: int) -> list[Episode]:
    """Claim the page about an episode; return the episode with the claim.

    The list is empty if another invocation has claimed it.
    """
    notice = episode.notice
    if notice.notified not in (COOLDOWN, MAINTENANCE):
        return [episode] if notice.claimed_ms == wall_ms or notifier.claim(episode, wall_ms) else []
    notice = notice._replace(
        notified=PENDING,
        claimed_ms=wall_ms,
        reported_since_ms=episode.since_ms,
        reported_before_ms=notice.reported_since_ms,
    )
    return [replace(episode, notice=notice)] if notifier.release(episode, notice) else []


def _waits_for_summary(episode: Episode, request: Request, notifier: Notifier) -> bool:
    """Return whether the daily summary that is due now contains an episode."""
    notice, now_ms = episode.notice, request.now_ms
    hour_ms = notifier.budget.limits.daily_summary_hour * HOUR_MS
    newest_summary = (now_ms - hour_ms) // DAY_MS * DAY_MS + hour_ms
    before = now_ms + 1 if request.daily_summary else newest_summary
    if BUDGET in (notice.notified, notice.escalated):
        return (notice.reported_ms or 0) < before
    if notice.notified == COOLDOWN:
        return episode.since_ms < before
    is_over = notice.notified == SUMMARISED and not episode.state.is_open and notice.resolved_ms is None
    return is_over and (episode.state.closed_ms or 0) < before


def _read(document: object) -> Request:
    if not isinstance(document, Mapping):
        raise TickError('tick must be {"now": epoch ms, "overdue": [...]}')
    now_ms: Any = document.get("now")
    overdue: Any = document.get("overdue")
    if type(now_ms) is not int or now_ms < 0:
        raise TickError(f"tick.now is {now_ms!r}, expected epoch milliseconds")
    if overdue is None:
        return Request(now_ms, None, document.get("digest") is True)
    if not isinstance(overdue, list):
        raise TickError("tick.overdue must be a list of [instance, service, time of the last row]")
    kinds: Any = document.get("kinds", {})
    if not isinstance(kinds, Mapping) or not all(isinstance(kind, str) for kind in kinds.values()):
        raise TickError("tick.kinds must be an object of kinds by instance")
    instances = tuple(_overdue(item, kinds) for item in overdue)
    return Request(now_ms, instances, document.get("digest") is True)


def _overdue(item: object, kinds: Mapping[str, str]) -> Overdue:
    match item:
        case [str(instance_id), str(service), int(last_ms)] if instance_id and service and last_ms >= 0:
            return Overdue(instance_id, service, last_ms, kinds.get(instance_id, ""))
    raise TickError(f"tick.overdue has {item!r}, expected [instance, service, time of the last row in epoch ms]")
