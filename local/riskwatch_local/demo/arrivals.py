"""The rows that the function has stored after the demo streamed them."""

from __future__ import annotations

import gzip
import json
import time
from typing import TYPE_CHECKING, Any

from riskwatch_ml.core.errors import OperationError
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from riskwatch_local.services.system import System

ARRIVAL_S = 180.0
POLL_S = 0.5


class ArrivalError(OperationError):
    """Streamed rows are neither labelled nor quarantined after some minutes."""


def wait_for_rows(system: System, sent: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Wait for `sent` streamed rows; return the labelled ones and the refused records.

    Raises ArrivalError after `ARRIVAL_S` seconds, and ProcessError if a component has died.
    """
    store = system.store
    seen: dict[str, list[dict[str, Any]]] = {}  # lines of the objects read so far, by key
    deadline = time.monotonic() + ARRIVAL_S
    while True:
        for key in (*store.keys(keys.ARRIVED), *store.keys(keys.REFUSED)):
            if key not in seen:
                seen[key] = _json_lines(store.get_bytes(key) or b"")
        labelled = [row for key, rows in seen.items() if key.startswith(keys.ARRIVED) for row in rows]
        refused = [part for key, parts in seen.items() if key.startswith(keys.REFUSED) for part in parts]
        quarantined = sum(part["rows"] for part in refused)
        if len(labelled) + quarantined >= sent:
            return labelled, refused
        system.supervisor.ensure_alive()
        if time.monotonic() > deadline:
            log = system.state / "logs" / "embedded-aws.log"
            raise ArrivalError(
                f"{sent} rows were streamed, but after {ARRIVAL_S:.0f} s only {len(labelled)} are labelled and "
                f"{quarantined} quarantined; the log of the Lambda function is in {log}"
            )
        time.sleep(POLL_S)


def _json_lines(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(data).splitlines() if line]
