"""Checks before the demo starts; each problem says how to fix it."""

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
    """Return the problems that would stop the demo, [] if there are none.

    `requested_ports` maps a purpose ("Airflow") to the port that the user asked for (None: any). `local/install.sh`
    checks what only the installation needs, such as a compiler.
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
    """Check that the directory is writable and has free space; create it."""
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
        python = embedded_aws.command(root)[0]
    except embedded_aws.EmbeddedAwsError as error:
        return [str(error)]
    if not os.access(python, os.X_OK):
        return [f"{python} cannot be executed: run `make install` again"]
    return []
