"""Episode rule: when episodes open, close, expire, escalate and are paged.

Pure functions of plain values, which `paging_rule` builds on.
"""

from __future__ import annotations

from enum import Enum
from math import inf, isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

from riskwatch_lambda.clock import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    # The rule of a kind of resource.
    RuleOf = Callable[[str], "Rule"]

# Factor on the reported peak from which an open episode escalates, and the level at which it escalates in any case.
ESCALATION = 2.0
BUSIEST = "High Load"
CALM_ROWS = 2  # an episode without so many rows at the paging threshold is none that a training leaves out
EXPIRE_AFTER_MS = DAY_MS  # an open episode is over if its instance sends no row that counts for longer
# Measured with ``python -m bench.new_instances``: new instances page no more often than known ones.
NEW_INSTANCE_FACTOR = 1.4


class BaselineKind(Enum):
    """The kind of the baseline that judges an instance: its own, else that of its role, else that of the fleet."""

    INSTANCE = "instance"
    ROLE = "role"
    FLEET = "fleet"


class RuleError(ValueError):
    """The episode rule of a model is invalid."""


class Rule(NamedTuple):
    """Parameters of the rule, from the model document.

    An episode opens if ``m`` of the last ``n`` rows page, and closes at the ``close_rows``-th consecutive row that does
    not page. ``paging_threshold`` is a score. ``cooldown_s`` and ``group_s`` are seconds. ``new_instance_factor`` is
    the factor on the threshold for an instance that only has the baseline of its role; documents of earlier releases
    lack it.
    """

    m: int = 1
    n: int = 1
    close_rows: int = 2
    paging_threshold: float = 1.0
    cooldown_s: int = 3600
    group_s: int = 900
    new_instance_factor: float = NEW_INSTANCE_FACTOR

    @classmethod
    def of(cls, document: Mapping[str, object]) -> Rule:
        """Build the rule from the ``rule`` of a model document.

        Raises RuleError if a value is absent or invalid.
        """
        document = {"new_instance_factor": NEW_INSTANCE_FACTOR, **document}
        wrong = sorted(set(document) ^ set(cls._fields))
        if wrong:
            raise RuleError(f"rule must have the keys {', '.join(cls._fields)}; check {', '.join(wrong)}")
        for key in cls._fields:
            is_real = key in ("paging_threshold", "new_instance_factor")
            kinds: tuple[type, ...] = (int, float) if is_real else (int,)
            if type(document[key]) not in kinds:
                raise RuleError(f"rule {key} is {document[key]!r}, expected a number")
        values: Any = document
        rule = cls(**values)
        if not (1 <= rule.m <= rule.n and rule.close_rows >= 1 and rule.cooldown_s >= 0 and rule.group_s >= 0):
            raise RuleError(
                f"rule needs 1 <= m <= n, close_rows >= 1 and times of at least 0 s, found {dict(document)}"
            )
        if not rule.paging_threshold >= 1:
            raise RuleError(f"rule paging_threshold is {rule.paging_threshold!r}, it must be at least 1")
        if not (rule.new_instance_factor >= 1 and isfinite(rule.new_instance_factor)):
            raise RuleError(f"rule new_instance_factor is {rule.new_instance_factor!r}, it must be at least 1")
        return rule

    def factor(self, kind: BaselineKind) -> float:
        """Return the factor on the paging threshold for instances with this kind of baseline.

        It is 1 for the instance's own baseline, and infinite for that of the fleet: such an instance pages for
        exhaustion only, because the fleet says little about an instance of an unknown role.
        """
        if kind is BaselineKind.INSTANCE:
            return 1.0
        return self.new_instance_factor if kind is BaselineKind.ROLE else inf


class EpisodeState(NamedTuple):
    """Episode state of one instance; times in epoch milliseconds.

    ``since_ms`` and ``closed_ms`` belong to the newest episode, which covers [since, closed). ``last_ms`` is the newest
    row that changed the state. ``below`` counts the rows in succession that do not page. ``recent`` has one flag for
    each of the last ``n - 1`` rows of an instance without an open episode: whether it paged. It is empty if none did.
    ``opened_by`` are the decisive metrics of the row that opened the episode; empty for a closed episode and for one
    that an earlier release opened. ``calm`` counts the rows of an open episode in succession that are below the paging
    threshold.
    """

    is_open: bool = False
    since_ms: int | None = None
    last_ms: int | None = None
    closed_ms: int | None = None
    below: int = 0
    peak: float = 0.0
    recent: tuple[bool, ...] = ()
    opened_by: tuple[str, ...] = ()
    calm: int = 0

    @property
    def is_calm(self) -> bool:
        """Return whether the newest rows of an open episode are below the paging threshold."""
        return self.calm >= CALM_ROWS

    def covers(self, ts_ms: int) -> bool:
        """Return whether a row at ``ts_ms`` lies in the newest episode."""
        if self.since_ms is None or ts_ms < self.since_ms:
            return False
        return self.closed_ms is None or ts_ms < self.closed_ms


class Step(NamedTuple):
    """Effect of one row: new state, and whether it is an alert, opens or closes."""

    state: EpisodeState
    alert: bool
    opened: bool = False
    closed: bool = False


NO_EPISODE = EpisodeState()


class Metrics(NamedTuple):
    """The metrics of a row by name: those without a value, and those for which it pages."""

    missing: tuple[str, ...] = ()
    decisive: tuple[str, ...] = ()


COMPLETE = Metrics()


def advance(
    state: EpisodeState, ts_ms: int, pages: bool, score: float, rule: Rule, metrics: Metrics = COMPLETE
) -> Step:
    """Apply one row to the state of its instance; rows come in time order.

    ``pages``: the row is at or above the paging threshold of its instance and harmful, or exhausts a metric. A row that
    is not newer than the state changes nothing, so a second delivery of a batch has no effect. Nor does a row that does
    not page and lacks a metric that opened the episode: it cannot show that the episode is over. If nothing changes,
    the same state object is returned.
    """
    if state.last_ms is not None and ts_ms <= state.last_ms:
        return Step(state, state.covers(ts_ms))
    if state.is_open:
        if not pages and any(name in state.opened_by for name in metrics.missing):
            return Step(state, True)
        return _while_open(state, ts_ms, pages, score, rule)
    if not (pages or state.recent):
        return Step(state, False)
    recent = (*state.recent, pages)
    if pages and sum(recent) >= rule.m:
        peak = score if score > 0 else 0.0
        return Step(EpisodeState(True, ts_ms, ts_ms, None, 0, peak, (), metrics.decisive), True, opened=True)
    remembered = recent[-(rule.n - 1) :] if rule.n > 1 else ()
    return Step(state._replace(last_ms=ts_ms, recent=remembered if any(remembered) else ()), False)


def _while_open(state: EpisodeState, ts_ms: int, pages: bool, score: float, rule: Rule) -> Step:
    """Apply a new row to an open episode."""
    below = 0 if pages else state.below + 1
    if below >= rule.close_rows:
        return Step(EpisodeState(False, state.since_ms, ts_ms, ts_ms, below, state.peak), False, closed=True)
    # A comparison with NaN is false, so the peak stays a number.
    peak = score if score > state.peak else state.peak
    return Step(EpisodeState(True, state.since_ms, ts_ms, None, below, peak, (), state.opened_by, state.calm), True)


def is_expired(last_ms: int | None, now_ms: int) -> bool:
    """Return whether an open episode has had no row that counts for more than a day.

    ``last_ms`` is the time of its newest row, without rows that lack a metric that opened the episode. Both times are
    epoch milliseconds, in the time of the rows.
    """
    return now_ms - (last_ms or 0) > EXPIRE_AFTER_MS


def close_expired(state: EpisodeState, now_ms: int) -> EpisodeState:
    """Return the state closed at ``now_ms`` if its open episode is expired.

    Otherwise, the same object is returned.
    """
    if not (state.is_open and is_expired(state.last_ms, now_ms)):
        return state
    return state._replace(is_open=False, closed_ms=now_ms)


def in_cooldown(rule: Rule, reported_since_ms: int | None, since_ms: int) -> bool:
    """Return whether an episode opens within the cool-down of its instance.

    ``reported_since_ms`` and ``since_ms`` are the openings of the last reported and of this episode, epoch ms in the
    time of the rows: rows that arrive late cause the same messages as live rows.
    """
    return reported_since_ms is not None and since_ms - reported_since_ms < rule.cooldown_s * 1000


def is_escalation(reported_peak: float, reported_level: str, peak: float, level: str) -> bool:
    """Return whether an open episode is markedly worse than last reported.

    Its peak is at least ``ESCALATION`` times the reported one, or its level has become ``BUSIEST``.
    """
    return peak >= ESCALATION * reported_peak or (level == BUSIEST != reported_level)
