"""Clock constants, and epoch milliseconds as ISO 8601 text in UTC."""

from __future__ import annotations

from datetime import UTC, datetime

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def iso(ms: int) -> str:
    """Return epoch milliseconds as ISO 8601 text in UTC: ``2026-11-22T10:05:00.000Z``."""
    moment = datetime.fromtimestamp(ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"
