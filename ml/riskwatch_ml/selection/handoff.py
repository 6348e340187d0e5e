"""The values that the tasks of `train_models` pass to each other, field by field.

Airflow stores them as XComs, the bucket as JSON objects: the field names are persisted and keep their spelling.
Times are ISO 8601 in UTC, digests the SHA-256 of an artifact in hexadecimal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NotRequired, TypedDict

if TYPE_CHECKING:
    from riskwatch_ml.model.document import NewNormal


class ChampionVersion(TypedDict):
    """The version in service when a training starts, and its part for the kind of the training.

    `digest` is that of the whole artifact at `s3_key`. `family` and `model_id` are those of the part; a version of an
    earlier release has no `model_id`.
    """

    version: str
    digest: str
    family: str
    model_id: NotRequired[str]
    s3_key: str


class FitPlan(TypedDict):
    """The families to fit: the champion's for a refresh, all for a contest.

    `kind` is `refresh` or `contest`. `given_up` is the reason why the champion cannot be refreshed, empty if it can.
    `in_vain` is true if the guards vetoed every family of the last contest. `wins` counts the contests in a row that
    each challenger has won. `at` is the time that the run was due.
    """

    kind: str
    why: str
    families: list[str]
    champion: ChampionVersion | None
    given_up: str
    in_vain: bool
    wins: dict[str, int]
    at: str
    dag_run: str


class TrainingPlan(FitPlan):
    """The training plan, XCom of the task `prepare`.

    `resource_kind` is the kind that is trained, `groups` are the families by the task that fits them. `key` is the S3
    key of the training rows, `run_id` the id of the run in MLflow. `until` is the end of the rows, `new_normals` are
    the open episodes that are learned as normal.
    """

    resource_kind: str
    training_id: str
    run_id: str
    key: str
    groups: list[list[str]]
    rows: int
    instances: int
    until: str
    new_normals: list[NewNormal]


class TrainedFamily(TypedDict):
    """One candidate, XCom of the task `train`.

    `key` is the S3 key of its `CandidateSummary`, `run_id` the id of its run in MLflow.
    """

    family: str
    key: str
    run_id: str


class CandidateFacts(TypedDict):
    """The fields of a candidate from its training to the ranking.

    `bytes` is the size of the artifact at `s3_key`.
    """

    family: str
    training_id: str
    model_id: str
    run_id: str
    digest: str
    s3_key: str
    bytes: int
    params: dict[str, float | int | str]
    given_up: str


class CandidateSummary(CandidateFacts):
    """The stored JSON object beside a candidate's artifact.

    A figure that is not finite is None.
    """

    figures: dict[str, float | None]


class RankedCandidate(CandidateFacts):
    """A candidate in a ranking, with its vetoes, one text each.

    Figures that are not finite are left out.
    """

    figures: dict[str, float]
    vetoes: list[str]


class DecisionEntry(TypedDict):
    """The stored form of `selection.contest.Decision`.

    `kind` is `refresh`, `change` or `nothing`.
    """

    family: str | None
    kind: str
    why: str


class Winner(RankedCandidate):
    """The ranked candidate that was chosen, with the decision.

    `refreshes` is the id of the model that a refresh was made for, empty for a change. `ask` is the reason why
    even a refresh waits for an approval, empty if it does not wait.
    """

    kind: str
    why: str
    refreshes: str
    ask: str


class LastDayEntry(TypedDict):
    """The stored form of `selection.last_day.LastDay`."""

    level_changes: float
    before: int
    after: int
    closes: tuple[str, ...]


class RankingDocument(DecisionEntry):
    """The stored JSON object of a ranking, best candidate first; `ask` as in `Winner`.

    `last_day` is None if there was no model to compare with.
    """

    ranking: list[RankedCandidate]
    ask: str
    last_day: LastDayEntry | None


class Challenger(TypedDict):
    """The challenger: XCom of the task `choose` and extra of its asset event.

    `resource_kind` is the kind of its part, `key` the S3 key of its artifact.
    """

    resource_kind: str
    training_id: str
    family: str
    version: str
    digest: str
    key: str
    kind: str
    why: str
