"""Paging rule: which openings page, and which are held.

An opening is the first row of an instance that opens an episode if the rule lets it pass. It is held if it is familiar,
in the cool-down of its signature, or below the paging threshold. A held opening pages later if it gets more severe or
lasts longer than expected. Pure functions of plain values: the inference function, backtests and the calibration of
the paging threshold apply the same rule.

Strengths are scores over the factor that the baseline of the instance has on the paging threshold. The constants were
measured on labelled incidents; `python -m bench.detection` prints their effect.
"""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING, Any, NamedTuple

from riskwatch_lambda.clock import DAY_MS, HOUR_MS
from riskwatch_lambda.episode_rule import (
    COMPLETE,
    NO_EPISODE,
    EpisodeState,
    Metrics,
    Rule,
    advance,
    is_expired,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

REMEMBERED = 32  # openings of an instance
DECIMALS = 6  # of remembered strengths: a state that was stored and read decides as one that was not
# A row is as severe as an opening if its strength is at most this factor above the peak of the opening.
AS_SEVERE = 1.25
FAMILIAR_BELOW = 1.15  # strength from which nothing is familiar
# Familiar by hour: enough days of the last week have an opening at about this time of day.
HOUR_DAYS, HOUR_SPAN_DAYS, HOUR_REACH_MS = 2, 7, 2 * HOUR_MS
# Familiar at any hour: enough of the last days have an opening, in enough parts of the UTC day.
ANY_DAYS, ANY_SPAN_DAYS, ANY_PARTS, PART_MS = 2, 3, 3, 3 * HOUR_MS
# A familiar opening pages if it lasts longer than this factor of the longest alike, and the reserve.
LONGER, RESERVE_MS = 1.5, HOUR_MS // 2
COOLDOWN_MS = 6 * HOUR_MS
# Outcome of an opening: in service, held for one of three reasons, or seen in the training rows.
PAGED, FAMILIAR, COOLING, BELOW, TRAINED = "paged", "familiar", "cooldown", "below", "trained"
OUTCOMES = (PAGED, FAMILIAR, COOLING, BELOW, TRAINED)
EXHAUSTED = "exhausted"  # the direction of the signature of an exhausted metric


class Signature(NamedTuple):
    """What opens: the main metric and its direction, which is up, down or exhausted."""

    metric: str
    direction: str


NO_SIGNATURE = Signature("", "")


class Opening(NamedTuple):
    """An opening that an instance remembers; times in epoch milliseconds.

    ``end_ms`` is None while it goes on. ``signature`` is that of the row with the ``peak``, the highest strength.
    ``passed`` is the highest strength since a row was neither familiar nor in cool-down, without exhausted rows; 0
    without such a row. An opening pages if it reaches the paging threshold.
    """

    signature: Signature
    since_ms: int
    end_ms: int | None
    peak: float
    passed: float
    outcome: str


class Familiar(NamedTuple):
    """The openings that make an opening familiar: their highest peak, the longest in milliseconds, and their days.

    ``is_by_hour``: they opened at about this time of day.
    """

    peak: float
    longest_ms: int
    days: int
    is_by_hour: bool


class Held(NamedTuple):
    """An opening that goes on and has not paged; ``state`` counts as that of an episode does."""

    state: EpisodeState
    familiar: Familiar | None = None


class InstanceState(NamedTuple):
    """State of one instance: its newest episode, the opening that is held, and what it remembers, oldest first."""

    episode: EpisodeState = NO_EPISODE
    held: Held | None = None
    openings: tuple[Opening, ...] = ()


class Row(NamedTuple):
    """A row as the rule sees it; ``ts_ms`` is epoch milliseconds.

    ``opens``: the row is unusual in a harmful direction, or exhausts a metric. Only then, ``signature`` is needed.
    """

    ts_ms: int
    score: float
    strength: float
    opens: bool
    exhausted: bool = False
    signature: Signature = NO_SIGNATURE
    metrics: Metrics = COMPLETE


class InstanceStep(NamedTuple):
    """Effect of a row: the new state, whether the row lies in an episode, and what happened.

    ``held`` is the outcome of an opening that this row begins, or that would page with it for the first time, and that
    does not page.
    """

    state: InstanceState
    alert: bool
    opened: bool = False
    closed: bool = False
    held: str = ""


NEW_INSTANCE = InstanceState()


def follow_row(state: InstanceState, row: Row, rule: Rule) -> InstanceStep:
    """Apply one row to the state of its instance; rows come in time order.

    A row that is not newer than the state changes nothing. If nothing changes, the same state object is returned.
    """
    if row.ts_ms <= _newest_ms(state):
        return InstanceStep(state, state.episode.covers(row.ts_ms))
    state = _settled(state, row.ts_ms)
    if state.held is not None:
        return _while_held(state, state.held, row, rule)
    step = advance(state.episode, row.ts_ms, row.opens, row.score, rule, row.metrics)
    if step.state is state.episode:
        return InstanceStep(state, step.alert)
    if state.episode.is_open:
        if not step.closed:
            step = step._replace(state=step.state._replace(calm=0 if _reaches(row, rule) else step.state.calm + 1))
        openings = _with_row(state.openings, row, passes=True)
        return InstanceStep(
            state._replace(episode=step.state, openings=_ended(openings, row.ts_ms) if step.closed else openings),
            step.alert,
            closed=step.closed,
        )
    if not step.opened:
        return InstanceStep(state._replace(episode=step.state), step.alert)
    return _opening(state, step.state, row, rule)


def _newest_ms(state: InstanceState) -> int:
    """Return the newest row that changed the state (epoch ms), -1 without one."""
    newest = -1 if state.episode.last_ms is None else state.episode.last_ms
    if state.held is not None:
        return max(newest, state.held.state.last_ms or -1)
    last = state.openings[-1] if state.openings else None
    if last is None or last.end_ms is None or last.outcome in (PAGED, TRAINED):
        return newest
    return max(newest, last.end_ms)


def _opening(state: InstanceState, opened: EpisodeState, row: Row, rule: Rule) -> InstanceStep:
    """Decide on the row that begins an opening."""
    familiar = None if row.exhausted else find_familiar(state.openings, row.signature, row.strength, row.ts_ms)
    reason = _reason(state.openings, row, row.ts_ms, familiar)
    outcome = _outcome(row, reason, rule)
    strength = _remembered(row)
    passed = 0.0 if reason or row.exhausted else strength
    openings = (*state.openings, Opening(row.signature, row.ts_ms, None, strength, passed, outcome))[-REMEMBERED:]
    if outcome != PAGED:
        return InstanceStep(state._replace(held=Held(opened, familiar), openings=openings), False, held=outcome)
    return InstanceStep(InstanceState(opened, None, openings), True, opened=True)


def _while_held(state: InstanceState, held: Held, row: Row, rule: Rule) -> InstanceStep:
    """Apply a new row to an opening that is held."""
    step = advance(held.state, row.ts_ms, row.opens, row.score, rule, row.metrics)
    if step.state is held.state:
        return InstanceStep(state, False)
    if step.closed:
        return InstanceStep(state._replace(held=None, openings=_ended(state.openings, row.ts_ms)), False)
    held = held._replace(state=step.state)
    if not row.opens:
        return InstanceStep(state._replace(held=held), False)
    reason = _reason(state.openings[:-1], row, held.state.since_ms or 0, held.familiar)
    outcome = _outcome(row, reason, rule)
    openings = _with_row(state.openings, row, passes=not reason)
    if outcome == PAGED:
        peak = row.score if row.score > 0 else 0.0
        episode = EpisodeState(True, row.ts_ms, row.ts_ms, None, 0, peak, (), row.metrics.decisive)
        openings = (*openings[:-1], openings[-1]._replace(outcome=PAGED))
        return InstanceStep(InstanceState(episode, None, openings), True, opened=True)
    # An opening that was below the threshold at first is held from the row on that would have paged.
    is_first = openings[-1].outcome == BELOW != outcome
    if is_first:
        openings = (*openings[:-1], openings[-1]._replace(outcome=outcome))
    return InstanceStep(state._replace(held=held, openings=openings), False, held=outcome if is_first else "")


def _reason(openings: tuple[Opening, ...], row: Row, since_ms: int, familiar: Familiar | None) -> str:
    """Return the reason for which a row of an opening must not page, whatever the threshold; empty without one."""
    if familiar is not None and not row.exhausted and not _exceeds(familiar, row, since_ms):
        return FAMILIAR
    return COOLING if is_cooling(openings, row.signature, _remembered(row), since_ms) else ""


def _outcome(row: Row, reason: str, rule: Rule) -> str:
    """Return what becomes of an opening at a row: only one that reaches the threshold is held for a reason."""
    return (reason or PAGED) if _reaches(row, rule) else BELOW


def _reaches(row: Row, rule: Rule) -> bool:
    """Return whether a row that opens reaches the paging threshold."""
    return row.opens and (row.exhausted or row.strength >= rule.paging_threshold)


def _exceeds(familiar: Familiar, row: Row, since_ms: int) -> bool:
    """Return whether a familiar opening has become more severe, or lasts longer, than those alike."""
    is_longer = row.ts_ms - since_ms > LONGER * familiar.longest_ms + RESERVE_MS
    return is_longer or row.strength >= max(FAMILIAR_BELOW, AS_SEVERE * familiar.peak)


def find_familiar(
    openings: tuple[Opening, ...], signature: Signature, strength: float, since_ms: int
) -> Familiar | None:
    """Return what makes an opening familiar, None if it is not.

    ``since_ms`` is the opening in epoch milliseconds. Alike are earlier openings with the same signature that were as
    severe. The opening is familiar if two days of the last seven have one that is alike within two hours of this time
    of day, or if two of the last three days have one, in three parts of the day. A day is counted back from now.
    """
    if strength >= FAMILIAR_BELOW:
        return None
    by_hour: dict[int, float] = {}
    at_any: dict[int, float] = {}
    parts: set[int] = set()
    longest_ms = 0
    for opening in openings:
        age = since_ms - opening.since_ms
        if age <= 0 or not _is_alike(opening, signature, strength):
            continue
        day = (age + DAY_MS // 2) // DAY_MS
        is_near = 1 <= day <= HOUR_SPAN_DAYS and _clock_distance(age) <= HOUR_REACH_MS
        if is_near:
            by_hour[day] = max(opening.peak, by_hour.get(day, 0.0))
        is_recent = age <= ANY_SPAN_DAYS * DAY_MS
        if is_recent:
            at_any[age // DAY_MS] = max(opening.peak, at_any.get(age // DAY_MS, 0.0))
            parts.add(opening.since_ms % DAY_MS // PART_MS)
        if is_near or is_recent:
            longest_ms = max(longest_ms, (opening.end_ms or opening.since_ms) - opening.since_ms)
    if len(by_hour) >= HOUR_DAYS:
        return Familiar(max(by_hour.values()), longest_ms, len(by_hour), is_by_hour=True)
    if len(at_any) >= ANY_DAYS and len(parts) >= ANY_PARTS:
        return Familiar(max(at_any.values()), longest_ms, len(at_any), is_by_hour=False)
    return None


def is_cooling(openings: tuple[Opening, ...], signature: Signature, strength: float, since_ms: int) -> bool:
    """Return whether an opening, since ``since_ms`` (epoch ms), is in the cool-down of its signature.

    It is if an opening with the same signature that was as severe ended less than six hours before, paged or not.
    """
    return any(
        opening.outcome != TRAINED
        and opening.since_ms < since_ms
        and since_ms - (opening.end_ms or opening.since_ms) <= COOLDOWN_MS
        and _is_alike(opening, signature, strength)
        for opening in openings
    )


def read_trained(documents: Iterable[Sequence[Any]]) -> tuple[Opening, ...]:
    """Return the openings of a model document: metric, direction, epoch seconds, minutes and peak each."""
    return tuple(
        Opening(Signature(metric, direction), since_s * 1000, since_s * 1000 + minutes * 60_000, peak, 0.0, TRAINED)
        for metric, direction, since_s, minutes, peak in documents
    )


def _is_alike(opening: Opening, signature: Signature, strength: float) -> bool:
    return opening.signature == signature and opening.peak * AS_SEVERE >= strength


def _clock_distance(age_ms: int) -> int:
    """Return how far two times of day are apart in milliseconds, given the time between them."""
    apart = age_ms % DAY_MS
    return min(apart, DAY_MS - apart)


def _with_row(openings: tuple[Opening, ...], row: Row, *, passes: bool) -> tuple[Opening, ...]:
    """Return the openings with a row of the one that goes on."""
    last = openings[-1] if openings else None
    if last is None or last.end_ms is not None or not row.opens:
        return openings
    strength = _remembered(row)
    if strength > last.peak:
        last = last._replace(peak=strength, signature=row.signature)
    if passes and not row.exhausted and strength > last.passed:
        last = last._replace(passed=strength)
    return (*openings[:-1], last)


def _remembered(row: Row) -> float:
    """Return the strength of a row as it is remembered; 0 for an exhausted row with too few rows before it."""
    return 0.0 if isnan(row.strength) else round(row.strength, DECIMALS)


def _ended(openings: tuple[Opening, ...], end_ms: int) -> tuple[Opening, ...]:
    last = openings[-1] if openings else None
    if last is None or last.end_ms is not None:
        return openings
    return (*openings[:-1], last._replace(end_ms=max(end_ms, last.since_ms)))


def _settled(state: InstanceState, ts_ms: int) -> InstanceState:
    """Return the state before a row: a held opening without rows for a day is over, and so is a lost one.

    An opening is lost if its episode ended without a row, or if an earlier release, which does not know of it, changed
    the state of the instance.
    """
    episode, held = state.episode, state.held
    if held is not None:
        last_ms = held.state.last_ms or 0
        if not is_expired(last_ms, ts_ms) and last_ms >= (episode.last_ms or 0):
            return state
        return state._replace(held=None, openings=_ended(state.openings, last_ms))
    if episode.is_open or not state.openings or state.openings[-1].end_ms is not None:
        return state
    # A tick ends an episode a day after its newest row; the opening was over then.
    return state._replace(openings=_ended(state.openings, episode.last_ms or 0))
