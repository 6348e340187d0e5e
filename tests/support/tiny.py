"""A model small enough to score by hand, and records for it.

Two features, ``cpu`` (0 to 100 %, harmful upwards, exhausted at 95) and ``net`` (no bounds, harmful both ways). Scales
are 1 and 10, so with E = e - 1 a value of center + E * scale has the squashed deviation log(1 + E) = 1.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import struct
from typing import Any

from riskwatch_lambda.model.document import Model, from_files
from riskwatch_lambda.scoring.records import Record, parse

E = math.e - 1
PERIOD_MS = 300_000
# 2026-11-22T10:00:00.000Z, and the centers of web-1 at that hour and at every other one.
TEN = 1_795_341_600_000
CPU_AT_TEN, CPU, NET = 20.0, 10.0, 100.0


def baseline(cpu: float, net: float, cpu_at_ten: float | None = None) -> list[list[float]]:
    """Give the centers of one baseline, 24 hours of two features."""
    return [[cpu_at_ten if hour == 10 and cpu_at_ten is not None else cpu, net] for hour in range(24)]


DOCUMENT: dict[str, Any] = {
    "schema": "maps/1",
    "model_id": "tiny-1",
    "family": "kmeans",
    "trained_at": "2026-11-22T03:30:00.000Z",
    "training_id": "t1",
    "run_id": None,
    "period_s": 300,
    "features": ["cpu", "net"],
    "bounds": [[0, 100], [None, None]],
    "directions": ["up", "both"],
    "exhaustion": [95, None],
    "baselines": {"instances": {"web-1": 2}, "roles": {"web": 1}, "fleet": 0},
    "level": {
        "map": {
            "stages": [{"prototypes": "level_map", "labels": [0, 1, 2], "radius": None, "outside": None}],
            "table": None,
        },
        "names": ["Idle", "Normal", "High Load"],
    },
    "members": [
        {
            "window": 1,
            "weight": 1,
            "map": {
                "stages": [{"prototypes": "m0", "labels": [0], "radius": None, "outside": None}],
                "table": None,
            },
            "boundary": "b0",
        },
    ],
    "context_rows": 2,
    "max_gap_s": 1800,
    "rule": {"m": 1, "n": 1, "close_rows": 2, "paging_threshold": 1.5, "cooldown_s": 3600, "group_s": 900},
    "reference": {"rows": 0, "levels": {}, "unusual": 0.0, "alerts_per_instance_day": 0.0},
    "golden": {"records": [], "expected": []},
}
ARRAYS: dict[str, Any] = {
    "center": [baseline(50, 500), baseline(30, 300), baseline(CPU, NET, CPU_AT_TEN)],
    "scale": [[[1.0, 10.0]] * 24] * 3,
    "level_center": [0.0, 0.0],
    # Far apart in cpu, indifferent to net: log(1 + cpu), 0 about at 0, 3 at 19, 4.4 at 80.
    "level_scale": [1.0, 1e6],
    "level_map": [[0.0, 0.0], [3.0, 0.0], [4.4, 0.0]],
    "m0": [[0.0, 0.0]],
    "b0": [1.0, 1.0, 1.0],
}


def document(**changes: Any) -> dict[str, Any]:
    """Give a copy of the document with some top-level values replaced."""
    return {**copy.deepcopy(DOCUMENT), **changes}


def encode(
    values: dict[str, Any], arrays: dict[str, Any], kinds: dict[str, dict[str, Any]] | None = None
) -> dict[str, bytes]:
    """Give the bytes of the files of a model by name; `kinds` has the arrays of its further parts."""
    stored = _stored(arrays)
    for prefix, further in (kinds or {}).items():
        stored |= {f"{prefix}/{name}": content for name, content in _stored(further).items()}
    index, blob = {}, b""
    for name, content in sorted(stored.items()):
        kind, code = ("u2", "H") if name.endswith("profile_counts") else ("f4", "f")
        flat = list(flatten(content))
        index[name] = {"type": kind, "offset": len(blob), "shape": shape(content) if content else [0, 24]}
        blob += struct.pack(f"<{len(flat)}{code}", *flat)
    return sealed({**values, "arrays": index}, blob)


def _stored(arrays: dict[str, Any]) -> dict[str, Any]:
    plain = {name: content for name, content in arrays.items() if name not in ("center", "scale")}
    return {**plain, **profile(arrays["center"], arrays["scale"])}


def sealed(values: dict[str, Any], blob: bytes) -> dict[str, bytes]:
    """Give the files of a model of a document and the bytes of its arrays, with their hashes."""
    files = {"model.json": json.dumps(values).encode(), "model.bin": blob}
    listed = (f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    return {**files, "SHA256SUMS": "".join(listed).encode()}


def profile(center: list[Any], scale: list[Any]) -> dict[str, Any]:
    """Give the stored form of centers and scales by baseline, hour and feature: steps of one wherever hours differ."""
    columns = [[list(zip(*kind, strict=True)) for kind in pair] for pair in zip(center, scale, strict=True)]
    flat = [hours for pair in columns for kind in pair for hours in kind]
    return {
        "profile_base": [[[min(hours) for hours in kind] for kind in pair] for pair in columns],
        "profile_step": [[[float(len(set(hours)) > 1) for hours in kind] for kind in pair] for pair in columns],
        "profile_counts": [[int(v - min(hours)) for v in hours] for hours in flat if len(set(hours)) > 1],
    }


def shape(values: Any) -> list[int]:
    """Give the shape of nested lists."""
    return [len(values), *shape(values[0])] if isinstance(values, list) else []


def flatten(values: Any) -> Any:
    """Give the numbers of nested lists in C order."""
    if isinstance(values, list):
        for value in values:
            yield from flatten(value)
    else:
        yield values


def model(arrays: dict[str, Any] | None = None, **changes: Any) -> Model:
    """Load the tiny model with some arrays and document values replaced."""
    return from_files(encode(document(**changes), {**ARRAYS, **(arrays or {})}))


def two_members() -> dict[str, Any]:
    """Give the members of a model with a second, three times heavier member over two rows; its arrays are m1 and b1."""
    second = {
        "window": 2,
        "weight": 3,
        "map": {
            "stages": [{"prototypes": "m1", "labels": [0, 1], "radius": None, "outside": None}],
            "table": None,
        },
        "boundary": "b1",
    }
    return {
        "members": [*copy.deepcopy(DOCUMENT["members"]), second],
        "arrays": {"m1": [[0.0, 0.0, 0.0, 0.0], [9.0, 9.0, 9.0, 9.0]], "b1": [1.0, 1.0, 2.0]},
    }


def stream_record(rows: list[list[float | None]], instance_id: str = "web-1", **changes: Any) -> dict[str, Any]:
    """Give a stream record whose newest row is at 11:00 UTC, one period after the one before it."""
    last = changes.pop("last_ms", TEN + 12 * PERIOD_MS)
    ts = [last - PERIOD_MS * back for back in reversed(range(len(rows)))]
    known = {"v": 1, "service": "shop", "role": "web", "instance_id": instance_id, "ts": ts, "rows": rows}
    return {**known, **changes}


def record(rows: list[list[float | None]], instance_id: str = "web-1", **changes: Any) -> Record:
    """Give a decoded record."""
    return parse(stream_record(rows, instance_id, **changes), model().row_schema)
