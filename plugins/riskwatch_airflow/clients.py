"""AWS clients and the bucket, through the Airflow connection of the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook

from riskwatch_ml.core import aws

if TYPE_CHECKING:
    from riskwatch_ml.core.settings import Settings
    from riskwatch_ml.storage.bucket import Store


def client(settings: Settings, name: str) -> Any:
    """Return the boto3 client of a service, made by the connection `settings.aws_conn_id`."""
    return AwsGenericHook(aws_conn_id=settings.aws_conn_id, client_type=name, config=aws.CONFIG).conn


def store(settings: Settings) -> Store:
    """Return the bucket of the settings, reached through the same connection."""
    from riskwatch_ml.storage.bucket import Store

    return Store(client(settings, "s3"), settings.bucket)
