"""Entry point: load model and AWS clients once, and pass each event to its module.

Events are a Kinesis batch, ``{"selftest": {...}}`` and ``{"tick": {...}}``. A self-test needs the model only. In
Lambda, model and clients are created while the environment starts: no event waits for them, and an invalid model stops
the start.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from riskwatch_lambda.alerting.budget import Budget, Limits
from riskwatch_lambda.alerting.sinks import Publisher
from riskwatch_lambda.episodes.episode import ModelContext
from riskwatch_lambda.episodes.repository import EpisodeRepository
from riskwatch_lambda.episodes.seen import SeenRows
from riskwatch_lambda.events import batch
from riskwatch_lambda.events.batch import Outputs
from riskwatch_lambda.model.document import Model, load
from riskwatch_lambda.storage import Objects
from riskwatch_lambda.table import Table

if TYPE_CHECKING:
    from riskwatch_lambda.alerting.notifier import Notifier
    from riskwatch_lambda.events.delivery import BatchAnswer
    from riskwatch_lambda.events.selftest import SelfTestAnswer
    from riskwatch_lambda.events.tick import TickAnswer

    Answer = BatchAnswer | SelfTestAnswer | TickAnswer

MODEL_DIRECTORY = Path(__file__).resolve().parent.parent / "model"
CONNECT_TIMEOUT_S = 3
READ_TIMEOUT_S = 10
ATTEMPTS = 4
LIMITS = ("SERVICE_PAGES", "FLEET_PAGES", "DIGEST_HOUR")
LAST_HOUR = 23


class SetupError(RuntimeError):
    """An environment variable of the function is missing or invalid."""


class EventError(ValueError):
    """The event type is not supported."""


def handle(event: Any, context: Any) -> Answer:
    """Answer a Lambda event.

    Raises ModelError if the model is invalid, SetupError if an environment variable is missing or invalid, EventError,
    TickError or SelfTestError for an invalid event, TableError if a tick cannot read or write episodes.
    """
    version = str(getattr(context, "function_version", "$LATEST"))
    return answer(event, served_model(), outputs, version, round(time.time() * 1000))


def answer(event: Any, model: Model, outputs_of: Callable[[], Outputs], version: str, now_ms: int) -> Answer:
    """Answer an event with a given model.

    ``outputs_of`` creates the clients if they are needed, ``now_ms`` is the wall clock in epoch milliseconds.
    """
    if not isinstance(event, Mapping):
        raise EventError(f"the event is a {type(event).__name__}, expected an object")
    model_context = ModelContext(model.model_id, version, now_ms, model.new_normals, model.trained)
    # A cold start imports only the modules that a batch needs.
    if "selftest" in event:
        from riskwatch_lambda.events import selftest

        return selftest.run(event["selftest"], model, version)
    if "tick" in event:
        from riskwatch_lambda.events import tick

        return tick.run(event["tick"], model.rule_of, outputs_of().notifier(), model_context)
    if isinstance(event.get("Records"), list):
        return batch.process(event["Records"], model, outputs_of(), model_context)
    raise EventError(f"the event has {sorted(event)[:5]}, expected Records of a Kinesis stream, selftest or tick")


@cache
def served_model() -> Model:
    """Return the model of the artifact; raises ModelError."""
    return load(MODEL_DIRECTORY)


@cache
def outputs() -> Outputs:
    """Return the AWS clients.

    Raises SetupError if an environment variable is missing or invalid.
    """
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
    repository, budget, publisher = EpisodeRepository(episodes), Budget(episodes, _limits()), Publisher(sns, topic)

    @cache
    def notifier() -> Notifier:
        from riskwatch_lambda.alerting.maintenance import MaintenanceWindows
        from riskwatch_lambda.alerting.notifier import Notifier

        return Notifier(
            repository, MaintenanceWindows(episodes), budget, publisher, os.environ.get("RISKWATCH_LINK") or None
        )

    return Outputs(Objects(s3, bucket), repository, SeenRows(episodes), notifier)


def _limits() -> Limits:
    """Return the page budget from the environment.

    A variable that is not set has its default.
    """
    defaults = Limits()
    limits = Limits(*(_number(f"RISKWATCH_{name}", default) for name, default in zip(LIMITS, defaults, strict=True)))
    if limits.daily_summary_hour > LAST_HOUR:
        raise SetupError(
            f"RISKWATCH_DIGEST_HOUR is {limits.daily_summary_hour}: use an hour of the day in UTC, 0 to 23"
        )
    return limits


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


# Only the Lambda runtime sets this variable: prepare, or fail, while the environment starts.
if "AWS_LAMBDA_INITIALIZATION_TYPE" in os.environ:
    served_model()
    outputs()
