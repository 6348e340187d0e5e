"""The values that tasks pass to each other and announce with assets, field by field.

Airflow stores them as XComs and as extras of asset events, so the field names are persisted and keep their spelling.
Times are ISO 8601 in UTC, digests the SHA-256 of an artifact in hexadecimal. `riskwatch_ml.selection.handoff` has the
values of `train_models`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NotRequired, TypedDict

if TYPE_CHECKING:
    from riskwatch_ml.ingest.export import ExportChunk, KindCounts
    from riskwatch_ml.registry.ledger import Replaced


class ExportCounts(TypedDict):
    """What an export read and what it took.

    `objects` are the S3 objects that changed, `calls` those of GetMetricData, `least_calls` the fewest that its limits
    allow, `metrics` the metrics that AWS charges, `predicted_metrics` their number by the plan.
    """

    rows: int
    instances: int
    duplicates: int
    objects: int
    calls: int
    least_calls: int
    metrics: int
    predicted_metrics: int


class FetchedRegion(ExportCounts):
    """The rows of one account and region, XCom of `export_metrics.fetch`.

    `told` is the summary that labels the task. `kinds` has the counts of each kind. `silent` are the metrics without
    any datapoint, `missing` counts the instances that report without a value, for each metric that some lack.
    `left_out` is [start, end) of the hours that no export has read and that lie too long ago to catch up, empty if
    there are none.
    """

    shard: str
    told: str
    chunks: list[ExportChunk]
    silent: list[str]
    missing: NotRequired[dict[str, int]]  # earlier releases did not count
    kinds: NotRequired[dict[str, KindCounts]]  # earlier releases had one kind
    left_out: list[str]


class FetchedInterval(ExportCounts):
    """The rows of all accounts and regions over [start, end); `missing` and `kinds` have the sums of their counts."""

    start: str
    end: str
    chunks: list[ExportChunk]
    missing: NotRequired[dict[str, int]]
    kinds: NotRequired[dict[str, KindCounts]]


class ValidatedMetrics(TypedDict):
    """Extra of the asset event `validated_metrics`; `cost` is the list price in dollars, as text."""

    start: str
    end: str
    rows: int
    validated: int
    quarantined: int
    instances: int
    duplicates: int
    metrics_requested: int
    cost: str


class ExportReport(ValidatedMetrics):
    """The outcome of a validation, XCom of `export_metrics.validate`.

    `reasons` counts quarantined rows by reason, `findings` the failed checks by name; `data_docs` are links. `missing`
    counts the instances that report without a value, for each metric that some lack. `values_kept` and
    `values_refused` count the values of all rows; `value_reasons` counts the refused values of validated rows by
    reason, which names the metric. `kinds` has the counts `rows`, `validated` and `quarantined` of each kind.
    """

    missing: dict[str, int]
    reasons: dict[str, int]
    values_kept: int
    values_refused: int
    value_reasons: dict[str, int]
    findings: dict[str, int]
    kinds: dict[str, dict[str, int]]
    data_docs: list[str]


class Published(TypedDict):
    """The rows sent to the stream, XCom of `stream_metrics.publish`.

    `left_out` lists the intervals [start, end) that lie too long ago to catch up. `unread` maps the accounts and
    regions that could not be read to their errors. `values` are those of the rows. `retried` counts records that
    Kinesis refused at first.
    """

    start: str
    end: str
    left_out: list[list[str]]
    by_hand: bool
    unread: dict[str, str]
    model_id: str
    instances: int
    rows: int
    values: int
    records: int
    calls: int
    retried: int


class PromotionCandidate(TypedDict):
    """A challenger to approve and release; XComs of `promote_model.decide` are lists of them.

    `resource_kind` is the kind of its part, empty for a whole artifact, and `model_id` the id of its model. `version`
    and `run_id` are those of MLflow, `key` is the S3 key of the artifact. `replaces` is the champion, `replaces_model`
    the id of its model of the kind, and `ledger` the key of the entry that put it into service; each is empty if there
    is none. `ask` is the reason why even a refresh waits for an approval, empty if it does not wait. `link` is the page
    of the version in MLflow.
    """

    resource_kind: str
    model_id: str
    replaces_model: str
    version: str
    run_id: str
    digest: str
    family: str
    training_id: str
    key: str
    figures: dict[str, float | None]
    replaces: Replaced | None
    ledger: str
    mode: str
    kind: str
    why: str
    ask: str
    link: str


class LiveRelease(TypedDict):
    """The model in service, XCom of `promote_model.release` and `settle`, extra of the asset event `live_model`.

    `version` is that of MLflow, `function_version` that of Lambda, `by` the approver, `ledger` the key of the entry.
    """

    model_id: str | None
    family: str
    version: str
    function_version: str
    digest: str
    by: str
    ledger: str


class CompactionCounts(TypedDict):
    """The outcome of a compaction, XCom of `watch_model.compact`, as `riskwatch_ml.storage.labelled_rows` counts it."""

    objects: int
    rows_in: int
    rows_out: int
    duplicates: int
    unreadable: int


class RequestedKinds(TypedDict):
    """The kinds of resource that a watch report requests a training for.

    `resource_kinds` are the kinds of the request itself: those to retrain by a contest, or, if no kind needs a contest,
    those to refresh. `refresh_kinds` are the further kinds for which a refresh is enough, beside a contest of others.
    Without `resource_kinds` the request is for all kinds of the installation, and without `refresh_kinds` there are no
    further ones: so are requests of earlier releases, of an operator, and of an installation with one kind.
    """

    resource_kinds: NotRequired[list[str]]
    refresh_kinds: NotRequired[list[str]]


class WatchSummary(RequestedKinds):
    """The outcome of a watch report, XCom of `watch_model.measure`; `key` is the S3 key of the whole report.

    `model_id` and `rows` are those of the first part of the model, `findings` those of all parts. `retrain` is true if
    a contest of any kind is requested. `refresh` are the episodes of all kinds for which a refresh is requested,
    because a training may learn them from now on.
    """

    key: str
    model_id: str
    rows: int
    retrain: bool
    reason: str
    findings: list[str]
    refresh: NotRequired[list[str]]


class RetrainRequest(RequestedKinds):
    """Extra of the asset event `retrain_request`; `key` and `model_id` are those of a watch report.

    `kind` is `refresh` if a refresh of `resource_kinds` is enough; without it, the request is for a contest of
    `resource_kinds`, and for a refresh of `refresh_kinds`.
    """

    reason: str
    kind: NotRequired[str]
    key: NotRequired[str]
    model_id: NotRequired[str]
