"""The live function: invoking it, which model it serves, and what a record for that model has to hold."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from riskwatch_ml.core.errors import OperationError, UserInputError
from riskwatch_ml.schema.catalogue import Catalogue


class LiveError(OperationError):
    """The live function cannot be used as asked; the message says why and what to do."""


class NoModelError(LiveError, UserInputError):
    """No model has been promoted yet: the function holds the stack's placeholder."""


@dataclass(frozen=True)
class LiveModel:
    """What the model in service needs of a record: features in order, rows at most, longest gap and period (s)."""

    model_id: str
    features: tuple[str, ...]
    context_rows: int
    max_gap_s: int
    period_s: int


def invoke(client: Any, function: str, alias: str, event: Mapping[str, Any]) -> dict[str, Any]:
    """Send an event to the function behind the alias, through a boto3 Lambda client, and return its answer.

    Raises LiveError where the function raised or answered something that is no object.
    """
    payload = json.dumps(event, allow_nan=False).encode()
    answer = client.invoke(FunctionName=function, Qualifier=alias, Payload=payload)
    text = answer["Payload"].read().decode("utf-8", "replace")
    if answer.get("FunctionError"):
        raise LiveError(f"{function}:{alias} raised on {', '.join(event)}: {text[:1000]}. Its log has the rest.")
    reply = json.loads(text)
    if not isinstance(reply, dict):
        raise LiveError(f"{function}:{alias} answered {text[:200]!r}, which is no object")
    return reply


def ask(client: Any, function: str, alias: str) -> LiveModel:
    """Ask the function which model it serves. Raises NoModelError where none is promoted, and as `invoke` does."""
    reply = invoke(client, function, alias, {"selftest": {}})
    if reply.get("model_id") is None:
        raise NoModelError("no model is promoted yet, so nothing could label the rows: train and promote one first")
    return LiveModel(
        str(reply["model_id"]),
        tuple(reply["features"]),
        *(int(reply[name]) for name in ("context_rows", "max_gap_s", "period_s")),
    )


def wanted(metrics: Catalogue, features: Sequence[str]) -> Catalogue:
    """Return the model's features, in its order, as the catalogue has them. Raises LiveError where it lacks one."""
    missing = [name for name in features if name not in metrics.by_name]
    if missing:
        raise LiveError(
            f"the live model needs {', '.join(missing)}, which the catalogue does not have: put it back, or promote a "
            "model trained without it"
        )
    return Catalogue(tuple(metrics.by_name[name] for name in features))
