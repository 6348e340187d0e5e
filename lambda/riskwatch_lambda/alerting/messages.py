"""Alert messages: grouping of episodes, content, one form per protocol.

Queues, functions and plain HTTP get the JSON body; mail and SMS get text. HTTPS serves chat and paging tools: it gets
the custom notification schema of Amazon Q Developer in chat applications
(https://docs.aws.amazon.com/chatbot/latest/adminguide/custom-notifs.html), which is plain JSON for other tools.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from riskwatch_lambda.alerting import held_text
from riskwatch_lambda.alerting import text as wording
from riskwatch_lambda.episodes.episode import BEHAVIOUR
from riskwatch_lambda.episodes.no_data import ALL
from riskwatch_lambda.scoring.labelled_row import CRITICAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from riskwatch_lambda.episode_rule import RuleOf
    from riskwatch_lambda.episodes.episode import Episode

VERSION = 1
OPENED, ESCALATED, RESOLVED, DAILY_SUMMARY = "opened", "escalated", "resolved", "digest"
NEW_NORMAL = "new_normal"
FLEET = "fleet"
# SNS accepts fewer than 100 characters.
SUBJECT_LIMIT = 99
# Keeps a message readable. A page counts the remaining episodes in ``more``; ends and daily summaries use further
# messages.
EPISODE_LIMIT = 50
# Bytes of all forms together. SNS accepts 262,144 with the attributes.
SIZE_LIMIT = 255_000
CHAT_LIMIT = 4_000


class MessageContent(NamedTuple):
    """Content of one message: episodes that opened, got worse, ended, or are normal for the model now."""

    opened: tuple[Episode, ...] = ()
    escalated: tuple[Episode, ...] = ()
    resolved: tuple[Episode, ...] = ()
    new_normal: tuple[Episode, ...] = ()

    @property
    def all(self) -> tuple[Episode, ...]:
        """Return every episode once."""
        return tuple({episode.episode_id: episode for part in self for episode in part}.values())


class Message(NamedTuple):
    """One SNS message in the forms of all protocols.

    ``body`` is JSON for programs, ``text`` is for people, ``chat`` is JSON for chat and paging tools.
    """

    event: str
    service: str
    subject: str
    body: str
    text: str
    chat: str

    @property
    def forms(self) -> str:
        """Return the forms by protocol, for SNS with ``MessageStructure`` json."""
        forms = {"default": self.body, "email": self.text, "sms": self.subject, "https": self.chat}
        return json.dumps(forms)

    @property
    def attributes(self) -> dict[str, dict[str, str]]:
        """Return the message attributes that subscriptions filter by."""
        values = {"event": self.event, "service": self.service}
        if self.event in (OPENED, ESCALATED):
            values["risk"] = CRITICAL
        return {name: {"DataType": "String", "StringValue": value} for name, value in values.items()}


def group(episodes: Iterable[Episode], rule_of: RuleOf | None) -> list[list[Episode]]:
    """Group episodes of one service, of behaviour or of missing data, that opened close together.

    Instances of all kinds of resources share a group. It spans the ``group_s`` seconds of the rule of its first episode
    from its opening; without rules, there is no limit.
    """
    groups: list[list[Episode]] = []
    for episode in sorted(episodes, key=_group_order):
        first = groups[-1][0] if groups else None
        is_alike = first is not None and (first.kind, first.service) == (episode.kind, episode.service)
        # One tick detects all instances without data, although their last rows have different times.
        any_time = episode.kind != BEHAVIOUR
        if first and is_alike and (any_time or _is_close(first, episode, rule_of)):
            groups[-1].append(episode)
        else:
            groups.append([episode])
    return groups


def _is_close(first: Episode, episode: Episode, rule_of: RuleOf | None) -> bool:
    if rule_of is None:
        return True
    return episode.since_ms - first.since_ms <= rule_of(first.resource_kind).group_s * 1000


def _group_order(episode: Episode) -> tuple[str, str, int, str]:
    return episode.kind, episode.service, episode.since_ms, episode.instance_id


def compose(event: str, content: MessageContent, link: str | None, held: dict[str, int] | None = None) -> Message:
    """Return a message with the highest scores first.

    It is cut to the size that SNS accepts and people read. ``held`` has the number of held openings by reason, for a
    daily summary.
    """
    parts = MessageContent(
        *(tuple(sorted(part, key=lambda item: (-item.state.peak, item.instance_id))) for part in content)
    )
    limit = EPISODE_LIMIT
    while True:
        message = _compose(event, parts, limit, link, held or {})
        if limit == 1 or len(message.forms.encode()) <= SIZE_LIMIT:
            return message
        limit //= 2


def _compose(event: str, parts: MessageContent, limit: int, link: str | None, held: dict[str, int]) -> Message:
    shown = MessageContent(*(part[:limit] for part in parts))
    more = sum(map(len, parts)) - sum(map(len, shown))
    services = {episode.service for episode in parts.all}
    service = next(iter(services)) if len(services) == 1 and ALL not in services and event != DAILY_SUMMARY else FLEET
    address = wording.dashboard_url(link, parts.all)
    subject = _subject(event, service, parts)
    note = held_text.summary_line(held)
    lines = [*_lines(shown), *([f"- and {more} more"] if more else []), *([f"{note}."] if note else [])]
    newest = max(parts.all, key=lambda episode: episode.since_ms)
    text = "\n".join([*_title(event, service, newest), *lines, *([address] if address else [])])
    body = {
        "version": VERSION,
        "event": event,
        "service": service,
        "opened": [wording.entry(episode) for episode in shown.opened],
        "escalated": [wording.entry(episode) for episode in shown.escalated],
        "resolved": [wording.ended(episode) for episode in shown.resolved],
        "new_normal": [wording.normal_entry(episode) for episode in shown.new_normal],
        "more": more,
        **({"held": held} if event == DAILY_SUMMARY else {}),
        "model_id": newest.model_id,
        "model_version": newest.model_version,
        "link": address,
        "text": text,
    }
    return Message(
        event, service, subject, json.dumps(body), text, _chat(event, service, subject, shown, lines, address)
    )


def _chat(
    event: str, service: str, subject: str, shown: MessageContent, lines: Sequence[str], address: str | None
) -> str:
    """Return the custom notification; messages about one service share a thread."""
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


def _lines(content: MessageContent) -> list[str]:
    lines = [line for episode in content.opened for line in wording.opened_lines(episode)]
    if content.escalated:
        lines += ["Got worse:"] if content.opened else []
        lines += [line for episode in content.escalated for line in wording.opened_lines(episode)]
    if content.resolved:
        lines += ["Resolved:"] if lines else []
        lines += [wording.ended_line(episode) for episode in content.resolved]
    lines += [wording.normal_line(episode) for episode in content.new_normal]
    return lines


def _title(event: str, service: str, newest: Episode) -> list[str]:
    """Return the first line: the subject of the message, and the model that found it."""
    model = f" (model {wording.plain(newest.model_id)}, version {newest.model_version})" if newest.model_id else ""
    title = {
        OPENED: "unusual behaviour, please check" if newest.kind == BEHAVIOUR else "no data, please check",
        ESCALATED: "escalated, please check",
        RESOLVED: "resolved, no action needed",
        NEW_NORMAL: "treated as normal from now on, please check that it should be",
        DAILY_SUMMARY: "alerts that were not paged",
    }
    return [f"{wording.plain(service)}: {title[event]}{model}."]


def _subject(event: str, service: str, content: MessageContent) -> str:
    """Return a subject that SNS accepts: printable ASCII of at most 99 characters."""
    text = f"Riskwatch: {_summary(event, service, content)}"
    ascii_only = "".join(letter if " " <= letter <= "~" else "?" for letter in text)
    return ascii_only if len(ascii_only) <= SUBJECT_LIMIT else ascii_only[: SUBJECT_LIMIT - 3] + "..."


def _summary(event: str, service: str, content: MessageContent) -> str:
    """Return the content of a message in a few words."""
    if event == DAILY_SUMMARY:
        opened, escalated, resolved = map(len, (content.opened, content.escalated, content.resolved))
        new_normal = f", {len(content.new_normal)} new normal" if content.new_normal else ""
        return f"daily summary: {opened} opened, {escalated} got worse, {resolved} resolved{new_normal}"
    names = {episode.instance_id for episode in content.all}
    if ALL in names:
        return "data is arriving again" if event == RESOLVED else "no data from any instance"
    is_one = len(names) == 1
    instances = wording.plain(next(iter(names))) if is_one else f"{len(names)} instances"
    service = wording.plain(service)
    if not any(episode.kind == BEHAVIOUR for episode in content.all):
        if event == RESOLVED:
            return f"{service}: {instances} {'sends' if is_one else 'send'} data again"
        return f"{service}: no data from {instances}"
    if event == RESOLVED:
        return f"{service}: {instances} {'is' if is_one else 'are'} back to normal"
    if event == NEW_NORMAL:
        return f"{service}: {instances} {'is' if is_one else 'are'} treated as normal from now on"
    if event == ESCALATED:
        return f"{service}: {instances} got worse"
    return f"{service}: {instances} {'behaves' if is_one else 'behave'} unusually"
