"""What is checked before the demo starts: every problem at once, each with what to do about it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from typing import TYPE_CHECKING

from riskwatch_local.services import embedded_aws, ports

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PYTHON_FROM, PYTHON_BELOW = (3, 11), (3, 14)
FREE_BYTES = 3_000_000_000


def check(
    state_dir: Path,
    requested_ports: Mapping[str, int | None] | None = None,
    *,
    root: Path = embedded_aws.ROOT,
    python: tuple[int, int] | None = None,
) -> list[str]:
    """Return the problems that would stop the demo, [] where there is none.

    `requested_ports` maps a purpose ("Airflow") to the port the user asked for (None: any). What
    only the installation needs, a compiler, `local/install.sh` asks for.
    """
    problems = [*_python(python or (sys.version_info[0], sys.version_info[1])), *_directory(state_dir)]
    problems += _embedded_aws(root)
    for purpose, port in (requested_ports or {}).items():
        if port:
            try:
                ports.claim(port, purpose)
            except ports.PortTakenError as error:
                problems.append(str(error))
    return problems


def _python(version: tuple[int, int]) -> list[str]:
    if PYTHON_FROM <= version < PYTHON_BELOW:
        return []
    return [
        f"Python {version[0]}.{version[1]} is not supported: install Python 3.11, 3.12 or 3.13, "
        "then run `make install` again"
    ]


def _directory(state_dir: Path) -> list[str]:
    """Writable, and with room; made if it does not exist."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=state_dir):
            pass
    except OSError as error:
        return [
            f"the state directory {state_dir} cannot be written ({error.strerror or error}): make it writable "
            "or choose another one"
        ]
    free = shutil.disk_usage(state_dir).free
    if free >= FREE_BYTES:
        return []
    return [
        f"{state_dir} has {free / 1e9:.1f} GB free, {FREE_BYTES / 1e9:.0f} GB are needed: free some space "
        "or choose a state directory on another disk"
    ]


def _embedded_aws(root: Path) -> list[str]:
    try:
        command = embedded_aws.executable(root)
    except embedded_aws.EmbeddedAwsError as error:
        return [str(error)]
    if not os.access(command, os.X_OK):
        return [f"{command} cannot be executed: run `make install` again"]
    return []
