"""Processes with all of their descendants: find them, stop them, list the sockets on which they listen."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, NamedTuple

import psutil

from riskwatch_ml.core.errors import OperationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MARKER = "RISKWATCH_SUPERVISOR"
POLL_S = 0.05
LOOPBACK_PREFIXES = ("127.", "::1", "::ffff:127.")


class ProcessError(OperationError):
    """A child process did not start, died, or did not become healthy."""


class Listener(NamedTuple):
    """A listening TCP socket: process id, address, port."""

    pid: int
    address: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the socket."""
        return self.address.startswith(LOOPBACK_PREFIXES)


def family(leaders: Iterable[int], marker: str | None = None) -> list[psutil.Process]:
    """Return the living processes of `leaders`, descendants and sessions included.

    With `marker`, also every process with the marker in its environment, such as a descendant that has changed its
    session and lost its parent.
    """
    leader_ids = set(leaders)
    members: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if (
                process.pid in leader_ids
                or os.getsid(process.pid) in leader_ids
                or (marker and process.environ().get(MARKER) == marker)
            ):
                members[process.pid] = process
                members.update({child.pid: child for child in process.children(recursive=True)})
    members.pop(os.getpid(), None)
    return [members[pid] for pid in sorted(members)]


def start_time(pid: int) -> float:
    """Return when a process started, in seconds since the epoch; 0.0 if there is none of this id."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return 0.0


def terminate(find: Callable[[], list[psutil.Process]], grace_s: float) -> None:
    """Send SIGTERM to the processes of `find`, and SIGKILL after `grace_s` seconds.

    `find` is called until it returns nothing, so that children started during the shutdown do not escape. Raises
    ProcessError if a process is still alive ten seconds after SIGKILL.
    """
    signalled: set[psutil.Process] = set()
    deadline = time.monotonic() + grace_s
    while remaining := find():
        late = time.monotonic() >= deadline
        for process in remaining:
            with contextlib.suppress(psutil.Error):
                if late:
                    process.kill()
                elif process not in signalled:
                    signalled.add(process)
                    process.terminate()
        time.sleep(POLL_S)  # a wait for the process would take its exit code away from its parent
        if late and time.monotonic() > deadline + 10:
            raise ProcessError(f"processes {[process.pid for process in remaining]} did not end after SIGKILL")


def listeners(pids: Iterable[int]) -> list[Listener]:
    """Return the TCP sockets on which `pids` listen, ordered by port."""
    sockets = []
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            for connection in psutil.Process(pid).net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    sockets += [Listener(pid, connection.laddr.ip, connection.laddr.port)]
    return sorted(sockets, key=lambda listener: (listener.port, listener.pid))
