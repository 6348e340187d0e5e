"""The figures of the demo, as `demo.json` has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from riskwatch_local.demo.values import ValueCounts


class RowCounts(TypedDict):
    """Rows of the exported interval; each is validated or quarantined."""

    exported: int
    validated: int
    quarantined: int


class _RankedFamily(TypedDict):
    family: str
    figures: dict[str, float]


class Candidate(_RankedFamily, total=False):
    """A family in the ranking of a training; `verdict` is its outcome in words."""

    vetoes: list[str]
    verdict: str


class Training(TypedDict):
    """The training of the first kind and the version that it registered in MLflow."""

    id: str
    model_version: str


class Promotion(TypedDict):
    """The artifact in service; `version` is that of the Lambda function.

    `family` and `model_id` are those of the first kind, `kinds` has the ids of the models of the others.
    """

    version: str
    family: str
    digest: str
    model_id: str
    selftest: str
    kinds: dict[str, str]


class StreamFigures(TypedDict):
    """Rows sent to the stream; `risk` counts the labelled rows by risk."""

    sent: int
    records: int
    calls: int
    run_s: float
    labelled: int
    quarantined: int
    values: ValueCounts
    risk: dict[str, int]


class KindStream(TypedDict):
    """Rows of one kind that were sent to the stream; each is labelled or quarantined."""

    sent: int
    labelled: int
    quarantined: int
    values: ValueCounts


class EpisodeStart(TypedDict):
    """The instance and the start of an episode, ISO 8601 in UTC."""

    instance_id: str
    since: str


class IncidentOutcome(TypedDict):
    """A known incident, [start, end) as ISO 8601 in UTC, and whether an alert met it."""

    instance_id: str
    kind: str
    start: str
    end: str
    met: bool


EpisodeStarts = list[EpisodeStart]
IncidentOutcomes = list[IncidentOutcome]


class AlertFigures(TypedDict):
    """The received messages, and the episodes that they announce."""

    messages: int
    episodes: int
    list: EpisodeStarts


class IncidentFigures(TypedDict):
    """Known incidents of the streamed hours, and alerts outside of them."""

    made: int
    met: int
    missed: int
    false_alerts: int
    list: IncidentOutcomes
    false: EpisodeStarts


class Delay(TypedDict, total=False):
    """Seconds from the end of a datapoint's period to its message, and the parts."""

    settle_s: float
    schedule_wait_max_s: float
    run_to_put_p95_s: float
    put_to_message_p95_s: float
    datapoint_to_message_p95_s: float


class WatchFigures(TypedDict):
    """The report of watch_model; `distance` is the label drift and `limit` its limit."""

    compacted_rows: int
    distance: float
    limit: float
    violated: bool
    alert_volume: object


class KindIncidents(TypedDict):
    """Numbers of known incidents of one kind, and of those that an alert met."""

    made: int
    met: int


class KindFigures(TypedDict, total=False):
    """The figures of one kind; `family` is the winner of its training, `episodes` those in received messages."""

    rows: RowCounts
    values: ValueCounts
    family: str
    stream: KindStream
    episodes: int
    incidents: KindIncidents | None


class Figures(TypedDict, total=False):
    """The figures of the stages; each stage adds its own.

    `rows`, `values`, `stream`, `alerts` and `incidents` are of all kinds, `candidates` of the first one. `kinds` has
    the figures of each kind, the first kind first.
    """

    kinds: dict[str, KindFigures]
    rows: RowCounts
    values: ValueCounts
    candidates: list[Candidate]
    training: Training
    promoted: Promotion
    stream: StreamFigures
    alerts: AlertFigures
    incidents: IncidentFigures | None
    delay: Delay
    watch: WatchFigures


class Summary(Figures):
    """The content of `demo.json`.

    Times are ISO 8601 in UTC; `stages` has seconds by title.
    """

    source: str
    started: str
    finished: str
    seconds: float
    stages: dict[str, float]
    addresses: dict[str, str]
    listeners: list[str]
    checks: dict[str, bool]
    ok: bool
