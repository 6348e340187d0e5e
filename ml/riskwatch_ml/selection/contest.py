"""Who serves: the policy that `train_models` and the backtest share, and the contest of the families that it asks for.

A *refresh* fits the champion's family and settings to the newest rows: daily, judged by the guards and by how many rows
change their level. A *contest* is between all families: weekly, when a retrain is asked for, when there is no
champion, or when the champion cannot be refreshed: the guards veto it, it watches other metrics, or it is of another
version. It ends in a *change* where a challenger has won three in a row, at once where there is no champion or one that
cannot go on, and in a refresh otherwise. A champion that cannot go on takes part with settings chosen anew, and its win
is a change like any other.

Wins are against the champion that serves. A contest without a clear lead, a change, and a change that nobody approved
all start them anew: after silence, or with promotion ``off`` or ``dry_run``, a challenger needs three weeks again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from riskwatch_ml.families import FAMILIES
from riskwatch_ml.model.fit import Fitted, Recipe, fit_model
from riskwatch_ml.selection.guard_figures import guard_figures
from riskwatch_ml.selection.guards import vetoes
from riskwatch_ml.selection.holdout import injected_vus_pr, make_trial
from riskwatch_ml.selection.ranking import CLOSE, SelectionError, choose

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from riskwatch_ml.families.base import Params
    from riskwatch_ml.features.training_set import Space
    from riskwatch_ml.schema.catalogue import Catalogue
    from riskwatch_ml.schema.inventory import Instance
    from riskwatch_ml.selection.ranking import Choice

REFRESH, CHANGE, NOTHING = "refresh", "change", "nothing"
WINS_TO_CHANGE = 3
CONTEST_S = 7 * 86_400
MOST_CHURN = 0.1  # a tenth of the fleet's rows under another level than yesterday is not a refresh to an operator


@dataclass(frozen=True)
class Contest:
    """Who took part with which figures, and the outcome; ``choice`` is None where every family was vetoed.

    ``trials`` are the ratings on injected incidents of families that were not fitted, because they are too far behind
    one that may serve to be chosen. ``given_up`` says why the champion cannot go on as it is: its family took part with
    settings chosen anew.
    """

    figures: Mapping[str, Mapping[str, float]]
    choice: Choice | None
    fits: Mapping[str, Fitted] = field(default_factory=dict)
    given_up: str = ""
    trials: Mapping[str, float] = field(default_factory=dict)

    @property
    def vetoes(self) -> Mapping[str, list[str]]:
        """Why each vetoed family may not serve."""
        if self.choice is not None:
            return self.choice.vetoes
        return {family: vetoes(figures) for family, figures in self.figures.items()}


@dataclass(frozen=True)
class Decision:
    """The family that serves from now on, None where none may, whether that is a change, and why in words."""

    family: str | None
    kind: str
    why: str


@dataclass
class Policy:
    """The champion's family and the contests that a challenger has won in a row."""

    champion: str | None = None
    wins: dict[str, int] = field(default_factory=dict)

    def settle(self, contest: Contest) -> Decision:
        """Take note of a contest and decide. A challenger wins where it would be chosen and leads by more than noise.

        Where every family is vetoed the champion stays, as it is; so does one that failed to train, and the wins
        against it.
        """
        if contest.choice is None:
            return Decision(self.champion, NOTHING, "every family was vetoed: what serves stays")
        winner = contest.choice.winner
        if self.champion is None:
            return self._change(winner, f"there was no champion: {winner} won the first contest")
        before = self.champion
        reasons = contest.given_up or "; ".join(contest.choice.vetoes.get(before, []))
        if reasons:
            why = f"the champion {before} cannot go on ({reasons}): {winner}, newly fitted, replaces it at once"
            return self._change(winner, why)
        if before not in contest.figures:
            return Decision(before, REFRESH, f"the champion {before} failed to train: what serves stays as it is")
        lead = contest.figures[winner]["injected_vus_pr"] - contest.figures[before]["injected_vus_pr"]
        if winner == before or lead < CLOSE:
            self.wins = {}
            return Decision(before, REFRESH, f"{before} stays: no other leads it by {CLOSE} on injected incidents")
        won = self.wins.get(winner, 0) + 1
        self.wins = {winner: won}
        if won < WINS_TO_CHANGE:
            why = f"{before} stays: {winner} leads by {lead:.3f}, its win {won} of {WINS_TO_CHANGE} in a row"
            return Decision(before, REFRESH, why)
        return self._change(winner, f"{winner} won {won} contests in a row, the last by {lead:.3f} over {before}")

    def _change(self, winner: str, why: str) -> Decision:
        self.champion, self.wins = winner, {}
        return Decision(winner, CHANGE, why)


def contest_due(champion: str | None, since_s: float | None, asked: str = "") -> str | None:
    """Why a contest is held now, None where a refresh is enough.

    ``since_s`` are the seconds since the last one, None where none is known; ``asked`` is why somebody asks for one.
    """
    if champion is None:
        return "there is no champion"
    if asked:
        return asked
    if since_s is None or since_s >= CONTEST_S:
        return "the last contest is a week ago" if since_s else "no contest is on record"
    return None


def hold(
    space: Space,
    catalogue: Catalogue,
    inventory: Mapping[str, Instance],
    recipe: Recipe,
    champion: tuple[str, Params] | None = None,
    families: Sequence[str] = tuple(FAMILIES),
    given_up: str = "",
) -> Contest:
    """Choose between the families on the rows of a space.

    All families are tried on injected incidents. Then they are fitted, the best first, until one may serve and the
    next is too far behind it to be chosen: the choice is that between all of them. ``recipe`` gives all settings but
    the family; the champion takes part with the level settings that it serves with, the others choose their own. A
    champion that is ``given_up``, or vetoed with its settings, chooses anew too.
    """
    trial = make_trial(space, catalogue, inventory, period_s=recipe.period_s, seed=recipe.seed)
    trials = {
        family: injected_vus_pr(trial, catalogue, inventory, replace(recipe, family=family)) for family in families
    }
    fits: dict[str, Fitted] = {}
    figures: dict[str, dict[str, float]] = {}

    def fit(family: str, level: Params) -> list[str]:
        """Fit a family, take down its figures and give its vetoes."""
        fitted = fit_model(space, catalogue, replace(recipe, family=family, level=level))
        fits[family] = fitted
        figures[family] = {
            **guard_figures(fitted, space, recipe.seed),
            "alerts_per_instance_day": fitted.alerts,
            "injected_vus_pr": trials[family],
        }
        return vetoes(figures[family])

    allowed: list[float] = []
    if champion is not None and champion[0] in families:
        reasons = fit(champion[0], {} if given_up else champion[1])
        if reasons and not given_up:
            given_up = "; ".join(reasons)
            reasons = fit(champion[0], {})
        if not reasons:
            allowed.append(trials[champion[0]])
    for family in sorted(families, key=lambda family: -trials[family]):
        if allowed and max(allowed) - trials[family] >= CLOSE:
            break
        if family not in fits and not fit(family, {}):
            allowed.append(trials[family])
    try:
        choice = choose(figures)
    except SelectionError:
        choice = None
    left = {family: rating for family, rating in trials.items() if family not in fits}
    return Contest(figures, choice, fits, given_up, left)
