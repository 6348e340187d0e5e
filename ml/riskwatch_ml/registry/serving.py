"""What serves: alias, MLflow and ledger as one fact, or their disagreements in words.

The alias of the function decides what labels rows. MLflow's champion and the newest ledger entry in service must name
the same artifact, by its checksum. Whoever changes or refreshes what serves compares the three first, see `read`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypedDict

from riskwatch_ml.artifact import archive
from riskwatch_ml.core import clock
from riskwatch_ml.core.errors import OperationError
from riskwatch_ml.registry import ledger, release
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.registry.ledger import LedgerEntry
    from riskwatch_ml.registry.registered import Registered
    from riskwatch_ml.storage.bucket import Store

PLACEHOLDER, ALIAS, LEDGER, CHAMPION = "placeholder", "alias", "ledger", "champion"
HOW_TO_END = (
    "trigger promote_model with action = confirm (what the alias serves becomes the champion) or restore (the alias "
    "goes back to what the ledger says)"
)


class DisagreementError(OperationError):
    """Alias, MLflow and ledger disagree; the message says how, and what ends it."""


@dataclass(frozen=True)
class Disagreement:
    """One difference between alias, MLflow and ledger.

    `kind` is `placeholder` (the alias is on the placeholder of the stack, the ledger names a model), `alias` (it was
    moved by hand), `ledger` (what serves has no entry) or `champion` (MLflow has another one).
    """

    kind: str
    text: str


@dataclass(frozen=True)
class AliasTarget:
    """The function version behind the alias.

    `checksum` is the SHA-256 of its code in hexadecimal, None for the placeholder of the stack.
    """

    function_version: str
    checksum: str | None


@dataclass(frozen=True)
class Serving:
    """What serves, and whether alias, MLflow and ledger agree on it.

    `recorded` is the ledger entry in service, `champion` MLflow's. `entry` is the newest entry of the artifact that the
    alias serves; both entries are the same if alias and ledger agree.
    """

    target: AliasTarget
    recorded: LedgerEntry | None
    entry: LedgerEntry | None
    champion: Registered | None
    disagreements: tuple[Disagreement, ...]

    @property
    def model_id(self) -> str | None:
        """The id of the model that serves; None if there is none, or if no entry names it."""
        return None if self.entry is None else self.entry.get("model_id")

    @property
    def serving_champion(self) -> Registered | None:
        """MLflow's champion, if it is what the alias serves."""
        return self.champion if self.champion and self.champion.digest == self.target.checksum else None

    @property
    def texts(self) -> list[str]:
        """The disagreements in words."""
        return [disagreement.text for disagreement in self.disagreements]

    @property
    def described(self) -> str:
        """What serves, by whom and since when, in words."""
        if self.target.checksum is None:
            return (
                f"function version {self.target.function_version}, the placeholder of the stack: no model is in service"
            )
        if self.entry is None:
            return f"function version {self.target.function_version}, an artifact that the ledger does not know"
        return _named({**self.entry, "function_version": self.target.function_version})

    @property
    def lost_to_placeholder(self) -> bool:
        """Whether the alias fell back to the placeholder, which is repaired without a question."""
        return any(disagreement.kind == PLACEHOLDER for disagreement in self.disagreements)

    def require_agreement(self) -> None:
        """Raise DisagreementError if alias, MLflow and ledger disagree."""
        if self.disagreements:
            raise DisagreementError(f"nothing was changed: {'; '.join(self.texts)}. To end this, {HOW_TO_END}.")


class ServingReport(TypedDict):
    """The newest comparison, stored for views and to report a disagreement once.

    `function_version` has the alias, `ledger` is the key of the entry in service (empty if there is none).
    """

    at: str
    function_version: str
    ledger: str
    disagreements: list[str]


def read(settings: Settings, lambda_client: Any, store: Store) -> Serving:
    """Return what serves by alias, ledger and MLflow."""
    from riskwatch_ml.registry import mlflow_registry

    serving = _compare(settings, lambda_client, store)
    champion = mlflow_registry.champion(settings)
    about_champion = _about_champion(serving.target, serving.recorded, champion)
    return replace(serving, champion=champion, disagreements=(*serving.disagreements, *about_champion))


def read_without_mlflow(settings: Settings, lambda_client: Any, store: Store) -> Serving:
    """Return what serves by alias and ledger, with what `keep` last stored about the same pair.

    Views use it: a request to MLflow takes seconds if the server is down, and its client takes seconds to import.
    """
    serving = _compare(settings, lambda_client, store)
    last = _last(store)
    if serving.disagreements or last is None or _pair(last) != _pair(_report_of(serving)):
        return serving
    return replace(serving, disagreements=tuple(Disagreement(CHAMPION, text) for text in last["disagreements"]))


def is_reported(store: Store, serving: Serving) -> bool:
    """Return whether the newest stored comparison says the same."""
    last = _last(store)
    current = _report_of(serving)
    return last is not None and (_pair(last), last["disagreements"]) == (_pair(current), current["disagreements"])


def _last(store: Store) -> ServingReport | None:
    """Return the newest stored comparison."""

    def report(value: Any) -> ServingReport:
        version, entry, texts = value["function_version"], value["ledger"], value["disagreements"]
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in (version, entry, *texts)):
            raise TypeError("a value is no text")
        at = str(value.get("at", ""))
        return {"at": at, "function_version": version, "ledger": entry, "disagreements": texts}

    return store.get_state(keys.SERVING, report)


def keep(store: Store, serving: Serving) -> None:
    """Store a comparison for views, and so that a disagreement is reported once."""
    store.put_json(keys.SERVING, _report_of(serving))


def alias_target(lambda_client: Any, function: str, alias: str) -> AliasTarget:
    """Return the function version behind the alias.

    Raises ReleaseError if the function or the alias does not exist.
    """
    with release.translate_lambda_errors(function, alias):
        version = str(lambda_client.get_alias(FunctionName=function, Name=alias)["FunctionVersion"])
        running = lambda_client.get_function_configuration(FunctionName=function, Qualifier=version)
    # Only inline code has this handler, and an artifact with it would not start.
    is_placeholder = running["Handler"] == release.PLACEHOLDER_HANDLER
    return AliasTarget(version, None if is_placeholder else archive.checksum_of(running["CodeSha256"]))


def _compare(settings: Settings, lambda_client: Any, store: Store) -> Serving:
    """Return what serves by alias and ledger."""
    target = alias_target(lambda_client, settings.function, settings.alias)
    recorded = ledger.in_service(ledger.newest_first(store, ledger.SERVING))
    entry = _entry_of(store, target, recorded)
    return Serving(target, recorded, entry, None, tuple(_about_alias(settings.alias, target, recorded, entry)))


def _entry_of(store: Store, target: AliasTarget, recorded: LedgerEntry | None) -> LedgerEntry | None:
    """Return the newest entry that put the artifact behind the alias into service."""
    if target.checksum is None:
        return None
    if recorded is not None and recorded["digest"] == target.checksum:
        return recorded
    entries = ledger.newest_first(store, ledger.INTO_SERVICE)
    return next((entry for entry in entries if entry["digest"] == target.checksum), None)


def _about_alias(
    alias: str, target: AliasTarget, recorded: LedgerEntry | None, entry: LedgerEntry | None
) -> list[Disagreement]:
    if target.checksum == (None if recorded is None else recorded["digest"]):
        return []
    points = f"alias {alias!r} points to function version {target.function_version}"
    if recorded is None:
        return [Disagreement(LEDGER, f"{points}, and the ledger has no entry that put it into service")]
    says = f"the ledger says {_named(recorded)}"
    if target.checksum is None:
        return [Disagreement(PLACEHOLDER, f"{points}, the placeholder of the stack, while {says}")]
    if entry is None:
        return [Disagreement(ALIAS, f"{points}, which has no entry in the ledger, while {says}: it was moved by hand")]
    return [Disagreement(ALIAS, f"{points} ({_named(entry)}), while {says}: it was moved by hand")]


def _about_champion(
    target: AliasTarget, recorded: LedgerEntry | None, champion: Registered | None
) -> list[Disagreement]:
    """Return the difference between MLflow and what serves.

    Without a model in service, MLflow may keep the champion of an earlier stack. If alias and ledger disagree, a
    champion that is one of the two is no further disagreement.
    """
    expected = {target.checksum, None if recorded is None else recorded["digest"]}
    if target.checksum is None or (champion is not None and champion.digest in expected):
        return []
    says = "has no champion" if champion is None else f"has model version {champion.version} as champion"
    return [Disagreement(CHAMPION, f"MLflow {says}, and function version {target.function_version} serves another one")]


def _named(entry: LedgerEntry) -> str:
    return (
        f"function version {entry['function_version']}, model version {entry.get('version', '?')} "
        f"({entry.get('family', '?')}), put into service at {entry['at']} by {entry.get('by', '?')}"
    )


def _report_of(serving: Serving) -> ServingReport:
    return {
        "at": clock.iso(clock.now()),
        "function_version": serving.target.function_version,
        "ledger": "" if serving.recorded is None else serving.recorded["key"],
        "disagreements": serving.texts,
    }


def _pair(report: ServingReport) -> tuple[str, str]:
    return report["function_version"], report["ledger"]
