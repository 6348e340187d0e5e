"""The metrics that are read: which CloudWatch metric feeds which feature, its unit, bounds and harmful direction.

One file, one entry a metric: adding a metric is adding an entry. Two files are packaged, for EC2 instances with the
CloudWatch agent and for RDS databases.
"""

import json
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from riskwatch_lambda.model.document import DIRECTIONS
from riskwatch_ml.core.errors import UserInputError

# The packaged catalogues, by the name that the setting `catalogue` may give instead of a path.
PROFILES: Mapping[str, Path] = MappingProxyType(
    {"ec2": Path(__file__).with_name("ec2.toml"), "rds": Path(__file__).with_name("rds.toml")}
)
# Columns of metric rows, labelled rows and quarantined rows.
RESERVED = frozenset(
    {
        *("instance_id", "timestamp", "service", "role", "score", "level", "risk", "unusual", "alert", "episode_id"),
        *("context", "model_id", "model_version", "reasons", "arrived", "label"),
    }
)
# The units that CloudWatch knows, botocore's StandardUnit.
_SIZES = ("Bytes", "Kilobytes", "Megabytes", "Gigabytes", "Terabytes")
_RATED = (*_SIZES, *(size.replace("ytes", "its") for size in _SIZES), "Count")
UNITS = frozenset(
    {"Seconds", "Microseconds", "Milliseconds", "Percent", "None", *_RATED, *(f"{unit}/Second" for unit in _RATED)}
)
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_STAT = re.compile(
    r"SampleCount|Sum|Average|Minimum|Maximum|IQM|(p|tm|wm|tc|ts)\d{1,2}(\.\d+)?|p100|(PR|TM|WM|TC|TS)\(.+\)"
)
_BY_INSTANCE = {"InstanceId": "{instance_id}"}
_DAY_S = 86_400


class CatalogueError(UserInputError):
    """The catalogue cannot be used; the message names the metric, the key and the fix."""


@dataclass(frozen=True)
class Metric:
    """One feature and the CloudWatch metric it is read from.

    A feature's value is the CloudWatch value times `scale`; `unit`, `lower`, `upper` and `exhaustion` are those of the
    feature. `cloudwatch_unit` is the unit under which the metric is published: datapoints of another one are not read;
    empty reads all. `period_s` is that of a metric published less often than rows are made, 0 where it is not: its
    value then stands in every row of its period. In `dimensions`, `{instance_id}` in a value stands for the instance.
    `direction` is the harmful one.
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
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_name(self.name)
        self._check_source()
        if self.direction not in DIRECTIONS:
            raise CatalogueError(f"{self.name}: direction is {self.direction!r}: use one of {', '.join(DIRECTIONS)}")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise CatalogueError(f"{self.name}: scale is {self.scale}: use a finite number above 0")
        for key in ("lower", "upper", "exhaustion"):
            value = getattr(self, key)
            if value is not None and not math.isfinite(value):
                raise CatalogueError(f"{self.name}: {key} is {value}: use a finite number or leave it out")
        if self.lower is not None and self.upper is not None and self.lower >= self.upper:
            raise CatalogueError(
                f"{self.name}: lower {self.lower} is not below upper {self.upper}: exchange or remove one"
            )
        if self.exhaustion is not None and self.direction == "down":
            raise CatalogueError(
                f"{self.name}: exhaustion is {self.exhaustion}, but harm lies downwards: it is a bound from below, "
                "so leave it out"
            )

    def _check_source(self) -> None:
        if not _STAT.fullmatch(self.stat):
            raise CatalogueError(f"{self.name}: stat is {self.stat!r}: use Average, Sum, Minimum, Maximum, p99, …")
        if self.cloudwatch_unit and self.cloudwatch_unit not in UNITS:
            raise CatalogueError(
                f"{self.name}: cloudwatch_unit is {self.cloudwatch_unit!r}: use one of {', '.join(sorted(UNITS))}, or "
                "leave it out"
            )
        if self.period_s and (self.period_s < 60 or _DAY_S % self.period_s or self.period_s % 60):
            raise CatalogueError(
                f"{self.name}: period_s is {self.period_s}: use a multiple of 60 that divides a day, e.g. 300"
            )
        if not any("{instance_id}" in value for value in self.dimensions.values()):
            raise CatalogueError(f'{self.name}: no dimension names the instance: add InstanceId = "{{instance_id}}"')

    def dimensions_of(self, instance_id: str) -> list[dict[str, str]]:
        """Return the CloudWatch dimensions of one instance, as the API takes them."""
        return [
            {"Name": name, "Value": template.replace("{instance_id}", instance_id)}
            for name, template in self.dimensions.items()
        ]


@dataclass(frozen=True)
class Catalogue:
    """The metrics in feature order. Names and aliases are unique."""

    metrics: tuple[Metric, ...]

    def __post_init__(self) -> None:
        if not self.metrics:
            raise CatalogueError("the catalogue has no metric: add at least one [[metrics]] table")
        seen: set[str] = set()
        for metric in self.metrics:
            for name in {metric.name, *metric.aliases}:
                if name in seen:
                    raise CatalogueError(f"{metric.name}: the name or alias {name!r} is used twice: rename one of them")
                seen.add(name)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Feature names in order."""
        return tuple(metric.name for metric in self.metrics)

    @cached_property
    def by_name(self) -> Mapping[str, Metric]:
        """Feature name -> metric."""
        return MappingProxyType({metric.name: metric for metric in self.metrics})


def load(source: str | Path | None = None) -> Catalogue:
    """Read a packaged catalogue ("ec2", "rds"; without a name "ec2") or the file at a path.

    Raises CatalogueError where the file or an entry cannot be used.
    """
    path = PROFILES.get(str(source or "ec2")) or Path(str(source))
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CatalogueError(
            f"catalogue {path} cannot be read ({error.strerror}): correct the path or name one of {', '.join(PROFILES)}"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise CatalogueError(f"catalogue {path} is not valid TOML: {error}") from error
    entries = document.get("metrics")
    if not isinstance(entries, list) or set(document) != {"metrics"}:
        raise CatalogueError(f"catalogue {path}: expected nothing but [[metrics]] tables")
    return Catalogue(tuple(_metric(entry, path) for entry in entries))


def dumps(catalogue: Catalogue) -> str:
    """Write a catalogue as TOML that `load` reads back to an equal one."""
    return "\n".join(_entry(metric) for metric in catalogue.metrics)


def unknown(name: str, namespace: str) -> Metric:
    """Return the entry of a metric outside the catalogue: no bounds, direction unknown, Average, scale 1.

    The CloudWatch name becomes an alias where it is no feature name. Raises CatalogueError for reserved names.
    """
    feature = re.sub(
        r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    ).strip("_")
    return Metric(name=feature, namespace=namespace, metric=name, aliases=() if feature == name else (name,))


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise CatalogueError(f"metric name {name!r}: use lower case letters, digits and _, beginning with a letter")
    if name in RESERVED:
        raise CatalogueError(f"metric name {name!r} is a column of labelled rows: choose another, e.g. {name}_metric")


def _metric(entry: dict[str, Any], source: Path) -> Metric:
    known = {item.name for item in fields(Metric)}
    name = entry.get("name", "?")
    strange = sorted(set(entry) - known)
    if strange:
        raise CatalogueError(f"catalogue {source}, {name}: unknown key {strange[0]!r}: use {', '.join(sorted(known))}")
    for key in ("name", "namespace", "metric"):
        if not isinstance(entry.get(key), str):
            raise CatalogueError(f"catalogue {source}, {name}: {key} is missing: add it in quotes")
    values = {key: _typed(value, key, f"catalogue {source}, {name}") for key, value in entry.items()}
    try:
        return Metric(**values)
    except CatalogueError as error:
        raise CatalogueError(f"catalogue {source}, {error}") from error


def _typed(value: Any, key: str, where: str) -> Any:
    if key in ("scale", "lower", "upper", "exhaustion"):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise CatalogueError(f"{where}: {key} is {value!r}: write a number")
        return float(value)
    if key == "period_s":
        if isinstance(value, bool) or not isinstance(value, int):
            raise CatalogueError(f"{where}: {key} is {value!r}: write whole seconds")
        return value
    if key == "aliases":
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise CatalogueError(f'{where}: aliases is {value!r}: write a list of names, ["CPUUtilization"]')
        return tuple(value)
    if key == "dimensions":
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise CatalogueError(f'{where}: dimensions is {value!r}: write {{ InstanceId = "{{instance_id}}" }}')
        return dict(value)
    if not isinstance(value, str):
        raise CatalogueError(f"{where}: {key} is {value!r}: write it in quotes")
    return value


def _entry(metric: Metric) -> str:
    lines = ["[[metrics]]"]
    texts = ("name", "namespace", "metric", "stat", "cloudwatch_unit", "unit")
    lines += [f"{key} = {json.dumps(getattr(metric, key), ensure_ascii=False)}" for key in texts]
    lines.append(f"period_s = {metric.period_s}")
    lines.append(f"scale = {metric.scale!r}")
    pairs = ", ".join(f"{json.dumps(key)} = {json.dumps(value)}" for key, value in metric.dimensions.items())
    lines.append(f"dimensions = {{ {pairs} }}")
    for key in ("lower", "upper", "exhaustion"):
        value = getattr(metric, key)
        if value is not None:
            lines.append(f"{key} = {value!r}")
    lines.append(f'direction = "{metric.direction}"')
    lines.append(f"aliases = {json.dumps(list(metric.aliases), ensure_ascii=False)}")
    return "\n".join(lines) + "\n"
