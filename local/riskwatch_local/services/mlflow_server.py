"""How the demo runs MLflow: one worker on loopback, SQLite and artifacts in the state folder, nothing sent anywhere.

Clients upload and download artifacts through the server (``--artifacts-destination``), so they need no shared folder,
and it works the same with a bucket behind it. A first start creates the database and can take a minute on a small
machine.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

HOST = "127.0.0.1"


def command(state_dir: Path, port: int) -> list[str]:
    """The command line of the server; ``state_dir`` is created, and keeps the database and the artifacts."""
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
        # Other Host headers are refused: a web page must not reach the server through a name that resolves to loopback.
        "--allowed-hosts",
        f"{HOST}:{port},localhost:{port}",
    ]


def environment() -> dict[str, str]:
    """What the server needs on top of the environment of its parent."""
    return {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        # The job runner and its consumers are for evaluations that are not used here, and cost 400 MB.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "GIT_PYTHON_REFRESH": "quiet",
    }


def url(port: int) -> str:
    """The tracking URI of the server."""
    return f"http://{HOST}:{port}"


def health_url(port: int) -> str:
    """Answers 200 when the server is up."""
    return f"{url(port)}/health"
