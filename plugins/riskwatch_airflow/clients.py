"""AWS through the Airflow connection of the settings: one way to the bucket, the stream and the live function."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook

from ml import aws

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ml.settings import Settings
    from ml.store import Store


class LiveFunctionError(Exception):
    """The live function failed or cannot be reached; the message has what it answered."""


def client(settings: Settings, name: str) -> Any:
    """Return the boto3 client of a service, made by the connection `settings.aws_conn_id`."""
    return AwsGenericHook(aws_conn_id=settings.aws_conn_id, client_type=name, config=aws.CONFIG).conn


def store(settings: Settings) -> Store:
    """Return the bucket."""
    from ml.store import Store

    return Store(client(settings, "s3"), settings.bucket)


def invoke_live(settings: Settings, event: Mapping[str, Any]) -> dict[str, Any]:
    """Send an event to the live alias of the function and return its answer.

    Raises LiveFunctionError where the function raised.
    """
    answer = client(settings, "lambda").invoke(
        FunctionName=settings.function,
        Qualifier=settings.alias,
        Payload=json.dumps(event, allow_nan=False).encode(),
    )
    text = answer["Payload"].read().decode("utf-8", "replace")
    if answer.get("FunctionError"):
        raise LiveFunctionError(
            f"{settings.function}:{settings.alias} raised on {', '.join(event)}: {text[:1000]}. Its log has the rest."
        )
    reply = json.loads(text)
    if not isinstance(reply, dict):
        raise LiveFunctionError(f"{settings.function}:{settings.alias} answered {text[:200]!r}, which is no object")
    return reply
