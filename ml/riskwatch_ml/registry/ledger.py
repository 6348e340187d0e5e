"""The ledger: one object for each decision about what serves; nothing is ever overwritten.

`action` is `promote`, `restore` (a promotion that was undone), `rollback` or `dry_run`.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict, cast

from riskwatch_ml.core import clock
from riskwatch_ml.core.errors import OperationError
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from riskwatch_ml.storage.bucket import Store

PROMOTE, RESTORE, ROLLBACK, DRY_RUN = "promote", "restore", "rollback", "dry_run"


class LedgerError(OperationError):
    """An entry has no action or digest that a key can be made of."""


class Replaced(TypedDict):
    """The champion that a model replaces."""

    version: str
    digest: str


class LedgerEntry(TypedDict, total=False):
    """One decision; `key` is there in what was read.

    `version` is that of MLflow, `function_version` that of Lambda, which holds the alias from then on. `by` is who or
    what approved it, `golden` the outcome of the self-test.
    """

    key: str
    at: str
    action: str
    digest: str
    by: str
    version: str
    family: str
    training_id: str
    figures: dict[str, Any]
    replaces: Replaced | None
    mode: str
    kind: str
    why: str
    function_version: str
    previous_version: str
    code_sha256: str
    model_id: str
    golden: dict[str, int]
    reason: str


def write(store: Store, entry: Mapping[str, Any]) -> str:
    """Append one entry to the ledger and return its key; nothing is ever overwritten.

    ``entry`` needs ``action`` (a word such as ``promote``) and ``digest`` (hexadecimal); ``at`` (ISO time, UTC) is
    added where absent. Writing the same entry, ``at`` included, again is a no-op; a different entry of the same
    millisecond is put one millisecond later.

    Raises
    ------
    LedgerError
        ``action`` or ``digest`` is missing, or ``action`` would not fit a key.
    """
    action, digest = str(entry.get("action", "")), str(entry.get("digest", ""))
    if not re.fullmatch(r"[a-z][a-z_]*", action):
        raise LedgerError(f"ledger entry: action is {action!r}; use a lower-case word such as 'promote' or 'rollback'")
    if not re.fullmatch(r"[0-9a-f]{8,}", digest):
        raise LedgerError(f"ledger entry: digest is {digest!r}; give the SHA-256 of the artifact in hexadecimal")
    moment = datetime.fromisoformat(str(entry["at"])) if "at" in entry else clock.now()
    while True:
        key = keys.ledger_entry(moment, action, digest)
        full = {**entry, "at": clock.iso(moment)}
        data = json.dumps(full, sort_keys=True, allow_nan=False, default=str).encode("utf-8")
        if store.put_bytes(key, data, if_absent=True) or store.get_bytes(key) == data:
            return key
        moment += timedelta(milliseconds=1)


def read(store: Store, limit: int = 50) -> list[LedgerEntry]:
    """Return the newest ``limit`` entries of the ledger, newest first, each with its ``key``."""
    entries = []
    for key in sorted(store.keys(keys.LEDGER), reverse=True)[:limit]:
        data = store.get_bytes(key)
        if data is not None:
            entries.append(cast("LedgerEntry", {**json.loads(data), "key": key}))
    return entries


def in_service(entries: Iterable[LedgerEntry]) -> LedgerEntry | None:
    """Return the entry, of entries newest first, that put into service what serves; None before the first promotion."""
    undone_to: str | None = None
    for entry in entries:
        if entry["action"] == RESTORE:
            undone_to = undone_to or str(entry["function_version"])
        elif entry["action"] in (PROMOTE, ROLLBACK) and undone_to in (None, str(entry["function_version"])):
            return entry
    return None
