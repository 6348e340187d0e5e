"""One metric of a catalogue: its CloudWatch source, unit, bounds and harm."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from riskwatch_lambda.model.document import DIRECTIONS
from riskwatch_ml.core import clock
from riskwatch_ml.core.errors import UserInputError

# Names of other columns of metric rows, labelled rows and quarantined rows.
RESERVED = frozenset(
    {
        *("instance_id", "timestamp", "service", "role", "score", "level", "risk", "unusual", "alert", "episode_id"),
        *(
            "context",
            "resource_kind",
            "model_id",
            "model_version",
            "reasons",
            "missing",
            "refused_values",
            "arrived",
            "label",
        ),
    }
)
# The units of CloudWatch: StandardUnit of botocore.
_SIZES = ("Bytes", "Kilobytes", "Megabytes", "Gigabytes", "Terabytes")
_RATED = (*_SIZES, *(size.replace("ytes", "its") for size in _SIZES), "Count")
UNITS = frozenset(
    {"Seconds", "Microseconds", "Milliseconds", "Percent", "None", *_RATED, *(f"{unit}/Second" for unit in _RATED)}
)
_LIMITS = ("lower", "upper", "exhaustion", "never_high_below", "never_idle_above", "absent")
NAME = re.compile(r"[a-z][a-z0-9_]*")
_STAT = re.compile(
    r"SampleCount|Sum|Average|Minimum|Maximum|IQM|(p|tm|wm|tc|ts)\d{1,2}(\.\d+)?|p100|(PR|TM|WM|TC|TS)\(.+\)"
)
# Statistics that count or add up what happened in a period: a period twice as long has twice the value.
_ADDITIVE = re.compile(r"SampleCount|Sum|t[cs]\d.*|T[CS]\(.+")
_BY_INSTANCE = {"InstanceId": "{instance_id}"}
_PLACEHOLDER = re.compile(r"\{([a-z][a-z_]*)\}")


class CatalogueError(UserInputError):
    """The catalogue is not valid; the message names the metric, the key and the fix."""


@dataclass(frozen=True)
class Metric:
    """One feature, and the CloudWatch metric it is read from.

    The value of a feature is the CloudWatch value times `scale`. `unit`, `lower`, `upper` and `exhaustion` refer to the
    feature. `cloudwatch_unit` is the unit under which the metric is published; datapoints of other units are not read,
    and an empty text reads all units. `period_s` is the period in seconds of a metric that is published less often than
    rows are made, else 0; its value is then repeated in every row of the period. `direction` is the harmful one: up,
    down or both. A row below `never_high_below` is never High Load, one above `never_idle_above` never Idle; both count
    only where the metric alone shows the load. `absent` is the value of a row without a datapoint of the metric, for
    metrics that CloudWatch publishes only if something happened; without it the value is missing.

    A value of `dimensions` in braces, such as `{instance_id}`, is a part of the instance's name. If there are several,
    a slash joins them: `{ ClusterName = "{cluster}", ServiceName = "{service}" }` gives names such as `prod/orders`.
    """

    name: str
    namespace: str
    metric: str
    stat: str = "Average"
    period_s: int = 0
    cloudwatch_unit: str = ""
    unit: str = ""
    scale: float = 1.0
    dimensions: Mapping[str, str] = field(default_factory=lambda: dict(_BY_INSTANCE), hash=False)
    lower: float | None = None
    upper: float | None = None
    exhaustion: float | None = None
    direction: str = "both"
    never_high_below: float | None = None
    never_idle_above: float | None = None
    absent: float | None = None
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_name(self.name)
        self._check_source()
        if self.direction not in DIRECTIONS:
            raise CatalogueError(f"{self.name}: direction is {self.direction!r}: use one of {', '.join(DIRECTIONS)}")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise CatalogueError(f"{self.name}: scale is {self.scale}: use a finite number above 0")
        self._check_limits()

    def _check_limits(self) -> None:
        for key in _LIMITS:
            value = getattr(self, key)
            if value is not None and not math.isfinite(value):
                raise CatalogueError(f"{self.name}: {key} is {value}: use a finite number or leave it out")
        low, high = self.never_high_below, self.never_idle_above
        if low is not None and high is not None and low > high:
            raise CatalogueError(
                f"{self.name}: never_high_below {low} lies above never_idle_above {high}: exchange them"
            )
        if self.lower is not None and self.upper is not None and self.lower >= self.upper:
            raise CatalogueError(
                f"{self.name}: lower {self.lower} is not below upper {self.upper}: exchange or remove one"
            )
        if self.absent is not None and not self._is_possible(self.absent):
            raise CatalogueError(
                f"{self.name}: absent is {self.absent}, outside of its bounds: use a value that the metric can have"
            )
        if self.exhaustion is not None and self.direction == "down":
            raise CatalogueError(
                f"{self.name}: exhaustion is {self.exhaustion}, but the harmful direction is down: leave it out"
            )

    def _is_possible(self, value: float) -> bool:
        return (self.lower is None or value >= self.lower) and (self.upper is None or value <= self.upper)

    def _check_source(self) -> None:
        if not _STAT.fullmatch(self.stat):
            raise CatalogueError(f"{self.name}: stat is {self.stat!r}: use Average, Sum, Minimum, Maximum, p99, …")
        if self.cloudwatch_unit and self.cloudwatch_unit not in UNITS:
            raise CatalogueError(
                f"{self.name}: cloudwatch_unit is {self.cloudwatch_unit!r}: use one of {', '.join(sorted(UNITS))}, or "
                "leave it out"
            )
        if self.period_s and (self.period_s < 60 or clock.DAY_S % self.period_s or self.period_s % 60):
            raise CatalogueError(
                f"{self.name}: period_s is {self.period_s}: use a multiple of 60 that divides a day, e.g. 300"
            )
        if not self.placeholders:
            raise CatalogueError(f'{self.name}: no dimension names the instance: add InstanceId = "{{instance_id}}"')

    def share(self, asked_s: int, period_s: int) -> float:
        """Return the factor that a value of `asked_s` seconds is multiplied by to stand for `period_s` seconds.

        Counts and sums get their share. Averages, extremes and percentiles are the same for any part of a period.
        """
        return period_s / asked_s if _ADDITIVE.fullmatch(self.stat) else 1.0

    @cached_property
    def placeholders(self) -> tuple[str, ...]:
        """The parts of an instance's name in the dimensions, in order, each once."""
        parts = (part for template in self.dimensions.values() for part in _PLACEHOLDER.findall(template))
        return tuple(dict.fromkeys(parts))

    def dimensions_of(self, instance_id: str) -> list[dict[str, str]]:
        """Return the CloudWatch dimensions of one instance, in the form of the API.

        The last part of a name takes all that is left of it, so that only this part may have slashes. A name with fewer
        parts than the dimensions need has empty ones, which no resource has.
        """
        parts = instance_id.split("/", len(self.placeholders) - 1)
        values = dict(zip(self.placeholders, [*parts, *[""] * len(self.placeholders)], strict=False))
        return [
            {"Name": name, "Value": _PLACEHOLDER.sub(lambda match: values[match.group(1)], template)}
            for name, template in self.dimensions.items()
        ]

    def instance_of(self, dimensions: Iterable[Mapping[str, str]]) -> str | None:
        """Return the name of the instance with these dimensions, in the form of the API.

        Returns None if they are not exactly those of the metric.
        """
        values = {dimension["Name"]: dimension["Value"] for dimension in dimensions}
        if set(values) != set(self.dimensions):
            return None
        found: dict[str, str] = {}
        for name, template in self.dimensions.items():
            match = re.fullmatch(_PLACEHOLDER.sub("(.+)", _escaped(template)), values[name])
            if match is None:
                return None
            for part, value in zip(_PLACEHOLDER.findall(template), match.groups(), strict=True):
                if found.setdefault(part, value) != value:
                    return None
        parts = [found[part] for part in self.placeholders]
        # Only the last part may have slashes: another one could not be distinguished from the end of its part.
        return None if any("/" in part for part in parts[:-1]) else "/".join(parts)


def metric_without_entry(name: str, namespace: str) -> Metric:
    """Return an entry for a metric outside the catalogue.

    It has no bounds, both directions, the statistic Average and scale 1. The CloudWatch name becomes an alias if it is
    not a valid feature name. Raises CatalogueError for reserved names.
    """
    feature = re.sub(
        r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    ).strip("_")
    return Metric(name=feature, namespace=namespace, metric=name, aliases=() if feature == name else (name,))


def read(entry: Mapping[str, object], source: Path) -> Metric:
    """Return the metric of one table of the file `source`; raises CatalogueError."""
    known = {item.name for item in fields(Metric)}
    name = entry.get("name", "?")
    unknown_keys = sorted(set(entry) - known)
    if unknown_keys:
        raise CatalogueError(
            f"catalogue {source}, {name}: unknown key {unknown_keys[0]!r}: use {', '.join(sorted(known))}"
        )
    for key in ("name", "namespace", "metric"):
        if not isinstance(entry.get(key), str):
            raise CatalogueError(f"catalogue {source}, {name}: {key} is missing: add it in quotes")
    values: dict[str, Any] = {key: typed(value, key, f"catalogue {source}, {name}") for key, value in entry.items()}
    try:
        return Metric(**values)
    except CatalogueError as error:
        raise CatalogueError(f"catalogue {source}, {error}") from error


def dumps(metric: Metric) -> str:
    """Return a metric as a TOML table."""
    lines = ["[[metrics]]"]
    texts = ("name", "namespace", "metric", "stat", "cloudwatch_unit", "unit")
    lines += [f"{key} = {json.dumps(getattr(metric, key), ensure_ascii=False)}" for key in texts]
    lines.append(f"period_s = {metric.period_s}")
    lines.append(f"scale = {metric.scale!r}")
    pairs = ", ".join(f"{json.dumps(key)} = {json.dumps(value)}" for key, value in metric.dimensions.items())
    lines.append(f"dimensions = {{ {pairs} }}")
    for key in _LIMITS:
        value = getattr(metric, key)
        if value is not None:
            lines.append(f"{key} = {value!r}")
    lines.append(f'direction = "{metric.direction}"')
    lines.append(f"aliases = {json.dumps(list(metric.aliases), ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise CatalogueError(f"metric name {name!r}: use lower case letters, digits and _, beginning with a letter")
    if name in RESERVED:
        raise CatalogueError(f"metric name {name!r} is a column of labelled rows: choose another, e.g. {name}_metric")


def _escaped(template: str) -> str:
    """Return a template as a regular expression that keeps its parts in braces."""
    return re.escape(template).replace(r"\{", "{").replace(r"\}", "}")


def typed(value: Any, key: str, where: str) -> Any:
    """Return the value of a key of a catalogue file in its type; raises CatalogueError, which begins with `where`."""
    if key in ("scale", *_LIMITS):
        return _number(value, key, where)
    if key == "period_s":
        if isinstance(value, bool) or not isinstance(value, int):
            raise CatalogueError(f"{where}: {key} is {value!r}: write whole seconds")
        return value
    if key == "aliases":
        if not isinstance(value, list) or not _are_texts(value):
            raise CatalogueError(f'{where}: aliases is {value!r}: write a list of names, ["CPUUtilization"]')
        return tuple(value)
    if key == "dimensions":
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise CatalogueError(f'{where}: dimensions is {value!r}: write {{ InstanceId = "{{instance_id}}" }}')
        return dict(value)
    if not isinstance(value, str):
        raise CatalogueError(f"{where}: {key} is {value!r}: write it in quotes")
    return value


def _are_texts(values: list[object]) -> bool:
    return all(isinstance(value, str) for value in values)


def _number(value: Any, key: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CatalogueError(f"{where}: {key} is {value!r}: write a number")
    try:
        return float(value)
    except OverflowError as error:
        raise CatalogueError(f"{where}: {key} is too large: write a number") from error
