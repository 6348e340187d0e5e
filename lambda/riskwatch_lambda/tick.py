"""The tick: sends messages that were claimed and not sent, and closes episodes of which nothing is heard any more.

It finds its work in two places: the stored states of the instances that it is given, and the lists of the two newest
UTC days. An episode closes through the first at any age, so the caller names every instance that may still have one,
also those that fell silent. The second finds open and waiting episodes without being told, waiting ones also where
another episode has taken their place in the state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from riskwatch_lambda.clock import DAY_MS, iso
from riskwatch_lambda.logs import log
from riskwatch_lambda.registry import ConflictError, Registry
from riskwatch_lambda.telling import tell
from riskwatch_lambda.tracking import PENDING, Episode, expire

if TYPE_CHECKING:
    from collections.abc import Iterable

    from riskwatch_lambda.episodes import Rule
    from riskwatch_lambda.sinks import Publisher

# Longer than a batch may take, so that a message which is just being sent is left alone.
RESEND_AFTER_MS = 5 * 60 * 1000
EXPIRE_AFTER_MS = DAY_MS


class TickError(ValueError):
    """The tick event is not understood."""


def run(request: object, rule: Rule, registry: Registry, publisher: Publisher, *, link: str | None) -> dict[str, int]:
    """Answer ``{"now": epoch ms, "instances": [...]}`` with the numbers of resent messages and of expired and open
    episodes; open are all that it found, whether their instance was named or not.

    Raises TickError for another request, RegistryError when the episodes cannot be read or written.
    """
    now_ms, instances = _read(request)
    days = [iso(now_ms - DAY_MS)[:10], iso(now_ms)[:10]]
    listed = [episode for day in days for episode in registry.unfinished(day)]
    # The state decides: the list has peak and newest row only as of the opening until an episode closes.
    current = registry.read([*instances, *(episode.instance_id for episode in listed)])
    expired = 0
    for instance_id, episode in current.items():
        if not episode.state.is_open or now_ms - (episode.state.last_ms or 0) <= EXPIRE_AFTER_MS:
            continue
        change = expire(episode, now_ms)
        try:
            registry.write(change)
        except ConflictError:
            # A batch has just moved it: it is alive.
            continue
        expired += 1
        if change.after is not None:
            current[instance_id] = change.after
    waiting = _waiting(listed, current.values(), now_ms)
    told = tell(waiting, rule, registry, publisher, link=link, now_ms=now_ms)
    still_open = sum(episode.state.is_open for episode in current.values())
    counts = {"resent": told.sent, "expired": expired, "open": still_open}
    log("INFO", "tick", instances=len(instances), failed=told.failed, **counts)
    return counts


def _waiting(listed: Iterable[Episode], current: Iterable[Episode], now_ms: int) -> list[Episode]:
    """Give the episodes whose message was claimed too long ago, the current ones as the state has them."""
    found = {episode.episode_id: episode for episode in (*listed, *current)}
    return [
        episode
        for episode in found.values()
        if episode.notified == PENDING and now_ms - (episode.claimed_ms or 0) > RESEND_AFTER_MS
    ]


def _read(request: object) -> tuple[int, list[str]]:
    if not isinstance(request, Mapping):
        raise TickError('tick must be {"now": epoch ms, "instances": [...]}')
    now_ms: Any = request.get("now")
    instances: Any = request.get("instances")
    if type(now_ms) is not int or now_ms < 0:
        raise TickError(f"tick.now is {now_ms!r}, expected epoch milliseconds")
    if not isinstance(instances, list) or not all(isinstance(name, str) and name for name in instances):
        raise TickError("tick.instances must be a list of instance ids")
    return now_ms, instances
