"""Attributes of the items of episodes: how an episode is written, and how it is read back.

There are two kinds of items:

- state, one per instance and kind of episode: pk ``instance#<id>``, sk ``current`` or ``silent``
- list, one per episode: pk ``episodes#<day of since>``, sk ``<since>#<instance>`` or ``<since>~silent#<instance>``

An item is read strictly: a value that no release writes could send a wrong message. Attributes that a release added
later have defaults. ``kind`` is that of the episode, ``resource_kind`` that of the instance.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from riskwatch_lambda.clock import iso
from riskwatch_lambda.episode_rule import EpisodeState
from riskwatch_lambda.episodes.episode import (
    BEHAVIOUR,
    BUDGET,
    COOLDOWN,
    MAINTENANCE,
    NO_DATA,
    PENDING,
    SENT,
    SUMMARISED,
    Episode,
    NotificationState,
)
from riskwatch_lambda.episodes.openings import read_held_state, read_openings
from riskwatch_lambda.items import DamagedItemError, choice, count, moment, optional, real, required
from riskwatch_lambda.table import number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from riskwatch_lambda.table import Attributes, AttributeValue, Changes

OPEN, CLOSED = "open", "closed"
NOTIFIED = ("", PENDING, SENT, COOLDOWN, BUDGET, MAINTENANCE, SUMMARISED)
ESCALATED = ("", PENDING, BUDGET)
# Of the counters of an item; the largest exact whole number of a float.
LARGEST_COUNT = 2**53
REVISION_DIGITS = 15

# Fields of the JSON objects of an item, and the types that messages and views can show.
_TEXT, _NUMBER, _MAYBE = (str,), (int, float), (int, float, type(None))
REASON = {
    **dict.fromkeys(("feature", "direction"), _TEXT),
    **dict.fromkeys(("low", "high", "share"), _NUMBER),
    "value": _MAYBE,
}
METRIC_CHANGE = {"feature": _TEXT, "before": _MAYBE, "after": _MAYBE}


def state_key(instance_id: str, kind: str) -> Attributes:
    """Return the key of the state item of an instance and kind of episode."""
    return {"pk": {"S": f"instance#{instance_id}"}, "sk": {"S": "current" if kind == BEHAVIOUR else kind}}


def list_partition(day: str) -> str:
    """Return the partition key of the episodes that opened on a UTC day.

    ``day`` is ``YYYY-MM-DD``.
    """
    return f"episodes#{day}"


def list_key(episode: Episode) -> Attributes:
    """Return the key of the list item of an episode."""
    since = iso(episode.since_ms)
    kind = "" if episode.kind == BEHAVIOUR else f"~{episode.kind}"
    return {"pk": {"S": list_partition(since[:10])}, "sk": {"S": f"{since}{kind}#{episode.instance_id}"}}


def facts(episode: Episode) -> Changes:
    """Return the attributes that describe the episode itself."""
    state, threshold = episode.state, episode.paging_threshold
    return {
        "instance_id": {"S": episode.instance_id},
        "service": {"S": episode.service},
        "kind": {"S": episode.kind},
        "resource_kind": {"S": episode.resource_kind} if episode.resource_kind else None,
        "episode_id": {"S": episode.episode_id},
        "status": {"S": OPEN if state.is_open else CLOSED},
        "since_ms": number(state.since_ms),
        "last_ms": number(state.last_ms),
        "closed_ms": number(state.closed_ms),
        "below": number(state.below),
        "peak": {"N": f"{state.peak:.6f}"},
        "opened_by": {"S": json.dumps(state.opened_by)} if state.opened_by else None,
        "calm": number(state.calm) if state.calm else None,
        "level": {"S": episode.level},
        "reasons": {"S": _compact(episode.reasons)},
        "model_id": {"S": episode.model_id},
        "model_version": {"S": episode.model_version},
        "new_normal": None if episode.new_normal is None else {"S": _compact(episode.new_normal)},
        "opened_ms": number(episode.opened_ms),
        "paging_threshold": None if threshold is None else {"N": f"{threshold:.4f}"},
    }


def _compact(values: object) -> str:
    return json.dumps(values, separators=(",", ":"))


def notification(notice: NotificationState) -> Changes:
    """Return the attributes of the notification state.

    None removes an attribute without a value.
    """
    texts = ("notified", "reported_level", "escalated", "window_id")
    return {
        **{_attribute(name): {"S": value} if (value := getattr(notice, name)) else None for name in texts},
        **{_attribute(name): number(getattr(notice, name)) for name in notice._fields if name.endswith("_ms")},
        "told_peak": None if notice.reported_peak is None else {"N": f"{notice.reported_peak:.6f}"},
    }


def _attribute(name: str) -> str:
    """Return the attribute of a field: what was reported is stored under the words of the first releases."""
    return name.replace("reported_", "told_")


def read_state(item: Attributes) -> Episode:
    """Return the episode of a state item; raises DamagedItemError or another ValueError if it is damaged."""
    episode = _episode(item)
    return _with_key(episode, item, state_key(*episode.key))


def read_listed(item: Attributes) -> Episode:
    """Return the episode of a list item; raises DamagedItemError or another ValueError if it is damaged."""
    episode = _episode(item)
    if episode.state.since_ms is None:
        raise DamagedItemError("since_ms is absent")
    return _with_key(episode, item, list_key(episode))


def next_revision(revision: AttributeValue | None) -> int:
    """Return the number of the write after a stored revision, which may be absent or damaged."""
    content = "" if revision is None else str(revision.get("N", ""))
    return int(content) + 1 if content.isascii() and content.isdigit() and len(content) <= REVISION_DIGITS else 1


def _with_key(episode: Episode, item: Attributes, key: Attributes) -> Episode:
    if any(item.get(name) != value for name, value in key.items()):
        raise DamagedItemError("the key is not that of its episode")
    return episode


def _episode(item: Attributes) -> Episode:
    is_open = choice(item, "status", (OPEN, CLOSED)) == OPEN
    kind = choice(item, "kind", (BEHAVIOUR, NO_DATA))
    peak = real(item, "peak")
    state = EpisodeState(
        is_open=is_open,
        since_ms=moment(item, "since_ms"),
        last_ms=moment(item, "last_ms"),
        closed_ms=moment(item, "closed_ms"),
        below=count(item, "below", LARGEST_COUNT) or 0,
        peak=_present(peak, "peak"),
        recent=tuple(flag == "1" for flag in optional(item, "recent")),
        opened_by=_names(item, "opened_by"),
        calm=count(item, "calm", LARGEST_COUNT) or 0,
    )
    if is_open and state.since_ms is None:
        raise DamagedItemError("since_ms is absent")
    return Episode(
        instance_id=required(item, "instance_id"),
        service=required(item, "service"),
        kind=kind,
        state=state,
        level=required(item, "level"),
        reasons=_documents(item, "reasons", REASON),
        model_id=required(item, "model_id"),
        model_version=required(item, "model_version"),
        new_normal=_documents(item, "new_normal", METRIC_CHANGE) if "new_normal" in item else None,
        notice=_notice(item),
        revision=item.get("revision"),
        resource_kind=optional(item, "resource_kind"),
        held=read_held_state(item),
        openings=read_openings(item),
        opened_ms=moment(item, "opened_ms"),
        paging_threshold=real(item, "paging_threshold"),
    )


def _notice(item: Attributes) -> NotificationState:
    return NotificationState(
        notified=choice(item, "notified", NOTIFIED),
        notified_ms=moment(item, "notified_ms"),
        claimed_ms=moment(item, "claimed_ms"),
        reported_since_ms=moment(item, "told_since_ms"),
        reported_before_ms=moment(item, "told_before_ms"),
        reported_ms=moment(item, "told_ms"),
        reported_peak=real(item, "told_peak"),
        reported_level=optional(item, "told_level"),
        escalated=choice(item, "escalated", ESCALATED),
        window_id=optional(item, "window_id"),
        resolved_ms=moment(item, "resolved_ms"),
    )


def _present(value: float | None, name: str) -> float:
    if value is None:
        raise DamagedItemError(f"{name} is absent")
    return value


def _names(item: Attributes, name: str) -> tuple[str, ...]:
    values = json.loads(optional(item, name) or "[]")
    if not (isinstance(values, list) and all(isinstance(value, str) for value in values)):
        raise DamagedItemError(f"{name} is no list of texts")
    return tuple(values)


def _documents(item: Attributes, name: str, fields: Mapping[str, tuple[type, ...]]) -> tuple[Any, ...]:
    """Return a list of JSON objects that have at least some fields of some types."""
    values = json.loads(required(item, name))
    if not isinstance(values, list):
        raise DamagedItemError(f"{name} is no list")
    for value in values:
        wrong = [] if isinstance(value, dict) else ["object"]
        wrong += [] if wrong else [field for field, types in fields.items() if type(value.get(field)) not in types]
        if wrong:
            raise DamagedItemError(f"{name} has an entry without a valid {wrong[0]}")
    return tuple(values)
