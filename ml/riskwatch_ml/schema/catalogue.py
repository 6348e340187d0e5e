"""The metric catalogue of a kind of resource.

A catalogue is a TOML file: what the kind is, then one entry per metric. A new metric is a new entry, a new kind is a
new file. The packaged catalogues are the files in `catalogues/`.
"""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from riskwatch_ml.core import accounts
from riskwatch_ml.core.listing import some
from riskwatch_ml.schema import metric as metric_entry
from riskwatch_ml.schema.metric import NAME, CatalogueError, Metric

# The packaged catalogues, by their names in the setting `catalogue`.
PROFILES: Mapping[str, Path] = MappingProxyType(
    {path.stem: path for path in sorted((Path(__file__).parent / "catalogues").glob("*.toml"))}
)
_TEXTS_OF_KIND = ("kind", "title", "resource_type", "arn")
_SILENT = "silent_when_idle"
# The kind and the load metrics of a catalogue file that does not state them.
DEFAULT_KIND = "ec2"
LOAD_METRICS = (("cpu_utilization",), ("latency_ms", "active_connections"))
# The resource type and the ARNs of a catalogue file that does not state them, by the dimension that names an instance.
_TAGGED_BY = {"InstanceId": ("ec2:instance", "instance/(.+)"), "DBInstanceIdentifier": ("rds:db", "db:(.+)")}


@dataclass(frozen=True)
class Catalogue:
    """The metrics of a kind in feature order; names and aliases are unique.

    `kind` is the short name of the kind, `title` the name that people read. `load_metrics` are groups of metrics that
    show the load, the best first: the first group that the rows report gives the level. `resource_type` is the type of
    the resources in the tagging API. `arn` is a regular expression for the last part of their ARN, behind the account;
    its group is the instance's name. Without both, roles and services come from the inventory file alone.
    `silent_when_idle` is true if CloudWatch has no datapoint of an instance without work, so that rows that stop mean
    nothing by themselves.

    The first kind of an installation has plain instance ids. An id of any other kind begins with the kind and a slash,
    such as `rds/orders`, so that ids of two kinds never collide. EC2 ids are globally unique, so they are always plain.
    """

    metrics: tuple[Metric, ...]
    kind: str = DEFAULT_KIND
    title: str = ""
    load_metrics: tuple[tuple[str, ...], ...] = LOAD_METRICS
    resource_type: str = ""
    arn: str = ""
    silent_when_idle: bool = False
    is_first: bool = True

    def __post_init__(self) -> None:
        if not self.metrics:
            raise CatalogueError("the catalogue has no metric: add at least one [[metrics]] table")
        if not NAME.fullmatch(self.kind):
            raise CatalogueError(
                f"kind is {self.kind!r}: use lower case letters, digits and _, beginning with a letter"
            )
        names = {metric.placeholders for metric in self.metrics}
        if len(names) > 1:
            raise CatalogueError(
                f"the dimensions of the metrics name instances in {len(names)} ways: use the same parts in braces, in "
                "the same order, in all of them"
            )
        self._check_tags()
        seen: set[str] = set()
        for metric in self.metrics:
            for name in {metric.name, *metric.aliases}:
                if name in seen:
                    raise CatalogueError(f"{metric.name}: the name or alias {name!r} is used twice: rename one of them")
                seen.add(name)

    def _check_tags(self) -> None:
        if bool(self.resource_type) != bool(self.arn):
            raise CatalogueError("resource_type and arn belong together: state both, or leave both out")
        try:
            groups = re.compile(self.arn).groups
        except re.error as error:
            raise CatalogueError(f"arn is {self.arn!r}, no regular expression: {error}") from error
        if self.arn and groups != 1:
            raise CatalogueError(f"arn is {self.arn!r}: put the part that is the name into one pair of parentheses")

    def qualify(self, name: str) -> str:
        """Return the id of the instance that CloudWatch calls `name`, without its account and region."""
        is_plain = self.is_first or (self.kind == DEFAULT_KIND and accounts.is_ec2_id(name))
        return name if is_plain else f"{self.kind}/{name}"

    def local(self, name: str) -> str:
        """Return the name in CloudWatch for an id without its account and region."""
        return name if self.is_first else name.removeprefix(f"{self.kind}/")

    def label(self, metric: str) -> str:
        """Return the name of a metric among those of all kinds."""
        return metric if self.is_first else f"{self.kind}/{metric}"

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the features, in order."""
        return tuple(metric.name for metric in self.metrics)

    @cached_property
    def by_name(self) -> Mapping[str, Metric]:
        """The metric of each feature."""
        return MappingProxyType({metric.name: metric for metric in self.metrics})


def load(source: str | Path | None = None) -> Catalogue:
    """Return a packaged catalogue ("ec2", "rds", …) or the catalogue of a file.

    The default is "ec2". Raises CatalogueError if the file cannot be read or an entry is not valid.
    """
    path = PROFILES.get(str(source or "ec2")) or Path(str(source))
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CatalogueError(
            f"catalogue {path} cannot be read ({error.strerror}): correct the path or name one of {', '.join(PROFILES)}"
        ) from error
    # Not only TOMLDecodeError: bytes that are not UTF-8, a number of thousands of digits, thousands of brackets.
    except (ValueError, RecursionError) as error:
        raise CatalogueError(f"catalogue {path} is not valid TOML: {error}") from error
    entries = document.pop("metrics", None)
    if not isinstance(entries, list) or not all(map(_is_table, entries)):
        raise CatalogueError(f"catalogue {path}: expected [[metrics]] tables, one for each metric")
    unknown_keys = sorted(set(document) - {*_TEXTS_OF_KIND, "load_metrics", _SILENT})
    if unknown_keys:
        known = ", ".join((*_TEXTS_OF_KIND, "load_metrics", _SILENT))
        raise CatalogueError(f"catalogue {path}: unknown key {unknown_keys[0]!r}: use {known}")
    is_silent = document.pop(_SILENT, False)
    if not isinstance(is_silent, bool):
        raise CatalogueError(f"catalogue {path}: {_SILENT} is {is_silent!r}: write true or false")
    groups = _load_metrics(document.pop("load_metrics", [list(names) for names in LOAD_METRICS]), path)
    values = {key: metric_entry.typed(value, key, f"catalogue {path}") for key, value in document.items()}
    metrics = tuple(metric_entry.read(entry, path) for entry in entries)
    named_by = {tuple(name for name, text in metric.dimensions.items() if "{" in text) for metric in metrics}
    if not {"kind", "resource_type", "arn"} & set(document) and len(named_by) == 1:
        # A file of an earlier release says nothing of its kind.
        values |= zip(("resource_type", "arn"), _TAGGED_BY.get(named_by.pop()[0], ("", "")), strict=True)
    try:
        return Catalogue(metrics, load_metrics=groups, silent_when_idle=is_silent, **values)
    except CatalogueError as error:
        raise CatalogueError(f"catalogue {path}: {error}") from error


def load_all(sources: Sequence[str | Path] = ()) -> tuple[Catalogue, ...]:
    """Return the catalogues of all kinds of an installation, the first kind first.

    `sources` are packaged catalogues or files; without any it is "ec2". Raises CatalogueError as `load` does, and if
    two catalogues are of one kind, or have one metric in two units.
    """
    found = [load(source) for source in sources or ("ec2",)]
    units: dict[str, tuple[str, str]] = {}
    for position, catalogue in enumerate(found):
        if catalogue.kind in {other.kind for other in found[:position]}:
            raise CatalogueError(
                f"two catalogues are of the kind {catalogue.kind!r}: write another kind into the later one, the first "
                "kind of an installation never changes"
            )
        if position and catalogue.kind == DEFAULT_KIND and "InstanceId" in found[0].metrics[0].dimensions:
            raise CatalogueError(
                f"the kinds {found[0].kind!r} and {DEFAULT_KIND!r} both read EC2 instances, whose ids name no kind: "
                "read them by one catalogue"
            )
        for metric in catalogue.metrics:
            unit, kind = units.setdefault(metric.name, (metric.unit, catalogue.kind))
            if unit != metric.unit:
                raise CatalogueError(
                    f"{metric.name} has the unit {unit!r} in {kind} and {metric.unit!r} in {catalogue.kind}: rename one"
                )
    return tuple(replace(catalogue, is_first=position == 0) for position, catalogue in enumerate(found))


def of_instance(instance_id: str, catalogues: Sequence[Catalogue]) -> Catalogue:
    """Return the catalogue of the kind of an instance; that of the first kind if its id names no other."""
    name = accounts.without_account(instance_id)
    for catalogue in catalogues[1:]:
        if name.startswith(f"{catalogue.kind}/") or (catalogue.kind == DEFAULT_KIND and accounts.is_ec2_id(name)):
            return catalogue
    return catalogues[0]


def of_kind(kind: str, catalogues: Sequence[Catalogue]) -> Catalogue:
    """Return the catalogue of a kind, that of the first kind for an empty text.

    Raises CatalogueError if the installation does not have the kind.
    """
    found = next((catalogue for catalogue in catalogues if kind in ("", catalogue.kind)), None)
    if found is None:
        known = ", ".join(catalogue.kind for catalogue in catalogues)
        raise CatalogueError(f"the kind {kind!r} is none of this installation: use one of {known}")
    return found


def names_of_kind(names: Iterable[str], metrics: Catalogue, catalogues: Sequence[Catalogue]) -> set[str]:
    """Return the ids among `names` that are of a kind."""
    return {name for name in names if of_instance(name, catalogues).kind == metrics.kind}


def misread(listed: Iterable[str], metrics: Catalogue, catalogues: Sequence[Catalogue]) -> str:
    """Return a text about listed instances of a kind with ids that read like another kind; empty without any.

    Names of the first kind are plain, so that one may begin like the id of a further kind.
    """
    names = set(listed)
    others = sorted(names - names_of_kind(names, metrics, catalogues))
    if not others:
        return ""
    return (
        f"refused as instances of the kind {metrics.kind}: {some(others, 5)}. Their names begin like ids of another "
        "kind: rename them"
    )


def dumps(catalogue: Catalogue) -> str:
    """Return a catalogue as TOML; `load` reads an equal catalogue from it."""
    head = [f"{key} = {json.dumps(getattr(catalogue, key), ensure_ascii=False)}" for key in _TEXTS_OF_KIND]
    head.append(f"load_metrics = {json.dumps(catalogue.load_metrics)}")
    if catalogue.silent_when_idle:
        head.append(f"{_SILENT} = true")
    return "\n".join(("\n".join(head) + "\n", *(metric_entry.dumps(metric) for metric in catalogue.metrics)))


def _load_metrics(value: object, path: Path) -> tuple[tuple[str, ...], ...]:
    groups = value if isinstance(value, list) else [value]
    if not all(isinstance(group, list) and all(isinstance(name, str) for name in group) for group in groups):
        raise CatalogueError(
            f'catalogue {path}: load_metrics is {value!r}: write groups of names, [["cpu_utilization"]]'
        )
    return tuple(map(tuple, groups))


def _is_table(entry: object) -> bool:
    return isinstance(entry, dict)
