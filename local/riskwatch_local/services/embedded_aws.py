"""The embedded AWS: one ministack server on loopback, in its own environment, for the demo and the end-to-end tests.

It keeps its state below one directory, answers on one port, listens on no other interface, and never touches Docker.
Clients reach it through the environment alone (`EmbeddedAws.environment`), as botocore reads it.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from riskwatch_local.services import ports
from riskwatch_ml.core.errors import OperationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from riskwatch_local.services.supervisor import Child, Supervisor

REGION = "us-east-1"
ROOT = Path(__file__).resolve().parents[3]
START_S = 60.0
# The state is written out on SIGTERM; with days of metrics that takes a while.
PERSIST_GRACE_S = 120.0


class EmbeddedAwsError(OperationError):
    """The embedded AWS is not installed or did not start."""


def executable(root: Path = ROOT) -> Path:
    """Return the server's command in `.venv-aws` beside the project. Raises EmbeddedAwsError where it is missing."""
    command = root / ".venv-aws" / "bin" / "ministack"
    if not command.exists():
        raise EmbeddedAwsError(f"the embedded AWS is not installed ({command} is missing): run `make install`")
    return command


def client_environment(endpoint: str, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return `base` (default: this process's environment) with every AWS setting replaced by those of `endpoint`.

    Nothing of the user's own account survives: no profile, no credentials, no configuration file, no metadata service.
    """
    kept = {key: value for key, value in (os.environ if base is None else base).items() if not key.startswith("AWS_")}
    return {**kept, **client_settings(endpoint), **_without_proxy(kept)}


def client_settings(endpoint: str) -> dict[str, str]:
    """Return only the AWS variables that lead a client to `endpoint`."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
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
    """A running embedded AWS. `start` is the only way to get one."""

    endpoint: str
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

        `state_dir` is created; with `persist` its objects and resources survive a clean stop and are found again by the
        next start, without it the directory's `aws` folder is emptied first. `port` None chooses a free one. Raises
        EmbeddedAwsError (not installed), ports.PortTakenError, processes.ProcessError (did not become healthy).
        """
        command = executable()
        port = ports.claim(port, "the embedded AWS")
        state = state_dir.resolve() / "aws"
        if not persist:
            shutil.rmtree(state, ignore_errors=True)
        shutil.rmtree(state / "tmp", ignore_errors=True)
        (state / "tmp").mkdir(parents=True)
        endpoint = f"http://{ports.LOOPBACK}:{port}"
        child = supervisor.start(
            "the embedded AWS",
            [command],
            env=_server_environment(state, port, endpoint, persist),
            cwd=state,
            log=log or state_dir / "embedded-aws.log",
        )
        child.wait_healthy(f"{endpoint}/_ministack/health", START_S)
        return cls(endpoint, port, child, state, persist)

    def environment(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment in which a client or a service uses this server and nothing else."""
        return client_environment(self.endpoint, base)

    def stop(self) -> None:
        """Stop the server and its Lambda workers; with `persist`, after it has written its state."""
        self.child.stop(PERSIST_GRACE_S if self.persist else 15.0)
        shutil.rmtree(self.state_dir / "tmp", ignore_errors=True)


def _server_environment(state: Path, port: int, endpoint: str, persist: bool) -> dict[str, str]:
    switch = "1" if persist else "0"
    return {
        **client_environment(endpoint),
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
        # A Docker daemon, where there is one, belongs to the user: the server would look for containers to remove.
        "DOCKER_HOST": f"unix://{state / 'no-docker.sock'}",
        "TMPDIR": str(state / "tmp"),
        "LOG_LEVEL": "WARNING",
        "PYTHONUNBUFFERED": "1",
    }
