"""The model document: what `model.json` in an artifact holds, field by field.

Names of arrays refer to `model.bin`, which the index `arrays` describes. A field that older documents lack is not
required, and has the default that its comment names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

if TYPE_CHECKING:
    from riskwatch_ml.families.prototype_map import MapDocument


class BaselineIndex(TypedDict):
    """The baseline of each known instance, of each role, and of the fleet: places in `center` and `scale`."""

    instances: dict[str, int]
    roles: dict[str, int]
    fleet: int


class LevelDocument(TypedDict):
    """The level map, and a level name for each of its labels."""

    map: MapDocument
    names: list[str]


class MemberDocument(TypedDict):
    """One member of the behaviour space: window in rows, weight, map, and the name of its boundaries by baseline."""

    window: int
    weight: float
    group: NotRequired[int]  # 0
    map: MapDocument
    boundary: str


class RuleDocument(TypedDict):
    """The episode rule, see `riskwatch_lambda.episode_rule`: an episode opens with m of n rows that page.

    It closes after `close_rows` rows that do not; a row pages from `paging_threshold` on. Times in seconds.
    """

    m: int
    n: int
    close_rows: int
    cooldown_s: int
    group_s: int
    paging_threshold: float


class Golden(TypedDict):
    """Stream records, and the score, level and unusual flag that each must get."""

    records: list[dict[str, Any]]
    expected: list[dict[str, Any]]


class Reference(TypedDict):
    """What the model says of its training rows: their number, the share of each level and of unusual ones, alerts."""

    rows: int
    levels: dict[str, float]
    unusual: float
    alerts_per_instance_day: float


class FittedDocument(TypedDict):
    """What a fit decides; bounds and exhaustion in catalogue units, None where a metric has none.

    `trails` are the lengths in rows of the rolling features, `groups` the group of each baseline.
    """

    schema: str
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


class ModelDocument(FittedDocument):
    """The whole document of a candidate; times in ISO 8601, UTC. `settings` are those that a refresh keeps."""

    model_id: str
    trained_at: str
    training_id: str
    run_id: str | None
    settings: dict[str, float | int | str]
    golden: Golden
    reference: Reference
