"""What the demo says and leaves behind when something is wrong: one clear message, exit code 1, no process."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from riskwatch_local.services import embedded_aws
from riskwatch_local.services.process_tree import MARKER

COMMAND = [sys.executable, "-c", "from riskwatch_cli.main import app; app()", "demo", "--exit"]


def _demo(state, *options):
    return subprocess.Popen(
        [*COMMAND, "--state", str(state), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200"},
    )


def _mentions(state):
    """Return the living processes (the guard included) that were started for `state`."""
    found = []
    for process in psutil.process_iter():
        try:
            text = " ".join(process.cmdline()) + process.environ().get("STATE_DIR", "") + process.cwd()
            if str(state) in text and process.environ().get(MARKER):
                found.append(process)
        except psutil.Error:
            continue
    return found


def _ends_clean(demo, state, timeout):
    output, _ = demo.communicate(timeout=timeout)
    assert "Traceback" not in output
    assert _mentions(state) == []
    return output


def test_a_taken_port_is_named(tmp_path):
    # GIVEN a port that somebody listens on
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        # WHEN the demo is asked to use it
        demo = _demo(tmp_path, "--airflow-port", str(port))
        output = _ends_clean(demo, tmp_path, 60)

    # THEN it says so and starts nothing
    assert demo.returncode == 1
    assert str(port) in output
    assert "Airflow" in output


def test_an_unknown_fleet_layout_is_named(tmp_path):
    fleet = tmp_path / "fleet.csv"
    fleet.write_text("colour,weight\nred,1\n")
    demo = _demo(tmp_path / "state", "--fleet", str(fleet))
    output = _ends_clean(demo, tmp_path / "state", 60)
    assert demo.returncode == 1
    assert "colour" in output
    assert "timestamp" in output


@pytest.mark.e2e
def test_a_second_demo_in_the_same_folder_is_refused(tmp_path):
    first = _demo(tmp_path)
    try:
        _wait_for_embedded_aws(tmp_path)
        second = _demo(tmp_path)
        output, _ = second.communicate(timeout=60)
        assert second.returncode == 1
        assert "another run uses" in output
    finally:
        first.send_signal(signal.SIGTERM)
        _ends_clean(first, tmp_path, 180)
    assert first.returncode == 130


@pytest.mark.e2e
def test_a_killed_component_is_named_and_nothing_is_left(tmp_path):
    # GIVEN a demo whose embedded AWS is up
    demo = _demo(tmp_path)
    server = _wait_for_embedded_aws(tmp_path)

    # WHEN that process is killed
    server.kill()
    output = _ends_clean(demo, tmp_path, 120)

    # THEN the message names it and how it ended
    assert demo.returncode == 1
    assert re.search(r"embedded AWS was ended by SIGKILL", output), output


@pytest.mark.e2e
def test_a_killed_demo_leaves_no_process(tmp_path):
    # GIVEN a demo whose embedded AWS is up
    demo = _demo(tmp_path)
    _wait_for_embedded_aws(tmp_path)

    # WHEN the demo itself is killed without a chance to clean up
    demo.kill()
    demo.wait()

    # THEN its guard ends what it had started
    deadline = time.monotonic() + 60
    while _mentions(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert _mentions(tmp_path) == []


def _wait_for_embedded_aws(state):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for process in _mentions(state):
            if embedded_aws.SERVER.name in " ".join(process.cmdline()):
                return process
        time.sleep(0.1)
    raise AssertionError("the embedded AWS did not start")
