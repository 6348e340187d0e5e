"""Claim, publish, mark sent: an episode is written as pending before its message goes out and as sent after it.

A crash or a failure between the two leaves it pending, and every tick sends the message again until an episode is
marked: more than once, where the topic took it and the mark failed. Ticks find a pending episode on the day it opened
and the next one (UTC), and beyond that while it is the newest of an instance that they are given. A message that could
not be sent in all that time is given up: its episode stays pending in the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from riskwatch_lambda.logs import log
from riskwatch_lambda.messages import compose, group
from riskwatch_lambda.registry import Registry, RegistryError
from riskwatch_lambda.sinks import Publisher, SinkError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from riskwatch_lambda.episodes import Rule
    from riskwatch_lambda.tracking import Episode


class Told(NamedTuple):
    """How many messages went out and failed, and how many episodes the former told of."""

    sent: int
    failed: int
    episodes: int


def tell(
    episodes: Iterable[Episode], rule: Rule, registry: Registry, publisher: Publisher, *, link: str | None, now_ms: int
) -> Told:
    """Send the messages of pending episodes. A failure is logged and counted, and leaves its episodes pending."""
    sent = failed = told = 0
    for together in group(episodes, rule.group_s):
        message = compose(together, link)
        try:
            message_id = publisher.send(message)
        except SinkError as error:
            failed += 1
            log("ERROR", "message not sent", episodes=len(together), reason=str(error))
            continue
        sent += 1
        told += len(together)
        for episode in together:
            try:
                registry.mark_sent(episode, message_id, now_ms)
            except RegistryError as error:
                log("ERROR", "sent message not marked", episode_id=episode.episode_id, reason=str(error))
    return Told(sent, failed, told)
