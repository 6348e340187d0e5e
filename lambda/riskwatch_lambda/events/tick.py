"""The tick: what no row brings about. It comes after each publishing of rows and says how far they reach.

It expires episodes whose instance was not heard of for a day, opens and closes silent ones, pages what was claimed and
not sent or what a cool-down or window held while the episode goes on, tells what is over, and sends the digest. All
of it is found by the index of unfinished episodes, at any age.

Two clocks: ``now`` of the request is the time that the rows have reached, which is behind the wall clock, by days in a
replay; what happens to episodes goes by it. Only whether a claim is stale goes by the wall clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from riskwatch_lambda.alerting.maintenance import covering
from riskwatch_lambda.alerting.messages import group
from riskwatch_lambda.alerting.notifier import Counts
from riskwatch_lambda.clock import DAY_MS, HOUR_MS
from riskwatch_lambda.episode_rule import EXPIRE_AFTER_MS, cooling
from riskwatch_lambda.episodes import no_data
from riskwatch_lambda.episodes.lifecycle import (
    BEHAVIOUR,
    BUDGET,
    COOLDOWN,
    DIGESTED,
    MAINTENANCE,
    PENDING,
    SENT,
    SILENT,
    Change,
    Episode,
    Stamp,
    expire,
)
from riskwatch_lambda.episodes.no_data import Overdue
from riskwatch_lambda.logs import log, metrics, sign_of_life
from riskwatch_lambda.table import ConflictError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from riskwatch_lambda.alerting.notifier import Teller
    from riskwatch_lambda.episode_rule import Rule

# Longer than a batch may take, so that a message which is just being sent is left alone.
RESEND_AFTER_MS = 5 * 60 * 1000
# Episodes that one tick pages at most, so that it ends in time; the next one goes on.
MOST_PAGED = 1000
ANSWERED = "TicksAnswered"  # the metric that the stack's alarm on silence reads


class TickError(ValueError):
    """The tick event is not understood."""


class Request(NamedTuple):
    """A tick: the time that the rows have reached, who is overdue (None: not known), and whether to digest now."""

    now_ms: int
    overdue: tuple[Overdue, ...] | None
    digest: bool


def run(document: object, rule: Rule, teller: Teller, stamp: Stamp) -> dict[str, int]:
    """Answer ``{"now": epoch ms, "overdue": [[instance, service, last row ms], ...], "digest": true}``.

    ``overdue`` and ``digest`` may be left out: then silence is not judged, and the digest comes at its hour. Gives the
    numbers of messages sent and failed, of episodes held, expired, silent and open.

    Raises TickError for another request, RegistryError when the episodes cannot be read or written.
    """
    request = _read(document)
    registry = teller.registry
    listed = registry.unfinished()
    silent = [(each.instance_id, SILENT) for each in request.overdue or ()]
    states = registry.read_keys([*(episode.key for episode in listed), *silent])
    # The state has the newest row and peak; the list those of the last message, and older episodes.
    found = {each.episode_id: _newest(each, states) for each in listed}
    changes = [*_expiring(found.values(), request.now_ms), *_silence(request, found.values(), states, rule, stamp)]
    written = [each.after for each in changes if each.after is not None and _written(teller, each)]
    found |= {each.episode_id: each for each in written}
    counts = _tell(request, found.values(), rule, teller, stamp.now_ms)
    is_open = [episode for episode in found.values() if episode.state.is_open]
    answer = {
        **counts._asdict(),
        "expired": sum(episode.kind == BEHAVIOUR for episode in written),
        "silent": sum(episode.kind == SILENT for episode in is_open),
        "open": len(is_open),
    }
    sign_of_life(stamp.now_ms, ANSWERED)
    log("INFO", "tick", **answer)
    metrics(stamp.now_ms, stamp.model_version, {"MessagesSent": counts.sent, "MessagesFailed": counts.failed}, {})
    return answer


def _newest(listed: Episode, states: Mapping[tuple[str, str], Episode]) -> Episode:
    """Give the state of a listed episode, or the listed one where another has taken its place in the state."""
    state = states.get(listed.key)
    if state is None or state.episode_id != listed.episode_id:
        return listed
    # Claims of ticks are in the list alone.
    return replace(state, notice=state.notice._replace(claimed_ms=listed.notice.claimed_ms))


def _expiring(episodes: Iterable[Episode], now_ms: int) -> list[Change]:
    return [
        expire(each, now_ms)
        for each in episodes
        if each.kind == BEHAVIOUR and each.state.is_open and now_ms - (each.state.last_ms or 0) > EXPIRE_AFTER_MS
    ]


def _silence(
    request: Request,
    episodes: Iterable[Episode],
    states: Mapping[tuple[str, str], Episode],
    rule: Rule,
    stamp: Stamp,
) -> list[Change]:
    if request.overdue is None:
        return []
    is_open = [each for each in episodes if each.kind == SILENT and each.state.is_open]
    return [
        *no_data.closing(request.overdue, is_open, request.now_ms),
        *no_data.opening(request.overdue, states, rule, request.now_ms, stamp.now_ms),
    ]


def _written(teller: Teller, change: Change) -> bool:
    try:
        teller.registry.write(change)
    except ConflictError:
        # A batch, or another tick, has just moved it.
        return False
    return True


def _tell(
    request: Request,
    episodes: Iterable[Episode],
    rule: Rule,
    teller: Teller,
    wall_ms: int,
) -> Counts:
    """Page, resolve and digest what is due, and finish what needs no word."""
    due = [each for each in episodes if _is_free(each, wall_ms)]
    openings, escalations = _pages(due, rule, request.now_ms, teller)
    counts = Counts()
    room = MOST_PAGED
    # A group is claimed when its turn comes: a tick that ends early leaves the others for the next one to take at once.
    for together in (*group(openings, rule.group_s), *group(escalations, rule.group_s)):
        if room <= 0:
            log("WARNING", "pages left for the next tick", most=MOST_PAGED, due=len(openings) + len(escalations))
            break
        ours = [mine for each in together for mine in _claimed(each, teller, wall_ms)]
        counts = counts.plus(teller.page(ours, rule.group_s, wall_ms, request.now_ms))
        room -= len(together)
    over = [each for each in due if not each.state.is_open]
    ended = [each for each in over if each.notice.notified == SENT and each.notice.resolved_ms is None]
    counts = counts.plus(teller.resolve(ended, wall_ms))
    told = {each.episode_id for each in (*openings, *escalations)}
    waiting = [each for each in due if each.episode_id not in told and _waits_for_digest(each, request, teller)]
    counts = counts.plus(teller.digest(waiting, wall_ms))
    for episode in over:
        if episode.notice.notified == MAINTENANCE or episode.notice.resolved_ms is not None:
            teller.finish(episode)
    return counts


def _is_free(episode: Episode, wall_ms: int) -> bool:
    """Tell whether nobody is just sending a message about an episode: no claim, ours of this tick, or a stale one.

    A claim of an environment whose clock is ahead is stale when it is as far in the future.
    """
    claimed = episode.notice.claimed_ms
    return claimed is None or claimed == wall_ms or abs(wall_ms - claimed) > RESEND_AFTER_MS


def _pages(due: Iterable[Episode], rule: Rule, now_ms: int, teller: Teller) -> tuple[list[Episode], list[Episode]]:
    """Give openings and escalations to page: what was not sent, and what a cool-down or window holds no longer."""
    openings = [each for each in due if each.notice.notified == PENDING]
    escalations = [each for each in due if each.notice.notified != PENDING and each.notice.escalated == PENDING]
    held = [each for each in due if each.state.is_open and each.notice.notified in (COOLDOWN, MAINTENANCE)]
    windows = teller.windows.read() if held else []
    for episode in held:
        is_cooling = episode.notice.notified == COOLDOWN and cooling(rule, episode.notice.told_since_ms, now_ms)
        # A tick after a stretch of the past comes while its rows go on: where they are now, a window may hold.
        reached_ms = max(now_ms, episode.state.last_ms or 0)
        if not is_cooling and covering(windows, episode, reached_ms) is None:
            openings.append(episode)
    return openings, escalations


def _claimed(episode: Episode, teller: Teller, wall_ms: int) -> list[Episode]:
    """Claim the page about an episode, unless this tick has it already; give it as it is then, nothing if others do."""
    notice = episode.notice
    if notice.notified not in (COOLDOWN, MAINTENANCE):
        return [episode] if notice.claimed_ms == wall_ms or teller.claim(episode, wall_ms) else []
    notice = notice._replace(
        notified=PENDING, claimed_ms=wall_ms, told_since_ms=episode.since_ms, told_before_ms=notice.told_since_ms
    )
    return [replace(episode, notice=notice)] if teller.release(episode, notice) else []


def _waits_for_digest(episode: Episode, request: Request, teller: Teller) -> bool:
    """Tell whether the digest that is due now has a line about an episode."""
    notice, now_ms = episode.notice, request.now_ms
    hour_ms = teller.budget.limits.digest_hour * HOUR_MS
    newest_digest = (now_ms - hour_ms) // DAY_MS * DAY_MS + hour_ms
    before = now_ms + 1 if request.digest else newest_digest
    if BUDGET in (notice.notified, notice.escalated):
        return (notice.told_ms or 0) < before
    if notice.notified == COOLDOWN:
        return episode.since_ms < before
    is_over = notice.notified == DIGESTED and not episode.state.is_open and notice.resolved_ms is None
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
    return Request(now_ms, tuple(map(_overdue, overdue)), document.get("digest") is True)


def _overdue(item: object) -> Overdue:
    match item:
        case [str(instance_id), str(service), int(last_ms)] if instance_id and service and last_ms >= 0:
            return Overdue(instance_id, service, last_ms)
    raise TickError(f"tick.overdue has {item!r}, expected [instance, service, time of the last row in epoch ms]")
