"""`make audit`: a known vulnerability fails, and without advisory data the audit says that it checked nothing."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNREACHABLE = "error: Request failed after 1 retries\n  cause: error sending request for url (https://api.osv.dev/)"


@pytest.mark.parametrize(
    ("status", "output", "expected", "words"),
    [
        (0, "Found no known vulnerabilities", 0, "no known vulnerability"),
        (1, "Found 1 known vulnerability in mlflow 1.0", 1, "mlflow 1.0"),
        (2, UNREACHABLE, 0, "SKIPPED, no advisory data could be reached. No package was checked."),
        (2, "error: the lockfile needs to be updated", 1, "lockfile"),
        (124, "", 0, "SKIPPED"),
    ],
)
def test_the_audit_ends_as_the_advisories_say(tmp_path, status, output, expected, words):
    # GIVEN the script beside a uv that answers so
    for folder in ("local", ".uv/bin"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / "local" / "audit.sh", tmp_path / "local")
    uv = tmp_path / ".uv" / "bin" / "uv"
    uv.write_text(f"#!/bin/sh\necho \"$@\" >> asked\ncat <<'END' >&2\n{output}\nEND\nexit {status}\n")
    uv.chmod(0o755)
    # WHEN
    done = subprocess.run(["sh", tmp_path / "local" / "audit.sh"], capture_output=True, text=True)
    # THEN
    assert done.returncode == expected
    assert words in done.stdout + done.stderr
    assert (tmp_path / "asked").read_text().startswith("audit --locked")
