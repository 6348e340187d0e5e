"""Packs of rows for the tiny model."""

from __future__ import annotations

from typing import Any

from tests.support.tiny import PERIOD_MS, TEN

Rows = list[list[float | None]]


def entry(instance_id: str, rows: Rows, newest: int = 1, last_ms: int = TEN + 12 * PERIOD_MS) -> dict[str, Any]:
    """Give an instance of a pack; its newest row is at 11:00 UTC, one period after the one before it."""
    ts = [last_ms - PERIOD_MS * back for back in reversed(range(len(rows)))]
    columns = [list(column) for column in zip(*rows, strict=True)]
    return {"id": instance_id, "role": "web", "newest": newest, "ts": ts, "columns": columns}


def pack(*entries: Any, service: str = "shop", features: tuple[str, ...] = ("cpu", "net")) -> dict[str, Any]:
    """Give a pack."""
    return {"v": 2, "service": service, "features": list(features), "instances": list(entries)}
