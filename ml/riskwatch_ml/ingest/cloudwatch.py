"""Arithmetic of reading CloudWatch: intervals, chunks, long periods, dimensions.

`riskwatch_ml.ingest.reader` makes the calls. It loads slowly, so this module imports it only to raise its errors.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from riskwatch_ml.core import clock
from riskwatch_ml.core.listing import some
from riskwatch_ml.ingest.call_plan import dollars

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from riskwatch_ml.ingest.call_plan import Fleet, Segment
    from riskwatch_ml.schema.metric import Metric
    from riskwatch_ml.schema.metric_rows import Series

# Values of metrics in memory at a time, about 48 MB.
CHUNK_POINTS = 6_000_000
UNRESOLVED = "${"  # how the id of an instance begins if the agent did not resolve its placeholder
NAMES = 5  # instances that a text names, and about which CloudWatch is asked


def checked_interval(start: datetime, end: datetime, period_s: int) -> tuple[datetime, datetime]:
    """Return [start, end) in UTC.

    Raises CloudWatchError if the interval is empty or off the grid of `period_s` seconds.
    """
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
    """Return a series of a longer period with one value per row, scaled by `factor`.

    A value of `asked_s` seconds is repeated in each row of `period_s` seconds.
    """
    import numpy as np

    repeats = asked_s // period_s
    offsets = np.arange(repeats) * (period_s * 1000)
    return replace(
        series,
        stamps=(series.stamps[:, None] + offsets).ravel(),
        values=np.repeat(series.values * factor, repeats),
    )


def within(series: Series, start: datetime, end: datetime) -> Series:
    """Return the series without values outside [start, end)."""
    # CloudWatch may round the interval of old data outwards; values outside it belong to another interval.
    inside = (series.stamps >= clock.epoch_ms(start)) & (series.stamps < clock.epoch_ms(end))
    return series if inside.all() else replace(series, stamps=series.stamps[inside], values=series.values[inside])


def dimension_filters(metric: Metric) -> list[dict[str, str]]:
    """Return the ListMetrics filters of a metric's dimensions: those that name the instance match any value."""
    return [
        {"Name": name} if "{" in template else {"Name": name, "Value": template}
        for name, template in metric.dimensions.items()
    ]


def asked(fleet: Fleet) -> str:
    """Return how many metrics of how many instances are asked for, by kind if there are several."""
    parts = []
    for catalogue, instances in fleet:
        metrics = len(catalogue.metrics) * len(instances)
        text = f"{metrics} metrics of {len(instances)} instances"
        parts.append(f"{catalogue.kind} {text} ({dollars(metrics)})" if len(fleet) > 1 else text)
    return ", ".join(parts)


def listed_once(metrics: Iterable[Metric]) -> list[Metric]:
    """Return the metrics without those that ListMetrics answers in the same way: it knows no statistics."""
    sources = {(metric.namespace, metric.metric, tuple(metric.dimensions.items())): metric for metric in metrics}
    return list(sources.values())


def is_unresolved(instance_id: str) -> bool:
    """Return whether an agent published its placeholder, for example ``${aws:InstanceId}``, instead of an instance."""
    return instance_id.startswith(UNRESOLVED)


def missing_of_part(
    metric: Metric, missing: Sequence[str], instances: int, listed: Iterable[Sequence[Mapping[str, str]]]
) -> str:
    """Return which instances lack a metric that others have, under which dimensions they publish it, and the cure.

    `missing` are the instances without a value, of `instances` that report. `listed` are the dimensions under which
    CloudWatch has the metric for some of them.
    """
    text = f"{metric.name}: {len(missing)} of {instances} instances have no value ({some(missing, NAMES)})"
    wanted = sorted(metric.dimensions)
    seen = sorted({tuple(sorted(dimension["Name"] for dimension in dimensions)) for dimensions in listed})
    others = [names for names in seen if list(names) != wanted]
    if not seen:
        return f"{text}; CloudWatch has it of none of them: check that the agent runs there and collects it"
    if not others:
        return (
            f"{text}; CloudWatch lists it for them, but has no value in this interval: it stopped, or its unit changed"
        )
    cure = f"set aggregation_dimensions [{json.dumps(wanted)}] in the configuration of the CloudWatch agent"
    is_finer = all(set(names) > set(wanted) for names in others)
    return (
        f"{text}; CloudWatch has it of them with {' | '.join(', '.join(names) for names in others)}: "
        f"{cure if is_finer else 'publish it with ' + ', '.join(wanted) + ' alone'}"
    )


def chunks(part: Segment, queries: int) -> Iterator[tuple[datetime, datetime]]:
    """Cut a segment at full hours into chunks of at most CHUNK_POINTS values.

    A chunk is at least one hour long.
    """
    hours = max(1, CHUNK_POINTS // max(1, queries * clock.HOUR_S // part.period_s))
    low = part.start
    while low < part.end:
        high = min(clock.floor(low, clock.HOUR_S) + timedelta(hours=hours), part.end)
        yield low, high
        low = high
