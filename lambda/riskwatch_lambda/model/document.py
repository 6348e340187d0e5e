"""The served model: a verified document and its arrays, ready to score.

Nothing is guessed. Another schema, a changed bit in a file, an unexpected shape or a label without a name raises
ModelError, and the function does not start.
"""

from __future__ import annotations

import hashlib
import json
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from riskwatch_lambda.episode_rule import Rule, RuleError
from riskwatch_lambda.model.arrays import ArrayError, ArrayFile
from riskwatch_lambda.model.baselines import BaselineError, Baselines
from riskwatch_lambda.model.kinds import KindError, read_kind, read_parts
from riskwatch_lambda.model.new_normals import NewNormalError, read_new_normals
from riskwatch_lambda.model.prototype_map import MapError, PrototypeMap, project_axes, read_map
from riskwatch_lambda.model.row_schema import MAGNITUDE_LIMIT, RowSchema
from riskwatch_lambda.model.trained_openings import TrainedOpeningError, read_trained_openings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import TypedDict

    class MetricChange(TypedDict):
        """Typical value of a metric before and since it became normal, in catalogue units; None if it had none."""

        feature: str
        before: float | None
        after: float | None


SCHEMA = "maps/1"
LEVELS = ("Idle", "Normal", "High Load")
DIRECTIONS = ("up", "down", "both")
DOCUMENT_FILE = "model.json"
ARRAYS_FILE = "model.bin"
# Checksums of the other two files in the format of ``sha256sum``; ``sha256sum -c`` checks them.
SUMS_FILE = "SHA256SUMS"
FILES = (DOCUMENT_FILE, ARRAYS_FILE, SUMS_FILE)
# Too small to change a distance: its square is below the rounding of any relevant squared distance.
NEGLIGIBLE = 1e-12
PART_ERRORS = (ArrayError, BaselineError, KindError, MapError, NewNormalError, RuleError, TrainedOpeningError)


class ModelError(ValueError):
    """The model cannot be served; the text names the invalid part."""


class Level(NamedTuple):
    """Level space: one scaling for the whole fleet, a map, and level names.

    ``names`` has one level for each label of the map. ``axes`` are position, center and scale of the metrics that
    distinguish levels; the map has only these axes.
    """

    axes: tuple[tuple[int, float, float], ...]
    map: PrototypeMap
    names: tuple[str, ...]


class Cuts(NamedTuple):
    """Level space of one metric, by its position: the level rises with its value.

    A value below ``idle_below`` is Idle, one from ``high_from`` on is High Load.
    """

    metric: int
    idle_below: float
    high_from: float


class Member(NamedTuple):
    """One member of the score: window in rows, weight, map, boundaries.

    ``boundary`` has one value for each baseline. A member scores the instances with a baseline in its ``group``.
    """

    window: int
    weight: float
    map: PrototypeMap
    boundary: Sequence[float]
    group: int


class Model:
    """A verified model of one kind of resource; that of the first kind has the others, too.

    Use ``load`` or ``from_files``, which convert every error to a ModelError. ``row_schema`` is the schema of rows,
    ``baselines`` are the expected values, ``members`` and ``level`` score rows, ``rule`` opens episodes. ``document``
    is the whole document. ``new_normals`` are the episodes that training learned as normal, by id, with the metrics
    that changed. ``trained`` has the openings in the last days of the training rows by instance. ``rolling_lengths``
    are the lengths in rows of the trailing features, ``width`` is the number of values of a row with them. ``parts``
    are the models of all kinds by kind, this one included.
    """

    def __init__(self, document: Mapping[str, object], arrays: ArrayFile) -> None:
        _check_schema(document)
        self.document = document
        self.model_id: str = _typed(document, "model_id", str)
        self.family: str = _typed(document, "family", str)
        self.max_gap_s: int = _typed(document, "max_gap_s", int)
        self.period_s: int = _typed(document, "period_s", int)
        self.row_schema = _read_row_schema(document)
        self.harmful_direction = _read_directions(document, self.row_schema.features)
        self.rule = Rule.of(_typed(document, "rule", dict))
        self.golden = _read_golden(document)
        self.new_normals = read_new_normals(document)
        self.trained = read_trained_openings(document)
        self.rolling_lengths = _read_rolling_lengths(document)
        metrics = len(self.row_schema.features)
        self.width = metrics * (2 + 2 * len(self.rolling_lengths)) if self.rolling_lengths else metrics
        exhaustion = _read_exhaustion(document, metrics)
        self.baselines = Baselines(document, arrays, self.width, self.row_schema, exhaustion)
        self.level = _read_level(document, arrays, metrics)
        self.members = _read_members(document, arrays, self.width, self.baselines.count)
        self._groups, self._members = _read_groups(document, self.members, self.baselines.count)
        self.longest_window = max(member.window for member in self.members)
        if self.row_schema.context_rows < self.longest_window + max(self.rolling_lengths, default=1) - 1:
            trail = f" and its trail of {max(self.rolling_lengths)}" if self.rolling_lengths else ""
            raise ModelError(f"context_rows is {self.row_schema.context_rows}, less than the longest window{trail}")
        self.parts: dict[str, Model] = {self.resource_kind: self, **read_parts(document, arrays, Model)}
        # The schemas of the other kinds.
        self.further_schemas = {kind: part.row_schema for kind, part in self.parts.items() if part is not self}

    @property
    def resource_kind(self) -> str:
        """Return the kind of resource, empty if the document is of an earlier release."""
        return self.row_schema.resource_kind

    def rule_of(self, kind: str) -> Rule:
        """Return the episode rule of a kind; that of this model for a kind without a part."""
        return self.parts.get(kind, self).rule

    def members_of(self, baseline: int) -> tuple[Member, ...]:
        """Return the members that score the instances of a baseline."""
        return self._members[self._groups[baseline]]


def load(directory: Path) -> Model:
    """Return the model in a directory; raises ModelError."""
    try:
        files = {name: (directory / name).read_bytes() for name in FILES}
    except OSError as error:
        raise ModelError(f"cannot read the model in {directory}: {error.strerror}: {error.filename}") from error
    return from_files(files)


def from_files(files: Mapping[str, bytes]) -> Model:
    """Return a model from the bytes of its files by name; raises ModelError."""
    check_sums(files)
    try:
        values = json.loads(files[DOCUMENT_FILE], parse_constant=_refuse_constant)
    except ModelError:
        raise
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{DOCUMENT_FILE} is not JSON: {error}") from error
    _check_schema(values)
    try:
        return Model(values, ArrayFile(_typed(values, "arrays", dict), files[ARRAYS_FILE]))
    except PART_ERRORS as error:
        raise ModelError(str(error)) from error


def sums(files: Mapping[str, bytes]) -> bytes:
    """Return the content of ``SHA256SUMS`` for the other files of a model."""
    lines = (f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in (ARRAYS_FILE, DOCUMENT_FILE))
    return "".join(lines).encode()


def check_sums(files: Mapping[str, bytes]) -> None:
    """Raise ModelError unless every file is present and has its checksum."""
    missing = [name for name in FILES if name not in files]
    if missing:
        raise ModelError(f"the model has no {', '.join(missing)}: build or fetch the artifact again")
    if files[SUMS_FILE] != sums(files):
        listed = files[SUMS_FILE].splitlines()
        changed = [line[66:].decode() for line in sums(files).splitlines() if line not in listed]
        raise ModelError(
            f"the sha256 of {', '.join(changed) or SUMS_FILE} is not the one in {SUMS_FILE}: "
            "build or fetch the artifact again"
        )


def _check_schema(document: object) -> None:
    schema = document.get("schema") if isinstance(document, dict) else type(document).__name__
    if schema != SCHEMA:
        raise ModelError(f"{DOCUMENT_FILE} has schema {schema!r}, this function serves {SCHEMA!r}")


def _typed(document: Mapping[str, object], key: str, kind: type) -> Any:
    """Return a required value of exactly one type (a bool is no int)."""
    value = document.get(key)
    if type(value) is not kind:
        raise ModelError(f"{key} is {value!r:.100}, expected {kind.__name__}")
    return value


def _read_row_schema(document: Mapping[str, object]) -> RowSchema:
    features = _typed(document, "features", list)
    if not features or any(not isinstance(name, str) for name in features) or len(set(features)) != len(features):
        raise ModelError("features must be names, each once")
    bounds = _typed(document, "bounds", list)
    if len(bounds) != len(features):
        raise ModelError(f"bounds has {len(bounds)} entries for {len(features)} features")
    for name, pair in zip(features, bounds, strict=True):
        if (
            not isinstance(pair, list)
            or len(pair) != 2
            or not all(value is None or _is_number(value) for value in pair)
        ):
            raise ModelError(f"the bounds of {name} are {pair!r}, expected [lower or null, upper or null]")
    context_rows = _typed(document, "context_rows", int)
    bounds_of = tuple((low, high) for low, high in bounds)
    return RowSchema(tuple(features), bounds_of, context_rows, read_kind(document))


def _read_directions(document: Mapping[str, object], features: tuple[str, ...]) -> dict[str, str]:
    directions = _typed(document, "directions", list)
    if len(directions) != len(features) or any(direction not in DIRECTIONS for direction in directions):
        raise ModelError(f"directions must be one of {', '.join(DIRECTIONS)} for each of {len(features)} features")
    return dict(zip(features, directions, strict=True))


def _read_exhaustion(document: Mapping[str, object], width: int) -> tuple[float | None, ...]:
    exhaustion = _typed(document, "exhaustion", list)
    if len(exhaustion) != width or not all(value is None or _is_number(value) for value in exhaustion):
        raise ModelError(f"exhaustion must be a number or null for each of {width} features")
    return tuple(exhaustion)


def _read_level(document: Mapping[str, object], arrays: ArrayFile, width: int) -> Level | Cuts:
    level = _typed(document, "level", dict)
    if "cuts" in level:
        return _read_cuts(_typed(level, "cuts", dict), width)
    names = _typed(level, "names", list)
    if any(name not in LEVELS for name in names):
        raise ModelError(f"level.names holds {names!r}, expected {', '.join(LEVELS)}")
    level_map = read_map(level.get("map"), arrays, width, "level.map")
    unnamed = sorted(label for label in level_map.reachable if not 0 <= label < len(names))
    if unnamed:
        raise ModelError(f"level.names has {len(names)} names and none for the labels {unnamed}")
    center, scale = arrays.floats("level_center", (width,)), arrays.floats("level_scale", (width,))
    _check_positive(scale, "level_scale")
    axes = _informative_axes(level_map, scale) or range(width)
    return Level(tuple((axis, center[axis], scale[axis]) for axis in axes), project_axes(level_map, axes), tuple(names))


def _read_cuts(cuts: Mapping[str, object], width: int) -> Cuts:
    """Return the cuts of a document; null is a level that no row has."""
    metric, low, high = (cuts.get(key) for key in ("metric", "idle_below", "high_from"))
    if type(metric) is not int or not 0 <= metric < width:
        raise ModelError(f"level.cuts.metric is {metric!r}, expected the position of one of {width} features")
    if not all(value is None or _is_number(value) for value in (low, high)):
        raise ModelError(f"level.cuts are {low!r} and {high!r}, expected numbers or null")
    read = Cuts(metric, -inf if low is None else low, inf if high is None else high)  # type: ignore[arg-type]
    if read.idle_below > read.high_from:
        raise ModelError(f"level.cuts has Idle below {low!r}, above High Load from {high!r}")
    return read


def _informative_axes(level_map: PrototypeMap, scale: Sequence[float]) -> list[int]:
    """Return the metrics that affect distances.

    Training gives the others a scale beyond all values.
    """
    prototypes = [prototype for stage in level_map.stages for prototype in stage.prototypes]
    return [
        axis
        for axis, (size, column) in enumerate(zip(scale, zip(*prototypes, strict=True), strict=True))
        if max(MAGNITUDE_LIMIT / size, max(column), -min(column)) > NEGLIGIBLE
    ]


def _read_members(document: Mapping[str, object], arrays: ArrayFile, width: int, count: int) -> tuple[Member, ...]:
    members = []
    for position, member in enumerate(_typed(document, "members", list)):
        path = f"members[{position}]"
        if not isinstance(member, dict):
            raise ModelError(f"{path} is not an object")
        window: Any = member.get("window")
        weight: Any = member.get("weight")
        if type(window) is not int or window < 1:
            raise ModelError(f"{path}.window is {window!r}, expected a number of rows")
        if not _is_number(weight) or not weight > 0:
            raise ModelError(f"{path}.weight is {weight!r}, expected a number above 0")
        boundary = arrays.floats(_typed(member, "boundary", str), (count,))
        _check_positive(boundary, f"{path}.boundary")
        member_map = read_map(member.get("map"), arrays, window * width, f"{path}.map")
        group: Any = member.get("group", 0)
        if type(group) is not int or group < 0:
            raise ModelError(f"{path}.group is {group!r}, expected the number of a group")
        members.append(Member(window, weight, member_map, boundary, group))
    if not members:
        raise ModelError("members is empty: a model needs at least one")
    return tuple(members)


def _read_rolling_lengths(document: Mapping[str, object]) -> tuple[int, ...]:
    """Return the lengths of the trails; a document without the key has none."""
    rolling_lengths = document.get("trails", [])
    if not isinstance(rolling_lengths, list) or any(
        type(length) is not int or length < 2 for length in rolling_lengths
    ):
        raise ModelError(f"trails is {rolling_lengths!r:.100}, expected lengths of at least 2 rows")
    return tuple(rolling_lengths)


def _read_groups(
    document: Mapping[str, object], members: tuple[Member, ...], count: int
) -> tuple[list[int], dict[int, tuple[Member, ...]]]:
    """Return the group of every baseline, and the members of each group.

    A document without the key has one group.
    """
    groups = document.get("groups", [0] * count)
    if not isinstance(groups, list) or len(groups) != count or any(type(group) is not int for group in groups):
        raise ModelError(f"groups must be whole numbers, one for each of {count} baselines")
    by_group = {group: tuple(member for member in members if member.group == group) for group in set(groups)}
    empty = sorted(group for group, group_members in by_group.items() if not group_members)
    if empty:
        raise ModelError(f"groups names {empty[:5]}, and no member rates such a group")
    return groups, by_group


def _read_golden(document: Mapping[str, object]) -> tuple[tuple[Any, Mapping[str, Any]], ...]:
    """Return the golden records, each with its expected result."""
    golden = _typed(document, "golden", dict)
    records, expected = _typed(golden, "records", list), _typed(golden, "expected", list)
    if len(records) != len(expected) or any(not isinstance(entry, dict) for entry in expected):
        raise ModelError(f"golden has {len(records)} records and {len(expected)} expected objects, one each is needed")
    return tuple(zip(records, expected, strict=True))


def _check_positive(values: Sequence[float], name: str) -> None:
    if not min(values) > 0:
        raise ModelError(f"array {name} holds {min(values)!r}: every value must be above 0")


def _is_number(value: object) -> bool:
    """Return whether a value is a number; a bool is none."""
    return type(value) in (int, float)


def _refuse_constant(name: str) -> float:
    raise ModelError(f"{DOCUMENT_FILE} holds {name}: all its numbers must be finite")
