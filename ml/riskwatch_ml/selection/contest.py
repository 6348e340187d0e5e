"""The contest between the families, and the policy that decides what serves.

`train_models` and the backtest share both. A *refresh* fits the champion's family, with its settings, to the newest
rows. It is daily; the guards and the share of rows that change their level judge it. A *contest* fits all families. It
is weekly, and due at once if a retrain is requested, if there is no champion, or if the champion cannot be refreshed
because the guards veto it, the catalogue has other metrics, or another version of Riskwatch packed it.

A contest ends in a *change* if a challenger has won three in a row, or at once if there is no champion or the champion
cannot be refreshed. Otherwise it ends in a refresh. A champion that cannot be refreshed takes part with new settings;
if it wins, that is a change like any other.

Wins count against the champion in service. A contest without a clear lead, a change, and a change that operators do not
approve reset them: the challenger needs three more weeks. The same holds with promotion ``off`` or ``dry_run``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from riskwatch_ml.families import FAMILIES
from riskwatch_ml.model.fit import Fitted, Recipe, fit_model
from riskwatch_ml.selection.guard_figures import guard_figures
from riskwatch_ml.selection.guards import vetoes
from riskwatch_ml.selection.holdout import injected_vus_pr, make_holdout
from riskwatch_ml.selection.ranking import CLOSE, SelectionError, choose

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from riskwatch_ml.families.base import Params
    from riskwatch_ml.features.training_set import TrainingSet
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.schema.inventory import Instance
    from riskwatch_ml.selection.ranking import Choice

REFRESH, CHANGE, NOTHING = "refresh", "change", "nothing"
WINS_TO_CHANGE = 3
CONTEST_S = 7 * 86_400
MAX_CHURN = 0.1  # to an operator, a model that changes the level of a tenth of the rows is no mere refresh


@dataclass(frozen=True)
class Contest:
    """The outcome of a contest: figures and fits by family, and the choice.

    ``choice`` is None if every family was vetoed. ``trials`` has the VUS-PR of the families that were not fitted: they
    are too far behind a family that may serve to be chosen. ``unusable_because`` is the reason why the champion cannot
    be refreshed and its family took part with new settings, empty if there is none.
    """

    figures: Mapping[str, Mapping[str, float]]
    choice: Choice | None
    fits: Mapping[str, Fitted] = field(default_factory=dict)
    unusable_because: str = ""
    trials: Mapping[str, float] = field(default_factory=dict)

    @property
    def vetoes(self) -> Mapping[str, list[str]]:
        """The reasons against each vetoed family."""
        if self.choice is not None:
            return self.choice.vetoes
        return {family: vetoes(figures) for family, figures in self.figures.items()}


@dataclass(frozen=True)
class Decision:
    """The family to serve, None if no family may.

    ``kind`` is ``REFRESH``, ``CHANGE`` or ``NOTHING``, ``why`` the reason in words.
    """

    family: str | None
    kind: str
    why: str


@dataclass
class Policy:
    """The champion's family, and the wins in a row of a challenger."""

    champion: str | None = None
    wins: dict[str, int] = field(default_factory=dict)

    def decide(self, contest: Contest) -> Decision:
        """Decide the outcome of a contest, and update champion and wins.

        A challenger wins if it is chosen and leads by at least ``CLOSE``. If every family is vetoed, or if the champion
        failed to train, the champion stays as it is, and so do the wins against it.
        """
        if contest.choice is None:
            return Decision(self.champion, NOTHING, "every family was vetoed: what serves stays")
        winner = contest.choice.winner
        if self.champion is None:
            return self._change(winner, f"there was no champion: {winner} won the first contest")
        champion = self.champion
        reasons = contest.unusable_because or "; ".join(contest.choice.vetoes.get(champion, []))
        if reasons:
            why = f"the champion {champion} cannot go on ({reasons}): {winner}, newly fitted, replaces it at once"
            return self._change(winner, why)
        if champion not in contest.figures:
            return Decision(champion, REFRESH, f"the champion {champion} failed to train: what serves stays as it is")
        lead = contest.figures[winner]["injected_vus_pr"] - contest.figures[champion]["injected_vus_pr"]
        if winner == champion or lead < CLOSE:
            self.wins = {}
            return Decision(champion, REFRESH, f"{champion} stays: no other leads it by {CLOSE} on injected incidents")
        won = self.wins.get(winner, 0) + 1
        self.wins = {winner: won}
        if won < WINS_TO_CHANGE:
            why = f"{champion} stays: {winner} leads by {lead:.3f}, its win {won} of {WINS_TO_CHANGE} in a row"
            return Decision(champion, REFRESH, why)
        return self._change(winner, f"{winner} won {won} contests in a row, the last by {lead:.3f} over {champion}")

    def _change(self, winner: str, why: str) -> Decision:
        self.champion, self.wins = winner, {}
        return Decision(winner, CHANGE, why)


def contest_due(champion: str | None, since_s: float | None, asked: str = "") -> str | None:
    """Return the reason for a contest now, None if a refresh is enough.

    ``since_s`` is the time since the last contest in seconds, None if none is known. ``asked`` is the reason of a
    request for one, empty without a request.
    """
    if champion is None:
        return "there is no champion"
    if asked:
        return asked
    if since_s is None or since_s >= CONTEST_S:
        return "the last contest is a week ago" if since_s else "no contest is on record"
    return None


class _Entries:
    """The families that are fitted for a contest, with their figures and vetoes."""

    def __init__(
        self, training_set: TrainingSet, catalogue: Catalogue, recipe: Recipe, trials: Mapping[str, float]
    ) -> None:
        self.training_set, self.catalogue, self.recipe, self.trials = training_set, catalogue, recipe, trials
        self.fits: dict[str, Fitted] = {}
        self.figures: dict[str, dict[str, float]] = {}

    def fit(self, family: str, level: Params) -> list[str]:
        """Fit a family with its level settings and return its vetoes."""
        fitted = fit_model(self.training_set, self.catalogue, replace(self.recipe, family=family, level=level))
        self.fits[family] = fitted
        self.figures[family] = {
            **guard_figures(fitted, self.training_set, self.recipe.seed),
            "alerts_per_instance_day": fitted.pages,
            "injected_vus_pr": self.trials[family],
        }
        return vetoes(self.figures[family])

    def choice(self) -> Choice | None:
        """Return the choice between the fitted families, None if all are vetoed."""
        try:
            return choose(self.figures)
        except SelectionError:
            return None


def run_contest(
    training_set: TrainingSet,
    catalogue: Catalogue,
    inventory: Mapping[str, Instance],
    recipe: Recipe,
    champion: tuple[str, Params] | None = None,
    families: Sequence[str] = tuple(FAMILIES),
    unusable_because: str = "",
) -> Contest:
    """Choose between the families on the rows of a space.

    All families are tried on injected incidents. Then they are fitted, best first, until one may serve and the next is
    too far behind it to be chosen. The choice is between the fitted families. ``recipe`` gives all settings except the
    family. The champion, a family with its level settings, keeps these settings. If it is ``unusable_because``, or
    vetoed with them, it chooses new ones, as the other families do.
    """
    holdout = make_holdout(training_set, catalogue, inventory, period_s=recipe.period_s, seed=recipe.seed)
    trials = {
        family: injected_vus_pr(holdout, catalogue, inventory, replace(recipe, family=family)) for family in families
    }
    entries = _Entries(training_set, catalogue, recipe, trials)
    passed: list[float] = []  # VUS-PR of the families that may serve
    if champion is not None and champion[0] in families:
        family, level = champion
        reasons = entries.fit(family, {} if unusable_because else level)
        if reasons and not unusable_because:
            unusable_because = "; ".join(reasons)
            reasons = entries.fit(family, {})
        if not reasons:
            passed.append(trials[family])
    for family in sorted(families, key=lambda family: -trials[family]):
        if passed and max(passed) - trials[family] >= CLOSE:
            break
        if family not in entries.fits and not entries.fit(family, {}):
            passed.append(trials[family])
    unfitted = {family: rating for family, rating in trials.items() if family not in entries.fits}
    return Contest(entries.figures, entries.choice(), entries.fits, unusable_because, unfitted)
