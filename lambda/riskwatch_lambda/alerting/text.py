"""How an episode reads: lines for people, entries for programs, and names that can do no harm in either.

Names come from outside. Programs get them as they are, in JSON; in text everything is replaced that a mail program or a
chat would take for markup, a mention or a link.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from riskwatch_lambda.clock import iso
from riskwatch_lambda.episodes.lifecycle import SILENT
from riskwatch_lambda.episodes.no_data import ALL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from riskwatch_lambda.episodes.lifecycle import Episode

HARMLESS = frozenset(" ._-:/+=,")
# Of the whole deviation; what contributes less is in the body for programs, not in the text for people.
SHARE_WORTH_TELLING = 0.05
# Of the Riskwatch page below the address of Airflow.
PAGE = "riskwatch/"


def plain(name: str) -> str:
    """Give a name with letters, digits and harmless signs only; neither a link nor a comment can be made of it."""
    kept = "".join(letter if letter.isalnum() or letter in HARMLESS else "?" for letter in name)
    return kept.replace("//", "/?")


def page(link: str | None, episodes: Sequence[Episode]) -> str | None:
    """Give the address of the page that shows the rows of these episodes; of one instance only, where it is one."""
    if link is None:
        return None
    names = {episode.instance_id for episode in episodes}
    query = {"instance": names.pop()} if len(names) == 1 and ALL not in names else {"abnormal": "1"}
    return f"{link.rstrip('/')}/{PAGE}?{urlencode(query)}"


def _which(episode: Episode) -> dict[str, Any]:
    return {
        "episode_id": episode.episode_id,
        "kind": episode.kind,
        "service": episode.service,
        "instance_id": episode.instance_id,
        "since": iso(episode.since_ms),
    }


def entry(episode: Episode) -> dict[str, Any]:
    """Give an episode for programs: what opened it, or at which row it got worse."""
    return {
        **_which(episode),
        "score": round(episode.state.peak, 6),
        "level": episode.level,
        "reasons": list(episode.reasons),
        "model_id": episode.model_id,
        "model_version": episode.model_version,
    }


def ended(episode: Episode) -> dict[str, Any]:
    """Give the end of an episode for programs."""
    return {
        **_which(episode),
        "closed": iso(episode.state.closed_ms or 0),
        "expired": _expired(episode),
        "score": round(episode.state.peak, 6),
    }


def opened_lines(episode: Episode) -> list[str]:
    """Write that an episode opened, or got worse, and why, for people."""
    since = _minute(episode.since_ms)
    over = "" if episode.state.is_open else ", over by now"
    if episode.kind == SILENT:
        if episode.instance_id == ALL:
            return [
                f"- no instance at all has sent a row since {since}{over}: "
                "look at CloudWatch, its agents and the exporter first"
            ]
        return [f"- {plain(episode.instance_id)}: no rows since {since}{over}"]
    first = f"- {plain(episode.instance_id)} since {since}{over}, score {episode.state.peak:.2f}, load {episode.level}"
    told = [reason for reason in episode.reasons if reason["share"] >= SHARE_WORTH_TELLING]
    return [first, *(f"    {_reason(reason)}" for reason in told)]


def ended_line(episode: Episode) -> str:
    """Write that an episode is over, for people."""
    since, closed = _minute(episode.since_ms), _minute(episode.state.closed_ms or 0)
    if episode.kind == SILENT:
        what = (
            "rows come again" if episode.instance_id == ALL else f"{plain(episode.instance_id)} is not silent any more"
        )
        return f"- {what}: {since} to {closed}"
    how = "given up, no rows for a day" if _expired(episode) else "back to normal"
    return f"- {plain(episode.instance_id)}, {how}: {since} to {closed}, peak {episode.state.peak:.2f}"


def _expired(episode: Episode) -> bool:
    """Tell whether an episode was closed by the clock rather than by a row."""
    return (episode.state.closed_ms or 0) > (episode.state.last_ms or 0)


def _reason(reason: dict[str, Any]) -> str:
    value = "missing" if reason["value"] is None else f"{reason['value']:g}"
    name = plain(reason["feature"])
    return f"{name} {value}, expected {reason['low']:g} to {reason['high']:g} ({reason['share']:.0%})"


def _minute(moment_ms: int) -> str:
    return f"{iso(moment_ms)[:16].replace('T', ' ')} UTC"
