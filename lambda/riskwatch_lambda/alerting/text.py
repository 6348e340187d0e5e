"""Texts of an episode: lines for people, JSON entries for programs, escaped names.

Names come from outside. JSON entries contain them unchanged. In text, every character that a mail program or a chat
could read as markup, a mention or a link is replaced or put in parentheses: ``evil(.)example``, ``tel(:)112``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from riskwatch_lambda.clock import HOUR_MS, iso
from riskwatch_lambda.episode_rule import is_expired
from riskwatch_lambda.episodes.episode import NO_DATA
from riskwatch_lambda.episodes.no_data import ALL
from riskwatch_lambda.scoring.reasons import TOGETHER, reason_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NotRequired, TypedDict

    from riskwatch_lambda.episodes.episode import Episode
    from riskwatch_lambda.model.document import MetricChange
    from riskwatch_lambda.scoring.labelled_row import ReasonDocument

    class EpisodeEntry(TypedDict):
        """An episode in the JSON body of a message; times are ISO 8601 text in UTC.

        Under ``opened`` and ``escalated`` it has ``level``, ``reasons`` and the model, under ``resolved`` it has
        ``closed`` and ``expired``, under ``new_normal`` ``closed``, ``changes`` and the model. ``resource_kind`` is the
        kind of the instance, None if the model has one kind without a name.
        """

        episode_id: str
        kind: str
        resource_kind: str | None
        service: str
        instance_id: str
        since: str
        score: NotRequired[float]
        level: NotRequired[str]
        reasons: NotRequired[list[ReasonDocument]]
        model_id: NotRequired[str]
        model_version: NotRequired[str]
        closed: NotRequired[str]
        expired: NotRequired[bool]
        changes: NotRequired[list[MetricChange]]


HARMLESS = frozenset(" ._-:/+=,")
# Mail programs and chats make a link of these without "//". They know no scheme such as arn or eu-west-1.
_SCHEMES = (
    *("callto", "data", "facetime", "facetime-audio", "feed", "file", "ftp", "geo", "gopher", "http", "https", "im"),
    *("imap", "intent", "javascript", "ldap", "magnet", "mailto", "maps", "market", "message", "mms", "msteams"),
    *("news", "nntp", "notes", "onenote", "outlook", "sftp", "sip", "sips", "skype", "slack", "sms", "smsto", "ssh"),
    *("tel", "telnet", "tg", "urn", "vbscript", "webcal", "whatsapp", "xmpp", "zoommtg"),
)
_SCHEME_COLON = re.compile(rf"(?<![^\W_])({'|'.join(_SCHEMES)}):", re.IGNORECASE)
# A dot makes a domain if "www" stands before it, or letters alone (or an encoded label) after it, as in all top-level
# domains; and an address if a path follows the number after it. The top-level domain "internal" is that of EC2, "local"
# that of a local network; no one else can have a name in them.
_PRIVATE = r"(?:compute\.)?(?:internal|local)(?![\w/.-])"
_DOMAIN_DOT = re.compile(
    rf"(?<=www)\.|\.(?!{_PRIVATE})(?=xn--|[^\W\d_]{{2,}}(?![^\W_]|-))|(?<=\d)\.(?=\d+/)", re.IGNORECASE
)
# Path of the dashboard below the address of Airflow.
PAGE = "riskwatch/"
# A link shows the episode and an hour before and after it.
AROUND_MS = 3_600_000


def plain(name: str) -> str:
    """Return a name with letters, digits and harmless signs only.

    The result cannot form a link or a comment: a dot or colon that could make one is put in parentheses.
    """
    escaped = "".join(letter if letter.isalnum() or letter in HARMLESS else "?" for letter in name)
    return _DOMAIN_DOT.sub("(.)", _SCHEME_COLON.sub(r"\1(:)", escaped.replace("//", "/?")))


def dashboard_url(link: str | None, episodes: Sequence[Episode]) -> str | None:
    """Return the dashboard URL for some episodes, None without a link.

    The URL selects their time, and exactly the instance if all episodes belong to one.
    """
    if link is None:
        return None
    names = {episode.instance_id for episode in episodes}
    query = {"instance": names.pop(), "exact": "1"} if len(names) == 1 and ALL not in names else {"abnormal": "1"}
    query["since"] = iso(min(episode.since_ms for episode in episodes) - AROUND_MS)
    query["until"] = iso(max(_last_ms(episode) for episode in episodes) + AROUND_MS)
    return f"{link.rstrip('/')}/{PAGE}?{urlencode(query)}"


def _last_ms(episode: Episode) -> int:
    return max(episode.since_ms, episode.state.closed_ms or 0, episode.state.last_ms or 0)


def _which(episode: Episode) -> EpisodeEntry:
    return {
        "episode_id": episode.episode_id,
        "kind": episode.kind,
        "resource_kind": episode.resource_kind or None,
        "service": episode.service,
        "instance_id": episode.instance_id,
        "since": iso(episode.since_ms),
    }


def entry(episode: Episode) -> EpisodeEntry:
    """Return the JSON entry of an episode that opened or got worse."""
    return {
        **_which(episode),
        "score": round(episode.state.peak, 6),
        "level": episode.level,
        "reasons": list(episode.reasons),
        "model_id": episode.model_id,
        "model_version": episode.model_version,
    }


def ended(episode: Episode) -> EpisodeEntry:
    """Return the JSON entry of an episode that closed."""
    return {
        **_which(episode),
        "closed": iso(episode.state.closed_ms or 0),
        "expired": _expired(episode),
        "score": round(episode.state.peak, 6),
    }


def normal_entry(episode: Episode) -> EpisodeEntry:
    """Return the JSON entry of an episode that the model takes for normal."""
    return {
        **_which(episode),
        "closed": iso(episode.state.closed_ms or 0),
        "score": round(episode.state.peak, 6),
        "changes": list(episode.new_normal or ()),
        "model_id": episode.model_id,
        "model_version": episode.model_version,
    }


def opened_lines(episode: Episode) -> list[str]:
    """Return the lines about an episode that opened or got worse, with its reasons."""
    since = _minute(episode.since_ms)
    over = "" if episode.state.is_open else ", already over"
    if episode.kind == NO_DATA:
        if episode.instance_id == ALL:
            return [
                f"- no instance has sent data since {since}{over}: check CloudWatch, its agents and the exporter first"
            ]
        return [f"- {plain(episode.instance_id)}: no data since {since}{over}"]
    first = f"- {plain(episode.instance_id)} since {since}{over}, score {episode.state.peak:.2f}, load {episode.level}"
    return [first, *(f"    {line}" for line in reason_lines(episode.reasons))]


def ended_line(episode: Episode) -> str:
    """Return the line about an episode that is over."""
    since, closed = _minute(episode.since_ms), _minute(episode.state.closed_ms or 0)
    if episode.kind == NO_DATA:
        if episode.instance_id == ALL:
            return f"- no data from any instance: {since} to {closed}"
        return f"- {plain(episode.instance_id)}, no data: {since} to {closed}"
    end = _end(episode) if _expired(episode) else "back to normal"
    return f"- {plain(episode.instance_id)}, {end}: {since} to {closed}, peak {episode.state.peak:.2f}"


def normal_line(episode: Episode) -> str:
    """Return the line about an episode that the model takes for normal."""
    hours = ((episode.state.closed_ms or 0) - episode.since_ms) / HOUR_MS
    first = f"- {plain(episode.instance_id)}: unusual for {hours:.0f} h"
    if not episode.new_normal:
        return f"{first}; the model that went into service meanwhile finds it normal: check whether it is over"
    changes = "; ".join(
        f"{plain(change['feature'])} was {_amount(change['before'])}, is {_amount(change['after'])}"
        for change in episode.new_normal
    )
    return f"{first}; from now on treated as normal; {changes}"


def _amount(value: float | None) -> str:
    return "missing" if value is None else f"{value:g}"


def _expired(episode: Episode) -> bool:
    """Return whether an episode was closed by a tick rather than by a row."""
    return (episode.state.closed_ms or 0) > (episode.state.last_ms or 0)


def _end(episode: Episode) -> str:
    """Return why a tick closed an episode: it expired, or its rows were ahead of the clock."""
    last_ms, closed_ms = episode.state.last_ms, episode.state.closed_ms or 0
    has_expired = episode.since_ms <= closed_ms and is_expired(last_ms, closed_ms)
    metrics = ", ".join(map(plain, episode.state.opened_by))
    no_data = f"no data on {metrics}" if metrics else "no data"
    return f"closed, {no_data} for 24 h" if has_expired else "closed, its rows were ahead of the clock"


def reason_lines(reasons: Sequence[ReasonDocument]) -> list[str]:
    """Return the reasons of a row in words; without any, that its metrics are unusual together."""
    lines = [reason_text(plain(reason["feature"]), reason) for reason in reasons]
    return [line for line in lines if line] or [TOGETHER]


def _minute(moment_ms: int) -> str:
    return f"{iso(moment_ms)[:16].replace('T', ' ')} UTC"
