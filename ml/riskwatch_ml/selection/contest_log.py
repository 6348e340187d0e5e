"""The contest log: one document for each contest under ``contests/``.

It is named after the training. The newest document has the time of the last contest and the challengers' wins in a row.
Wins count only against the champion that still serves: a promotion, a rejected change and a rollback reset them. A
retried task writes the same document again, so no win counts twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict, cast

from riskwatch_ml.core import clock
from riskwatch_ml.selection.contest import NOTHING
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from riskwatch_ml.selection.handoff import DecisionEntry
    from riskwatch_ml.storage.bucket import Store


@dataclass(frozen=True)
class ContestState:
    """The wins in a row by challenger, and the time of the last contest.

    ``contested_at`` is in UTC, None before the first contest. ``all_vetoed`` is true if the guards vetoed every family
    in that contest.
    """

    wins: Mapping[str, int] = field(default_factory=dict)
    contested_at: datetime | None = None
    all_vetoed: bool = False


class ContestEntry(TypedDict):
    """The stored document of a contest.

    ``champion`` is the champion's family after the contest, ``wins`` are the wins that count from then on, ``at`` is
    the time of the contest, ISO 8601 in UTC.
    """

    training_id: str
    dag_run: str
    at: str
    champion: str | None
    wins: dict[str, int]
    decision: DecisionEntry


def read(store: Store, training_id: str, champion: str | None, dag_run: str) -> ContestState:
    """Return the state of the contests of its kind before a training.

    Documents of the same DAG run do not count: an earlier try may have written one, or an earlier training of a run
    that was cleared after its end.
    """
    kind = keys.training_kind(training_id)
    of_kind = (key for key in store.keys(keys.CONTESTS) if keys.training_kind(keys.contest_training(key)) == kind)
    before = sorted(key for key in of_kind if key < keys.contest(training_id))
    entries = (store.get_state(key, _entry) for key in reversed(before))
    newest = next((entry for entry in entries if entry and entry["dag_run"] != dag_run), None)
    if newest is None:
        return ContestState()
    wins = newest["wins"] if newest["champion"] == champion else {}
    return ContestState(wins, clock.parse(newest["at"]), newest["decision"]["kind"] == NOTHING)


def _entry(value: Any) -> ContestEntry:
    """Return a stored contest."""
    clock.parse(value["at"])
    decision = cast("DecisionEntry", {"kind": "", **value["decision"]})
    wins = {str(family): int(count) for family, count in value["wins"].items()}
    return {
        "training_id": str(value.get("training_id", "")),
        "dag_run": str(value.get("dag_run", "")),
        "at": str(value["at"]),
        "champion": value["champion"],
        "wins": wins,
        "decision": decision,
    }


def write(
    store: Store,
    training_id: str,
    *,
    dag_run: str,
    at: datetime,
    champion: str | None,
    wins: Mapping[str, int],
    decision: Mapping[str, str | None],
) -> str:
    """Record a contest and return the key of its document.

    ``champion`` is the champion's family after the contest, ``wins`` are the wins that count from now on, ``decision``
    has the fields of ``DecisionEntry``.
    """
    key = keys.contest(training_id)
    entry: ContestEntry = {
        "training_id": training_id,
        "dag_run": dag_run,
        "at": clock.iso(at),
        "champion": champion,
        "wins": dict(wins),
        "decision": cast("DecisionEntry", dict(decision)),
    }
    store.put_json(key, entry)
    return key
