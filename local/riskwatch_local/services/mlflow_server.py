"""Command and environment of the local MLflow server.

It runs one worker on loopback with SQLite and sends no telemetry. Clients upload and download artifacts through the
server (`--artifacts-destination`), so they need no shared folder. The first start creates the database, which can take
a minute on a small machine.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

HOST = "127.0.0.1"


def command(state_dir: Path, port: int) -> list[str]:
    """Return the command line of the server.

    `state_dir` is created; it keeps the database and the artifacts.
    """
    state_dir = state_dir.absolute()
    artifacts = state_dir / "artifacts"
    artifacts.mkdir(parents=True, exist_ok=True)
    return [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        HOST,
        "--port",
        str(port),
        "--workers",
        "1",
        "--backend-store-uri",
        f"sqlite:///{state_dir / 'mlflow.db'}",
        "--artifacts-destination",
        artifacts.as_uri(),
        # The server refuses other Host headers: a web page must not reach it by a name that resolves to loopback.
        "--allowed-hosts",
        f"{HOST}:{port},localhost:{port}",
    ]


def environment() -> dict[str, str]:
    """Return the variables that the server needs beside the environment of its parent."""
    return {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        # The job runner serves evaluations, which Riskwatch does not use, and takes 400 MB.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "GIT_PYTHON_REFRESH": "quiet",
    }


def url(port: int) -> str:
    """Return the tracking URI of the server."""
    return f"http://{HOST}:{port}"


def health_url(port: int) -> str:
    """Return the URL that answers 200 once the server is up."""
    return f"{url(port)}/health"
