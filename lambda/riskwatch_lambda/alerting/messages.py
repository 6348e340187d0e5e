"""The messages: which episodes share one, and the forms in which each kind of subscriber gets it.

Queues, functions and plain HTTP get the JSON body; mail and SMS text; HTTPS, which chat and paging tools use, the
schema of custom notifications of Amazon Q Developer in chat applications
(https://docs.aws.amazon.com/chatbot/latest/adminguide/custom-notifs.html), which others read as the JSON that it is.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from riskwatch_lambda.alerting import text as wording
from riskwatch_lambda.episodes.lifecycle import BEHAVIOUR
from riskwatch_lambda.episodes.no_data import ALL
from riskwatch_lambda.scoring.labelled_row import CRITICAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from riskwatch_lambda.episodes.lifecycle import Episode

VERSION = 1
OPENED, ESCALATED, RESOLVED, DIGEST = "opened", "escalated", "resolved", "digest"
FLEET = "fleet"
# SNS documents less than 100 characters.
SUBJECT_LIMIT = 99
# Keeps a message readable; of a page the rest is counted in ``more``, ends and digests go on in another message.
EPISODE_LIMIT = 50
# Of 262,144 bytes that SNS takes, all forms together; the rest is for the attributes.
SIZE_LIMIT = 255_000
CHAT_LIMIT = 4_000


class Told(NamedTuple):
    """What one message tells: episodes that opened or got worse, and episodes that ended."""

    opened: tuple[Episode, ...] = ()
    escalated: tuple[Episode, ...] = ()
    resolved: tuple[Episode, ...] = ()

    @property
    def all(self) -> tuple[Episode, ...]:
        """Give each episode once."""
        return tuple({each.episode_id: each for part in self for each in part}.values())


class Message(NamedTuple):
    """One message for SNS. ``body`` is JSON, ``text`` for people, ``chat`` JSON for chat and paging tools."""

    event: str
    service: str
    subject: str
    body: str
    text: str
    chat: str

    @property
    def forms(self) -> str:
        """Give the forms by protocol, as SNS takes them with ``MessageStructure`` json."""
        forms = {"default": self.body, "email": self.text, "sms": self.subject, "https": self.chat}
        return json.dumps(forms)

    @property
    def attributes(self) -> dict[str, dict[str, str]]:
        """Give the message attributes, on which subscriptions filter."""
        values = {"event": self.event, "service": self.service}
        if self.event in (OPENED, ESCALATED):
            values["risk"] = CRITICAL
        return {name: {"DataType": "String", "StringValue": value} for name, value in values.items()}


def group(episodes: Iterable[Episode], group_s: int | None) -> list[list[Episode]]:
    """Put episodes of one service and kind together that opened within ``group_s`` seconds of the first, or all."""
    groups: list[list[Episode]] = []
    for episode in sorted(episodes, key=lambda each: (each.kind, each.service, each.since_ms, each.instance_id)):
        first = groups[-1][0] if groups else None
        together = first is not None and (first.kind, first.service) == (episode.kind, episode.service)
        # Silence is found at once, whenever each of the instances was last heard of.
        any_time = group_s is None or episode.kind != BEHAVIOUR
        if first and together and (any_time or episode.since_ms - first.since_ms <= (group_s or 0) * 1000):
            groups[-1].append(episode)
        else:
            groups.append([episode])
    return groups


def compose(event: str, told: Told, link: str | None) -> Message:
    """Write a message; of a page the highest scores come first. It is cut to what SNS takes and people read."""
    parts = Told(*(tuple(sorted(part, key=lambda each: (-each.state.peak, each.instance_id))) for part in told))
    limit = EPISODE_LIMIT
    while True:
        message = _compose(event, parts, limit, link)
        if limit == 1 or len(message.forms.encode()) <= SIZE_LIMIT:
            return message
        limit //= 2


def _compose(event: str, parts: Told, limit: int, link: str | None) -> Message:
    shown = Told(*(part[:limit] for part in parts))
    more = sum(map(len, parts)) - sum(map(len, shown))
    services = {episode.service for episode in parts.all}
    service = next(iter(services)) if len(services) == 1 and ALL not in services and event != DIGEST else FLEET
    address = wording.page(link, parts.all)
    subject = _subject(event, service, parts)
    lines = [*_lines(shown), *([f"- and {more} more"] if more else [])]
    newest = max(parts.all, key=lambda episode: episode.since_ms)
    text = "\n".join([*_title(event, service, newest), *lines, *([address] if address else [])])
    body = {
        "version": VERSION,
        "event": event,
        "service": service,
        "opened": [wording.entry(episode) for episode in shown.opened],
        "escalated": [wording.entry(episode) for episode in shown.escalated],
        "resolved": [wording.ended(episode) for episode in shown.resolved],
        "more": more,
        "model_id": newest.model_id,
        "model_version": newest.model_version,
        "link": address,
        "text": text,
    }
    return Message(
        event, service, subject, json.dumps(body), text, _chat(event, service, subject, shown, lines, address)
    )


def _chat(event: str, service: str, subject: str, shown: Told, lines: Sequence[str], address: str | None) -> str:
    """Write the custom notification; messages about one service share a thread."""
    text = "\n".join(lines)
    document: dict[str, Any] = {
        "version": "1.0",
        "source": "custom",
        "content": {
            "textType": "client-markdown",
            "title": subject,
            "description": text if len(text) <= CHAT_LIMIT else f"{text[: CHAT_LIMIT - 3]}...",
            **({"nextSteps": [address]} if address else {}),
        },
        "metadata": {
            "threadId": f"riskwatch-{wording.plain(service)}",
            "summary": subject,
            "eventType": f"riskwatch-{event}",
            "relatedResources": [wording.plain(episode.instance_id) for episode in shown.all],
            "additionalContext": {"event": event, "service": wording.plain(service)},
        },
    }
    return json.dumps(document)


def _lines(told: Told) -> list[str]:
    lines = [line for episode in told.opened for line in wording.opened_lines(episode)]
    if told.escalated:
        lines += ["Got worse:"] if told.opened else []
        lines += [line for episode in told.escalated for line in wording.opened_lines(episode)]
    if told.resolved:
        lines += ["Over:"] if lines else []
        lines += [wording.ended_line(episode) for episode in told.resolved]
    return lines


def _title(event: str, service: str, newest: Episode) -> list[str]:
    """Write the first line: what the message is about, and the model that says so."""
    model = f" (model {wording.plain(newest.model_id)}, version {newest.model_version})" if newest.model_id else ""
    what = {
        OPENED: "unusual behaviour, have a look" if newest.kind == BEHAVIOUR else "no rows, have a look",
        ESCALATED: "it got markedly worse, have a look",
        RESOLVED: "over, nothing to do",
        DIGEST: "told here instead of paged",
    }
    return [f"{wording.plain(service)}: {what[event]}{model}."]


def _subject(event: str, service: str, told: Told) -> str:
    """Give a subject that SNS accepts: printable ASCII of at most 99 characters."""
    names = {episode.instance_id for episode in told.all}
    one = len(names) == 1
    who = wording.plain(next(iter(names))) if one else f"{len(names)} instances"
    service = wording.plain(service)
    unheard = not any(episode.kind == BEHAVIOUR for episode in told.all)
    if event == DIGEST:
        text = f"digest: {len(told.opened)} opened, {len(told.escalated)} got worse, {len(told.resolved)} over"
    elif ALL in names:
        text = "rows come again" if event == RESOLVED else "no rows from any instance"
    elif event == RESOLVED:
        verb = ("reports" if one else "report") if unheard else ("is" if one else "are")
        text = f"{service}: {who} {verb} {'again' if unheard else 'back to normal'}"
    elif event == ESCALATED:
        text = f"{service}: {who} got worse"
    elif unheard:
        text = f"{service}: {who} {'is' if one else 'are'} silent"
    else:
        text = f"{service}: {who} {'behaves' if one else 'behave'} unusually"
    text = f"Riskwatch: {text}"
    ascii_only = "".join(letter if " " <= letter <= "~" else "?" for letter in text)
    return ascii_only if len(ascii_only) <= SUBJECT_LIMIT else ascii_only[: SUBJECT_LIMIT - 3] + "..."
