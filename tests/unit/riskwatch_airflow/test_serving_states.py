"""A state machine over `decide`, `release` and `settle`: the alias never goes back by itself."""

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from riskwatch_airflow import agreement
from riskwatch_ml.core.errors import RiskwatchError
from riskwatch_ml.registry import serving
from tests.support.promotion import World

STOPPED = (AirflowFailException, AirflowSkipException, RiskwatchError, ConnectionError)


class Operations(RuleBasedStateMachine):
    """Runs, retries, cleared tasks, two operators and a failing registry, in any order.

    The alias may change only by a release that was decided on what serves, by a person, or by the repair.
    """

    def __init__(self):
        super().__init__()
        self.monkeypatch = pytest.MonkeyPatch()
        self.world = World(self.monkeypatch)
        self.decided = []
        self.trained = 0

    def teardown(self):
        self.monkeypatch.undo()

    @property
    def installed(self):
        return self.world.installed

    def attempt(self, run, name):
        """Run a task that may refuse; an alias that it moved points to what the run may put there."""
        before, facts = self.installed.alias, self.world.read()
        try:
            return self.world.task(run, name)
        except STOPPED:
            # What failed has moved nothing, except for an undone release whose alias another user has moved since.
            if not self.installed.functions.before and name == "release":
                assert self.installed.alias == before or facts.disagreements == ()
            return None

    @initialize()
    def first(self):
        self.train()
        self.decide()
        self.release(0, None)

    @precondition(lambda self: self.trained < 3)
    @rule(refresh=st.booleans())
    def train(self, refresh=False):
        champion = self.world.read().serving_champion
        self.trained += 1
        self.installed.register(f"m-{self.trained}", champion.digest if refresh and champion else "")

    @rule()
    def decide(self):
        run = self.world.run()
        facts = self.world.read()
        following = self.attempt(run, "decide")
        if following is not None:
            # Nothing is decided while the facts disagree, except after the repair of a placeholder.
            assert not facts.disagreements or facts.lost_to_placeholder
            self.decided.append(run)

    @precondition(lambda self: self.decided)
    @rule(which=st.integers(0, 5), meanwhile=st.sampled_from([None, "1", "2", "3", "mlflow"]))
    def release(self, which, meanwhile):
        """Release any decided run: first, again or cleared; with a move by hand or a dead registry in between."""
        run = self.decided[which % len(self.decided)]
        (candidate,) = run.supervisor.xcoms["decide", "bundle:release"]
        before, facts = self.installed.alias, self.world.read()
        if meanwhile == "mlflow":
            self.installed.fails.add("set_champion")
        elif meanwhile in self.installed.functions.versions:
            self.installed.functions.before["update_alias"] = lambda: self.installed.functions.move(meanwhile)
        self.attempt(run, "release")
        interrupted = "update_alias" not in self.installed.functions.before and meanwhile not in (None, "mlflow")
        self.installed.functions.before.clear()
        self.installed.fails.clear()
        if self.installed.alias == before or interrupted:
            return
        # The alias has moved: from exactly what the decision was about, to exactly what was decided.
        assert facts.disagreements == ()
        assert facts.target.checksum == (candidate["replaces"] or {}).get("digest")
        assert self.world.read().target.checksum == candidate["digest"]

    @rule(version=st.sampled_from(["1", "2", "3", "4"]))
    def move_by_hand(self, version):
        if version in self.installed.functions.versions:
            self.installed.functions.move(version)

    @rule(version=st.integers(1, 3))
    def move_the_champion(self, version):
        if version <= self.trained:
            self.installed.aliases["champion"] = str(version)

    @rule(action=st.sampled_from(["confirm", "restore"]))
    def settle(self, action):
        before = self.installed.alias
        self.attempt(self.world.run(action), "settle")
        assert action == "restore" or self.installed.alias == before

    @rule()
    def watch(self):
        before, facts = self.installed.alias, self.world.read()
        now = agreement.checked(self.world.config, self.installed.store)
        assert self.installed.alias == before or facts.lost_to_placeholder
        assert serving.is_reported(self.installed.store, now)
        if now.disagreements:
            assert all(text in self.world.topic.messages[-1]["Message"] for text in now.texts)

    @invariant()
    def facts_agree_or_the_disagreement_has_words(self):
        now = self.world.read()
        recorded = now.recorded["digest"] if now.recorded else None
        champion = now.champion.digest if now.champion else None
        agree = now.target.checksum == recorded and (recorded is None or champion == recorded)
        assert agree == (not now.texts)


def test_the_alias_never_goes_back_by_itself():
    run_state_machine_as_test(
        Operations,
        settings=settings(
            derandomize=True,
            deadline=None,
            database=None,
            max_examples=60,
            stateful_step_count=20,
            suppress_health_check=list(HealthCheck),
        ),
    )
