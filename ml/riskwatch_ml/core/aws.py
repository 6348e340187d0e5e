"""AWS clients of commands, with the same retries and timeouts for all.

Region, keys and endpoint come from the environment, as botocore reads them. Other clients are made in these places
only: `riskwatch_airflow.clients` and the dashboard use an Airflow connection; `riskwatch_lambda.handler` is deployed
without this package; the demo publishes metrics without parameter validation.
"""

import os
from functools import lru_cache
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import RefreshableCredentials

CONFIG = Config(
    retries={"mode": "adaptive", "max_attempts": 8},
    read_timeout=180,
    connect_timeout=5,
    max_pool_connections=16,
)
"""Patience of tasks and commands."""


def client(name: str) -> Any:
    """Return the boto3 client of a service, for example `client("s3")`.

    Each process makes one client per service; its threads may share it.
    """
    return _client(name, os.getpid())


def clear_clients() -> None:
    """Drop the cached clients and the session of boto3, so that the next ones read the environment again."""
    _client.cache_clear()
    boto3.DEFAULT_SESSION = None


def session_in_role(session: Any, role_arn: str, endpoint_url: str | None = None) -> Any:
    """Return a boto3 session of a role, in the region of `session`.

    Its credentials are renewed before they expire.
    """
    sts = session.client("sts", config=CONFIG, endpoint_url=endpoint_url)

    def credentials() -> dict[str, str]:
        answer = sts.assume_role(RoleArn=role_arn, RoleSessionName="riskwatch")["Credentials"]
        return {
            "access_key": answer["AccessKeyId"],
            "secret_key": answer["SecretAccessKey"],
            "token": answer["SessionToken"],
            "expiry_time": answer["Expiration"].isoformat(),
        }

    core = botocore.session.get_session()
    # botocore can renew credentials, but a session has no public way to receive such credentials.
    core._credentials = RefreshableCredentials.create_from_metadata(
        metadata=credentials(), refresh_using=credentials, method="assume-role"
    )
    return boto3.session.Session(botocore_session=core, region_name=session.region_name)


@lru_cache(maxsize=64)
def _client(name: str, process: int) -> Any:
    # A forked worker must not share the sockets of its parent, so the process id is part of the cache key.
    return boto3.session.Session().client(name, config=CONFIG)
