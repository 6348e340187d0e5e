"""The episodes in the table: reads what is stored about instances and writes changes under optimistic conditions.

Two kinds of items. The state, one an instance and kind of episode: pk ``instance#<id>``, sk ``current`` or ``silent``.
The list, one an episode: pk ``episodes#<day of since>``, sk ``<since>#<instance>`` or ``<since>~silent#<instance>``. A
list item is only ever updated in the attributes named here, so what others add to it stays. While it is open, or
something is still to be told of it, it has the attribute ``unfinished``, by which an index finds it at any age.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from riskwatch_lambda.clock import iso
from riskwatch_lambda.episode_rule import EpisodeState
from riskwatch_lambda.episodes.lifecycle import BEHAVIOUR, Change, Episode, Notice
from riskwatch_lambda.table import (
    TRANSACTION_LIMIT,
    Attributes,
    Changes,
    ConflictError,
    Table,
    Update,
    number,
    text,
    update,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

OPEN, CLOSED = "open", "closed"
UNFINISHED, YES = "unfinished", "yes"


class Registry:
    """The episodes in a table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def read(self, instance_ids: Iterable[str]) -> dict[str, Episode]:
        """Give the newest behaviour episode of each instance that has one; raises RegistryError."""
        found = self.read_keys((name, BEHAVIOUR) for name in instance_ids)
        return {instance_id: episode for (instance_id, _), episode in found.items()}

    def read_keys(self, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Episode]:
        """Give the newest episode of each pair of instance and kind that has one; raises RegistryError."""
        items = self._table.get(_state_key(*key) for key in dict.fromkeys(keys))
        return {episode.key: episode for episode in map(_episode, items)}

    def unfinished(self) -> list[Episode]:
        """Give all episodes that are open or of which something is still to be told, oldest first.

        They are as they were a moment ago, and peak and newest row are those of the last message. Raises RegistryError.
        """
        return [_episode(item) for item in self._table.find(UNFINISHED, YES, index=UNFINISHED)]

    def opened(self, day: str) -> list[Episode]:
        """Give the behaviour episodes that opened on a UTC day, ``YYYY-MM-DD``; raises RegistryError.

        Peak and newest row are those of the last message until an episode closes.
        """
        listed = map(_episode, self._table.find("pk", list_partition(day)))
        return [episode for episode in listed if episode.kind == BEHAVIOUR]

    def write(self, change: Change) -> None:
        """Write a change if the stored state is still the one it was decided on.

        The state is written last and together with the list items it belongs to. Raises ConflictError when the stored
        state has moved, RegistryError when the table cannot be written.
        """
        after = change.after
        if after is None:
            return
        state = _state_update(change.before, after)
        items = [
            update(_list_key(episode), {**_facts(episode), **_notification(episode.notice), UNFINISHED: {"S": YES}})
            for episode in change.listed
        ]
        # The last chunk leaves room for the state; the earlier ones only repeat what a second try would write again.
        room = TRANSACTION_LIMIT - 1
        chunks = [items[start : start + room] for start in range(0, len(items), room)] or [[]]
        chunks[-1].append(state)
        for chunk in chunks:
            self._table.update(*chunk)

    def claim(self, episode: Episode, now_ms: int) -> None:
        """Claim the message that is due about an episode; raises ConflictError when somebody else has it, or had."""
        notice = episode.notice
        guard: Changes = {
            "notified": {"S": notice.notified},
            "claimed_ms": number(notice.claimed_ms),
            "resolved_ms": number(notice.resolved_ms),
        }
        self._table.update(update(_list_key(episode), {"claimed_ms": number(now_ms)}, guard))

    def note(
        self, episode: Episode, notice: Notice, *, finished: bool = False, message: tuple[str, str] | None = None
    ) -> None:
        """Write who was told of an episode, in its list item and, while it is the newest, in the state.

        ``finished``: it is closed and nothing remains to be told. ``message`` names an attribute and the id of the
        message that it keeps; episodes that one message told of share it. Raises ConflictError where the list item says
        something else than ``episode``, RegistryError.
        """
        values = _notification(notice)
        listed: Changes = {**values, **({message[0]: {"S": message[1]}} if message else {})}
        guard: Changes = {"notified": {"S": episode.notice.notified}}
        if finished:
            listed[UNFINISHED] = None
            guard["status"] = {"S": CLOSED}
        of_list = update(_list_key(episode), listed, guard)
        newest: Changes = {"episode_id": {"S": episode.episode_id}}
        of_state = update(_state_key(*episode.key), values, newest, count="revision")
        try:
            self._table.update(of_list, of_state)
        except ConflictError:
            # Most likely a newer episode has taken the place in the state.
            self._table.update(of_list)


def _state_update(before: Episode | None, after: Episode) -> Update:
    values: Changes = {
        **_facts(after),
        **_notification(after.notice),
        "recent": {"S": "".join("1" if pages else "0" for pages in after.state.recent)},
    }
    guard: Changes = {"revision": number(before.revision) if before else None}
    return update(_state_key(*after.key), values, guard, count="revision")


def _state_key(instance_id: str, kind: str) -> Attributes:
    return {"pk": {"S": f"instance#{instance_id}"}, "sk": {"S": "current" if kind == BEHAVIOUR else kind}}


def list_partition(day: str) -> str:
    """Give the partition key of the episodes that began on a day (``YYYY-MM-DD``)."""
    return f"episodes#{day}"


def _list_key(episode: Episode) -> Attributes:
    since = iso(episode.since_ms)
    kind = "" if episode.kind == BEHAVIOUR else f"~{episode.kind}"
    return {"pk": {"S": list_partition(since[:10])}, "sk": {"S": f"{since}{kind}#{episode.instance_id}"}}


def _facts(episode: Episode) -> Changes:
    """Give the attributes that say what happened."""
    state = episode.state
    return {
        "instance_id": {"S": episode.instance_id},
        "service": {"S": episode.service},
        "kind": {"S": episode.kind},
        "episode_id": {"S": episode.episode_id},
        "status": {"S": OPEN if state.is_open else CLOSED},
        "since_ms": number(state.since_ms),
        "last_ms": number(state.last_ms),
        "closed_ms": number(state.closed_ms),
        "below": number(state.below),
        "peak": {"N": f"{state.peak:.6f}"},
        "level": {"S": episode.level},
        "reasons": {"S": json.dumps(episode.reasons, separators=(",", ":"))},
        "model_id": {"S": episode.model_id},
        "model_version": {"S": episode.model_version},
    }


def _notification(notice: Notice) -> Changes:
    """Give the attributes that say who was told; what does not apply is absent."""
    texts = ("notified", "told_level", "escalated", "window_id")
    return {
        **{name: {"S": value} if (value := getattr(notice, name)) else None for name in texts},
        **{name: number(getattr(notice, name)) for name in notice._fields if name.endswith("_ms")},
        "told_peak": None if notice.told_peak is None else {"N": f"{notice.told_peak:.6f}"},
    }


def _episode(item: Attributes) -> Episode:
    """Read an item of either kind."""
    state = EpisodeState(
        is_open=item["status"]["S"] == OPEN,
        since_ms=whole(item, "since_ms"),
        last_ms=whole(item, "last_ms"),
        closed_ms=whole(item, "closed_ms"),
        below=whole(item, "below") or 0,
        peak=float(item["peak"]["N"]),
        recent=tuple(flag == "1" for flag in text(item, "recent")),
    )
    notice = Notice(
        notified=text(item, "notified"),
        notified_ms=whole(item, "notified_ms"),
        claimed_ms=whole(item, "claimed_ms"),
        told_since_ms=whole(item, "told_since_ms"),
        told_before_ms=whole(item, "told_before_ms"),
        told_ms=whole(item, "told_ms"),
        told_peak=float(item["told_peak"]["N"]) if "told_peak" in item else None,
        told_level=text(item, "told_level"),
        escalated=text(item, "escalated"),
        window_id=text(item, "window_id"),
        resolved_ms=whole(item, "resolved_ms"),
    )
    return Episode(
        instance_id=item["instance_id"]["S"],
        service=item["service"]["S"],
        kind=item["kind"]["S"],
        state=state,
        level=item["level"]["S"],
        reasons=tuple(json.loads(item["reasons"]["S"])),
        model_id=item["model_id"]["S"],
        model_version=item["model_version"]["S"],
        notice=notice,
        revision=whole(item, "revision") or 0,
    )
