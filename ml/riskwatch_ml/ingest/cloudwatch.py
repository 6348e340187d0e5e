"""The arithmetic of reading CloudWatch: intervals on the grid, chunks, values of longer periods, whose a metric is.

The calls themselves are made by `riskwatch_ml.ingest.reader`, which loads slowly: it is loaded for its errors only.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from riskwatch_ml.core import clock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from riskwatch_ml.ingest.call_plan import Segment
    from riskwatch_ml.schema.catalogue import Metric
    from riskwatch_ml.schema.metric_rows import Series

# One point is a value of a metric: so many are held at a time, about 48 MB of them.
CHUNK_POINTS = 6_000_000


def checked_interval(start: datetime, end: datetime, period_s: int) -> tuple[datetime, datetime]:
    """Return [start, end) in UTC; raises CloudWatchError where it is empty or off the grid of the period."""
    from riskwatch_ml.ingest.reader import CloudWatchError

    for name, moment in (("start", start), ("end", end)):
        if clock.floor(moment, period_s) != moment:
            raise CloudWatchError(f"{name} {clock.iso(moment)} is not on the grid of {period_s} s: round it first")
    if start >= end:
        raise CloudWatchError(
            f"the interval from {clock.iso(start)} to {clock.iso(end)} is empty: the end must be later"
        )
    return clock.utc(start), clock.utc(end)


def spread(series: Series, factor: float, asked_s: int, period_s: int) -> Series:
    """Give each row of a longer period its value."""
    import numpy as np

    repeats = asked_s // period_s
    offsets = np.arange(repeats) * (period_s * 1000)
    return replace(
        series,
        stamps=(series.stamps[:, None] + offsets).ravel(),
        values=np.repeat(series.values * factor, repeats),
    )


def within(series: Series, start: datetime, end: datetime) -> Series:
    """Leave out what lies outside of [start, end)."""
    # CloudWatch may round the interval of old data outwards: what lies outside belongs to another interval.
    kept = (series.stamps >= clock.epoch_ms(start)) & (series.stamps < clock.epoch_ms(end))
    return series if kept.all() else replace(series, stamps=series.stamps[kept], values=series.values[kept])


def dimension_filter(name: str, template: str) -> dict[str, str]:
    """Return the filter of ListMetrics for a dimension: any value where it names the instance."""
    return {"Name": name} if "{instance_id}" in template else {"Name": name, "Value": template}


def instance_of(dimensions: Sequence[Mapping[str, str]], metric: Metric) -> str | None:
    """Return the instance that listed dimensions are of; None where they are not exactly those of the metric."""
    values = {item["Name"]: item["Value"] for item in dimensions}
    if set(values) != set(metric.dimensions):
        return None
    for name, template in metric.dimensions.items():
        if "{instance_id}" in template:
            pattern = re.escape(template).replace(re.escape("{instance_id}"), "(.+)")
            match = re.fullmatch(pattern, values[name])
            return match.group(1) if match else None
    return None


def chunks(part: Segment, queries: int) -> Iterator[tuple[datetime, datetime]]:
    """Cut a part at full hours into pieces of at most CHUNK_POINTS, or of one hour."""
    hours = max(1, CHUNK_POINTS // max(1, queries * 3600 // part.period_s))
    low = part.start
    while low < part.end:
        high = min(clock.floor(low, 3600) + timedelta(hours=hours), part.end)
        yield low, high
        low = high
