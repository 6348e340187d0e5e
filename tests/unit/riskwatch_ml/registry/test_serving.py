"""What serves: alias, MLflow and ledger are compared, and a disagreement is ended by confirm or restore."""

import pytest

from riskwatch_ml.core import settings
from riskwatch_ml.registry import ledger, reconcile, release, serving
from riskwatch_ml.storage import keys
from tests.support.functions import ALIAS, FUNCTION
from tests.support.serving import Installation

CONFIG = settings.Settings(
    bucket="bucket", stream="s", table="t", function=FUNCTION, mlflow_uri="http://mlflow", alias=ALIAS
)


@pytest.fixture
def installed(monkeypatch):
    """Two models that were released one after the other, as function versions 2 and 3."""
    made = Installation(monkeypatch)
    made.first, made.second = made.release("m-1"), made.release("m-2")
    return made


def read(installed):
    return serving.read(CONFIG, installed.functions, installed.store)


def kinds(installed):
    return [disagreement.kind for disagreement in read(installed).disagreements]


def test_three_facts_that_agree_name_the_model(installed):
    # GIVEN / WHEN
    now = read(installed)

    # THEN
    assert (now.target.function_version, now.target.checksum, now.model_id) == ("3", installed.second.digest, "m-2")
    assert (now.disagreements, now.serving_champion) == ((), installed.second)
    assert "model version 2 (kmeans)" in now.described
    now.require_agreement()


def test_a_new_installation_serves_nothing_and_agrees(monkeypatch):
    # GIVEN a stack that promoted nothing, beside an MLflow with the champion of an earlier one
    installed = Installation(monkeypatch)
    installed.aliases["champion"] = installed.register("m-0").version

    # WHEN / THEN
    now = read(installed)
    assert (now.target.checksum, now.model_id, now.disagreements, now.serving_champion) == (None, None, (), None)


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        pytest.param(lambda it: it.functions.move("2"), serving.ALIAS, "moved by hand", id="alias by hand"),
        pytest.param(lambda it: it.functions.move("1"), serving.PLACEHOLDER, "the placeholder", id="placeholder"),
        pytest.param(
            lambda it: it.aliases.update(champion="1"),
            serving.CHAMPION,
            "has model version 1 as champion",
            id="champion",
        ),
        pytest.param(lambda it: it.aliases.pop("champion"), serving.CHAMPION, "has no champion", id="no champion"),
        pytest.param(
            lambda it: [it.store.delete(key) for key in it.store.keys("ledger/")],
            serving.LEDGER,
            "the ledger has no entry",
            id="no entry",
        ),
    ],
)
def test_each_disagreement_is_named(installed, change, kind, text):
    # GIVEN / WHEN
    change(installed)

    # THEN
    assert kinds(installed) == [kind]
    with pytest.raises(serving.DisagreementError, match=text) as raised:
        read(installed).require_agreement()
    assert "action = confirm" in str(raised.value)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda it: it.functions.move("2"), id="alias by hand"),
        pytest.param(lambda it: it.aliases.update(champion="1"), id="champion"),
    ],
)
@pytest.mark.parametrize("end", [reconcile.confirm, reconcile.restore])
def test_confirm_follows_the_alias_and_restore_follows_the_ledger(installed, change, end):
    # GIVEN
    change(installed)
    before = read(installed)
    wanted = before.target.checksum if end is reconcile.confirm else before.recorded["digest"]

    # WHEN
    entry = end(CONFIG, installed.functions, installed.store, before, by="ada")

    # THEN
    now = read(installed)
    assert (now.disagreements, now.target.checksum, now.serving_champion.digest) == ((), wanted, wanted)
    assert (entry["by"], entry["golden"]["differences"]) == ("ada", 0)
    assert entry["reason"] == "; ".join(before.texts)
    assert installed.actions()[-1] == {reconcile.confirm: "confirm", reconcile.restore: "restore"}[end]


def test_what_serves_without_an_entry_can_be_confirmed_and_not_restored(installed):
    # GIVEN a ledger that was lost
    for key in installed.store.keys("ledger/"):
        installed.store.delete(key)

    # WHEN / THEN
    with pytest.raises(reconcile.ReconcileError, match="confirm"):
        reconcile.restore(CONFIG, installed.functions, installed.store, read(installed), by="ada")
    reconcile.confirm(CONFIG, installed.functions, installed.store, read(installed), by="ada")
    assert kinds(installed) == []


def test_the_placeholder_cannot_be_confirmed(installed):
    installed.functions.move("1")
    with pytest.raises(reconcile.ReconcileError, match="restore"):
        reconcile.confirm(CONFIG, installed.functions, installed.store, read(installed), by="ada")


def test_a_version_that_fails_its_self_test_is_not_restored(installed):
    # GIVEN a version that answers its self-test with another model
    installed.functions.move("2")
    installed.functions.fails.add("3")

    # WHEN / THEN
    with pytest.raises(release.ReleaseError, match="failed its self-test"):
        reconcile.restore(CONFIG, installed.functions, installed.store, read(installed), by="ada")
    assert (installed.alias, installed.actions()) == ("2", ["promote", "promote"])


@pytest.mark.parametrize(
    "lose",
    [
        pytest.param(lambda versions: versions.pop("3"), id="deleted"),
        pytest.param(lambda versions: versions["3"].update(code=versions["2"]["code"]), id="created again"),
    ],
)
def test_what_the_ledger_names_is_published_again_if_its_version_is_gone(installed, lose):
    # GIVEN an alias on the placeholder, and a version of the ledger that does not exist or runs other code
    installed.functions.move("1")
    lose(installed.functions.versions)
    installed.functions.latest["code"] = b"placeholder"

    # WHEN
    entry = reconcile.restore(CONFIG, installed.functions, installed.store, read(installed), by="ada")

    # THEN the same artifact serves as another function version, by all three facts
    now = read(installed)
    assert (now.disagreements, now.target.checksum, now.recorded["key"]) == ((), installed.second.digest, entry["key"])
    assert (entry["action"], entry["function_version"]) == ("rollback", installed.alias)


@pytest.mark.parametrize("end", [reconcile.confirm, reconcile.restore])
def test_a_version_that_mlflow_has_lost_is_registered_again(installed, end):
    # GIVEN an MLflow that was set up again
    installed.versions.clear()
    installed.aliases.clear()
    assert kinds(installed) == [serving.CHAMPION]

    # WHEN
    entry = end(CONFIG, installed.functions, installed.store, read(installed), by="ada")

    # THEN
    assert (kinds(installed), entry["digest"]) == ([], installed.second.digest)
    assert read(installed).serving_champion.family == "kmeans"


def test_the_alias_is_restored_while_mlflow_is_down(installed):
    # GIVEN
    installed.functions.move("1")
    lost = serving.read_without_mlflow(CONFIG, installed.functions, installed.store)
    installed.fails.add("by_checksum")

    # WHEN / THEN
    with pytest.raises(ConnectionError):
        reconcile.restore(CONFIG, installed.functions, installed.store, lost, by="ada")
    assert (installed.alias, installed.actions()[-1]) == ("3", "restore")


def test_an_alias_that_moves_while_it_is_restored_stays(installed):
    # GIVEN a move that comes in between
    installed.functions.move("1")
    before = read(installed)
    installed.functions.move("2")

    # WHEN / THEN
    with pytest.raises(release.ReleaseConflictError, match="not to 1"):
        reconcile.restore(CONFIG, installed.functions, installed.store, before, by="ada")
    assert installed.alias == "2"


def test_dry_runs_neither_hide_what_serves_nor_are_read(installed):
    # GIVEN more dry runs than any page of the ledger
    for _ in range(60):
        ledger.write(installed.store, {"action": ledger.DRY_RUN, "digest": "ab" * 32, "by": "policy"})

    # WHEN / THEN
    assert read(installed).recorded["digest"] == installed.second.digest
    assert [entry["action"] for entry in ledger.newest_first(installed.store, ledger.SERVING)] == ["promote"] * 2


def test_a_comparison_is_new_once(installed):
    # GIVEN / WHEN / THEN
    installed.functions.move("2")
    assert not serving.is_reported(installed.store, read(installed))
    serving.keep(installed.store, read(installed))
    assert serving.is_reported(installed.store, read(installed))
    installed.functions.move("1")
    assert not serving.is_reported(installed.store, read(installed))


def test_views_know_of_mlflow_what_was_last_kept(installed):
    # GIVEN a champion that was moved, which the watch has seen
    installed.aliases["champion"] = "1"
    serving.keep(installed.store, read(installed))
    installed.fails.add("champion")

    # WHEN / THEN no request goes to MLflow
    now = serving.read_without_mlflow(CONFIG, installed.functions, installed.store)
    assert [disagreement.kind for disagreement in now.disagreements] == [serving.CHAMPION]

    # WHEN the alias moves on THEN that is the disagreement
    installed.functions.move("2")
    now = serving.read_without_mlflow(CONFIG, installed.functions, installed.store)
    assert [disagreement.kind for disagreement in now.disagreements] == [serving.ALIAS]


@pytest.mark.parametrize(
    "damage", [b"no json", b"[]", b"{}", b'{"function_version": "3", "ledger": "", "disagreements": [1]}']
)
def test_a_damaged_comparison_counts_as_none_and_is_replaced(installed, caplog, damage):
    # GIVEN
    installed.store.put_bytes(keys.SERVING, damage)

    # WHEN / THEN views see the alias and the ledger, and the next comparison is stored
    assert not serving.read_without_mlflow(CONFIG, installed.functions, installed.store).disagreements
    assert not serving.is_reported(installed.store, read(installed))
    assert "stream/serving.json cannot be read" in caplog.text
    serving.keep(installed.store, read(installed))
    assert serving.is_reported(installed.store, read(installed))
