"""A batch worker that works hard every night: busy, and no reason to wake anybody."""

import numpy as np
import pandas as pd
import pytest

from riskwatch_ml.backtest.replay import backtest
from riskwatch_ml.families import FAMILIES
from riskwatch_ml.schema import catalogue
from riskwatch_ml.schema.inventory import Instance

DAYS, NIGHTS = 9, 2
JOB = range(1, 4)  # hours of the job, UTC


def fleet():
    """Rows of two batch workers at 92 % of their CPU in the night, 8 % by day, and of three web servers."""
    rng = np.random.default_rng(1)
    times = pd.date_range("2026-11-02", periods=DAYS * 96, freq="15min", tz="UTC").as_unit("ms")
    works = np.isin(times.hour, JOB)
    parts = []
    for name in ("batch-1", "batch-2", "web-1", "web-2", "web-3"):
        if name.startswith("batch"):
            cpu = np.where(works, 92.0, 8.0)
        else:
            cpu = 40 + 20 * np.sin(2 * np.pi * (times.hour - 8) / 24)
        columns = {metric: cpu + rng.normal(0, 1.5, len(times)) for metric in catalogue.load().names}
        parts.append(pd.DataFrame({"instance_id": name, "timestamp": times} | columns))
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_its_nightly_job_is_high_load_and_pages_nobody(family):
    # GIVEN a week of history and two nights after it
    rows = fleet()
    later = rows["timestamp"] >= rows["timestamp"].min() + pd.Timedelta(days=DAYS - NIGHTS)
    inventory = {name: Instance(name, role=name[:-2]) for name in rows["instance_id"].unique()}

    # WHEN
    labelled = backtest(rows[~later], rows[later], family=family, inventory=inventory).rows

    # THEN
    is_batch = labelled["instance_id"].str.startswith("batch")
    job = labelled[is_batch & labelled["timestamp"].dt.hour.isin(JOB)]
    assert len(job) == 2 * NIGHTS * len(JOB) * 4
    assert set(job["level"]) == {"High Load"}
    assert set(labelled.loc[is_batch & ~labelled.index.isin(job.index), "level"]) == {"Idle"}
    assert set(job["risk"]) == {"High Load"}
