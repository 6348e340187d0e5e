"""Openings in the table: the memory of an instance, its held opening, and the list of held openings.

Memory and held opening are attributes of the state item that earlier releases neither read nor write. The list has one
item for each opening that was familiar or in cool-down: pk ``held#<day of since>``, sk ``<since>#<instance>``. An
opening below the paging threshold is remembered only.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from riskwatch_lambda.clock import DAY_MS, iso
from riskwatch_lambda.episode_rule import EpisodeState
from riskwatch_lambda.items import LATEST_MS, DamagedItemError, choice, count, moment, optional, real, required
from riskwatch_lambda.paging_rule import COOLING, FAMILIAR, OUTCOMES, PAGED, Familiar, Held, Opening, Signature
from riskwatch_lambda.table import EXPIRES, number

if TYPE_CHECKING:
    from riskwatch_lambda.table import Attributes, Changes

KEPT_MS = 30 * DAY_MS
LISTED = (FAMILIAR, COOLING, PAGED)
MOST_DAYS = 100


class HeldOpening(NamedTuple):
    """An opening that was held, as the list has it; the outcome is paged if it paged later.

    ``days`` is the number of days with openings that make it familiar, ``is_by_hour``: at about this time of day.
    """

    instance_id: str
    service: str
    resource_kind: str
    opening: Opening
    paging_threshold: float
    days: int = 0
    is_by_hour: bool = False


def held_partition(day: str) -> str:
    """Return the partition key of the openings of a UTC day that were held; ``day`` is ``YYYY-MM-DD``."""
    return f"held#{day}"


def held_key(held: HeldOpening) -> Attributes:
    """Return the key of the list item of a held opening."""
    since = iso(held.opening.since_ms)
    return {"pk": {"S": held_partition(since[:10])}, "sk": {"S": f"{since}#{held.instance_id}"}}


def held_values(held: HeldOpening) -> Changes:
    """Return the attributes of the list item of a held opening."""
    opening = held.opening
    return {
        "instance_id": {"S": held.instance_id},
        "service": {"S": held.service},
        "resource_kind": {"S": held.resource_kind} if held.resource_kind else None,
        "outcome": {"S": opening.outcome},
        "metric": {"S": opening.signature.metric},
        "direction": {"S": opening.signature.direction},
        "since_ms": number(opening.since_ms),
        "end_ms": number(opening.end_ms),
        "peak": {"N": f"{opening.peak:.6f}"},
        "paging_threshold": {"N": f"{held.paging_threshold:.4f}"},
        "days": number(held.days),
        "by_hour": {"S": "yes"} if held.is_by_hour else None,
        EXPIRES: number((opening.since_ms + KEPT_MS) // 1000),
    }


def read_held(item: Attributes) -> HeldOpening:
    """Return a held opening of the list; raises DamagedItemError or another ValueError if the item is damaged."""
    since_ms, peak, threshold = moment(item, "since_ms"), real(item, "peak"), real(item, "paging_threshold")
    if since_ms is None or peak is None or threshold is None:
        raise DamagedItemError("since_ms, peak or paging_threshold is absent")
    signature = Signature(required(item, "metric"), required(item, "direction"))
    outcome = choice(item, "outcome", LISTED)
    return HeldOpening(
        instance_id=required(item, "instance_id"),
        service=required(item, "service"),
        resource_kind=optional(item, "resource_kind"),
        opening=Opening(signature, since_ms, moment(item, "end_ms"), peak, 0.0, outcome),
        paging_threshold=threshold,
        days=count(item, "days", MOST_DAYS) or 0,
        is_by_hour=optional(item, "by_hour") == "yes",
    )


def memory_values(held: Held | None, openings: tuple[Opening, ...] | None) -> Changes:
    """Return the attributes of a state item that hold the memory and the held opening."""
    return {
        "openings": None if openings is None else {"S": _compact([opening_row(opening) for opening in openings])},
        "held": None if held is None else {"S": _compact(_held_row(held))},
    }


def read_openings(item: Attributes) -> tuple[Opening, ...] | None:
    """Return the memory of a state item, None if it has none; raises DamagedItemError or another ValueError."""
    text = optional(item, "openings")
    return tuple(read_opening(row) for row in json.loads(text)) if text else None


def read_held_state(item: Attributes) -> Held | None:
    """Return the held opening of a state item, None if it has none; raises DamagedItemError or another ValueError."""
    text = optional(item, "held")
    if not text:
        return None
    # The rule continues the last opening of the memory.
    if not read_openings(item):
        raise DamagedItemError("held is there without openings")
    since_ms, last_ms, below, opened_by, familiar = json.loads(text)
    state = EpisodeState(True, _whole(since_ms), _whole(last_ms), None, _whole(below), opened_by=tuple(opened_by))
    if familiar is None:
        return Held(state)
    top, longest_ms, days, is_by_hour = familiar
    return Held(state, Familiar(float(top), _whole(longest_ms), _whole(days), is_by_hour is True))


def opening_row(opening: Opening) -> list[object]:
    """Return an opening as a JSON list."""
    signature, since_ms, end_ms, peak, passed, outcome = opening
    return [*signature, since_ms, end_ms, peak, passed, outcome]


def read_opening(row: Any) -> Opening:
    """Return the opening of a JSON list; raises DamagedItemError or another ValueError."""
    metric, direction, since_ms, end_ms, peak, passed, outcome = row
    if not (isinstance(metric, str) and isinstance(direction, str) and outcome in OUTCOMES):
        raise DamagedItemError("openings has an entry without a valid signature or outcome")
    end_ms = None if end_ms is None else _whole(end_ms)
    return Opening(Signature(metric, direction), _whole(since_ms), end_ms, float(peak), float(passed), outcome)


def _held_row(held: Held) -> list[object]:
    state, familiar = held
    return [state.since_ms, state.last_ms, state.below, state.opened_by, familiar]


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= LATEST_MS:
        raise DamagedItemError(f"openings or held has {value!r:.40}, expected a whole number")
    return value


def _compact(values: object) -> str:
    return json.dumps(values, separators=(",", ":"))
