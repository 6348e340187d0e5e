import numpy as np
import pandas as pd
import pytest

from riskwatch_ml.families import FAMILIES
from riskwatch_ml.model.fit import Recipe
from riskwatch_ml.schema import catalogue
from riskwatch_ml.schema.inventory import Instance
from riskwatch_ml.selection import candidate as train


@pytest.fixture(scope="session")
def inventory():
    return {name: Instance(name, "web", "shop") for name in ("web-1", "web-2", "web-9")}


@pytest.fixture(scope="session")
def fleet_rows():
    """Return a maker of five-minute rows of instances, with all catalogue metrics."""

    def make(names, rows=600, seed=0):
        rng = np.random.default_rng(seed)
        metrics = catalogue.load().metrics
        frames = []
        for name in names:
            times = pd.date_range("2026-11-01", periods=rows, freq="5min", tz="UTC").as_unit("ms")
            wave = 40 + 25 * np.sin(np.arange(rows) * 2 * np.pi / 288 + len(name)) + rng.normal(0, 3, rows)
            columns = {m.name: np.clip(wave * rng.uniform(0.5, 1.5) + rng.normal(0, 2, rows), 0, 100) for m in metrics}
            frames.append(pd.DataFrame({"instance_id": name, "timestamp": times} | columns))
        return pd.concat(frames, ignore_index=True)

    return make


@pytest.fixture(scope="session", params=list(FAMILIES))
def candidate(request, fleet_rows, inventory):
    """Return a candidate of each family."""
    rows = fleet_rows(["web-1", "web-2", "db-1"])
    return train.fit_candidate(rows, catalogue.load(), inventory, Recipe(request.param, seed=2), "t1")
