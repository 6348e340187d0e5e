"""Dead components while the demo stays up: named and started again, or the end of the demo with their log."""

import os
import signal
import sys
import time

import psutil
import pytest

from riskwatch_local.services.process_tree import ProcessError
from riskwatch_local.services.restarts import LIMIT, WINDOW_S, Restarts
from riskwatch_local.services.supervisor import Supervisor

pytestmark = pytest.mark.timeout(60)

# A process with a helper, as MLflow has a worker that keeps the port.
CODE = "import subprocess, sys, time; print('up', flush=True); subprocess.Popen(['sleep', '300']); time.sleep(300)"


def command_of(pid):
    """Return the command of a process; a process that just starts has none for a moment."""
    deadline = time.monotonic() + 10
    while not (command := psutil.Process(pid).cmdline()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return command


def running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class World:
    """A supervisor with two components that can be restarted and one that cannot, and a clock."""

    def __init__(self, supervisor, folder):
        self.supervisor, self.folder, self.lines, self.now = supervisor, folder, [], 0.0
        for name in ("MLflow", "Airflow's scheduler", "the embedded AWS"):
            self.start(name)
        self.restarts = Restarts(supervisor, self.lines.append, clock=lambda: self.now)

    def start(self, name):
        log = self.folder / f"{name}.log"
        restartable = name != "the embedded AWS"
        child = self.supervisor.start(name, [sys.executable, "-c", CODE], log=log, restartable=restartable)
        child.wait_healthy(lambda: len(child.family()) == 2)

    def child(self, name):
        [child] = [child for child in self.supervisor.children if child.name == name]
        return child

    def kill(self, name):
        child = self.child(name)
        os.kill(child.pid, signal.SIGKILL)
        child.process.wait()
        return child


@pytest.fixture
def world(tmp_path):
    with Supervisor(grace_s=5) as supervisor:
        yield World(supervisor, tmp_path)


@pytest.mark.parametrize("name", ["MLflow", "Airflow's scheduler"])
def test_a_dead_component_is_named_and_started_again(world, name):
    # GIVEN a component that is killed, and whose helper lives on
    others = [child.pid for child in world.supervisor.children if child.name != name]
    dead = world.kill(name)
    [helper] = dead.family()
    # WHEN the components are checked
    world.restarts.check()
    # THEN the line names it and its log; a new process with the same command runs, and nothing of the old one
    [line] = world.lines
    assert line == f"{name} was ended by SIGKILL and was started again. Its log: {dead.log}"
    new = world.child(name)
    assert new.alive()
    assert command_of(new.pid) == [sys.executable, "-c", CODE]
    assert not running(helper.pid)
    # AND the others were left alone, and the next check has nothing to do
    assert [child.pid for child in world.supervisor.children if child.name != name] == others
    world.restarts.check()
    assert len(world.lines) == 1
    world.supervisor.ensure_alive()


def test_a_component_that_keeps_its_state_in_memory_ends_the_demo_with_its_log(world):
    world.kill("the embedded AWS")
    with pytest.raises(ProcessError, match=r"(?s)the embedded AWS was ended by SIGKILL.*embedded AWS\.log:\nup"):
        world.restarts.check()
    assert world.lines == []


def test_a_component_that_dies_again_and_again_ends_the_demo(world):
    # GIVEN a component that was started again as often as allowed
    for _ in range(LIMIT):
        world.kill("MLflow")
        world.restarts.check()
        world.now += WINDOW_S / LIMIT - 1
    # WHEN it dies once more within the window THEN the demo ends and names it
    world.kill("MLflow")
    with pytest.raises(ProcessError, match="MLflow was ended by SIGKILL"):
        world.restarts.check()
    # AND after the window it is started again
    world.now += WINDOW_S
    world.restarts.check()
    assert len(world.lines) == LIMIT + 1


def test_restarted_components_end_with_the_supervisor(tmp_path):
    with Supervisor(grace_s=5) as supervisor:
        world = World(supervisor, tmp_path)
        for _ in range(2):
            world.kill("MLflow")
            world.restarts.check()
        markers = [child.marker for child in supervisor.children]
        pids = supervisor.pids()
    assert len(set(markers)) == len(markers)
    assert [pid for pid in pids if running(pid)] == []
