"""Asking the live function: which model serves, and what a record for it has to hold."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ml.catalogue import Catalogue


class LiveError(RuntimeError):
    """The live function cannot be used as asked; the message says why and what to do."""


@dataclass(frozen=True)
class LiveModel:
    """What the model in service needs of a record: features in order, rows at most, longest gap and period (s)."""

    model_id: str
    features: tuple[str, ...]
    context_rows: int
    max_gap_s: int
    period_s: int


def ask(client: Any, function: str, alias: str) -> LiveModel:
    """Ask the function behind the alias, through a boto3 Lambda client, which model it serves.

    Raises LiveError where no model is promoted yet, or the function raised.
    """
    answer = client.invoke(FunctionName=function, Qualifier=alias, Payload=b'{"selftest":{}}')
    text = answer["Payload"].read().decode("utf-8", "replace")
    if answer.get("FunctionError"):
        raise LiveError(f"{function}:{alias} raised on a self-test: {text[:1000]}. Its log has the rest.")
    reply = json.loads(text)
    if reply.get("model_id") is None:
        raise LiveError("no model is promoted yet, so nothing could label the rows: train and promote one first")
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
