"""The metrics that are read: which CloudWatch metric feeds which feature, its unit, bounds and harmful direction."""

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

PACKAGED = Path(__file__).with_name("catalogue.toml")
DIRECTIONS = ("up", "down", "both")
# Columns of metric rows, labelled rows and quarantined rows.
RESERVED = frozenset(
    {
        *("instance_id", "timestamp", "service", "role", "score", "level", "risk", "unusual", "alert", "episode_id"),
        *("context", "model_id", "model_version", "reasons", "arrived", "label"),
    }
)
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_BY_INSTANCE = {"InstanceId": "{instance_id}"}


class CatalogueError(ValueError):
    """The catalogue cannot be used; the message names the metric, the key and the fix."""


@dataclass(frozen=True)
class Metric:
    """One feature and the CloudWatch metric it is read from.

    A feature's value is the CloudWatch value times `scale`; `unit`, `lower`, `upper` and `exhaustion` are those of the
    feature. In `dimensions`, `{instance_id}` in a value stands for the instance. `direction` is the harmful one.
    """

    name: str
    namespace: str
    metric: str
    stat: str = "Average"
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


def load(path: str | Path | None = None) -> Catalogue:
    """Read a catalogue file, or the packaged one. Raises CatalogueError where the file or an entry cannot be used."""
    source = PACKAGED if path is None else Path(path)
    try:
        document = tomllib.loads(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise CatalogueError(f"catalogue {source} cannot be read ({error.strerror}): correct the path") from error
    except tomllib.TOMLDecodeError as error:
        raise CatalogueError(f"catalogue {source} is not valid TOML: {error}") from error
    entries = document.get("metrics")
    if not isinstance(entries, list) or set(document) != {"metrics"}:
        raise CatalogueError(f"catalogue {source}: expected nothing but [[metrics]] tables")
    return Catalogue(tuple(_metric(entry, source) for entry in entries))


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
    values = dict(entry)
    for key in ("scale", "lower", "upper", "exhaustion"):
        if key in values:
            if isinstance(values[key], bool) or not isinstance(values[key], int | float):
                raise CatalogueError(f"catalogue {source}, {name}: {key} is {values[key]!r}: write a number")
            values[key] = float(values[key])
    values["aliases"] = tuple(values.get("aliases", ()))
    values["dimensions"] = dict(values.get("dimensions", _BY_INSTANCE))
    return Metric(**values)


def _entry(metric: Metric) -> str:
    lines = ["[[metrics]]"]
    texts = ("name", "namespace", "metric", "stat", "unit")
    lines += [f"{key} = {json.dumps(getattr(metric, key), ensure_ascii=False)}" for key in texts]
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
