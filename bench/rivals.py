"""The rival of the function: scikit-learn and joblib, one row at a time.

It applies the same rule as a first version of such a function would: it decodes without validation, squashes with
NumPy, and uses ``NearestNeighbors`` for the nearest prototype of each map. It returns level and score, without reasons.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np

from riskwatch_ml.model.level_rule import LevelCuts

if TYPE_CHECKING:
    from pathlib import Path

    from riskwatch_ml.families.prototype_map import PrototypeMap
    from riskwatch_ml.model.fleet_model import FleetModel
    from riskwatch_ml.model.level_rule import LevelRule

HOUR_MS = 3_600_000


def dump(model: FleetModel, path: Path) -> None:
    """Write a model as fitted estimators, as joblib models are deployed."""
    joblib.dump(
        {
            "instances": dict(model.baselines.instances),
            "fleet": model.baselines.fleet,
            "center": model.baselines.center,
            "scale": model.baselines.scale,
            "groups": model.groups,
            "level": _level(model.level),
            "members": [(m.group, m.window, _estimators(m.map), m.boundary) for m in model.members],
        },
        path,
    )


def _level(rule: LevelRule) -> tuple[Any, ...]:
    if isinstance(rule, LevelCuts):
        return rule.metric, rule.idle_below, rule.high_from, rule.names
    return rule.center, rule.scale, _estimators(rule.map), rule.names


def _estimators(served: PrototypeMap) -> Any:
    from sklearn.neighbors import NearestNeighbors

    stages = [
        (NearestNeighbors(n_neighbors=1, algorithm="brute").fit(stage.prototypes), stage.labels, stage.radius)
        for stage in served.stages
    ]
    return stages, served.table, [stage.outside for stage in served.stages]


class Handler:
    """A scorer of base64 one-row records, for models without rolling features."""

    def __init__(self, path: Path) -> None:
        self._model = joblib.load(path)

    def score(self, data: str) -> tuple[str, float]:
        """Return level and score of the newest row of a record."""
        model = self._model
        record = json.loads(base64.b64decode(data))
        rows = np.array(record["rows"], dtype=float)
        hours = np.array(record["ts"]) // HOUR_MS % 24
        baseline = model["instances"].get(record["instance_id"], model["fleet"])
        center, scale = model["center"][baseline, hours], model["scale"][baseline, hours]
        behaviour = _squash(np.where(np.isnan(rows), 0.0, (rows - center) / scale))
        scores = []
        for group, window, estimators, boundary in model["members"]:
            if group == model["groups"][baseline] and len(rows) >= window:
                scores.append(_place(estimators, behaviour[-window:].reshape(1, -1))[1] / boundary[baseline])
        values = np.where(np.isnan(rows[-1]), center[-1], rows[-1])
        return self._level_of(values), float(np.mean(scores))

    def _level_of(self, values: np.ndarray) -> str:
        *rule, names = self._model["level"]
        if not isinstance(rule[0], np.ndarray):
            metric, idle_below, high_from = rule
            return str(names[int(np.searchsorted([idle_below, high_from], values[metric], side="right"))])
        level_center, level_scale, estimators = rule
        label, _ = _place(estimators, _squash((values - level_center) / level_scale).reshape(1, -1))
        return str(names[label])


def _place(estimators: Any, vector: np.ndarray) -> tuple[int, float]:
    stages, table, outside = estimators
    results = []
    for (estimator, labels, radius), other in zip(stages, outside, strict=True):
        distance, index = estimator.kneighbors(vector)
        far = radius is not None and distance[0, 0] > radius
        results.append((int(other if far else labels[index[0, 0]]), float(distance[0, 0])))
    if table is None:
        return results[0]
    return table[results[0][0], results[1][0]], (results[0][1] + results[1][1]) / 2


def _squash(z: np.ndarray) -> np.ndarray:
    return np.copysign(np.log1p(np.abs(z)), z)
