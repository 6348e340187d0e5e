"""Episodes in the DynamoDB table, written with optimistic locking.

An update of a list item sets only the attributes named here, so attributes of other writers stay. A list item has the
attribute ``unfinished`` while its episode is open or needs a message; an index finds it by this attribute at any age.

A damaged item is reported and costs at most its own instance. A damaged list item is left out. An instance with a
damaged state continues with its open episode of the list, else without an episode; the next change of the instance
replaces the item, under the condition that its revision is still the one that was read.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from riskwatch_lambda.clock import DAY_MS
from riskwatch_lambda.episodes import paging_settings
from riskwatch_lambda.episodes.attributes import (
    CLOSED,
    OPEN,
    facts,
    list_key,
    list_partition,
    next_revision,
    notification,
    read_listed,
    read_state,
    state_key,
)
from riskwatch_lambda.episodes.episode import BEHAVIOUR, Change, Episode, NotificationState
from riskwatch_lambda.episodes.openings import (
    HeldOpening,
    held_key,
    held_partition,
    held_values,
    memory_values,
    read_held,
)
from riskwatch_lambda.items import log_damaged, parse_item, parse_items
from riskwatch_lambda.table import EXPIRES, TRANSACTION_LIMIT, ConflictError, Table, number, update

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from riskwatch_lambda.items import Report
    from riskwatch_lambda.table import Attributes, AttributeValue, Changes, Update

UNFINISHED, YES = "unfinished", "yes"
LISTED_MS = 400 * DAY_MS  # an episode stays in the list, so that a year can be compared with the last


class States(NamedTuple):
    """The newest episodes by (instance, kind), and the paging thresholds by model id.

    The open episode of the list stands for a damaged state, and its key is in ``damaged``: the newest row of the
    episode is unknown. A model without a threshold here has that of its document.
    """

    episodes: dict[tuple[str, str], Episode]
    damaged: frozenset[tuple[str, str]]
    thresholds: Mapping[str, float] = MappingProxyType({})


class EpisodeRepository:
    """The episodes in the table; ``report`` gets each damaged item that is met."""

    def __init__(self, table: Table, report: Report = log_damaged) -> None:
        self._table = table
        self._report = report

    def read(self, instance_ids: Iterable[str]) -> dict[str, Episode]:
        """Return the newest behaviour episode of each instance that has one.

        Raises TableError.
        """
        states = self.read_states((instance_id, BEHAVIOUR) for instance_id in instance_ids)
        return {instance_id: episode for (instance_id, _), episode in states.episodes.items()}

    def read_states(self, keys: Iterable[tuple[str, str]], model_ids: Iterable[str] = ()) -> States:
        """Return the newest episode of each (instance, kind) that has one, and the paging thresholds of models.

        Raises TableError.
        """
        asked = {_primary(state_key(*key)): key for key in keys}
        models = {_primary(paging_settings.key(model_id)): model_id for model_id in model_ids}
        episodes: dict[tuple[str, str], Episode] = {}
        damaged: dict[tuple[str, str], AttributeValue | None] = {}
        thresholds: dict[str, float] = {}
        wanted = [*(state_key(*key) for key in asked.values()), *map(paging_settings.key, models.values())]
        for item in self._table.get(wanted):
            if _primary(item) in models:
                threshold = parse_item(item, paging_settings.read_threshold, self._report)
                thresholds |= {} if threshold is None else {models[_primary(item)]: threshold}
                continue
            episode = parse_item(item, read_state, self._report)
            if episode is None:
                damaged[asked[_primary(item)]] = item.get("revision")
            else:
                episodes[episode.key] = episode
        if damaged:
            still_open = {episode.key: episode for episode in self.unfinished() if episode.state.is_open}
            for (instance_id, kind), revision in damaged.items():
                episode = still_open.get((instance_id, kind)) or Episode(instance_id, "", kind)
                episodes[episode.key] = replace(episode, revision=revision)
        return States(episodes, frozenset(damaged), thresholds)

    def unfinished(self) -> list[Episode]:
        """Return all episodes that are open or need a message, oldest first.

        The index may lag by moments. Peak and newest row are those of the last message. Raises TableError.
        """
        found = self._table.find(UNFINISHED, YES, index=UNFINISHED)
        return list(parse_items(found, read_listed, self._report))

    def opened(self, day: str) -> list[Episode]:
        """Return the behaviour episodes that opened on a UTC day.

        ``day`` is ``YYYY-MM-DD``. Raises TableError. Until an episode closes, its peak and newest row are those of
        the last message.
        """
        listed = parse_items(self._table.find("pk", list_partition(day)), read_listed, self._report)
        return [episode for episode in listed if episode.kind == BEHAVIOUR]

    def held(self, day: str) -> list[HeldOpening]:
        """Return the openings of a UTC day that were held, oldest first.

        ``day`` is ``YYYY-MM-DD``. Raises TableError.
        """
        return list(parse_items(self._table.find("pk", held_partition(day)), read_held, self._report))

    def write(self, change: Change) -> None:
        """Write a change if the stored state is still the one that the change is based on.

        The state is written last, in one transaction with its list items. Raises ConflictError if another writer has
        changed the stored state, TableError if the table cannot be written.
        """
        after = change.after
        if after is None:
            return
        state = _state_update(change.before, after)
        items = [
            update(list_key(episode), {**_listed_values(episode), UNFINISHED: {"S": YES}}) for episode in change.listed
        ]
        items += [update(held_key(held), held_values(held)) for held in change.held]
        # The last chunk has room for the state. A second try writes the earlier chunks again, with equal content.
        room = TRANSACTION_LIMIT - 1
        chunks = [items[start : start + room] for start in range(0, len(items), room)] or [[]]
        chunks[-1].append(state)
        for chunk in chunks:
            self._table.update(*chunk)

    def write_listed(self, episode: Episode) -> None:
        """Write a listed episode that the state of its instance does not have, because the state was damaged or lost.

        Raises ConflictError if the listed episode is no longer open, TableError if the table cannot be written.
        """
        self._table.update(update(list_key(episode), _listed_values(episode), {"status": {"S": OPEN}}))

    def claim(self, episode: Episode, now_ms: int) -> None:
        """Claim the due message about an episode.

        Raises ConflictError if another invocation has claimed or sent it, TableError if the write fails.
        """
        notice = episode.notice
        guard: Changes = {
            "notified": {"S": notice.notified},
            "claimed_ms": number(notice.claimed_ms),
            "resolved_ms": number(notice.resolved_ms),
        }
        self._table.update(update(list_key(episode), {"claimed_ms": number(now_ms)}, guard))

    def note(
        self,
        episode: Episode,
        notice: NotificationState,
        *,
        finished: bool = False,
        message: tuple[str, str] | None = None,
    ) -> None:
        """Write the notification state of an episode.

        It goes to the list item and, if the episode is the newest of its instance, to the state item. ``finished``: the
        episode is closed and needs no further message. ``message`` is an attribute and the message id to store in it;
        all episodes of one message share the id. Raises ConflictError if the list item differs from ``episode``,
        TableError if the table cannot be written.
        """
        values = notification(notice)
        listed: Changes = {**values, **({message[0]: {"S": message[1]}} if message else {})}
        guard: Changes = {"notified": {"S": episode.notice.notified}}
        if finished:
            listed[UNFINISHED] = None
            guard["status"] = {"S": CLOSED}
        list_update = update(list_key(episode), listed, guard)
        is_newest: Changes = {"episode_id": {"S": episode.episode_id}}
        state_update = update(state_key(*episode.key), values, is_newest, count="revision")
        try:
            self._table.update(list_update, state_update)
        except ConflictError:
            # Most likely the state item holds a newer episode, or is damaged.
            self._table.update(list_update)


def _listed_values(episode: Episode) -> Changes:
    expires_s = (episode.since_ms + LISTED_MS) // 1000
    return {**facts(episode), **notification(episode.notice), EXPIRES: number(expires_s)}


def _primary(item: Attributes) -> tuple[str, str]:
    return item["pk"]["S"], item["sk"]["S"]


def _state_update(before: Episode | None, after: Episode) -> Update:
    revision = None if before is None else before.revision
    values: Changes = {
        **facts(after),
        **notification(after.notice),
        "recent": {"S": "".join("1" if pages else "0" for pages in after.state.recent)},
        "revision": number(next_revision(revision)),
        **memory_values(after.held, after.openings),
    }
    return update(state_key(*after.key), values, {"revision": revision})
