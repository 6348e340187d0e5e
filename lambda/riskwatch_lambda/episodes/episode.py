"""Episode of an instance as the table stores it, and the change that rows or a tick make to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from riskwatch_lambda.clock import iso
from riskwatch_lambda.episode_rule import NO_EPISODE, EpisodeState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from riskwatch_lambda.episodes.openings import HeldOpening
    from riskwatch_lambda.model.document import MetricChange
    from riskwatch_lambda.model.trained_openings import OpeningDocument
    from riskwatch_lambda.paging_rule import Held, Opening
    from riskwatch_lambda.scoring.labelled_row import ReasonDocument
    from riskwatch_lambda.scoring.records import Record
    from riskwatch_lambda.scoring.scorer import Verdict
    from riskwatch_lambda.table import AttributeValue

BEHAVIOUR, NO_DATA = "behaviour", "silent"
# State of the opening message: claimed, paged, suppressed for one of three reasons, reported in a summary.
PENDING, SENT, COOLDOWN, BUDGET, MAINTENANCE, SUMMARISED = (
    "pending",
    "sent",
    "cooldown",
    "budget",
    "maintenance",
    "digested",
)


class NotificationState(NamedTuple):
    """Notification state of an episode; times in epoch milliseconds.

    ``notified_ms``, ``claimed_ms`` and ``resolved_ms`` are wall clock times, the others times of rows.

    - ``notified``: one of the six words above; ``notified_ms``: when the opening was reported
    - ``claimed_ms``: when the due message was claimed; None if none is claimed
    - ``reported_since_ms``: opening of the instance's last episode that was claimed or reported;
      ``reported_before_ms``: its value before this episode
    - ``reported_ms``, ``reported_peak``, ``reported_level``: newest row, peak and level when the episode was last
      reported or scheduled for a daily summary
    - ``escalated``: pending or budget while a markedly worse state than that is not reported
    - ``window_id``: the maintenance window that suppressed the page; ``resolved_ms``: when the end was reported
    """

    notified: str = COOLDOWN
    notified_ms: int | None = None
    claimed_ms: int | None = None
    reported_since_ms: int | None = None
    reported_before_ms: int | None = None
    reported_ms: int | None = None
    reported_peak: float | None = None
    reported_level: str = ""
    escalated: str = ""
    window_id: str = ""
    resolved_ms: int | None = None


NOT_NOTIFIED = NotificationState()


@dataclass(frozen=True, slots=True)
class Episode:
    """An episode of an instance, as stored in the table; times in epoch milliseconds.

    ``kind`` is behaviour, or silent for an instance without data. ``level`` and ``reasons`` are those of the row at
    which the episode opened or last escalated. ``model_id`` and ``model_version`` are those of the newest row that
    paged. ``new_normal`` is None unless the model takes the behaviour for normal, rather than the behaviour changing
    back: it then has the metrics that changed, or none if it found the behaviour normal without that.
    ``revision`` is the number of writes of the stored state as it was read: None if the item has none, and possibly not
    a number if the item is damaged. The next write expects to find it. ``resource_kind`` is the kind of the instance,
    empty for the first kind of an installation if the model or the item of an earlier release does not name it.

    ``held`` is the opening of the instance that goes on and has not paged. ``openings`` are those that it remembers,
    None if it has no memory yet. ``opened_ms`` is the row at which the episode opened: an opening that was held at
    first pages later. ``paging_threshold`` is that of the page. Episodes of earlier releases have neither.
    """

    instance_id: str
    service: str
    kind: str = BEHAVIOUR
    state: EpisodeState = NO_EPISODE
    level: str = ""
    reasons: tuple[ReasonDocument, ...] = field(default=())
    model_id: str = ""
    model_version: str = ""
    new_normal: tuple[MetricChange, ...] | None = None
    notice: NotificationState = NOT_NOTIFIED
    revision: AttributeValue | None = None
    resource_kind: str = ""
    held: Held | None = None
    openings: tuple[Opening, ...] | None = None
    opened_ms: int | None = None
    paging_threshold: float | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Return instance and kind, which identify the stored state."""
        return self.instance_id, self.kind

    @property
    def since_ms(self) -> int:
        """Return when the episode opened, 0 if the instance never had one."""
        return self.state.since_ms or 0

    @property
    def episode_id(self) -> str:
        """Return ``<instance>@<since>``; silent episodes have the suffix ``~silent``.

        It is empty without an episode.
        """
        if self.state.since_ms is None:
            return ""
        return f"{self.instance_id}@{iso(self.state.since_ms)}" + ("" if self.kind == BEHAVIOUR else f"~{self.kind}")


class Scored(NamedTuple):
    """One row of a batch, its verdict and its arrival (epoch ms)."""

    record: Record
    verdict: Verdict
    arrived_ms: int


class ModelContext(NamedTuple):
    """Model id, function version, and wall clock (epoch ms) of an invocation.

    ``new_normals`` has the episodes that the model learned as normal, by id. ``trained`` has the openings in the
    training rows by instance.
    """

    model_id: str
    model_version: str
    now_ms: int
    new_normals: Mapping[str, tuple[MetricChange, ...]] = MappingProxyType({})
    trained: Mapping[str, Sequence[OpeningDocument]] = MappingProxyType({})


class Change(NamedTuple):
    """Effect of a batch or a tick on one instance.

    ``before`` and ``after`` are its stored and its new episode. ``rows`` are the rows that caused the change;
    ``episode_ids`` has one entry per row, None if the row is no alert. ``listed`` are the episodes to write to the
    list, ``held`` the held openings. ``opened`` and ``escalated`` are the ids of those that opened or escalated,
    ``closed`` is the number that closed.
    """

    before: Episode | None
    after: Episode | None
    rows: tuple[Scored, ...] = ()
    episode_ids: tuple[str | None, ...] = ()
    listed: tuple[Episode, ...] = ()
    held: tuple[HeldOpening, ...] = ()
    opened: frozenset[str] = frozenset()
    escalated: frozenset[str] = frozenset()
    closed: int = 0

    @property
    def is_needed(self) -> bool:
        """Return whether there is anything to write."""
        return self.after is not self.before

    @property
    def to_notify(self) -> tuple[Episode, ...]:
        """Return the episodes with an opening or escalation to report, oldest first."""
        return tuple(
            episode
            for episode in self.listed
            if (episode.episode_id in self.opened and episode.notice.notified == PENDING)
            or (episode.episode_id in self.escalated and episode.notice.escalated == PENDING)
        )
