"""Call the live function, and ask which model it serves."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from riskwatch_ml.core.errors import OperationError, UserInputError
from riskwatch_ml.schema.catalogue import Catalogue


class LiveError(OperationError):
    """The live function cannot be used; the message says why, with the fix."""


class NoModelError(LiveError, UserInputError):
    """No model is promoted yet: the function has the placeholder of the stack."""


@dataclass(frozen=True)
class LiveModel:
    """The needs of the live model of one kind of resource.

    `features` are in order, `context_rows` is the number of rows it uses at most, `max_gap_s` the longest gap between
    them and `period_s` the period of rows, both in seconds. `kind` is empty for the first kind if the function does not
    name it. The live model of the first kind has those of the `others` by kind.
    """

    model_id: str
    features: tuple[str, ...]
    context_rows: int
    max_gap_s: int
    period_s: int
    kind: str = ""
    others: Mapping[str, "LiveModel"] = field(default_factory=dict)

    def of_kind(self, kind: str, *, first: str) -> "LiveModel | None":
        """Return the live model of a kind, None if the function has none.

        `first` is the first kind of the installation: a function of an earlier release serves it without its name.
        """
        return self if kind == (self.kind or first) else self.others.get(kind)


def invoke(client: Any, function: str, alias: str, event: Mapping[str, object]) -> dict[str, object]:
    """Send an event to the function behind the alias, and return its answer.

    `client` is a boto3 Lambda client. Raises LiveError if the function raised an error or its answer is not an object.
    """
    payload = json.dumps(event, allow_nan=False).encode()
    answer = client.invoke(FunctionName=function, Qualifier=alias, Payload=payload)
    text = answer["Payload"].read().decode("utf-8", "replace")
    if answer.get("FunctionError"):
        raise LiveError(f"{function}:{alias} raised on {', '.join(event)}: {text[:1000]}. Its log has the details.")
    reply = json.loads(text)
    if not isinstance(reply, dict):
        raise LiveError(f"{function}:{alias} answered {text[:200]!r}, which is not an object")
    return reply


def ask(client: Any, function: str, alias: str) -> LiveModel:
    """Return the model that the function serves: that of its first kind, which has those of the others.

    A function of an earlier release has one kind. Raises NoModelError if no model is promoted, and LiveError as
    `invoke` does.
    """
    reply: Mapping[str, Any] = invoke(client, function, alias, {"selftest": {}})
    if reply.get("model_id") is None:
        raise NoModelError("no model is promoted yet, so nothing could label the rows: train and promote one first")
    others = {kind: _live_model(part, kind) for kind, part in reply.get("kinds", {}).items()}
    return replace(_live_model(reply, reply.get("resource_kind") or ""), others=others)


def _live_model(facts: Mapping[str, Any], kind: str) -> LiveModel:
    context_rows, max_gap_s, period_s = (int(facts[name]) for name in ("context_rows", "max_gap_s", "period_s"))
    return LiveModel(str(facts["model_id"]), tuple(facts["features"]), context_rows, max_gap_s, period_s, kind)


def select_metrics(metrics: Catalogue, features: Sequence[str]) -> Catalogue:
    """Return the catalogue's metrics of the model's features, in its order.

    Raises LiveError if the catalogue lacks a feature.
    """
    missing = [name for name in features if name not in metrics.by_name]
    if missing:
        raise LiveError(
            f"the live model needs {', '.join(missing)}, which the catalogue does not have: put it back, or promote a "
            "model trained without it"
        )
    return replace(metrics, metrics=tuple(metrics.by_name[name] for name in features))
