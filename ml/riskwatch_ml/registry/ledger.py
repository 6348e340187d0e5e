"""The ledger: one object for each decision about the model in service.

Entries are never overwritten. `action` is `promote`, `restore` (the alias went back to an earlier version, or to the
one that the ledger names), `confirm` (an operator accepted what serves), `rollback` or `dry_run`.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, TypedDict, cast

from riskwatch_ml.core import clock
from riskwatch_ml.core.errors import OperationError
from riskwatch_ml.storage import keys
from riskwatch_ml.storage.parquet import DamagedObjectError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from riskwatch_ml.registry.release import GoldenOutcome
    from riskwatch_ml.storage.bucket import Store

PROMOTE, RESTORE, CONFIRM, ROLLBACK, DRY_RUN = "promote", "restore", "confirm", "rollback", "dry_run"
INTO_SERVICE = (PROMOTE, CONFIRM, ROLLBACK)
"""The actions that put an artifact into service."""
SERVING = (*INTO_SERVICE, RESTORE)
"""The actions that change what is in service."""


class LedgerError(OperationError):
    """An entry has no action or digest that fits into a key."""


class Replaced(TypedDict):
    """The champion that a model replaces."""

    version: str
    digest: str


class LedgerEntry(TypedDict, total=False):
    """One decision; only entries that were read have their `key`.

    `at` is its time (ISO 8601, UTC). `version` is the version in MLflow, `function_version` the Lambda version that has
    the alias from then on. `by` is the user or policy that approved it, `golden` the outcome of the self-test. In an
    installation with several kinds, `kinds` has the model id of each part, and `resource_kinds` the promoted kinds.
    """

    key: str
    at: str
    action: str
    digest: str
    by: str
    version: str
    family: str
    training_id: str
    figures: dict[str, float | None]
    replaces: Replaced | None
    mode: str
    kind: str
    why: str
    function_version: str
    previous_version: str
    code_sha256: str
    model_id: str
    golden: GoldenOutcome
    reason: str
    kinds: dict[str, str]
    resource_kinds: list[str]


def write(store: Store, entry: Mapping[str, object]) -> str:
    """Append one entry to the ledger and return its key.

    ``entry`` has the fields of ``LedgerEntry`` and needs ``action`` (a word such as ``promote``) and ``digest``
    (hexadecimal). ``at`` (ISO 8601, UTC) is the current time if absent. An equal entry with the same ``at`` is not
    written again; a different one of the same millisecond, whatever its action, gets the next millisecond, so that
    keys sort in the order of the decisions.

    Raises LedgerError if ``action`` or ``digest`` is missing or does not fit into a key.
    """
    action, digest = str(entry.get("action", "")), str(entry.get("digest", ""))
    if not re.fullmatch(r"[a-z][a-z_]*", action):
        raise LedgerError(f"ledger entry: action is {action!r}; use a lower-case word such as 'promote' or 'rollback'")
    if not re.fullmatch(r"[0-9a-f]{8,}", digest):
        raise LedgerError(f"ledger entry: digest is {digest!r}; give the SHA-256 of the artifact in hexadecimal")
    moment = datetime.fromisoformat(str(entry["at"])) if "at" in entry else clock.now()
    while True:
        key = keys.ledger_entry(moment, action, digest)
        dated = {**entry, "at": clock.iso(moment)}
        data = json.dumps(dated, sort_keys=True, allow_nan=False, default=str).encode("utf-8")
        taken = store.keys(keys.ledger_entries_of(moment))
        if not taken and store.put_bytes(key, data, if_absent=True):
            return key
        if store.get_bytes(key) == data:
            return key
        moment += timedelta(milliseconds=1)


def read(store: Store, limit: int = 50) -> list[LedgerEntry]:
    """Return the newest ``limit`` entries, newest first, each with its ``key``."""
    return list(islice(newest_first(store), limit))


def newest_first(store: Store, actions: Collection[str] | None = None) -> Iterator[LedgerEntry]:
    """Yield the entries, newest first, each with its ``key``; read an object only if it is asked for.

    With ``actions``, only entries of these actions are read, so that any number of others costs nothing. Raises
    DamagedObjectError, with the name of the object, for an entry that cannot be read.
    """
    for key in sorted(store.keys(keys.LEDGER), reverse=True):
        if actions is not None and keys.ledger_action(key) not in actions:
            continue
        entry = store.get_json(key)
        if entry is not None:
            yield _checked(entry, key)


def _checked(entry: object, key: str) -> LedgerEntry:
    fields = entry if isinstance(entry, dict) else {}
    needed = ("action", "at", "digest", *(("function_version",) if fields.get("action") in SERVING else ()))
    damaged = [name for name in needed if not isinstance(fields.get(name), str)]
    if damaged:
        raise DamagedObjectError(f"{key} is no ledger entry, it has no {damaged[0]}: restore its previous version")
    return cast("LedgerEntry", {**fields, "key": key})


def put_into_service(entries: Iterable[LedgerEntry]) -> Iterator[LedgerEntry]:
    """Yield the entries that put a model into service, newest first, without those that were undone.

    ``entries`` are sorted newest first. A ``restore`` undoes the entries back to that of its function version.
    """
    undone_to: str | None = None
    for entry in entries:
        if entry["action"] == RESTORE:
            undone_to = undone_to or str(entry["function_version"])
        elif entry["action"] in INTO_SERVICE and undone_to in (None, str(entry["function_version"])):
            undone_to = None
            yield entry


def in_service(entries: Iterable[LedgerEntry]) -> LedgerEntry | None:
    """Return the entry that put the current model into service; None before the first promotion.

    ``entries`` are sorted newest first.
    """
    return next(put_into_service(entries), None)
