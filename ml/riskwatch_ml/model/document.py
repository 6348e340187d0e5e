"""The model document: the fields of `model.json` in an artifact.

Names of arrays refer to `model.bin`; the index `arrays` describes them. Fields that older documents lack are not
required; the comment beside such a field is its default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NotRequired, TypedDict

if TYPE_CHECKING:
    from riskwatch_lambda.model.document import MetricChange
    from riskwatch_lambda.model.trained_openings import OpeningDocument
    from riskwatch_ml.families.prototype_map import MapDocument
    from riskwatch_ml.features.seasons import SeasonDocument


class BaselineIndex(TypedDict):
    """Indices of the baselines of instances, roles and fleet in `center`."""

    instances: dict[str, int]
    roles: dict[str, int]
    fleet: int


class CutsDocument(TypedDict):
    """The levels of one metric, by its position in `features`.

    A value below `idle_below` is Idle, one from `high_from` on is High Load, in the unit of the catalogue. None is a
    level that no row has.
    """

    metric: int
    idle_below: float | None
    high_from: float | None


class LevelDocument(TypedDict):
    """The level of a row: cuts if one metric spans the level space, else a map.

    `names` has the level name of each label of the map. `relative` is true unless the metric of the cuts is a
    percentage of capacity: levels then compare rows with the fleet only.
    """

    cuts: NotRequired[CutsDocument]  # none: a map
    map: NotRequired[MapDocument]  # none: cuts
    names: NotRequired[list[str]]  # none: cuts
    relative: NotRequired[bool]  # true


class MemberDocument(TypedDict):
    """One member of the behaviour space; `window` counts rows.

    `boundary` is the name of the array with its boundary for each baseline.
    """

    window: int
    weight: float
    group: NotRequired[int]  # 0
    map: MapDocument
    boundary: str


class RuleDocument(TypedDict):
    """The episode rule of `riskwatch_lambda.episode_rule`; times in seconds.

    An episode opens if m of n rows open and the paging rule lets them pass; it closes after `close_rows` rows that do
    not open. A row opens if its score reaches 1 and pages if it reaches `paging_threshold`, both times
    `new_instance_factor` if its instance has the baseline of its role only.
    """

    m: int
    n: int
    close_rows: int
    cooldown_s: int
    group_s: int
    paging_threshold: float
    new_instance_factor: NotRequired[float]  # 1.4


class StreamRecord(TypedDict):
    """A stream record: the newest row and the rows before it, oldest first.

    `ts` is the UTC epoch in milliseconds of each row, `rows` the values of the features in catalogue units.
    """

    v: int
    service: str
    role: str
    instance_id: str
    ts: list[int]
    rows: list[list[float | None]]


class GoldenVerdict(TypedDict):
    """The verdict that a golden record must get; the score has six decimals."""

    score: float
    level: str
    unusual: bool


class Golden(TypedDict):
    """Golden records and the verdict that each must get."""

    records: list[StreamRecord]
    expected: list[GoldenVerdict]


class NewNormal(TypedDict):
    """An open episode that training learned as normal, with the metrics that changed."""

    episode_id: str
    changes: list[MetricChange]


class Reference(TypedDict):
    """The verdicts on the training rows in figures.

    They are the number of rows, the share of each level, the share of unusual rows, and the alerts per instance and
    day.
    """

    rows: int
    levels: dict[str, float]
    unusual: float
    alerts_per_instance_day: float


class FittedDocument(TypedDict):
    """The result of a fit.

    `resource_kind` is the kind of the instances. `bounds` and `exhaustion` are in catalogue units, None if a metric has
    none. `trails` are the lengths in rows of the rolling features, `groups` the group of each baseline.
    `openings` are those of the last days of the training rows by instance: an instance without a memory begins with
    them.
    """

    schema: str
    resource_kind: NotRequired[str]  # the first kind of the installation
    family: str
    period_s: int
    features: list[str]
    bounds: list[list[float | None]]
    directions: list[str]
    exhaustion: list[float | None]
    trails: NotRequired[list[int]]  # none
    baselines: BaselineIndex
    groups: NotRequired[list[int]]  # one group
    level: LevelDocument
    members: list[MemberDocument]
    context_rows: int
    max_gap_s: int
    rule: RuleDocument
    openings: NotRequired[dict[str, list[OpeningDocument]]]  # none
    seasons: NotRequired[SeasonDocument]  # hours in UTC, no holidays


class ModelDocument(FittedDocument):
    """The whole document of a candidate.

    Times are ISO 8601 in UTC. `settings` are the level settings that a refresh keeps.
    """

    model_id: str
    trained_at: str
    training_id: str
    run_id: str | None
    settings: dict[str, float | int | str]
    golden: Golden
    reference: Reference
    new_normals: NotRequired[list[NewNormal]]  # none


class ArtifactDocument(ModelDocument):
    """The document of an artifact: the model of its first kind, and those of the other kinds.

    See `riskwatch_ml.artifact.parts`.
    """

    kinds: NotRequired[dict[str, ModelDocument]]  # none
