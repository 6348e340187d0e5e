"""What is remembered between contests: one document a contest under ``contests/``, named after its training.

The newest one says when the last contest was and which challenger has won how many in a row against whom. Wins count
only against the champion that still serves: after a promotion, a rejected change or a rollback they start anew. A task
that is tried again writes the same document again, so that no win counts twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from riskwatch_ml.core import clock
from riskwatch_ml.selection.contest import NOTHING
from riskwatch_ml.storage import keys

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from riskwatch_ml.storage.bucket import Store


@dataclass(frozen=True)
class Standing:
    """The wins in a row of a challenger against the champion, and when (UTC) the last contest was, None before any.

    ``in_vain`` says that the guards vetoed every family of it.
    """

    wins: Mapping[str, int] = field(default_factory=dict)
    contested_at: datetime | None = None
    in_vain: bool = False


def read(store: Store, training_id: str, champion: str | None, dag_run: str) -> Standing:
    """Return the state of contests before a training.

    Documents that the same DAG run has written do not count: neither that of an earlier try, nor, if the run was
    cleared after its end and is a training of its own now, that of its earlier training.
    """
    before = sorted(key for key in store.keys(keys.CONTESTS) if key < keys.contest(training_id))
    documents = (store.get_json(key) for key in reversed(before))
    newest = next((item for item in documents if item and item.get("dag_run") != dag_run), None)
    if newest is None:
        return Standing()
    wins = newest["wins"] if newest["champion"] == champion else {}
    in_vain = newest["decision"].get("kind") == NOTHING
    return Standing({family: int(count) for family, count in wins.items()}, clock.parse(newest["at"]), in_vain)


def write(
    store: Store,
    training_id: str,
    *,
    dag_run: str,
    at: datetime,
    champion: str | None,
    wins: Mapping[str, int],
    decision: Mapping[str, Any],
) -> str:
    """Record a contest: the champion's family after it, the wins that count from here on, and what was decided."""
    key = keys.contest(training_id)
    document = {"training_id": training_id, "dag_run": dag_run, "at": clock.iso(at), "champion": champion}
    store.put_json(key, {**document, "wins": dict(wins), "decision": dict(decision)})
    return key
