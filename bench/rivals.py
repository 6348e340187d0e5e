"""What the function is measured against: the same rule by scikit-learn and joblib, one row at a time.

It decodes without validating, squashes with NumPy, and asks ``NearestNeighbors`` for the nearest prototype of each map,
which is what a first version of such a function does. It gives level and score, and no reasons.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from riskwatch_ml.families.prototype_map import ClusterMap
    from riskwatch_ml.model.fleet_model import FleetModel

HOUR_MS = 3_600_000


def dump(model: FleetModel, path: Path) -> None:
    """Write a model as fitted estimators, the way joblib models are deployed."""
    joblib.dump(
        {
            "instances": dict(model.baselines.instances),
            "fleet": model.baselines.fleet,
            "center": model.baselines.center,
            "scale": model.baselines.scale,
            "groups": model.groups,
            "level": (model.level_center, model.level_scale, _estimators(model.level_map), model.level_names),
            "members": [(m.group, m.window, _estimators(m.map), m.boundary) for m in model.members],
        },
        path,
    )


def _estimators(where: ClusterMap) -> Any:
    from sklearn.neighbors import NearestNeighbors

    stages = [
        (NearestNeighbors(n_neighbors=1, algorithm="brute").fit(stage.prototypes), stage.labels, stage.radius)
        for stage in where.stages
    ]
    return stages, where.table, [stage.outside for stage in where.stages]


class Handler:
    """Scores base64 one-row records of models without trailing features."""

    def __init__(self, path: Path) -> None:
        self._model = joblib.load(path)

    def score(self, data: str) -> tuple[str, float]:
        """Give level and score of the newest row of a record."""
        model = self._model
        record = json.loads(base64.b64decode(data))
        rows = np.array(record["rows"], dtype=float)
        hours = np.array(record["ts"]) // HOUR_MS % 24
        baseline = model["instances"].get(record["instance_id"], model["fleet"])
        center, scale = model["center"][baseline, hours], model["scale"][baseline, hours]
        behaviour = _squash(np.where(np.isnan(rows), 0.0, (rows - center) / scale))
        scores = []
        for group, window, where, boundary in model["members"]:
            if group == model["groups"][baseline] and len(rows) >= window:
                scores.append(_place(where, behaviour[-window:].reshape(1, -1))[1] / boundary[baseline])
        level_center, level_scale, where, names = model["level"]
        values = np.where(np.isnan(rows[-1]), center[-1], rows[-1])
        label, _ = _place(where, _squash((values - level_center) / level_scale).reshape(1, -1))
        return names[label], float(np.mean(scores))


def _place(where: Any, vector: np.ndarray) -> tuple[int, float]:
    stages, table, outside = where
    found = []
    for (estimator, labels, radius), other in zip(stages, outside, strict=True):
        distance, index = estimator.kneighbors(vector)
        far = radius is not None and distance[0, 0] > radius
        found.append((int(other if far else labels[index[0, 0]]), float(distance[0, 0])))
    if table is None:
        return found[0]
    return table[found[0][0], found[1][0]], (found[0][1] + found[1][1]) / 2


def _squash(z: np.ndarray) -> np.ndarray:
    return np.copysign(np.log1p(np.abs(z)), z)
