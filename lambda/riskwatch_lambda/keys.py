"""S3 keys of the objects that the function writes, partitioned by hour of arrival."""

from __future__ import annotations

from datetime import UTC, datetime

LABELLED = "labelled/arrived"
REFUSED = "quarantine/records"


def partition(ms: int) -> str:
    """Return the hour partition of a time: ``dt=2026-11-22/hh=10``.

    ``ms`` is epoch milliseconds.
    """
    return f"{datetime.fromtimestamp(ms // 1000, UTC):dt=%Y-%m-%d/hh=%H}"


def arrived(prefix: str, arrived_ms: int, name: str) -> str:
    """Return the key of a batch object.

    For example ``labelled/arrived/dt=2026-11-22/hh=10/NAME.json.gz``.
    """
    return f"{prefix}/{partition(arrived_ms)}/{name}.json.gz"
