"""The backtest: the schedule of Riskwatch, replayed over past rows.

The first model is fitted to the history. Each replay row is labelled by the model that would have served at its time,
from the row and those before it, with the scorer and the episode rule of the inference function. As in service, a day
without rows of an instance ends its episode.

As in `train_models`, the model is refreshed every ``refit_hours`` on the rows of the last ``history_days``, without
those that `riskwatch_ml.features.left_out` leaves out. A contest between the families follows every seven days, or if
the guards veto a refresh. Retrain requests come from the monitoring of labelled rows and are not replayed. If the
guards veto every family, `train_models` serves nothing. The replay needs labels nevertheless: a fall-back gives them,
the report names it, and the next contest is a week later.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from riskwatch_lambda.clock import DAY_MS
from riskwatch_lambda.episode_rule import Rule
from riskwatch_lambda.paging_rule import InstanceState, Opening, read_trained
from riskwatch_ml.backtest.inputs import AUTO, check_options, early_rows, joined_rows, shown_columns, usual_period
from riskwatch_ml.backtest.refit_schedule import Learning, RefitSchedule
from riskwatch_ml.backtest.result import Backtest, Refresh
from riskwatch_ml.core import settings
from riskwatch_ml.core.threads import one_thread
from riskwatch_ml.features import rolling
from riskwatch_ml.features.baselines import MIN_SPAN_MS
from riskwatch_ml.features.left_out import LeftOut, PastEpisode, rows_left_out
from riskwatch_ml.features.served import served
from riskwatch_ml.features.spaces import row_baselines
from riskwatch_ml.features.table import as_table
from riskwatch_ml.features.training_set import GAP_PERIODS, fit_training_set
from riskwatch_ml.model.explain import score_table, with_zero_bounds
from riskwatch_ml.model.fit import Fitted, Recipe, fit_model, refit_settings
from riskwatch_ml.model.fleet_model import level_labels, score_rows
from riskwatch_ml.model.openings import follow, going_on, opening_rows
from riskwatch_ml.model.page_budget import PageBudget, fleet_budget
from riskwatch_ml.schema.catalogue import Catalogue
from riskwatch_ml.schema.catalogue import load as packaged
from riskwatch_ml.selection.contest import Contest, Policy, contest_due, run_contest
from riskwatch_ml.selection.guard_figures import guard_figures, label_churn
from riskwatch_ml.selection.guards import vetoes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from riskwatch_lambda.scoring.labelled_row import ReasonDocument
    from riskwatch_ml.core.arrays import BoolArray, IntArray
    from riskwatch_ml.features.served import Served
    from riskwatch_ml.features.table import MetricTable
    from riskwatch_ml.features.training_set import TrainingSet
    from riskwatch_ml.schema.inventory import Instance

FALL_BACK = "kmeans"  # labels a replay while the guards veto every family
HOUR_MS = 3_600_000


def backtest(
    history: pd.DataFrame,
    replay: pd.DataFrame,
    *,
    family: str = AUTO,
    budget: PageBudget | None = None,
    refit_hours: float = 24,
    inventory: Mapping[str, Instance] | None = None,
    catalogue: Catalogue | None = None,
    seed: int = 0,
    history_days: int | None = None,
    new_normal_hours: float | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Backtest:
    """Label every replay row as the schedule of the fleet would have.

    Both frames have instance_id, timestamp (UTC if without a zone) and numeric metric columns. Columns are matched with
    the catalogue by name or alias; another column is a metric without bounds, of unknown harmful direction. ``family``
    is a family or "auto", ``budget`` that of pages, by default that of a fleet of as many instances, ``history_days``
    the days that a model learns from, ``new_normal_hours`` the hours after which an open episode is learned as normal;
    both are the settings by default, as are time zones and holidays. ``progress`` gets the rows labelled and the total.

    Raises BacktestError if there is nothing to replay, a key repeats, history and replay are swapped or an option is
    invalid, SettingsError if the setting is.
    """
    check_options(family, budget, refit_hours)
    rows, metrics = joined_rows(history, replay, catalogue or packaged())
    names = shown_columns(metrics)
    units = {names[metric.name]: metric.unit for metric, _ in metrics if metric.unit}
    watched = Catalogue(tuple(metric for metric, _ in metrics))
    period_s = usual_period(rows)
    table = as_table(rows, watched.names, GAP_PERIODS * period_s)
    rolling_lengths = rolling.choose_lengths(len(watched.names), period_s)
    pages = budget or fleet_budget(len(table.instances))
    recipe = Recipe(FALL_BACK if family == AUTO else family, pages, seed, period_s, local_time=settings.local_time())
    days, hours = settings.learning()
    learning = Learning(
        (days if history_days is None else history_days) * DAY_MS,
        hours if new_normal_hours is None else new_normal_hours,
    )
    replayed = rows["replayed"].to_numpy()
    replayer = _Replayer(table, rolling_lengths, watched, inventory or {}, recipe, learning, replayed, family == AUTO)
    with one_thread():
        refreshes = replayer.run(round(refit_hours * HOUR_MS), progress)
    return Backtest(
        replayer.labelled(names), refreshes, names, period_s, replayer.explanations, units, early_rows(rows), pages
    )


class _Renewal(NamedTuple):
    """The model that labels from now on, the contest if there was one, and the reason."""

    fitted: Fitted
    contest: Contest | None = None
    why: str = ""


class _Replayer:
    """A replay in progress: the episode state of each instance and the labels so far."""

    def __init__(
        self,
        table: MetricTable,
        rolling_lengths: tuple[int, ...],
        catalogue: Catalogue,
        inventory: Mapping[str, Instance],
        recipe: Recipe,
        learning: Learning,
        replayed: BoolArray,
        contested: bool,
    ) -> None:
        self.table, self.wide = table, rolling.add_rolling_features(table, rolling_lengths)
        self.rolling_lengths, self.catalogue, self.inventory = rolling_lengths, catalogue, inventory
        self.recipe, self.learning, self.replayed, self.contested = recipe, learning, replayed, contested
        n = len(table)
        self.score, self.alert = np.full(n, np.nan), np.zeros(n, bool)
        self.level = np.full(n, "Normal", object)
        self.states: dict[int, InstanceState] = {}
        self.openings: list[tuple[int, Opening]] = []
        self.new_normals: list[PastEpisode] = []
        self.explanations: dict[int, list[ReasonDocument]] = {}
        self.all_vetoed = False  # whether the guards vetoed every family of the last contest
        self._place = np.cumsum(replayed) - 1

    def run(self, step_ms: int, progress: Callable[[int, int], None]) -> list[Refresh]:
        """Renew the model when it is due, then label the rows until it may be due again.

        ``step_ms`` is the longest time between two refits.
        """
        ms = self.table.ms
        due = ms[self.replayed]
        start = int(due.min())
        schedule = RefitSchedule(start, min(step_ms, int(due.max()) - start + 1), self.learning.new_normal_hours)
        policy, serving = Policy(), None
        refreshes: list[Refresh] = []
        contested_ms: int | None = None
        moment: int | None = start
        progress(0, len(due))
        while moment is not None:
            past = self._past(moment, first=serving is None) if schedule.is_due(moment, self._open()) else None
            if past is not None:
                left_out = self._left_out(past, moment)
                training_set = self._training_set(past[left_out.kept])
                since_s = None if contested_ms is None else (moment - contested_ms) / 1000
                renewal = self._renew(training_set, policy, serving, since_s)
                contested_ms = contested_ms if renewal.contest is None else moment
                serves = not self.contested or policy.champion is not None
                refresh = self._refresh(moment, training_set, renewal, serving, refreshes, serves)
                if not refresh.kept:
                    self._end(left_out.new_normals, moment)
                    refresh = replace(refresh, new_normals=left_out.new_normals)
                refreshes.append(refresh)
                serving = renewal.fitted
            assert serving is not None  # noqa: S101 - the first past is the history
            end = schedule.next_moment(moment, self._open())
            self._label(serving, self.replayed & (ms >= moment) & (ms < end))
            progress(int((due < end).sum()), len(due))
            moment = schedule.skip_gap(end, due)
        return refreshes

    def _open(self) -> list[tuple[int, int]]:
        """Return instance number and time of the opening of each open episode at the paging threshold."""
        episodes = ((code, state.episode) for code, state in self.states.items())
        return [(code, episode.since_ms or 0) for code, episode in episodes if episode.is_open and not episode.is_calm]

    def _refresh(
        self,
        moment: int,
        training_set: TrainingSet,
        renewal: _Renewal,
        serving: Fitted | None,
        before: list[Refresh],
        serves: bool,
    ) -> Refresh:
        """Return the record of a renewal.

        ``rows`` of a kept model are those to which it was fitted.
        """
        fitted, kept = renewal.fitted, renewal.fitted is serving
        churn = None
        if serving is not None:
            churn = 0.0 if kept else label_churn(serving.model, fitted.model, training_set.table, self.inventory)
        return Refresh(
            ms=moment,
            family=fitted.recipe.family,
            rows=before[-1].rows if kept else len(training_set.table),
            instances=len(fitted.model.baselines.instances),
            paging_threshold=float(fitted.model.rule["paging_threshold"]),
            pages_expected=fitted.pages,
            contest=renewal.contest,
            serves=serves,
            kept=kept,
            why=renewal.why,
            churn=churn,
            relative=fitted.document["level"]["relative"],
        )

    def _past(self, moment: int, first: bool) -> IntArray | None:
        """Return the rows to fit to at a time, None if they are too few.

        The first model learns from the newest days of each instance's history, whatever their dates.
        """
        ms = self.table.ms
        if first:
            history = np.flatnonzero(~self.replayed)
            code = self.table.code[history]
            newest = np.full(len(self.table.instances), np.iinfo(np.int64).min)
            np.maximum.at(newest, code, ms[history])
            return history[ms[history] > newest[code] - self.learning.history_ms]
        past = np.flatnonzero((ms < moment) & (ms >= moment - self.learning.history_ms))
        # A refresh on less than a day of rows would forget more than it learns.
        if not len(past) or ms[past].max() - ms[past].min() < MIN_SPAN_MS:
            return None
        return past

    def _left_out(self, past: IntArray, moment: int) -> LeftOut:
        """Return which of the rows to fit to are left out at a time."""
        table = self.table
        episodes = [PastEpisode(table.instances[code], since_ms, True) for code, since_ms in self._open()]
        episodes += self.new_normals
        hours = self.learning.new_normal_hours
        return rows_left_out(table.instances, table.code[past], table.ms[past], episodes, moment, hours)

    def _end(self, new_normals: tuple[PastEpisode, ...], moment: int) -> None:
        """End the episodes that the model which serves from a time on has learned as normal."""
        for episode in new_normals:
            code = self.table.instances.index(episode.instance_id)
            state = self.states[code]
            self.states[code] = state._replace(episode=state.episode._replace(is_open=False, closed_ms=moment))
            self.new_normals.append(episode._replace(is_open=False))

    def _training_set(self, past: IntArray) -> TrainingSet:
        tables = self.table.cut(past), self.wide.cut(past)
        known = self.catalogue, self.inventory, self._served(), self.recipe.local_time
        return fit_training_set(tables[0], tables[1], self.rolling_lengths, *known)

    def _served(self) -> Served | None:
        """Return the openings so far, None before the first."""
        openings: dict[str, list[Opening]] = {}
        for code, opening in (*self.openings, *going_on(self.states)):
            openings.setdefault(self.table.instances[code], []).append(opening)
        return served(openings)

    def _renew(
        self, training_set: TrainingSet, policy: Policy, serving: Fitted | None, since_s: float | None
    ) -> _Renewal:
        """Return the model that labels from now on.

        The last contest was ``since_s`` seconds ago, None before the first.
        """
        family = self.recipe.family if serving is None else serving.recipe.family
        level = {} if serving is None else refit_settings(serving)
        unusable_because = ""
        if not self.contested or contest_due(family, since_s) is None:
            fitted = fit_model(training_set, self.catalogue, replace(self.recipe, family=family, level=level))
            if not self.contested or policy.champion is None:
                return _Renewal(fitted)
            unusable_because = "; ".join(vetoes(guard_figures(fitted, training_set, self.recipe.seed)))
            if not unusable_because:
                return _Renewal(fitted)
            if self.all_vetoed and serving is not None:
                return _Renewal(serving, None, f"the guards vetoed the refresh ({unusable_because})")
        champion = None if policy.champion is None else (policy.champion, level)
        contest = run_contest(
            training_set, self.catalogue, self.inventory, self.recipe, champion, unusable_because=unusable_because
        )
        decision = policy.decide(contest)
        self.all_vetoed = contest.choice is None
        if decision.family is None:
            return _Renewal(contest.fits[FALL_BACK], contest, decision.why)
        if contest.choice is None and serving is not None:
            why = f"the guards vetoed the refresh ({contest.unusable_because}); {decision.why}"
            return _Renewal(serving, contest, why)
        return _Renewal(contest.fits[decision.family], contest, decision.why)

    def _label(self, fitted: Fitted, wanted: BoolArray) -> None:
        """Label the rows of a mask (n,); the rows before them are only context."""
        window = max(member.window for member in fitted.model.members)
        with_context = wanted.copy()
        for back in range(1, window):
            with_context[:-back] |= wanted[back:]
        rows = np.flatnonzero(with_context)
        model, table = fitted.model, self.table.cut(rows)
        baseline = row_baselines(model.baselines, table, self.inventory)
        row_scores = score_rows(model, self.wide.cut(rows), baseline)
        level = np.array(model.level_names, object)[level_labels(model, table, baseline)]
        fresh = wanted[rows]
        self.score[rows[fresh]], self.level[rows[fresh]] = row_scores.score[fresh], level[fresh]
        self._remember(fitted)
        followed = follow(opening_rows(model, table, baseline, row_scores), Rule.of(model.rule), self.states, fresh)
        self.alert[rows[fresh]] = followed.alert[fresh]
        self.openings += followed.openings
        if followed.opened:
            self._explain(fitted, rows, baseline, followed.opened)

    def _remember(self, fitted: Fitted) -> None:
        """Give the instances without a memory that of the training rows."""
        for code, name in enumerate(self.table.instances):
            if code not in self.states:
                self.states[code] = InstanceState(openings=read_trained(fitted.document["openings"].get(name, ())))

    def _explain(self, fitted: Fitted, rows: IntArray, baseline: IntArray, opened: list[int]) -> None:
        """Record the main features of the rows that opened an episode."""
        with_context = np.zeros(len(rows), bool)
        for back in range(max(member.window for member in fitted.model.members)):
            with_context[np.maximum(np.array(opened) - back, 0)] = True
        part = np.flatnonzero(with_context)
        model = with_zero_bounds(fitted.model, self.table.values)
        scored = score_table(model, self.table.cut(rows[part]), baseline[part], self.wide.cut(rows[part]))
        reasons_of = dict(zip(part.tolist(), scored.reasons, strict=True))
        for position in opened:
            self.explanations[int(self._place[rows[position]])] = reasons_of[position]

    def labelled(self, names: Mapping[str, str]) -> pd.DataFrame:
        """Return the labelled replay rows, with the metrics in the columns ``names``."""
        table = self.table.cut(np.flatnonzero(self.replayed))
        alert, level, score = (values[self.replayed] for values in (self.alert, self.level, self.score))
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
