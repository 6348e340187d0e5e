"""The embedded AWS: one ministack server on loopback.

The demo and the end-to-end tests use it. It runs in a virtual environment of its own, keeps its state below one
directory, answers on one port of one interface, and never uses Docker. Clients find it by the environment variables of
`EmbeddedAws.environment`, which botocore reads. Each server answers only requests that are signed with its own access
key (`embedded_aws_server`).
"""

from __future__ import annotations

import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from riskwatch_local.services import ports
from riskwatch_ml.core.errors import OperationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from riskwatch_local.services.supervisor import Child, Supervisor

REGION = "us-east-1"
ROOT = Path(__file__).resolve().parents[3]
SERVER = Path(__file__).with_name("embedded_aws_server.py")
START_S = 60.0
# The server writes its state on SIGTERM, which takes long with days of metrics.
PERSIST_GRACE_S = 120.0


class EmbeddedAwsError(OperationError):
    """The embedded AWS is not installed or did not start."""


def command(root: Path = ROOT) -> list[str]:
    """Return the command line of the server, which runs in `.venv-aws`.

    Raises EmbeddedAwsError if ministack is not installed there.
    """
    python = root / ".venv-aws" / "bin" / "python"
    if not list(root.glob(".venv-aws/lib/python*/site-packages/ministack")):
        raise EmbeddedAwsError(f"the embedded AWS is not installed ({python} has no ministack): run `make install`")
    return [str(python), "-I", "-u", str(SERVER)]


def new_access_key() -> str:
    """Return a random access key for one server (128 bits)."""
    return secrets.token_hex(16)


def client_environment(endpoint: str, access_key: str, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment with the AWS settings of `endpoint`.

    It is `base` (default: this process's environment) without any setting of the user's own account: profile,
    credentials, configuration files, metadata service.
    """
    base = os.environ if base is None else base
    others = {key: value for key, value in base.items() if not key.startswith("AWS_")}
    return {**others, **client_settings(endpoint, access_key), **_without_proxy(others)}


def client_settings(endpoint: str, access_key: str) -> dict[str, str]:
    """Return the AWS variables that make a client use `endpoint`."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": access_key,
        # The server compares the access key only: the secret key may be any text.
        "AWS_SECRET_ACCESS_KEY": "unused",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def _without_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    hosts = ",".join(filter(None, [environment.get("NO_PROXY") or environment.get("no_proxy"), "127.0.0.1,localhost"]))
    return {"NO_PROXY": hosts, "no_proxy": hosts}


@dataclass(frozen=True)
class EmbeddedAws:
    """A running embedded AWS, made by `start`."""

    endpoint: str
    access_key: str
    port: int
    child: Child
    state_dir: Path
    persist: bool

    @classmethod
    def start(
        cls,
        supervisor: Supervisor,
        state_dir: Path,
        port: int | None = None,
        *,
        persist: bool = False,
        log: Path | None = None,
    ) -> EmbeddedAws:
        """Start the server as a child of `supervisor` and wait until it answers.

        `state_dir` is created. With `persist`, objects and resources survive a clean stop and the next start loads
        them; without it, the `aws` folder in `state_dir` is emptied first. Without `port`, a free one is chosen. Raises
        EmbeddedAwsError (not installed), PortTakenError and ProcessError (the server did not become healthy).
        """
        server, access_key = command(), new_access_key()
        port = ports.claim(port, "the embedded AWS")
        state = state_dir.resolve() / "aws"
        if not persist:
            shutil.rmtree(state, ignore_errors=True)
        shutil.rmtree(state / "tmp", ignore_errors=True)
        (state / "tmp").mkdir(parents=True)
        endpoint = f"http://{ports.LOOPBACK}:{port}"
        child = supervisor.start(
            "the embedded AWS",
            server,
            env=_server_environment(state, port, client_environment(endpoint, access_key), persist),
            cwd=state,
            log=log or state_dir / "embedded-aws.log",
        )
        child.wait_healthy(f"{endpoint}/_ministack/health", START_S)
        return cls(endpoint, access_key, port, child, state, persist)

    def environment(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return an environment in which AWS clients use this server only."""
        return client_environment(self.endpoint, self.access_key, base)

    @property
    def client_settings(self) -> dict[str, str]:
        """The AWS variables that make a client use this server."""
        return client_settings(self.endpoint, self.access_key)

    def client(self, service: str, **options: Any) -> Any:
        """Return a boto3 client of this server, whatever the environment says; `options` are those of boto3."""
        import boto3

        credentials = {"aws_access_key_id": self.access_key, "aws_secret_access_key": "unused"}
        return boto3.client(service, **{"endpoint_url": self.endpoint, "region_name": REGION, **credentials, **options})

    def stop(self) -> None:
        """Stop the server and its Lambda workers.

        With `persist`, the server writes its state first.
        """
        self.child.stop(PERSIST_GRACE_S if self.persist else 15.0)
        shutil.rmtree(self.state_dir / "tmp", ignore_errors=True)


def _server_environment(state: Path, port: int, client: Mapping[str, str], persist: bool) -> dict[str, str]:
    switch = "1" if persist else "0"
    return {
        **client,
        "BIND_HOST": ports.LOOPBACK,
        "GATEWAY_PORT": str(port),
        "MINISTACK_HOST": ports.LOOPBACK,
        "MINISTACK_REGION": REGION,
        "PERSIST_STATE": switch,
        "STATE_DIR": str(state / "state"),
        "S3_PERSIST": switch,
        "S3_DATA_DIR": str(state / "s3"),
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "LAMBDA_EXECUTOR": "local",
        # The server would look for containers to remove in the user's Docker daemon.
        "DOCKER_HOST": f"unix://{state / 'no-docker.sock'}",
        "TMPDIR": str(state / "tmp"),
        "LOG_LEVEL": "WARNING",
        "PYTHONUNBUFFERED": "1",
    }
