"""Openings in a table: which rows open, and the paging rule of the inference function applied to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from riskwatch_lambda.episode_rule import COMPLETE, Metrics, close_expired
from riskwatch_lambda.paging_rule import EXHAUSTED, NEW_INSTANCE, NO_SIGNATURE, Row, Signature, follow_row
from riskwatch_lambda.scoring.scorer import UNUSUAL
from riskwatch_ml.model.explain import decisive_metrics, exhausted_metrics, is_harmful, main_features, shares

if TYPE_CHECKING:
    from riskwatch_lambda.episode_rule import Rule
    from riskwatch_lambda.paging_rule import InstanceState, Opening
    from riskwatch_ml.core.arrays import BoolArray, FloatArray, IntArray
    from riskwatch_ml.features.table import MetricTable
    from riskwatch_ml.model.fleet_model import FleetModel, RowScores


class Opener(NamedTuple):
    """What the paging rule needs of a row that opens."""

    signature: Signature
    exhausted: bool
    decisive: tuple[str, ...]


@dataclass(frozen=True)
class OpeningRows:
    """The rows of a table as the paging rule sees them, sorted by instance and time; all (n,).

    ``strength`` is the score over the factor that the baseline of the instance has on the paging threshold.
    ``openers`` has the rows that open by position. ``absent`` (n, d) marks the missing values of the ``features``; it
    is None if no row lacks one.
    """

    code: IntArray
    ms: IntArray
    score: FloatArray
    strength: FloatArray
    openers: dict[int, Opener]
    absent: BoolArray | None
    features: tuple[str, ...]

    @property
    def opens(self) -> BoolArray:
        """Return a mask of the rows that open, (n,)."""
        mask = np.zeros(len(self.code), bool)
        mask[list(self.openers)] = True
        return mask

    def row(self, position: int) -> Row:
        """Return one row."""
        opener = self.openers.get(position)
        missing: tuple[str, ...] = ()
        if self.absent is not None and self.absent[position].any():
            missing = tuple(self.features[column] for column in np.flatnonzero(self.absent[position]))
        return Row(
            ts_ms=int(self.ms[position]),
            score=float(self.score[position]),
            strength=float(self.strength[position]),
            opens=opener is not None,
            exhausted=opener is not None and opener.exhausted,
            signature=NO_SIGNATURE if opener is None else opener.signature,
            metrics=Metrics(missing, () if opener is None else opener.decisive) if missing or opener else COMPLETE,
        )


def opening_rows(model: FleetModel, table: MetricTable, baseline: IntArray, row_scores: RowScores) -> OpeningRows:
    """Return the rows of a table as the paging rule sees them.

    ``baseline`` (n,) are the baselines of the rows.
    """
    strength = row_scores.score / model.paging_factors(baseline)
    exhausted = exhausted_metrics(model, table, baseline)
    is_exhausted: BoolArray = np.asarray(exhausted.any(axis=1))
    rows = np.flatnonzero((strength >= UNUSUAL) | is_exhausted)
    share = shares(model, row_scores, baseline, rows)
    top = main_features(share)
    part = table.take(rows)
    deviation = model.baselines.impute(part, baseline[rows]) - model.profile(part, baseline[rows])[0]
    harmful = is_harmful(model.directions, deviation, share, top) & (strength[rows] >= UNUSUAL)
    opens = harmful | is_exhausted[rows]
    decisive = decisive_metrics(row_scores.score[rows], part, share, top, exhausted[rows])
    names = np.array(model.features, object)
    openers = {}
    for index in np.flatnonzero(opens).tolist():
        row, main = int(rows[index]), int(top[index, 0])
        if is_exhausted[row]:
            signature = Signature(names[np.flatnonzero(exhausted[row])[0]], EXHAUSTED)
        else:
            signature = Signature(names[main], "down" if deviation[index, main] < 0 else "up")
        openers[row] = Opener(signature, bool(is_exhausted[row]), tuple(names[decisive[index]].tolist()))
    absent = np.isnan(table.values)
    return OpeningRows(
        *(table.code, table.ms, row_scores.score, strength, openers),
        absent if absent.any() else None,
        model.features,
    )


@dataclass
class Followed:
    """The paging rule on the rows of a table.

    ``alert`` (n,) marks the rows in an episode. ``opened`` are the positions of the rows that open one. ``held`` has
    the outcome of each opening that is held at first, by position. ``openings`` are those that ended, with the number
    of their instance.
    """

    alert: BoolArray
    opened: list[int] = field(default_factory=list)
    held: dict[int, str] = field(default_factory=dict)
    openings: list[tuple[int, Opening]] = field(default_factory=list)


def follow(
    rows: OpeningRows, rule: Rule, states: dict[int, InstanceState], wanted: BoolArray | None = None
) -> Followed:
    """Apply the paging rule to the rows of each instance, oldest first.

    ``states`` has the state of each instance by its number and is changed. Only the rows of the mask ``wanted`` (n,)
    count, all by default. As in service, a day without rows ends an episode.
    """
    followed = Followed(np.zeros(len(rows.code), bool))
    positions = np.arange(len(rows.code)) if wanted is None else np.flatnonzero(wanted)
    bounds = np.flatnonzero(np.diff(rows.code[positions], prepend=-1, append=-1))
    openers = np.array(sorted(rows.openers), np.int64)
    for low, high in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        part = positions[low:high]
        _follow_instance(rows, rule, states, part, np.flatnonzero(np.isin(part, openers, assume_unique=True)), followed)
    return followed


def _follow_instance(
    rows: OpeningRows,
    rule: Rule,
    states: dict[int, InstanceState],
    positions: IntArray,
    opening: IntArray,
    followed: Followed,
) -> None:
    """Apply the rule to some rows of one instance; ``opening`` are the places of those that open."""
    code = int(rows.code[positions[0]])
    state = states.get(code, NEW_INSTANCE)
    place = 0
    while place < len(positions):
        if not (state.episode.is_open or state.held or state.episode.recent):
            # Only a row that opens changes a state without anything open.
            following = int(np.searchsorted(opening, place))
            if following == len(opening):
                break
            place = int(opening[following])
        position = int(positions[place])
        row = rows.row(position)
        before = state._replace(episode=close_expired(state.episode, row.ts_ms))
        step = follow_row(before, row, rule)
        _note_ended(code, state, step.state, followed)
        state = step.state
        followed.alert[position] = step.alert
        if step.opened:
            followed.opened.append(position)
        if step.held:
            followed.held[position] = step.held
        place += 1
    states[code] = state


def _note_ended(code: int, before: InstanceState, after: InstanceState, followed: Followed) -> None:
    """Note the opening that went on before a row and has ended with it."""
    last = before.openings[-1] if before.openings else None
    if last is None or last.end_ms is not None:
        return
    now = next(opening for opening in reversed(after.openings) if opening.since_ms == last.since_ms)
    if now.end_ms is not None:
        followed.openings.append((code, now))


def going_on(states: dict[int, InstanceState]) -> list[tuple[int, Opening]]:
    """Return the openings that have not ended, with the number of their instance."""
    return [
        (code, state.openings[-1])
        for code, state in states.items()
        if state.openings and state.openings[-1].end_ms is None
    ]
