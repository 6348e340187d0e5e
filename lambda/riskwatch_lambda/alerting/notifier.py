"""The teller: hold or claim, publish, mark. What a message is to tell is written before it goes out, and after it.

A page that a maintenance window or the daily budget holds is not lost: the tick tells it when the window ends while the
episode is open, or in the digest. A crash or a failure between claim and mark leaves the claim, and a tick sends the
message again once the claim is stale: twice at most, where the topic took it and the mark failed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from riskwatch_lambda.alerting.maintenance import Windows, covering
from riskwatch_lambda.alerting.messages import DIGEST, EPISODE_LIMIT, ESCALATED, OPENED, RESOLVED, Told, compose, group
from riskwatch_lambda.alerting.sinks import Publisher, SinkError
from riskwatch_lambda.episodes.lifecycle import BUDGET, DIGESTED, MAINTENANCE, PENDING, SENT, SILENT, Episode, Notice
from riskwatch_lambda.logs import log
from riskwatch_lambda.table import ConflictError, RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from riskwatch_lambda.alerting.budget import Budget
    from riskwatch_lambda.alerting.messages import Message
    from riskwatch_lambda.episodes.repository import Registry


class Counts(NamedTuple):
    """How many messages went out and failed, and how many episodes were held back."""

    sent: int = 0
    failed: int = 0
    held: int = 0

    def plus(self, other: Counts) -> Counts:
        """Add two counts."""
        return Counts(*(one + another for one, another in zip(self, other, strict=True)))


@dataclass(frozen=True)
class Teller:
    """Tells people about episodes; ``link`` is the address of Airflow's web server, None for no links."""

    registry: Registry
    windows: Windows
    budget: Budget
    publisher: Publisher
    link: str | None

    def page(self, episodes: Sequence[Episode], group_s: int, now_ms: int, reached_ms: int | None = None) -> Counts:
        """Page claimed openings and escalations, one message for what belongs together, or hold them.

        ``now_ms`` is the wall clock, ``reached_ms`` the time that the rows have reached, where it is known. A failure
        is logged and counted, and leaves its episodes claimed.
        """
        if not episodes:
            return Counts()
        try:
            windows = self.windows.read()
        except RegistryError as error:
            log("ERROR", "message not sent", episodes=len(episodes), reason=str(error))
            return Counts(failed=1)
        counts = Counts()
        free: list[Episode] = []
        for episode in episodes:
            # An opening that was released from a window has its id: it is not asked again.
            is_released = episode.notice.window_id and not episode.notice.escalated
            window = None if is_released else covering(windows, episode, _moment(episode))
            if window is None:
                free.append(episode)
            else:
                counts = counts.plus(self._hold([episode], MAINTENANCE, window.window_id))
        for event, part in ((OPENED, _openings(free)), (ESCALATED, _escalations(free))):
            for together in group(part, group_s):
                counts = counts.plus(self._page(event, tuple(together), now_ms, reached_ms))
        return counts

    def resolve(self, episodes: Iterable[Episode], now_ms: int) -> Counts:
        """Tell that paged episodes are over, one message for each service."""
        counts = Counts()
        for together in group(episodes, None):
            for part in _chunks(together):
                told = Told(resolved=self._claimed(part, now_ms))
                counts = counts.plus(self._send(RESOLVED, told, now_ms))
        return counts

    def digest(self, episodes: Iterable[Episode], now_ms: int) -> Counts:
        """Tell what was held by cool-down or budget, and the ends of what digests told, in lines of one message."""
        counts = Counts()
        for part in _chunks(sorted(episodes, key=lambda each: (each.service, each.since_ms, each.instance_id))):
            mine = self._claimed(part, now_ms)
            told = Told(
                opened=tuple(each for each in mine if each.notice.notified not in (SENT, DIGESTED)),
                escalated=tuple(each for each in mine if each.notice.notified == SENT),
                resolved=tuple(each for each in mine if not each.state.is_open and each.notice.notified != SENT),
            )
            counts = counts.plus(self._send(DIGEST, told, now_ms))
        return counts

    def _page(self, event: str, episodes: tuple[Episode, ...], now_ms: int, reached_ms: int | None) -> Counts:
        first = episodes[0]
        try:
            allowed = self.budget.take(first.service, _moment(first))
        except RegistryError as error:
            log("ERROR", "message not sent", episodes=len(episodes), reason=str(error))
            return Counts(failed=1)
        if not allowed:
            return self._hold(episodes, BUDGET, held_ms=reached_ms)
        told = Told(opened=episodes) if event == OPENED else Told(escalated=episodes)
        counts = self._send(event, told, now_ms)
        if counts.failed:
            self._give_back(first)
        return counts

    def _give_back(self, first: Episode) -> None:
        """Return the page that a failed message took: while the topic is down, each retry would take another."""
        try:
            self.budget.give_back(first.service, _moment(first))
        except RegistryError as error:
            log("ERROR", "page not given back to the budget", service=first.service, reason=str(error))

    def _hold(self, episodes: Sequence[Episode], why: str, window_id: str = "", held_ms: int | None = None) -> Counts:
        """Write that a page does not go out. The cool-down counts what was sent, so it is as it was before."""
        for episode in episodes:
            notice = episode.notice
            if notice.escalated:
                # After a window it may become worse again; beyond the budget a digest tells it.
                held = _known(episode)._replace(escalated=BUDGET) if why == BUDGET else notice._replace(escalated="")
                self._note(episode, held._replace(claimed_ms=None))
                continue
            held = notice._replace(notified=why, claimed_ms=None, told_since_ms=notice.told_before_ms)
            if why == BUDGET:
                held = held._replace(told_ms=held_ms or _moment(episode))
            self._note(episode, held._replace(window_id=window_id or notice.window_id))
        return Counts(held=len(episodes))

    def _claimed(self, episodes: Iterable[Episode], now_ms: int) -> tuple[Episode, ...]:
        """Give the episodes whose message is ours to send: another tick may be at work."""
        return tuple(each for each in episodes if self.claim(each, now_ms))

    def claim(self, episode: Episode, now_ms: int) -> bool:
        """Claim the message that is due about an episode; False, and logged, where that is not possible."""
        return _tried("message not claimed", episode, lambda: self.registry.claim(episode, now_ms))

    def release(self, episode: Episode, notice: Notice) -> bool:
        """Claim the page about an episode that was held; False, and logged, where that is not possible."""
        return self._note(episode, notice)

    def finish(self, episode: Episode) -> None:
        """Write that nothing remains to be told of a closed episode."""
        self._note(episode, episode.notice, finished=True)

    def _send(self, event: str, told: Told, now_ms: int) -> Counts:
        if not told.all:
            return Counts()
        message: Message = compose(event, told, self.link)
        try:
            message_id = self.publisher.send(message)
        except SinkError as error:
            log("ERROR", "message not sent", episodes=len(told.all), reason=str(error))
            return Counts(failed=1)
        resolved = {episode.episode_id for episode in told.resolved}
        for episode in told.all:
            is_resolved = episode.episode_id in resolved
            notice = _after(event, episode, now_ms)
            if is_resolved:
                notice = notice._replace(resolved_ms=now_ms)
            self._note(episode, notice, finished=is_resolved, message=(_KEPT_ID[event], message_id))
        return Counts(sent=1)

    def _note(
        self, episode: Episode, notice: Notice, *, finished: bool = False, message: tuple[str, str] | None = None
    ) -> bool:
        return _tried(
            "message not marked",
            episode,
            lambda: self.registry.note(episode, notice, finished=finished, message=message),
        )


# The attribute of a list item that keeps the id of the message.
_KEPT_ID = {
    OPENED: "message_id",
    ESCALATED: "escalation_id",
    RESOLVED: "resolution_id",
    DIGEST: "digest_id",
}


def _tried(failure: str, episode: Episode, write: Callable[[], None]) -> bool:
    try:
        write()
    except ConflictError:
        # Another invocation was faster: what it did stands.
        return False
    except RegistryError as error:
        log("ERROR", failure, episode_id=episode.episode_id, reason=str(error))
        return False
    return True


def _openings(episodes: Iterable[Episode]) -> list[Episode]:
    return [each for each in episodes if each.notice.notified == PENDING]


def _escalations(episodes: Iterable[Episode]) -> list[Episode]:
    return [each for each in episodes if each.notice.notified != PENDING]


def _moment(episode: Episode) -> int:
    """Give the time in the life of the fleet at which a page is due, in epoch milliseconds."""
    late = episode.kind == SILENT or episode.notice.escalated or episode.notice.window_id
    return (episode.state.last_ms or 0) if late else episode.since_ms


def _known(episode: Episode) -> Notice:
    """Give the notice of an episode that people know as it is now."""
    return episode.notice._replace(
        told_ms=episode.state.last_ms, told_peak=episode.state.peak, told_level=episode.level
    )


def _after(event: str, episode: Episode, now_ms: int) -> Notice:
    """Give the notice of an episode after a message about it."""
    notice = episode.notice._replace(claimed_ms=None, escalated="")
    if event == RESOLVED or (event == DIGEST and episode.notice.notified == DIGESTED):
        return notice
    notice = _known(episode)._replace(claimed_ms=None, escalated="")
    if event == OPENED:
        return notice._replace(notified=SENT, notified_ms=now_ms)
    if event == DIGEST and episode.notice.notified != SENT:
        return notice._replace(notified=DIGESTED, notified_ms=now_ms)
    return notice


def _chunks(episodes: Sequence[Episode]) -> list[Sequence[Episode]]:
    return [episodes[start : start + EPISODE_LIMIT] for start in range(0, len(episodes), EPISODE_LIMIT)]
