"""The episode rule: when an instance needs a look, from which row until which row, and whether a message may go out.

Plain values in, plain values out: the function advances stored states by one row at a time, and backtests and the
calibration of the paging threshold replay the very same rule over history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from riskwatch_lambda.clock import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# How many times what was told of an open episode is markedly worse, and the level that is so at once.
ESCALATION = 2.0
BUSIEST = "High Load"
EXPIRE_AFTER_MS = DAY_MS  # an open episode whose instance is not heard of for longer is over


class RuleError(ValueError):
    """The rule of a model cannot be applied."""


class Rule(NamedTuple):
    """When episodes open and close, and how often they are told.

    Open when ``m`` of the last ``n`` rows page; close at the ``close_rows``-th quiet row in a row. ``paging_threshold``
    is a score; ``cooldown_s`` and ``group_s`` are seconds.
    """

    m: int = 1
    n: int = 1
    close_rows: int = 2
    paging_threshold: float = 1.0
    cooldown_s: int = 3600
    group_s: int = 900

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Rule:
        """Make a rule from a model document's ``rule``; raises RuleError when a value is absent or makes no sense."""
        wrong = sorted(set(document) ^ set(cls._fields))
        if wrong:
            raise RuleError(f"rule must have the keys {', '.join(cls._fields)}; check {', '.join(wrong)}")
        for key in cls._fields:
            kinds: tuple[type, ...] = (int, float) if key == "paging_threshold" else (int,)
            if type(document[key]) not in kinds:
                raise RuleError(f"rule {key} is {document[key]!r}, expected a number")
        rule = cls(**document)
        if not (1 <= rule.m <= rule.n and rule.close_rows >= 1 and rule.cooldown_s >= 0 and rule.group_s >= 0):
            raise RuleError(
                f"rule needs 1 <= m <= n, close_rows >= 1 and times of at least 0 s, found {dict(document)}"
            )
        if not rule.paging_threshold >= 1:
            raise RuleError(f"rule paging_threshold is {rule.paging_threshold!r}, it must be at least 1")
        return rule


class EpisodeState(NamedTuple):
    """Where one instance stands; times in epoch milliseconds.

    ``since_ms`` and ``closed_ms`` belong to the newest episode, which covers [since, closed); ``last_ms`` is the newest
    row that changed the state; ``recent`` tells which of the last ``n - 1`` rows of a closed instance
    paged, and is empty when none did.
    """

    is_open: bool = False
    since_ms: int | None = None
    last_ms: int | None = None
    closed_ms: int | None = None
    below: int = 0
    peak: float = 0.0
    recent: tuple[bool, ...] = ()

    def covers(self, ts_ms: int) -> bool:
        """Tell whether a row at ``ts_ms`` lies in the newest episode."""
        if self.since_ms is None or ts_ms < self.since_ms:
            return False
        return self.closed_ms is None or ts_ms < self.closed_ms


class Step(NamedTuple):
    """What one row did: the state after it, whether the row is an alert, and whether it opened or closed an episode."""

    state: EpisodeState
    alert: bool
    opened: bool = False
    closed: bool = False


QUIET = EpisodeState()


def advance(state: EpisodeState, ts_ms: int, pages: bool, score: float, rule: Rule, known: bool = True) -> Step:
    """Apply one row to the state of its instance; rows come in time order.

    ``pages``: the row is at or above the paging threshold and harmful, or exhausts a metric. ``known``: the instance
    has its own baseline; others never open an episode. A row that is not newer than the state changes nothing, so a
    batch that is delivered twice has the effect of one. The same state object comes back when nothing changed.
    """
    if state.last_ms is not None and ts_ms <= state.last_ms:
        return Step(state, state.covers(ts_ms))
    if state.is_open:
        return _while_open(state, ts_ms, pages, score, rule)
    if not known or not (pages or state.recent):
        return Step(state, False)
    recent = (*state.recent, pages)
    if pages and sum(recent) >= rule.m:
        peak = score if score > 0 else 0.0
        return Step(EpisodeState(True, ts_ms, ts_ms, None, 0, peak), True, opened=True)
    kept = recent[-(rule.n - 1) :] if rule.n > 1 else ()
    return Step(state._replace(last_ms=ts_ms, recent=kept if any(kept) else ()), False)


def _while_open(state: EpisodeState, ts_ms: int, pages: bool, score: float, rule: Rule) -> Step:
    """Apply a new row to an open episode."""
    below = 0 if pages else state.below + 1
    if below >= rule.close_rows:
        return Step(EpisodeState(False, state.since_ms, ts_ms, ts_ms, below, state.peak), False, closed=True)
    # A comparison with an undefined score is false, so the peak stays a number.
    peak = score if score > state.peak else state.peak
    return Step(EpisodeState(True, state.since_ms, ts_ms, None, below, peak), True)


class Span(NamedTuple):
    """One episode of a replay, [since, closed) in epoch milliseconds; ``closed_ms`` None: still open at the end."""

    since_ms: int
    closed_ms: int | None
    peak: float


class Replay(NamedTuple):
    """The rule applied to the history of one instance: an alert flag a row, and the episodes in order."""

    alerts: list[bool]
    episodes: list[Span]


def replay(rows: Iterable[tuple[int, bool, float]], rule: Rule, known: bool = True) -> Replay:
    """Apply the rule to the rows ``(ts_ms, pages, score)`` of one instance, oldest first."""
    state = QUIET
    alerts: list[bool] = []
    episodes: list[Span] = []
    for ts_ms, pages, score in rows:
        step = advance(state, ts_ms, pages, score, rule, known)
        state = step.state
        alerts.append(step.alert)
        if step.closed and state.since_ms is not None:
            episodes.append(Span(state.since_ms, state.closed_ms, state.peak))
    if state.is_open and state.since_ms is not None:
        episodes.append(Span(state.since_ms, None, state.peak))
    return Replay(alerts, episodes)


def cooling(rule: Rule, told_since_ms: int | None, since_ms: int) -> bool:
    """Tell whether an episode opens too soon after the last told one of its instance; both openings in epoch ms.

    This is event time: rows that come late, or hours of them at once, are told of as they would have been live.
    """
    return told_since_ms is not None and since_ms - told_since_ms < rule.cooldown_s * 1000


def worse(told_peak: float, told_level: str, peak: float, level: str) -> bool:
    """Tell whether an open episode is markedly worse than what was told of it.

    Its peak is ``ESCALATION`` times the told one, or the instance has come under high load, which it was not.
    """
    return peak >= ESCALATION * told_peak or (level == BUSIEST != told_level)
