"""Send notifications at least once: suppress or claim, publish, mark as sent.

The table records a message before it is published and after it. A suppressed page is not lost: if its maintenance
window ends while the episode is open, a tick sends the page; if the daily budget is used up, the daily summary does. A
crash or a failure between claim and mark leaves the claim. Once the claim is stale, a tick sends the message again, so
a message that was published and not marked arrives twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from riskwatch_lambda.alerting.maintenance import MaintenanceWindows, active_window
from riskwatch_lambda.alerting.messages import (
    DAILY_SUMMARY,
    EPISODE_LIMIT,
    ESCALATED,
    NEW_NORMAL,
    OPENED,
    RESOLVED,
    MessageContent,
    compose,
    group,
)
from riskwatch_lambda.alerting.sinks import Publisher, SinkError
from riskwatch_lambda.episodes.episode import (
    BUDGET,
    MAINTENANCE,
    NO_DATA,
    PENDING,
    SENT,
    SUMMARISED,
    Episode,
    NotificationState,
)
from riskwatch_lambda.logs import log
from riskwatch_lambda.table import ConflictError, TableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from riskwatch_lambda.alerting.budget import Budget
    from riskwatch_lambda.alerting.messages import Message
    from riskwatch_lambda.episode_rule import RuleOf
    from riskwatch_lambda.episodes.repository import EpisodeRepository


# Peak over the paging threshold from which an episode pages beyond the fuse.
SEVERE = 2.0


class Counts(NamedTuple):
    """Numbers of messages sent and failed, and of episodes not paged.

    Episodes are not paged because of a maintenance window or the budget.
    """

    sent: int = 0
    failed: int = 0
    held: int = 0

    def plus(self, other: Counts) -> Counts:
        """Add two counts."""
        return Counts(*(left + right for left, right in zip(self, other, strict=True)))


@dataclass(frozen=True)
class Notifier:
    """Sends messages about episodes.

    ``link`` is the URL of the Airflow web server, None for no links.
    """

    repository: EpisodeRepository
    windows: MaintenanceWindows
    budget: Budget
    publisher: Publisher
    link: str | None

    def page(self, episodes: Sequence[Episode], rule_of: RuleOf, now_ms: int, reached_ms: int | None = None) -> Counts:
        """Page claimed openings and escalations, one message per group.

        Maintenance windows and the budget suppress pages. ``now_ms`` is the wall clock, ``reached_ms`` the time up to
        which rows were published, if known. A failure is logged and counted; its episodes stay claimed.
        """
        if not episodes:
            return Counts()
        try:
            windows = self.windows.read()
        except TableError as error:
            log("ERROR", "message not sent", episodes=len(episodes), reason=str(error))
            return Counts(failed=1)
        counts = Counts()
        free: list[Episode] = []
        for episode in episodes:
            # An opening released from a window keeps the window id: no window suppresses it a second time.
            is_released = episode.notice.window_id and not episode.notice.escalated
            window = None if is_released else active_window(windows, episode, _moment(episode))
            if window is None:
                free.append(episode)
            else:
                counts = counts.plus(self._hold([episode], MAINTENANCE, window.window_id))
        for event, part in ((OPENED, _openings(free)), (ESCALATED, _escalations(free))):
            for grouped in group(part, rule_of):
                counts = counts.plus(self._page(event, tuple(grouped), now_ms, reached_ms))
        return counts

    def resolve(self, episodes: Iterable[Episode], now_ms: int) -> Counts:
        """Report that paged episodes are over or normal for the model now, one message for each service and end."""
        counts = Counts()
        resolved, new_normal = _by_end(episodes)
        for event, part in ((RESOLVED, resolved), (NEW_NORMAL, new_normal)):
            for chunk in (chunk for grouped in group(part, None) for chunk in _chunks(grouped)):
                content = MessageContent()._replace(**{event: self._claimed(chunk, now_ms)})
                counts = counts.plus(self._send(event, content, now_ms))
        return counts

    def send_daily_summary(self, episodes: Iterable[Episode], now_ms: int, held: dict[str, int]) -> Counts:
        """Report the episodes that were not paged in one daily summary.

        These are episodes in cool-down or beyond the budget, and the ends of episodes in earlier ones. ``held`` has the
        number of held openings by reason.
        """
        counts = Counts()
        for part in _chunks(sorted(episodes, key=lambda item: (item.service, item.since_ms, item.instance_id))):
            claimed = self._claimed(part, now_ms)
            resolved, new_normal = _by_end(
                item for item in claimed if not item.state.is_open and item.notice.notified != SENT
            )
            content = MessageContent(
                opened=tuple(item for item in claimed if item.notice.notified not in (SENT, SUMMARISED)),
                escalated=tuple(item for item in claimed if item.notice.notified == SENT),
                resolved=resolved,
                new_normal=new_normal,
            )
            counts = counts.plus(self._send(DAILY_SUMMARY, content, now_ms, held))
        return counts

    def _page(self, event: str, episodes: tuple[Episode, ...], now_ms: int, reached_ms: int | None) -> Counts:
        first = episodes[0]
        try:
            allowed = self.budget.take(first.service, _moment(first)) or any(map(_is_severe, episodes))
        except TableError as error:
            log("ERROR", "message not sent", episodes=len(episodes), reason=str(error))
            return Counts(failed=1)
        if not allowed:
            return self._hold(episodes, BUDGET, held_ms=reached_ms)
        content = MessageContent(opened=episodes) if event == OPENED else MessageContent(escalated=episodes)
        counts = self._send(event, content, now_ms)
        if counts.failed:
            self._give_back(first)
        return counts

    def _give_back(self, first: Episode) -> None:
        """Return the page of a failed message to the budget.

        Otherwise each retry would count another page.
        """
        try:
            self.budget.give_back(first.service, _moment(first))
        except TableError as error:
            log("ERROR", "page not given back to the budget", service=first.service, reason=str(error))

    def _hold(self, episodes: Sequence[Episode], why: str, window_id: str = "", held_ms: int | None = None) -> Counts:
        """Record that a page is not sent.

        Cool-downs count sent pages only, so the instance's earlier page counts again.
        """
        for episode in episodes:
            notice = episode.notice
            if notice.escalated:
                # After a window, the episode may escalate again. Beyond the budget, the daily summary reports it.
                changed = _known(episode)._replace(escalated=BUDGET) if why == BUDGET else notice._replace(escalated="")
                self._note(episode, changed._replace(claimed_ms=None))
                continue
            changed = notice._replace(notified=why, claimed_ms=None, reported_since_ms=notice.reported_before_ms)
            if why == BUDGET:
                changed = changed._replace(reported_ms=held_ms or _moment(episode))
            self._note(episode, changed._replace(window_id=window_id or notice.window_id))
        return Counts(held=len(episodes))

    def _claimed(self, episodes: Iterable[Episode], now_ms: int) -> tuple[Episode, ...]:
        """Return the episodes that could be claimed.

        Another tick may have claimed the others.
        """
        return tuple(episode for episode in episodes if self.claim(episode, now_ms))

    def claim(self, episode: Episode, now_ms: int) -> bool:
        """Claim the due message about an episode.

        Returns False if another invocation has claimed it or the write fails; a failed write is logged.
        """
        return _tried("message not claimed", episode, lambda: self.repository.claim(episode, now_ms))

    def release(self, episode: Episode, notice: NotificationState) -> bool:
        """Claim the page about a suppressed episode.

        Returns False if another invocation has claimed it or the write fails; a failed write is logged.
        """
        return self._note(episode, notice)

    def finish(self, episode: Episode) -> None:
        """Record that a closed episode needs no further message."""
        self._note(episode, episode.notice, finished=True)

    def _send(self, event: str, content: MessageContent, now_ms: int, held: dict[str, int] | None = None) -> Counts:
        """Publish a message and mark its episodes; do nothing without an episode."""
        if not content.all:
            return Counts()
        message: Message = compose(event, content, self.link, held)
        try:
            message_id = self.publisher.send(message)
        except SinkError as error:
            log("ERROR", "message not sent", episodes=len(content.all), reason=str(error))
            return Counts(failed=1)
        ended = {episode.episode_id for episode in (*content.resolved, *content.new_normal)}
        for episode in content.all:
            has_ended = episode.episode_id in ended
            notice = _after(event, episode, now_ms)
            if has_ended:
                notice = notice._replace(resolved_ms=now_ms)
            self._note(episode, notice, finished=has_ended, message=(_KEPT_ID[event], message_id))
        return Counts(sent=1)

    def _note(
        self,
        episode: Episode,
        notice: NotificationState,
        *,
        finished: bool = False,
        message: tuple[str, str] | None = None,
    ) -> bool:
        return _tried(
            "message not marked",
            episode,
            lambda: self.repository.note(episode, notice, finished=finished, message=message),
        )


# Attribute of a list item that stores the id of the message.
_KEPT_ID = {
    OPENED: "message_id",
    ESCALATED: "escalation_id",
    RESOLVED: "resolution_id",
    NEW_NORMAL: "new_normal_id",
    DAILY_SUMMARY: "digest_id",
}


def _tried(failure: str, episode: Episode, write: Callable[[], None]) -> bool:
    try:
        write()
    except ConflictError:
        # Another invocation has written first. Its change stays.
        return False
    except TableError as error:
        log("ERROR", failure, episode_id=episode.episode_id, reason=str(error))
        return False
    return True


def _openings(episodes: Iterable[Episode]) -> list[Episode]:
    return [episode for episode in episodes if episode.notice.notified == PENDING]


def _escalations(episodes: Iterable[Episode]) -> list[Episode]:
    return [episode for episode in episodes if episode.notice.notified != PENDING]


def _by_end(episodes: Iterable[Episode]) -> tuple[tuple[Episode, ...], tuple[Episode, ...]]:
    """Return the closed episodes that are back to normal or expired, and those that are normal for the model now."""
    closed = tuple(episodes)
    resolved = tuple(episode for episode in closed if episode.new_normal is None)
    return resolved, tuple(episode for episode in closed if episode.new_normal is not None)


def _is_severe(episode: Episode) -> bool:
    """Return whether an episode is so severe that it pages beyond the fuse."""
    return episode.state.peak >= SEVERE * (episode.paging_threshold or 1.0)


def _moment(episode: Episode) -> int:
    """Return the time of the rows at which a page became due, in epoch milliseconds."""
    is_after_opening = episode.kind == NO_DATA or episode.notice.escalated or episode.notice.window_id
    return (episode.state.last_ms or 0) if is_after_opening else episode.since_ms


def _known(episode: Episode) -> NotificationState:
    """Return the notice of an episode after a report of its current severity."""
    return episode.notice._replace(
        reported_ms=episode.state.last_ms, reported_peak=episode.state.peak, reported_level=episode.level
    )


def _after(event: str, episode: Episode, now_ms: int) -> NotificationState:
    """Return the notice of an episode after a message about it."""
    notice = episode.notice._replace(claimed_ms=None, escalated="")
    if event in (RESOLVED, NEW_NORMAL) or (event == DAILY_SUMMARY and episode.notice.notified == SUMMARISED):
        return notice
    notice = _known(episode)._replace(claimed_ms=None, escalated="")
    if event == OPENED:
        return notice._replace(notified=SENT, notified_ms=now_ms)
    if event == DAILY_SUMMARY and episode.notice.notified != SENT:
        return notice._replace(notified=SUMMARISED, notified_ms=now_ms)
    return notice


def _chunks(episodes: Sequence[Episode]) -> list[Sequence[Episode]]:
    return [episodes[start : start + EPISODE_LIMIT] for start in range(0, len(episodes), EPISODE_LIMIT)]
