"""A model of two kinds small enough to score by hand, and records for its second one.

The first part is the tiny model as kind ``ec2``. The second, ``rds``, has one feature, ``connections``, with a center
of 40 and a scale of 1 at every hour, and a rule of its own.
"""

from __future__ import annotations

import math
from typing import Any

from riskwatch_lambda.model.document import Model, from_files
from tests.support import tiny
from tests.support.tiny import PERIOD_MS
from tests.support.world import ELEVEN, INSTANCES

EC2, RDS = "ec2", "rds"
ORDERS, CARTS = "rds/orders", "rds/carts"
# Scores of 0, 2 and 4; the paging threshold is 3.
CALM, UNUSUAL, PAGING = 40.0, 40.0 + math.e**2 - 1, 40.0 + math.e**4 - 1
GOLDEN = {
    "records": [
        {"v": 1, "service": "shop", "role": "db", "instance_id": ORDERS, "ts": [tiny.TEN], "rows": [[UNUSUAL]]},
    ],
    "expected": [{"score": 2.0, "level": "Idle", "unusual": True}],
}
RULE = {"m": 1, "n": 1, "close_rows": 1, "paging_threshold": 3.0, "cooldown_s": 600, "group_s": 60}
DOCUMENT: dict[str, Any] = {
    **tiny.DOCUMENT,
    "model_id": "tiny-rds",
    "features": ["connections"],
    "bounds": [[0, 1000]],
    "directions": ["up"],
    "exhaustion": [None],
    "baselines": {"instances": {ORDERS: 0, CARTS: 0}, "roles": {"db": 0}, "fleet": 0},
    "level": {
        "map": {
            "stages": [{"prototypes": "level_map", "labels": [0, 1], "radius": None, "outside": None}],
            "table": None,
        },
        "names": ["Idle", "High Load"],
    },
    "context_rows": 1,
    "rule": RULE,
    "golden": GOLDEN,
}
ARRAYS: dict[str, Any] = {
    "center": [[[CALM]] * 24],
    "scale": [[[1.0]] * 24],
    # log(1 + connections): 3.7 at 40, 4.6 at 94.
    "level_center": [0.0],
    "level_scale": [1.0],
    "level_map": [[3.7], [4.6]],
    "m0": [[0.0]],
    "b0": [1.0],
}


def files(first: dict[str, Any] | None = None, **further: Any) -> dict[str, bytes]:
    """Give the files of a model of both kinds, with some values of the first document, and of the second, replaced."""
    changes = {"resource_kind": EC2, "baselines": INSTANCES, **(first or {})}
    document = {**tiny.document(**changes), "kinds": {RDS: {**DOCUMENT, **further}}}
    return tiny.encode(document, tiny.ARRAYS, {RDS: ARRAYS})


def model(first: dict[str, Any] | None = None, **further: Any) -> Model:
    """Load a model of both kinds, with some values replaced as in `files`."""
    return from_files(files(first, **further))


def row(connections: float | None, at: int = 0, instance: str = ORDERS, **changes: Any) -> dict[str, Any]:
    """Give a record of one row of a database, ``at`` periods after 11:00."""
    known = {"role": "db", "kind": RDS, "last_ms": ELEVEN + at * PERIOD_MS}
    return tiny.stream_record([[connections]], instance, **{**known, **changes})


def pack(instance: str, values: list[float | None], newest: int, **changes: Any) -> dict[str, Any]:
    """Give a pack of rows of one database; the newest row is at 11:00."""
    ts = [ELEVEN - PERIOD_MS * back for back in reversed(range(len(values)))]
    entry = {"id": instance, "role": "db", "newest": newest, "ts": ts, "columns": [values]}
    known = {"v": 2, "service": "shop", "kind": RDS, "features": ["connections"], "instances": [entry]}
    return {**known, **changes}
