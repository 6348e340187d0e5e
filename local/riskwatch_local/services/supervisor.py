"""A small supervisor for the local services: starts children, waits for their health, and leaves no process behind.

Every child runs in a session of its own and carries a marker in its environment, which its descendants inherit however
they fork. Stopping a child stops that whole family. A guard process holds the other end of a pipe: when this process
ends without stopping its children (a crash, SIGKILL), the pipe closes and the guard stops them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Self

import psutil

from riskwatch_ml.core.errors import OperationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

MARKER = "RISKWATCH_SUPERVISOR"
POLL_S = 0.05
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOOPBACK_PREFIXES = ("127.", "::1", "::ffff:127.")

# Loopback is asked directly, whatever proxy the environment names.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ProcessError(OperationError):
    """A child process did not start, died, or did not become healthy."""


class Listener(NamedTuple):
    """A listening TCP socket: process id, address, port."""

    pid: int
    address: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.address.startswith(LOOPBACK_PREFIXES)


def answers(url: str, timeout_s: float = 2.0) -> bool:
    """Whether a GET of `url` is answered with a status below 400."""
    try:
        with _opener.open(url, timeout=timeout_s) as response:
            return bool(response.status < 400)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def tail(log: Path, lines: int = 20) -> str:
    """Return the last lines of a log file, "" where there is none."""
    try:
        with log.open("rb") as handle:
            handle.seek(max(0, log.stat().st_size - 64_000))
            text = handle.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def family(leaders: Iterable[int], marker: str | None = None) -> list[psutil.Process]:
    """Return the living processes that belong to `leaders`: themselves, their descendants, their sessions.

    With `marker`, also every process whose environment carries it, so a descendant that changed its session and lost
    its parent is found as well.
    """
    wanted = set(leaders)
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if (
                process.pid in wanted
                or os.getsid(process.pid) in wanted
                or (marker and process.environ().get(MARKER) == marker)
            ):
                found[process.pid] = process
                found.update({child.pid: child for child in process.children(recursive=True)})
    found.pop(os.getpid(), None)
    return [found[pid] for pid in sorted(found)]


def terminate(find: Callable[[], list[psutil.Process]], grace_s: float) -> None:
    """Send SIGTERM to the processes `find` returns, wait up to `grace_s` seconds, then SIGKILL what is left.

    `find` is asked again until it returns nothing, so children born during the shutdown do not escape.
    """
    told: set[psutil.Process] = set()
    deadline = time.monotonic() + grace_s
    while remaining := find():
        late = time.monotonic() >= deadline
        for process in remaining:
            with contextlib.suppress(psutil.Error):
                if late:
                    process.kill()
                elif process not in told:
                    told.add(process)
                    process.terminate()
        time.sleep(POLL_S)  # not a wait: it would take the exit code from the one who started the process
        if late and time.monotonic() > deadline + 10:
            raise ProcessError(f"processes {[process.pid for process in remaining]} did not end after SIGKILL")


def listeners(pids: Iterable[int]) -> list[Listener]:
    """Return the TCP sockets on which `pids` listen, ordered by port."""
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            for connection in psutil.Process(pid).net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    found += [Listener(pid, connection.laddr.ip, connection.laddr.port)]
    return sorted(found, key=lambda listener: (listener.port, listener.pid))


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Leave the signals that end a program unheard; only the main thread can, elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ENDING_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class Child:
    """A started process: its name, its handle, its log file and the marker its descendants carry."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    marker: str
    started: float = field(default_factory=time.monotonic)
    stopped: bool = False

    @property
    def pid(self) -> int:
        """Process id; also the id of its session and process group."""
        return self.process.pid

    def alive(self) -> bool:
        """Whether the process itself still runs."""
        return self.process.poll() is None

    def family(self) -> list[psutil.Process]:
        """Return the process and all of its living descendants, [] once it was stopped."""
        if self.stopped:
            return []
        ended = self.process.poll() is not None
        members = family([self.pid], self.marker)
        # The id of a process that was waited for may belong to a stranger.
        return [member for member in members if not (ended and member.pid == self.pid)]

    def ensure_alive(self) -> None:
        """Raise ProcessError with the end of the log if the process has ended by itself."""
        code = self.process.poll()
        if code is None or self.stopped:
            return
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        raise ProcessError(f"{self.name} {how}. The last lines of {self.log}:\n{tail(self.log) or '(nothing)'}")

    def wait_healthy(self, health: str | Callable[[], bool], timeout_s: float = 60.0) -> float:
        """Wait until `health` (a URL that answers, or a callable that returns True) and return the seconds since start.

        Raises ProcessError with the end of the log if the process dies first or `timeout_s` passes.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            self.ensure_alive()
            if answers(health) if isinstance(health, str) else health():
                self.ensure_alive()  # something else may hold the port and answer in its place
                return time.monotonic() - self.started
            if time.monotonic() >= deadline:
                raise ProcessError(
                    f"{self.name} was not ready after {timeout_s:g} s (asked: {health}). "
                    f"The last lines of {self.log}:\n{tail(self.log) or '(nothing)'}"
                )
            time.sleep(POLL_S)

    def stop(self, grace_s: float = 15.0) -> None:
        """End the process and all of its descendants: SIGTERM, up to `grace_s` seconds, SIGKILL. Again is harmless."""
        terminate(self.family, grace_s)
        self.process.wait()
        self.stopped = True


class Supervisor:
    """Starts children and stops all of them, newest first, when the context ends.

    >>> from pathlib import Path
    >>> with Supervisor() as supervisor:
    ...     supervisor.start("sleeper", ["sleep", "60"], log=Path("/dev/null")).alive()
    True
    """

    def __init__(self, grace_s: float = 15.0) -> None:
        self.grace_s = grace_s
        self.children: list[Child] = []
        self._run = uuid.uuid4().hex
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(
        self,
        name: str,
        command: Sequence[str | os.PathLike[str]],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Child:
        """Start `command` in a session of its own, its output appended to `log`.

        `env` is the whole environment (default: this process's). Raises ProcessError if it cannot be started.
        """
        self._ensure_guard()
        marker = f"{self._run}-{len(self.children)}"
        environment = {**(os.environ if env is None else env), MARKER: marker}
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            try:
                process = subprocess.Popen(
                    [os.fspath(part) for part in command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    cwd=cwd,
                    start_new_session=True,
                )
            except OSError as error:
                raise ProcessError(f"{name} could not be started: {error}") from error
        child = Child(name, process, log, marker)
        self.children.append(child)
        self._tell_guard(f"{marker}\n")
        return child

    def ensure_alive(self) -> None:
        """Raise ProcessError for the first child that has ended."""
        for child in self.children:
            child.ensure_alive()

    def pids(self) -> list[int]:
        """Return the ids of all living children and their descendants."""
        return sorted({process.pid for child in self.children for process in child.family()})

    def listeners(self) -> list[Listener]:
        """Return every TCP socket on which a child or a descendant listens."""
        return listeners(self.pids())

    def stop(self) -> None:
        """Stop all children, newest first, then the guard; one that resists does not keep the others.

        Raises the error of a child that could not be ended. Signals that would end this process wait until it is done.
        """
        with _deaf(), contextlib.ExitStack() as stack:
            stack.callback(self._dismiss_guard)
            for child in self.children:
                stack.callback(child.stop, self.grace_s)

    def _ensure_guard(self) -> None:
        if self._guard is None:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", os.path.abspath(__file__), str(self.grace_s)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def _tell_guard(self, line: str) -> None:
        if self._guard and self._guard.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._guard.stdin.write(line.encode())
                self._guard.stdin.flush()

    def _dismiss_guard(self) -> None:
        if self._guard and self._guard.stdin:
            if not any(child.family() for child in self.children):
                self._tell_guard("done\n")
            with contextlib.suppress(BrokenPipeError):
                self._guard.stdin.close()
            self._guard.wait()
            self._guard = None


def guard(lines: Iterable[str], grace_s: float) -> None:
    """Read markers, one a line, until the pipe closes; unless "done" came last, stop the families that carry them.

    By marker, not by process id: with the parent gone an id may meanwhile belong to somebody else.
    """
    markers = [line.strip() for line in lines]
    if markers[-1:] == ["done"]:
        return
    for marker in reversed(markers):
        terminate(partial(family, [], marker), grace_s)


if __name__ == "__main__":
    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    guard(sys.stdin, float(sys.argv[1]))
