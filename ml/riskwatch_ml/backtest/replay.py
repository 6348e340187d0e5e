"""What would Riskwatch have told us? The schedule replayed over past rows: fit, label, refresh, choose again.

The first model is fitted to the history. From then on every replay row is labelled by the model that would have served
at its moment, from itself and the rows before it, by the scorer and the episode rule of the inference function, and an
episode of an instance that is not heard of for a day is over, as the tick has it; the model is refreshed on the rows of
the last 28 days every ``refit_hours`` and contested by the other families every seven days or where the guards veto a
refresh, as `train_models` does it. Retrain requests, which come from watching served rows, are not replayed. Where the
guards veto every family `train_models` serves nothing; a replay needs labels all the same, those of a fall-back that
the report names, and holds the next contest a week later rather than every day.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from riskwatch_lambda.clock import DAY_MS
from riskwatch_lambda.episode_rule import EXPIRE_AFTER_MS, QUIET, EpisodeState, Rule, advance
from riskwatch_ml.backtest.inputs import BacktestError, early_rows, joined_rows, shown_columns, usual_period
from riskwatch_ml.core.settings import Settings
from riskwatch_ml.core.threads import one_thread
from riskwatch_ml.families import FAMILIES
from riskwatch_ml.features import rolling as trailing
from riskwatch_ml.features.baselines import MIN_SPAN_MS
from riskwatch_ml.features.spaces import row_baselines
from riskwatch_ml.features.table import as_table
from riskwatch_ml.features.training_set import GAP_PERIODS, space_of
from riskwatch_ml.model.explain import exhausted_rows, harmful_rows, reasons, score_table
from riskwatch_ml.model.fit import Fitted, Recipe, fit_model, kept_settings
from riskwatch_ml.model.fleet_model import level_labels, measure
from riskwatch_ml.schema.catalogue import Catalogue
from riskwatch_ml.schema.catalogue import load as packaged
from riskwatch_ml.selection.contest import Contest, Policy, contest_due, hold
from riskwatch_ml.selection.guard_figures import guard_figures, label_churn
from riskwatch_ml.selection.guards import vetoes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from riskwatch_ml.core.arrays import BoolArray, IntArray
    from riskwatch_ml.features.table import MetricTable
    from riskwatch_ml.features.training_set import Space
    from riskwatch_ml.schema.inventory import Instance

AUTO = "auto"
FALL_BACK = "kmeans"  # labels a replay while the guards veto every family
HISTORY_MS = Settings.history_days * DAY_MS
HOUR_MS = 3_600_000
LEAST_REFIT_MS = 60_000


@dataclass(frozen=True)
class Refresh:
    """One refit: when (UTC epoch ms), and the model that labels from then on, by family and the rows it is fitted to.

    ``serves`` is False where the guards have vetoed every family: the schedule would serve nothing yet. ``kept`` says
    that the model before goes on as it was, ``why`` is the reason for what happened where there is one, and ``churn``
    the share of the rows at hand whose level is another than by the model before, None for the first.
    """

    ms: int
    family: str
    rows: int
    instances: int
    paging_threshold: float
    alerts_expected: float
    contest: Contest | None
    serves: bool = True
    kept: bool = False
    why: str = ""
    churn: float | None = None


@dataclass
class Backtest:
    """The labelled replay, one row for each replay row, sorted by (instance_id, timestamp), and the refreshes.

    ``rows``: instance_id, timestamp, score, alert, risk, level, unusual and the metrics; ``metrics`` is the column of
    each and ``units`` the unit by column. A metric that is called as one of the results has " (metric)" behind its
    name. ``told`` names the main features of rows where an episode opened, by position in ``rows``. ``early`` of them
    are older than the history of their instance.
    """

    rows: pd.DataFrame
    refreshes: list[Refresh]
    metrics: dict[str, str]
    period_s: int
    told: dict[int, list[dict[str, object]]] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    early: int = 0


def backtest(
    history: pd.DataFrame,
    replay: pd.DataFrame,
    *,
    family: str = AUTO,
    budget: float = 1.0,
    refit_hours: float = 24,
    inventory: Mapping[str, Instance] | None = None,
    catalogue: Catalogue | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Backtest:
    """Label every replay row as the fleet's schedule would have.

    Both frames hold instance_id, timestamp and numeric metric columns; a timestamp without zone is read as UTC, and
    ids are compared and given back as text. The first model learns from the whole history: rows of a replay that are
    older than that are counted in ``early``. ``family`` is one of the five or "auto", ``budget`` alerts for each
    instance and day. Metrics of the catalogue are known by name or alias; any other column counts as a metric without
    bounds whose harmful direction is unknown. ``progress`` is told how many of the rows are labelled, and of how many.

    Raises BacktestError where there is nothing to replay, rows repeat a key, history and replay are swapped or an
    option makes no sense.
    """
    _check_options(family, budget, refit_hours)
    rows, metrics = joined_rows(history, replay, catalogue or packaged())
    names = shown_columns(metrics)
    units = {names[metric.name]: metric.unit for metric, _ in metrics if metric.unit}
    watched = Catalogue(tuple(metric for metric, _ in metrics))
    period_s = usual_period(rows)
    table = as_table(rows, watched.names, GAP_PERIODS * period_s)
    trails = trailing.trails_for(len(watched.names), period_s)
    recipe = Recipe(FALL_BACK if family == AUTO else family, budget, seed, period_s)
    replayer = _Replayer(table, trails, watched, inventory or {}, recipe, rows["replayed"].to_numpy(), family == AUTO)
    with one_thread():
        refreshes = replayer.run(round(refit_hours * HOUR_MS), progress)
    return Backtest(replayer.labelled(names), refreshes, names, period_s, replayer.told, units, early_rows(rows))


class _Renewal(NamedTuple):
    """The model that labels from now on, the contest where one was held, and why it came to that."""

    fitted: Fitted
    contest: Contest | None = None
    why: str = ""


class _Replayer:
    """The replay under way: the serving model, each instance's episode state, and the labels so far."""

    def __init__(
        self,
        table: MetricTable,
        trails: tuple[int, ...],
        catalogue: Catalogue,
        inventory: Mapping[str, Instance],
        recipe: Recipe,
        replayed: BoolArray,
        contested: bool,
    ) -> None:
        self.table, self.wide = table, trailing.widen(table, trails)
        self.trails, self.catalogue, self.inventory = trails, catalogue, inventory
        self.recipe, self.replayed, self.contested = recipe, replayed, contested
        n = len(table)
        self.score, self.alert = np.full(n, np.nan), np.zeros(n, bool)
        self.level = np.full(n, "Normal", object)
        self.states: dict[int, EpisodeState] = {}
        self.told: dict[int, list[dict[str, object]]] = {}
        self.in_vain = False  # whether the guards vetoed every family of the last contest
        self._place = np.cumsum(replayed) - 1

    def run(self, step_ms: int, progress: Callable[[int, int], None]) -> list[Refresh]:
        """Replay chunk after chunk: renew the model where it is due, then label the rows up to the next time."""
        table = self.table
        due = table.ms[self.replayed]
        start = int(due.min())
        step_ms = min(step_ms, int(due.max()) - start + 1)
        policy, serving, done = Policy(), None, 0
        refreshes: list[Refresh] = []
        contested_ms: int | None = None
        progress(done, len(due))
        for chunk in np.unique((due - start) // step_ms):
            moment = start + int(chunk) * step_ms
            past = self._past(moment, first=serving is None)
            if past is not None:
                space = self._space(past)
                since_s = None if contested_ms is None else (moment - contested_ms) / 1000
                renewal = self._renew(space, policy, serving, since_s)
                contested_ms = contested_ms if renewal.contest is None else moment
                serves = not self.contested or policy.champion is not None
                refreshes.append(self._refresh(moment, space, renewal, serving, refreshes, serves))
                serving = renewal.fitted
            assert serving is not None  # noqa: S101 - the first past is the history
            wanted = self.replayed & (table.ms >= moment) & (table.ms < moment + step_ms)
            self._label(serving, wanted)
            done += int(wanted.sum())
            progress(done, len(due))
        return refreshes

    def _refresh(
        self,
        moment: int,
        space: Space,
        renewal: _Renewal,
        serving: Fitted | None,
        before: list[Refresh],
        serves: bool,
    ) -> Refresh:
        """What to tell of a renewal; of a model that was kept, the rows it was once fitted to."""
        fitted, kept = renewal.fitted, renewal.fitted is serving
        churn = None
        if serving is not None:
            churn = 0.0 if kept else label_churn(serving.model, fitted.model, space.table, self.inventory)
        return Refresh(
            ms=moment,
            family=fitted.recipe.family,
            rows=before[-1].rows if kept else len(space.table),
            instances=len(fitted.model.baselines.instances),
            paging_threshold=float(fitted.model.rule["paging_threshold"]),
            alerts_expected=fitted.alerts,
            contest=renewal.contest,
            serves=serves,
            kept=kept,
            why=renewal.why,
            churn=churn,
        )

    def _past(self, moment: int, first: bool) -> IntArray | None:
        """Rows to fit on at a moment; None where they are too few to replace the model that serves.

        The first model learns from the history, whatever its dates, since no row before it was asked for.
        """
        ms = self.table.ms
        if first:
            history = np.flatnonzero(~self.replayed)
            code = self.table.code[history]
            newest = np.full(len(self.table.instances), np.iinfo(np.int64).min)
            np.maximum.at(newest, code, ms[history])
            return history[ms[history] > newest[code] - HISTORY_MS]
        past = np.flatnonzero((ms < moment) & (ms >= moment - HISTORY_MS))
        # A refresh on less than a day of rows would forget more than it learns.
        if not len(past) or ms[past].max() - ms[past].min() < MIN_SPAN_MS:
            return None
        return past

    def _space(self, past: IntArray) -> Space:
        return space_of(self.table.cut(past), self.wide.cut(past), self.trails, self.inventory)

    def _renew(self, space: Space, policy: Policy, serving: Fitted | None, since_s: float | None) -> _Renewal:
        """The model that labels from now on; the last contest was ``since_s`` ago."""
        family = self.recipe.family if serving is None else serving.recipe.family
        level = {} if serving is None else kept_settings(serving)
        given_up = ""
        if not self.contested or contest_due(family, since_s) is None:
            fitted = fit_model(space, self.catalogue, replace(self.recipe, family=family, level=level))
            if not self.contested or policy.champion is None:
                return _Renewal(fitted)
            given_up = "; ".join(vetoes(guard_figures(fitted, space, self.recipe.seed)))
            if not given_up:
                return _Renewal(fitted)
            if self.in_vain and serving is not None:
                return _Renewal(serving, None, f"the guards vetoed the refresh ({given_up})")
        champion = None if policy.champion is None else (policy.champion, level)
        contest = hold(space, self.catalogue, self.inventory, self.recipe, champion, given_up=given_up)
        decision = policy.settle(contest)
        self.in_vain = contest.choice is None
        if decision.family is None:
            return _Renewal(contest.fits[FALL_BACK], contest, decision.why)
        if contest.choice is None and serving is not None:
            why = f"the guards vetoed the refresh ({contest.given_up}); {decision.why}"
            return _Renewal(serving, contest, why)
        return _Renewal(contest.fits[decision.family], contest, decision.why)

    def _label(self, fitted: Fitted, wanted: BoolArray) -> None:
        """Label the wanted rows; the rows before them are their context and keep their labels."""
        window = max(member.window for member in fitted.model.members)
        near = wanted.copy()
        for back in range(1, window):
            near[:-back] |= wanted[back:]
        rows = np.flatnonzero(near)
        model, table = fitted.model, self.table.cut(rows)
        baseline = row_baselines(model.baselines, table, self.inventory)
        measured = measure(model, self.wide.cut(rows), baseline)
        threshold = float(model.rule["paging_threshold"])
        beyond = measured.score >= threshold
        pages = harmful_rows(model, table, baseline, measured, beyond) | exhausted_rows(model, table, baseline)
        level = np.array(model.level_names, object)[level_labels(model, table, baseline)]
        known = np.array([name in model.baselines.instances for name in table.instances])
        fresh = wanted[rows]
        self.score[rows[fresh]], self.level[rows[fresh]] = measured.score[fresh], level[fresh]
        opened = self._advance(rows, fresh, pages, known, Rule.of(model.rule))
        if opened:
            self._tell(fitted, rows, baseline, opened)

    def _advance(self, rows: IntArray, fresh: BoolArray, pages: BoolArray, known: BoolArray, rule: Rule) -> list[int]:
        """Apply the episode rule row by row; returns the places in ``rows`` where an episode opened."""
        opened = []
        code, ms, score = self.table.code, self.table.ms, self.score
        for place in np.flatnonzero(fresh).tolist():
            row = int(rows[place])
            instance = int(code[row])
            state = self.states.get(instance, QUIET)
            if state.is_open and int(ms[row]) - (state.last_ms or 0) > EXPIRE_AFTER_MS:
                state = self.states[instance] = state._replace(is_open=False, closed_ms=int(ms[row]))
            if not (pages[place] or state.is_open or state.recent):
                continue
            step = advance(state, int(ms[row]), bool(pages[place]), float(score[row]), rule, bool(known[instance]))
            self.states[instance] = step.state
            self.alert[row] = step.alert
            if step.opened:
                opened.append(place)
        return opened

    def _tell(self, fitted: Fitted, rows: IntArray, baseline: IntArray, opened: list[int]) -> None:
        """Keep the main features of the rows that opened an episode."""
        window = max(member.window for member in fitted.model.members)
        near = np.zeros(len(rows), bool)
        for back in range(window):
            near[np.maximum(np.array(opened) - back, 0)] = True
        part = np.flatnonzero(near)
        scored = score_table(fitted.model, self.table.cut(rows[part]), baseline[part], self.wide.cut(rows[part]))
        named = dict(zip(part.tolist(), reasons(fitted.model.features, scored), strict=True))
        for place in opened:
            self.told[int(self._place[rows[place]])] = named[place]

    def labelled(self, names: Mapping[str, str]) -> pd.DataFrame:
        """The labelled replay rows with their metrics under the columns' own names."""
        table = self.table.cut(np.flatnonzero(self.replayed))
        alert, level = self.alert[self.replayed], self.level[self.replayed]
        score = self.score[self.replayed]
        return pd.DataFrame(
            {
                "instance_id": np.array(table.instances, object)[table.code].astype(str),
                "timestamp": pd.to_datetime(table.ms, unit="ms", utc=True).as_unit("ms"),
                "score": score,
                "alert": alert,
                "risk": np.where(alert, "Critical", level).astype(str),
                "level": level.astype(str),
                "unusual": score >= 1.0,
                **{names[name]: values for name, values in zip(table.features, table.values.T, strict=True)},
            }
        )


def _check_options(family: str, budget: float, refit_hours: float) -> None:
    if family != AUTO and family not in FAMILIES:
        raise BacktestError(f"family {family!r} is unknown: use {AUTO} or one of {', '.join(FAMILIES)}")
    if not 0 < budget < np.inf:
        raise BacktestError(f"budget {budget} must be above 0 alerts for each instance and day")
    if not LEAST_REFIT_MS <= refit_hours * HOUR_MS < np.inf:
        raise BacktestError(f"refit-hours {refit_hours} must be at least {LEAST_REFIT_MS / HOUR_MS:.3f}, a minute")
