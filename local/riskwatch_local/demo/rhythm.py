"""The load of simulated resources: a daily rhythm (UTC) with noise, between 0 and 1.

The noise has two parts: that which the resources of a service share, and that of the resource alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from numpy.typing import NDArray

PASSAGE_H = 1 / 6

# The load at 24 hours. A day has a few regimes of several hours, with short passages between them. The CPU of an
# instance differs from the bounds of the regimes by more than the noise; otherwise rows would not show the true regime.
_DAY = (0.12, 0.10, 0.09, 0.09, 0.10, 0.12, 0.36, 0.42, 0.46, 0.82, 0.86, 0.88)
_EVENING = (0.86, 0.87, 0.87, 0.85, 0.83, 0.82, 0.82, 0.84, 0.81, 0.46, 0.38, 0.14)
USERS = _DAY + _EVENING
# A database serves the same users and is never idle: at night it runs maintenance.
_HOUSE = (0.42, 0.40, 0.38, 0.38, 0.38, 0.40, 0.42, 0.45, 0.48, 0.90, 0.93, 0.95)
_SERVE = (0.93, 0.94, 0.94, 0.92, 0.90, 0.89, 0.89, 0.91, 0.90, 0.48, 0.45, 0.43)
DATABASE = _HOUSE + _SERVE
# Workers run batches at night: full load is normal for them then.
_BATCH_NIGHT = (0.42, 0.93, 0.96, 0.96, 0.95, 0.90, 0.40, 0.12, 0.13, 0.14, 0.15, 0.15)
_BATCH_DAY = (0.15, 0.14, 0.13, 0.12, 0.11, 0.10, 0.08, 0.08, 0.08, 0.08, 0.10, 0.38)
BATCHES = _BATCH_NIGHT + _BATCH_DAY


def periods(start: datetime, stop: datetime, period_s: int) -> tuple[pd.DatetimeIndex, NDArray[np.float64]]:
    """Return the starts of the periods in [start, stop) and their hours in UTC."""
    times = pd.date_range(start, stop, freq=f"{period_s}s", inclusive="left", tz="UTC").as_unit("ms")
    return times, (times.hour + times.minute / 60 + times.second / 3600).to_numpy(dtype=float)


def service_noise(random: np.random.Generator, services: Iterable[str], size: int) -> dict[str, NDArray[np.float64]]:
    """Return the noise (size,) that the resources of each service share."""
    return {service: autoregressive(random, size, 0.97, 0.05) for service in services}


def load(
    by_hour: tuple[float, ...], hours: NDArray[np.float64], shared: NDArray[np.float64], random: np.random.Generator
) -> NDArray[np.float64]:
    """Return the load of a resource at `hours` of the day.

    It is the rhythm `by_hour`, with the noise of its service and its own.
    """
    noisy = rhythm(by_hour, hours) * np.exp(shared + autoregressive(random, len(hours), 0.85, 0.06))
    return np.clip(noisy, 0.02, 1.05)


def rhythm(by_hour: tuple[float, ...], hours: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the load without noise at `hours` of the day.

    Around each full hour the load passes within ten minutes from one hourly value to the next.
    """
    knots = np.arange(-1, 25)[:, None] + [PASSAGE_H / 2, 1 - PASSAGE_H / 2]
    levels = np.array([by_hour[-1], *by_hour, by_hour[0]])
    result: NDArray[np.float64] = np.interp(hours, knots.ravel(), np.repeat(levels, 2))
    return result


def autoregressive(random: np.random.Generator, size: int, memory: float, deviation: float) -> NDArray[np.float64]:
    """Return (size,) noise with the given standard deviation.

    It keeps the share `memory` of itself from point to point.
    """
    steps = random.normal(0, deviation * np.sqrt(1 - memory**2), size)
    steps[0] = random.normal(0, deviation)
    noise = np.empty(size)
    state = 0.0
    for index, step in enumerate(steps):
        state = memory * state + step
        noise[index] = state
    return noise
