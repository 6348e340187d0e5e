"""The one place that makes AWS clients: same retries and timeouts everywhere; region, keys and endpoint come from the
environment, as botocore itself reads them.
"""

import os
from functools import lru_cache
from typing import Any

import boto3
from botocore.config import Config

CONFIG = Config(
    retries={"mode": "adaptive", "max_attempts": 8},
    read_timeout=180,
    connect_timeout=5,
)


def client(name: str) -> Any:
    """Return the boto3 client of a service, e.g. `client("s3")`, one per process; threads may share it."""
    return _client(name, os.getpid())


def forget() -> None:
    """Drop the cached clients: the next ones read the environment again (it was changed to another endpoint)."""
    _client.cache_clear()


@lru_cache(maxsize=64)
def _client(name: str, process: int) -> Any:
    # A forked worker must not share the sockets of its parent, hence the process in the key.
    return boto3.session.Session().client(name, config=CONFIG)
