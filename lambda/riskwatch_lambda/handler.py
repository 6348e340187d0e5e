"""The entry point: loads the model and the AWS clients once, and hands each event to the module that answers it.

Events: a Kinesis batch, ``{"selftest": {...}}`` and ``{"tick": {...}}``. A self-test needs the model alone. In Lambda
model and clients are made while the environment starts, so that no event waits for them and a bad model stops it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from riskwatch_lambda.alerting.budget import Budget, Limits
from riskwatch_lambda.alerting.sinks import Objects, Publisher
from riskwatch_lambda.episodes.lifecycle import Stamp
from riskwatch_lambda.episodes.repository import Registry
from riskwatch_lambda.events import batch
from riskwatch_lambda.events.batch import Outputs
from riskwatch_lambda.model.document import Model, load
from riskwatch_lambda.table import Table

if TYPE_CHECKING:
    from riskwatch_lambda.alerting.notifier import Teller

MODEL_DIRECTORY = Path(__file__).resolve().parent.parent / "model"
CONNECT_TIMEOUT_S = 3
READ_TIMEOUT_S = 10
ATTEMPTS = 4
LIMITS = ("SERVICE_PAGES", "FLEET_PAGES", "DIGEST_HOUR")
LAST_HOUR = 23


class SetupError(RuntimeError):
    """The environment of the function lacks a variable, or has one that cannot be used."""


class EventError(ValueError):
    """The event is none that this function answers."""


def handle(event: Any, context: Any) -> dict[str, Any]:
    """Answer an event of Lambda.

    Raises ModelError when the model beside the code cannot be served, EventError, TickError or SelfTestError for an
    event that is not understood, SetupError when the environment is incomplete, RegistryError when a tick cannot read
    or write episodes.
    """
    version = str(getattr(context, "function_version", "$LATEST"))
    return answer(event, served_model(), outputs, version, round(time.time() * 1000))


def answer(event: Any, model: Model, outputs_of: Callable[[], Outputs], version: str, now_ms: int) -> dict[str, Any]:
    """Answer an event with a model, outputs that are asked for only when needed, and the wall clock in epoch ms."""
    if not isinstance(event, Mapping):
        raise EventError(f"the event is a {type(event).__name__}, expected an object")
    # What a batch does not need is compiled when it is first asked for, and not at every cold start.
    if "selftest" in event:
        from riskwatch_lambda.events import selftest

        return selftest.run(event["selftest"], model, version)
    if "tick" in event:
        from riskwatch_lambda.events import tick

        stamp = Stamp(model.model_id, version, now_ms)
        return tick.run(event["tick"], model.rule, outputs_of().teller(), stamp)
    if isinstance(event.get("Records"), list):
        return batch.process(event["Records"], model, outputs_of(), Stamp(model.model_id, version, now_ms))
    raise EventError(f"the event has {sorted(event)[:5]}, expected Records of a Kinesis stream, selftest or tick")


@cache
def served_model() -> Model:
    """Load the model that stands beside the code; raises ModelError."""
    return load(MODEL_DIRECTORY)


@cache
def outputs() -> Outputs:
    """Make the AWS clients; raises SetupError when a variable of the environment is missing or wrong."""
    import boto3
    from botocore.config import Config

    bucket, table, topic = (_variable(f"RISKWATCH_{name}") for name in ("BUCKET", "TABLE", "TOPIC_ARN"))
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
    )
    s3, dynamodb, sns = (boto3.client(name, config=config) for name in ("s3", "dynamodb", "sns"))
    episodes = Table(dynamodb, table)
    registry, budget, publisher = Registry(episodes), Budget(episodes, _limits()), Publisher(sns, topic)

    @cache
    def teller() -> Teller:
        from riskwatch_lambda.alerting.maintenance import Windows
        from riskwatch_lambda.alerting.notifier import Teller

        return Teller(registry, Windows(episodes), budget, publisher, os.environ.get("RISKWATCH_LINK") or None)

    return Outputs(Objects(s3, bucket), registry, teller)


def _limits() -> Limits:
    """Read the budget of pages; what is not set has its default."""
    known = Limits()
    chosen = Limits(*(_number(f"RISKWATCH_{name}", default) for name, default in zip(LIMITS, known, strict=True)))
    if chosen.digest_hour > LAST_HOUR:
        raise SetupError(f"RISKWATCH_DIGEST_HOUR is {chosen.digest_hour}: use an hour of the day in UTC, 0 to 23")
    return chosen


def _number(name: str, default: int) -> int:
    value = os.environ.get(name, str(default))
    if not (value.isascii() and value.isdigit()):
        raise SetupError(f"{name} is {value!r}: use a whole number of at least 0")
    return int(value)


def _variable(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise SetupError(f"the environment variable {name} is not set: the stack sets it on the function")
    return value


# Set by the Lambda runtime alone: there, starting up is the time to prepare and to refuse.
if "AWS_LAMBDA_INITIALIZATION_TYPE" in os.environ:
    served_model()
    outputs()
