"""The alert message: which episodes share one, and how it reads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from riskwatch_lambda.clock import iso
from riskwatch_lambda.rows import CRITICAL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from riskwatch_lambda.tracking import Episode

VERSION = 1
SUBJECT_LIMIT = 100
# Keeps a message far below 256 KiB and readable; the rest is counted in ``more``.
EPISODE_LIMIT = 50
# Of the whole deviation; what contributes less is in the body for programs, not in the text for people.
SHARE_WORTH_TELLING = 0.05


class Message(NamedTuple):
    """One message for SNS and the episodes that it tells of."""

    subject: str
    body: str
    service: str
    episodes: tuple[Episode, ...]

    @property
    def attributes(self) -> dict[str, dict[str, str]]:
        """Give the message attributes, on which subscriptions filter."""
        values = {"service": self.service, "risk": CRITICAL}
        return {name: {"DataType": "String", "StringValue": value} for name, value in values.items()}


def group(episodes: Iterable[Episode], group_s: int) -> list[list[Episode]]:
    """Put episodes of one service together that opened within ``group_s`` seconds of the first, in time order."""
    groups: list[list[Episode]] = []
    for episode in sorted(episodes, key=lambda each: (each.service, each.state.since_ms or 0, each.instance_id)):
        first = groups[-1][0] if groups else None
        if first is not None and first.service == episode.service and _since(episode) - _since(first) <= group_s * 1000:
            groups[-1].append(episode)
        else:
            groups.append([episode])
    return groups


def compose(episodes: Iterable[Episode], link: str | None) -> Message:
    """Write the message about a group of episodes of one service, the highest score first."""
    ranked = sorted(episodes, key=lambda episode: (-episode.state.peak, episode.instance_id))
    told, first = ranked[:EPISODE_LIMIT], ranked[0]
    more = len(ranked) - len(told)
    body = {
        "version": VERSION,
        "service": first.service,
        "opened": [_opened(episode) for episode in told],
        "more": more,
        "model_id": first.model_id,
        "model_version": first.model_version,
        "link": link,
        "text": _text(told, more, link),
    }
    return Message(_subject(ranked), json.dumps(body, ensure_ascii=False), first.service, tuple(ranked))


def _opened(episode: Episode) -> dict[str, Any]:
    return {
        "episode_id": episode.episode_id,
        "instance_id": episode.instance_id,
        "since": iso(_since(episode)),
        "score": round(episode.state.peak, 6),
        "level": episode.level,
        "reasons": list(episode.reasons),
    }


def _subject(episodes: list[Episode]) -> str:
    """Give a subject that SNS accepts: printable ASCII of at most 100 characters."""
    count = len({episode.instance_id for episode in episodes})
    who = episodes[0].instance_id if count == 1 else f"{count} instances"
    verb = "behaves" if count == 1 else "behave"
    text = f"Riskwatch: {episodes[0].service}: {who} {verb} unusually"
    plain = "".join(letter if " " <= letter <= "~" else "?" for letter in text)
    return plain if len(plain) <= SUBJECT_LIMIT else plain[: SUBJECT_LIMIT - 3] + "..."


def _text(episodes: list[Episode], more: int, link: str | None) -> str:
    lines = [f"{episodes[0].service}: unusual behaviour, have a look."]
    for episode in episodes:
        since = iso(_since(episode))[:16].replace("T", " ")
        ended = "" if episode.state.is_open else ", over by now"
        lines.append(
            f"- {episode.instance_id} since {since} UTC{ended}, score {episode.state.peak:.2f}, load {episode.level}"
        )
        lines.extend(f"    {_reason(reason)}" for reason in episode.reasons if reason["share"] >= SHARE_WORTH_TELLING)
    if more:
        lines.append(f"- and {more} more")
    if link:
        lines.append(link)
    return "\n".join(lines)


def _reason(reason: dict[str, Any]) -> str:
    value = "missing" if reason["value"] is None else f"{reason['value']:g}"
    return f"{reason['feature']} {value}, expected {reason['low']:g} to {reason['high']:g} ({reason['share']:.0%})"


def _since(episode: Episode) -> int:
    return episode.state.since_ms or 0
