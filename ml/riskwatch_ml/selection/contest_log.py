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


def read(store: Store, training_id: str, champion: str | None) -> Standing:
    """How things stand before a training, which a document of its own from an earlier try does not change."""
    before = [key for key in store.keys(keys.CONTESTS) if key < keys.contest(training_id)]
    newest = store.get_json(max(before)) if before else None
    if not newest:
        return Standing()
    wins = newest["wins"] if newest["champion"] == champion else {}
    in_vain = newest["decision"].get("kind") == NOTHING
    return Standing({family: int(count) for family, count in wins.items()}, clock.parse(newest["at"]), in_vain)


def write(
    store: Store,
    training_id: str,
    *,
    at: datetime,
    champion: str | None,
    wins: Mapping[str, int],
    decision: Mapping[str, Any],
) -> str:
    """Record a contest: the champion's family after it, the wins that count from here on, and what was decided."""
    key = keys.contest(training_id)
    document = {"training_id": training_id, "at": clock.iso(at), "champion": champion, "wins": dict(wins)}
    store.put_json(key, {**document, "decision": dict(decision)})
    return key
