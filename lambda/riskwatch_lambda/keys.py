"""Keys of the objects that the function writes: gzip JSON lines by hour of arrival."""

from __future__ import annotations

from datetime import UTC, datetime

LABELLED = "labelled/arrived"
REFUSED = "quarantine/records"


def partition(ms: int) -> str:
    """Give the hour partition of an epoch millisecond, for example ``dt=2026-11-22/hh=10``."""
    return f"{datetime.fromtimestamp(ms // 1000, UTC):dt=%Y-%m-%d/hh=%H}"


def arrived(prefix: str, arrived_ms: int, name: str) -> str:
    """Give the key of an object of a batch: ``labelled/arrived/dt=2026-11-22/hh=10/NAME.json.gz``."""
    return f"{prefix}/{partition(arrived_ms)}/{name}.json.gz"
