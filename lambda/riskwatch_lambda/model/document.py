"""The model that the function serves: a verified document and its numbers, ready to score.

Nothing is guessed: a document of another schema, a changed bit in any file, a shape that does not fit or a label
without a name raises ModelError, and the function does not start.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from riskwatch_lambda.episode_rule import Rule, RuleError
from riskwatch_lambda.model.arrays import ArrayError, ArrayFile
from riskwatch_lambda.model.baselines import BaselineError, Baselines
from riskwatch_lambda.model.prototype_map import MapError, PrototypeMap, narrowed, read_map
from riskwatch_lambda.model.row_schema import MAGNITUDE_LIMIT, Layout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SCHEMA = "maps/1"
LEVELS = ("Idle", "Normal", "High Load")
DIRECTIONS = ("up", "down", "both")
DOCUMENT_FILE = "model.json"
ARRAYS_FILE = "model.bin"
# What ``sha256sum`` prints for the other two, and checks with ``-c``.
SUMS_FILE = "SHA256SUMS"
FILES = (DOCUMENT_FILE, ARRAYS_FILE, SUMS_FILE)
# The square of it is lost in the square of any distance that matters.
NEGLIGIBLE = 1e-12


class ModelError(ValueError):
    """The model cannot be served; the text says which part is wrong."""


class Level(NamedTuple):
    """The level space: one scaling for the whole fleet, a map, and the level of each of its labels.

    ``axes`` are the metrics that tell levels apart, each with its center and scale; the map spans these alone.
    """

    axes: tuple[tuple[int, float, float], ...]
    map: PrototypeMap
    names: tuple[str, ...]


class Member(NamedTuple):
    """One member of the score: the rows of its window, its weight, its map, and a boundary for each baseline.

    It rates the instances whose baseline is in its ``group``.
    """

    window: int
    weight: float
    map: PrototypeMap
    boundary: Sequence[float]
    group: int


class Model:
    """A verified model. Use ``load`` or ``from_files``, which turn every fault into a ModelError.

    ``layout`` says what records must look like, ``baselines`` what is normal, ``members`` and ``level`` how rows are
    scored, ``rule`` when episodes open; ``document`` is the whole document as it was read. ``trails`` are the lengths
    in rows of the trailing features and ``width`` is the number of values that a row has with them.
    """

    def __init__(self, document: Mapping[str, Any], arrays: ArrayFile) -> None:
        self.document = document
        self.model_id: str = _typed(document, "model_id", str)
        self.family: str = _typed(document, "family", str)
        self.max_gap_s: int = _typed(document, "max_gap_s", int)
        self.period_s: int = _typed(document, "period_s", int)
        self.layout = _read_layout(document)
        self.harmful_direction = _read_directions(document, self.layout.features)
        self.rule = Rule.of(_typed(document, "rule", dict))
        self.golden = _read_golden(document)
        self.trails = _read_trails(document)
        metrics = len(self.layout.features)
        self.width = metrics * (2 + 2 * len(self.trails)) if self.trails else metrics
        exhaustion = _read_exhaustion(document, metrics)
        self.baselines = Baselines(_typed(document, "baselines", dict), arrays, self.width, self.layout, exhaustion)
        self.level = _read_level(document, arrays, metrics)
        self.members = _read_members(document, arrays, self.width, self.baselines.count)
        self._groups, self._members = _read_groups(document, self.members, self.baselines.count)
        self.longest_window = max(member.window for member in self.members)
        if self.layout.context_rows < self.longest_window + max(self.trails, default=1) - 1:
            trail = f" and its trail of {max(self.trails)}" if self.trails else ""
            raise ModelError(f"context_rows is {self.layout.context_rows}, less than the longest window{trail}")

    def members_of(self, baseline: int) -> tuple[Member, ...]:
        """Give the members that rate the instances of a baseline."""
        return self._members[self._groups[baseline]]


def load(directory: Path) -> Model:
    """Load the files of a model from a directory; raises ModelError."""
    try:
        files = {name: (directory / name).read_bytes() for name in FILES}
    except OSError as error:
        raise ModelError(f"cannot read the model in {directory}: {error.strerror}: {error.filename}") from error
    return from_files(files)


def from_files(files: Mapping[str, bytes]) -> Model:
    """Make a model from the bytes of its files by name; raises ModelError."""
    check_sums(files)
    try:
        values = json.loads(files[DOCUMENT_FILE], parse_constant=_refuse_constant)
    except ModelError:
        raise
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{DOCUMENT_FILE} is not JSON: {error}") from error
    if not isinstance(values, dict) or values.get("schema") != SCHEMA:
        found = values.get("schema") if isinstance(values, dict) else type(values).__name__
        raise ModelError(f"{DOCUMENT_FILE} has schema {found!r}, this function serves {SCHEMA!r}")
    try:
        return Model(values, ArrayFile(_typed(values, "arrays", dict), files[ARRAYS_FILE]))
    except (ArrayError, BaselineError, MapError, RuleError) as error:
        raise ModelError(str(error)) from error


def sums(files: Mapping[str, bytes]) -> bytes:
    """Give the content of ``SHA256SUMS`` for the other files of a model."""
    lines = (f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in (ARRAYS_FILE, DOCUMENT_FILE))
    return "".join(lines).encode()


def check_sums(files: Mapping[str, bytes]) -> None:
    """Raise ModelError unless every file of a model is there and is the one that was packed."""
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


def _typed(document: Mapping[str, Any], key: str, kind: type) -> Any:
    """Give a value of the document that must be there and of one kind (a bool is no int)."""
    value = document.get(key)
    if type(value) is not kind:
        raise ModelError(f"{key} is {value!r:.100}, expected {kind.__name__}")
    return value


def _read_layout(document: Mapping[str, Any]) -> Layout:
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
    return Layout(tuple(features), tuple((low, high) for low, high in bounds), context_rows)


def _read_directions(document: Mapping[str, Any], features: tuple[str, ...]) -> dict[str, str]:
    directions = _typed(document, "directions", list)
    if len(directions) != len(features) or any(direction not in DIRECTIONS for direction in directions):
        raise ModelError(f"directions must be one of {', '.join(DIRECTIONS)} for each of {len(features)} features")
    return dict(zip(features, directions, strict=True))


def _read_exhaustion(document: Mapping[str, Any], width: int) -> tuple[float | None, ...]:
    exhaustion = _typed(document, "exhaustion", list)
    if len(exhaustion) != width or not all(value is None or _is_number(value) for value in exhaustion):
        raise ModelError(f"exhaustion must be a number or null for each of {width} features")
    return tuple(exhaustion)


def _read_level(document: Mapping[str, Any], arrays: ArrayFile, width: int) -> Level:
    level = _typed(document, "level", dict)
    names = _typed(level, "names", list)
    if any(name not in LEVELS for name in names):
        raise ModelError(f"level.names holds {names!r}, expected {', '.join(LEVELS)}")
    where = read_map(level.get("map"), arrays, width, "level.map")
    unnamed = sorted(label for label in where.reachable if not 0 <= label < len(names))
    if unnamed:
        raise ModelError(f"level.names has {len(names)} names and none for the labels {unnamed}")
    center, scale = arrays.floats("level_center", (width,)), arrays.floats("level_scale", (width,))
    _check_positive(scale, "level_scale")
    axes = _telling_axes(where, scale) or range(width)
    return Level(tuple((axis, center[axis], scale[axis]) for axis in axes), narrowed(where, axes), tuple(names))


def _telling_axes(where: PrototypeMap, scale: Sequence[float]) -> list[int]:
    """Find the metrics that make a difference to a distance: training gives the others a scale beyond all values."""
    prototypes = [prototype for stage in where.stages for prototype in stage.prototypes]
    return [
        axis
        for axis, (size, column) in enumerate(zip(scale, zip(*prototypes, strict=True), strict=True))
        if max(MAGNITUDE_LIMIT / size, max(column), -min(column)) > NEGLIGIBLE
    ]


def _read_members(document: Mapping[str, Any], arrays: ArrayFile, width: int, count: int) -> tuple[Member, ...]:
    members = []
    for position, member in enumerate(_typed(document, "members", list)):
        where = f"members[{position}]"
        if not isinstance(member, dict):
            raise ModelError(f"{where} is not an object")
        window: Any = member.get("window")
        weight: Any = member.get("weight")
        if type(window) is not int or window < 1:
            raise ModelError(f"{where}.window is {window!r}, expected a number of rows")
        if not _is_number(weight) or not weight > 0:
            raise ModelError(f"{where}.weight is {weight!r}, expected a number above 0")
        boundary = arrays.floats(_typed(member, "boundary", str), (count,))
        _check_positive(boundary, f"{where}.boundary")
        places = read_map(member.get("map"), arrays, window * width, f"{where}.map")
        group: Any = member.get("group", 0)
        if type(group) is not int or group < 0:
            raise ModelError(f"{where}.group is {group!r}, expected the number of a group")
        members.append(Member(window, weight, places, boundary, group))
    if not members:
        raise ModelError("members is empty: a model needs at least one")
    return tuple(members)


def _read_trails(document: Mapping[str, Any]) -> tuple[int, ...]:
    """Read the lengths of the trails; a model without the key has none."""
    trails = document.get("trails", [])
    if not isinstance(trails, list) or any(type(length) is not int or length < 2 for length in trails):
        raise ModelError(f"trails is {trails!r:.100}, expected lengths of at least 2 rows")
    return tuple(trails)


def _read_groups(
    document: Mapping[str, Any], members: tuple[Member, ...], count: int
) -> tuple[list[int], dict[int, tuple[Member, ...]]]:
    """Read the group of every baseline and sort the members by group; a model without the key has one group."""
    groups = document.get("groups", [0] * count)
    if not isinstance(groups, list) or len(groups) != count or any(type(group) is not int for group in groups):
        raise ModelError(f"groups must be whole numbers, one for each of {count} baselines")
    by_group = {group: tuple(member for member in members if member.group == group) for group in set(groups)}
    empty = sorted(group for group, own in by_group.items() if not own)
    if empty:
        raise ModelError(f"groups names {empty[:5]}, and no member rates such a group")
    return groups, by_group


def _read_golden(document: Mapping[str, Any]) -> tuple[tuple[Any, Mapping[str, Any]], ...]:
    """Pair the golden records with what scoring them must give."""
    golden = _typed(document, "golden", dict)
    records, expected = _typed(golden, "records", list), _typed(golden, "expected", list)
    if len(records) != len(expected) or any(not isinstance(entry, dict) for entry in expected):
        raise ModelError(f"golden has {len(records)} records and {len(expected)} expected objects, one each is needed")
    return tuple(zip(records, expected, strict=True))


def _check_positive(values: Sequence[float], name: str) -> None:
    if not min(values) > 0:
        raise ModelError(f"array {name} holds {min(values)!r}: every value must be above 0")


def _is_number(value: object) -> bool:
    """Tell a number from everything else; a bool is none."""
    return type(value) in (int, float)


def _refuse_constant(name: str) -> float:
    raise ModelError(f"{DOCUMENT_FILE} holds {name}: all its numbers must be finite")
