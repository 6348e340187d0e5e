"""The one place that makes AWS clients: same retries and timeouts everywhere; region, keys and endpoint come from the
environment, as botocore itself reads them.
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


def client(name: str) -> Any:
    """Return the boto3 client of a service, e.g. `client("s3")`, one per process; threads may share it."""
    return _client(name, os.getpid())


def forget() -> None:
    """Drop the cached clients: the next ones read the environment again (it was changed to another endpoint)."""
    _client.cache_clear()


def assumed(session: Any, role_arn: str, endpoint_url: str | None = None) -> Any:
    """Return a boto3 session of the role, in the region of `session`, whose credentials are renewed as they expire."""
    sts = session.client("sts", config=CONFIG, endpoint_url=endpoint_url)

    def credentials() -> dict[str, str]:
        found = sts.assume_role(RoleArn=role_arn, RoleSessionName="riskwatch")["Credentials"]
        return {
            "access_key": found["AccessKeyId"],
            "secret_key": found["SecretAccessKey"],
            "token": found["SessionToken"],
            "expiry_time": found["Expiration"].isoformat(),
        }

    core = botocore.session.get_session()
    # Renewing is part of botocore, but a session has no public way to be given credentials that renew themselves.
    core._credentials = RefreshableCredentials.create_from_metadata(
        metadata=credentials(), refresh_using=credentials, method="assume-role"
    )
    return boto3.session.Session(botocore_session=core, region_name=session.region_name)


@lru_cache(maxsize=64)
def _client(name: str, process: int) -> Any:
    # A forked worker must not share the sockets of its parent, hence the process in the key.
    return boto3.session.Session().client(name, config=CONFIG)
