"""Episodes that training learned as normal, as the document of a model lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from riskwatch_lambda.model.document import MetricChange


class NewNormalError(ValueError):
    """The list of episodes is malformed."""


def read_new_normals(document: Mapping[str, object]) -> dict[str, tuple[MetricChange, ...]]:
    """Return the changes of metrics by episode id; a document without the key has no such episode."""
    entries: Any = document.get("new_normals", [])
    try:
        return {
            str(entry["episode_id"]): tuple(
                {"feature": str(change["feature"]), "before": change["before"], "after": change["after"]}
                for change in entry["changes"]
            )
            for entry in entries
        }
    except (TypeError, KeyError) as error:
        raise NewNormalError(f"new_normals is {entries!r:.100}, expected episodes with their changes") from error
