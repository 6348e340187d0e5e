"""Two hours of metric rows to validate, and their catalogue."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from riskwatch_expectations.validate import Interval
from riskwatch_ml.schema.catalogue import Catalogue
from riskwatch_ml.schema.metric import Metric

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
NOON = TEN + timedelta(hours=2)
INTERVAL = Interval(TEN, NOON, 300)


def catalogue(upper=100.0):
    """A percentage, and a metric without bounds."""
    return Catalogue((Metric("cpu", "Test", "CPU", lower=0.0, upper=upper, unit="%"), Metric("net", "Test", "Net")))


def two_hours():
    """Rows of two instances, 24 each."""
    moments = [TEN + timedelta(minutes=5 * place) for place in range(24)]
    frame = pd.DataFrame([(name, moment) for name in "ab" for moment in moments], columns=["instance_id", "timestamp"])
    frame = frame.astype({"instance_id": "str", "timestamp": "datetime64[ms, UTC]"})
    values = np.random.default_rng(7).uniform(10, 90, (len(frame), 2))
    return frame.assign(cpu=values[:, 0], net=values[:, 1])
