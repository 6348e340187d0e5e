"""The supervisor: a dead child is reported with its log, a family is stopped as a whole, no process stays behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from riskwatch_local.services import ports
from riskwatch_local.services.process_tree import Listener, ProcessError
from riskwatch_local.services.supervisor import Supervisor

ROOT = Path(__file__).resolve().parents[4]

# A child with two grandchildren in their own sessions. One has lost its parent: only its environment identifies it.
FAMILY = """
import os, subprocess, sys, time
code = "import os, time; os.setsid(); open(os.environ['PIDS'], 'a').write(f'{os.getpid()}\\\\n'); time.sleep(300)"
middle = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {code!r}])"
subprocess.run([sys.executable, "-c", middle])
subprocess.Popen([sys.executable, "-c", code])
time.sleep(300)
"""


def wait_until(condition, timeout_s=20.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.02)


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def recorded(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


@pytest.mark.timeout(60)
def test_a_child_that_dies_is_reported_with_the_end_of_its_log(tmp_path):
    # GIVEN a service that prints a reason and ends
    with Supervisor() as supervisor:
        child = supervisor.start(
            "the service",
            [sys.executable, "-c", "import sys; print('no such database'); sys.exit(3)"],
            log=tmp_path / "a.log",
        )
        # WHEN its health is waited for THEN the wait ends at once, with exit code and log
        with pytest.raises(ProcessError, match=r"(?s)the service ended with exit code 3.*no such database"):
            child.wait_healthy(lambda: False, timeout_s=50)


@pytest.mark.timeout(60)
def test_a_child_that_is_never_ready_is_reported_after_the_time(tmp_path):
    with Supervisor(grace_s=5) as supervisor:
        child = supervisor.start("slow", [sys.executable, "-c", "import time; time.sleep(300)"], log=tmp_path / "a.log")
        with pytest.raises(ProcessError, match=r"slow was not ready after 0\.2 s"):
            child.wait_healthy("http://127.0.0.1:9/", timeout_s=0.2)


def test_a_command_that_does_not_exist_is_an_error(tmp_path):
    with Supervisor() as supervisor, pytest.raises(ProcessError, match="could not be started"):
        supervisor.start("nothing", [tmp_path / "absent"], log=tmp_path / "a.log")


@pytest.mark.timeout(60)
def test_stopping_a_child_stops_grandchildren_in_other_sessions(tmp_path):
    # GIVEN a child with two grandchildren, both in sessions of their own and one an orphan
    pids = tmp_path / "pids"
    with Supervisor(grace_s=10) as supervisor:
        child = supervisor.start(
            "family", [sys.executable, "-c", FAMILY], log=tmp_path / "a.log", env={**os.environ, "PIDS": str(pids)}
        )
        wait_until(lambda: len(recorded(pids)) == 2)
        assert {child.pid, *recorded(pids)} <= set(supervisor.pids())
    # WHEN the context has ended THEN none of them runs
    assert not [pid for pid in (child.pid, *recorded(pids)) if running(pid)]


@pytest.mark.timeout(60)
def test_a_child_that_ignores_sigterm_is_killed_after_the_grace(tmp_path):
    ready = tmp_path / "ready"
    code = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open(os.environ['R'], 'w'); "
        "time.sleep(300)"
    )
    with Supervisor() as supervisor:
        child = supervisor.start(
            "deaf", [sys.executable, "-c", code], log=tmp_path / "a.log", env={**os.environ, "R": str(ready)}
        )
        child.wait_healthy(ready.exists)
        child.stop(grace_s=0.3)
        assert child.process.returncode == -signal.SIGKILL
        child.stop()  # again is harmless


@pytest.mark.timeout(60)
def test_a_child_that_was_stopped_is_not_missed(tmp_path):
    # GIVEN two children, one of which is stopped
    with Supervisor(grace_s=5) as supervisor:
        command = [sys.executable, "-c", "import time; time.sleep(300)"]
        stopped, other = (supervisor.start(name, command, log=tmp_path / "a.log") for name in ("stopped", "other"))
        stopped.stop()
        # WHEN it is asked whether all live THEN nothing is amiss, until one ends by itself
        supervisor.ensure_alive()
        os.kill(other.pid, signal.SIGKILL)
        other.process.wait()
        with pytest.raises(ProcessError, match="other was ended by SIGKILL"):
            supervisor.ensure_alive()


# A child that sets its title, which overwrites its environment; its child keeps the session.
TITLED = """
import os, subprocess, sys, time
from setproctitle import setproctitle
record = "import os, time; open(os.environ['PIDS'], 'a').write(f'{os.getpid()}\\\\n'); time.sleep(300)"
child = subprocess.Popen([sys.executable, "-c", record])
path = os.environ["PIDS"]
setproctitle("a title " * 2000)
open(path, "a").write(f"{os.getpid()}\\n")
time.sleep(300)
"""


@pytest.mark.timeout(60)
@pytest.mark.parametrize("family", [FAMILY, TITLED], ids=["sessions", "title"])
def test_children_end_when_the_parent_is_killed(family, tmp_path):
    # GIVEN a parent whose supervisor started a family
    pids = tmp_path / "pids"
    parent_code = (
        "import sys, time; from pathlib import Path; from riskwatch_local.services.supervisor import Supervisor\n"
        f"log = Path({str(tmp_path / 'a.log')!r})\n"
        f"Supervisor(grace_s=5).start('family', [sys.executable, '-c', {family!r}], log=log)\n"
        "time.sleep(300)"
    )
    parent = subprocess.Popen([sys.executable, "-c", parent_code], cwd=ROOT, env={**os.environ, "PIDS": str(pids)})
    try:
        wait_until(lambda: len(recorded(pids)) == 2)
    finally:
        # WHEN the parent is killed, without a chance to clean up
        parent.kill()
        parent.wait()
    # THEN the guard ends what it left
    wait_until(lambda: not [pid for pid in recorded(pids) if running(pid)])


@pytest.mark.timeout(60)
def test_listeners_are_those_of_the_family(tmp_path):
    # GIVEN a child that listens on loopback, and a socket of this process
    port = ports.free_port()
    code = f"import socket, time; s = socket.create_server(('127.0.0.1', {port})); time.sleep(300)"
    with socket.create_server(("127.0.0.1", 0)), Supervisor(grace_s=5) as supervisor:
        child = supervisor.start("listener", [sys.executable, "-c", code], log=tmp_path / "a.log")
        child.wait_healthy(lambda: not ports.is_free(port))
        # WHEN the supervisor is asked THEN only the child's is named
        assert supervisor.listeners() == [Listener(child.pid, "127.0.0.1", port)]
        assert supervisor.listeners()[0].loopback
    assert not Listener(1, "0.0.0.0", port).loopback
    assert not Listener(1, "::", port).loopback


@pytest.mark.timeout(60)
def test_a_second_interrupt_does_not_cut_the_stopping_short(tmp_path):
    # GIVEN a program whose child takes a while to end, and which stops its children on an interrupt
    code = """
import signal, sys, time
from pathlib import Path
from riskwatch_local.services.supervisor import Supervisor
slow = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(300)"
log = Path(sys.argv[1])
try:
    with Supervisor(grace_s=2) as supervisor:
        child = supervisor.start("slow", [sys.executable, "-c", slow], log=log)
        child.wait_healthy(lambda: log.read_text().startswith("up"))
        print(child.pid, flush=True)
        time.sleep(300)
except KeyboardInterrupt:
    pass
"""
    command = [sys.executable, "-c", code, str(tmp_path / "slow.log")]
    program = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    child = int(program.stdout.readline())

    # WHEN it is interrupted again and again
    while program.poll() is None:
        program.send_signal(signal.SIGINT)
        time.sleep(0.1)

    # THEN nothing of it lives
    wait_until(lambda: not running(child))
