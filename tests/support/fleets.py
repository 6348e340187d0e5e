"""A small fleet to train on: two web instances that follow the day and a database that hovers."""

import numpy as np
import pandas as pd

from riskwatch_ml.schema import catalogue
from riskwatch_ml.schema.inventory import Instance

CATALOGUE = catalogue.load()
INVENTORY = {"web-1": Instance("web-1", "web"), "web-2": Instance("web-2", "web")}


def rows(names=("web-1", "web-2", "db-1"), n=864, seed=0):
    """Three days: web instances follow the day, the others hover, and load shows in every metric."""
    rng = np.random.default_rng(seed)
    times = pd.date_range("2026-11-01", periods=n, freq="5min", tz="UTC").as_unit("ms")
    parts = []
    for name in names:
        day = np.sin(np.arange(n) * 2 * np.pi / 288) if name.startswith("web") else np.zeros(n)
        load = np.clip(0.4 + 0.3 * day + rng.normal(0, 0.03, n), 0.01, 1)
        columns = {m.name: np.clip(100 * load + rng.normal(0, 2, n), 0, 100) for m in CATALOGUE.metrics}
        parts.append(pd.DataFrame({"instance_id": name, "timestamp": times} | columns))
    return pd.concat(parts, ignore_index=True)


def frame(instance, values, start="2026-11-01", step="5min", columns=("a",)):
    """Metric rows of one instance, ``values`` by row and column."""
    values = np.asarray(values, float).reshape(-1, len(columns))
    times = pd.date_range(start, periods=len(values), freq=step, tz="UTC").as_unit("ms")
    return pd.DataFrame({"instance_id": instance, "timestamp": times} | dict(zip(columns, values.T, strict=True)))
