"""A supervisor for the processes of the local services.

It starts child processes, waits for their health and leaves no process behind. Every child runs in its own session. A
marker in its environment is inherited by its descendants, however they fork, and stopping a child stops the whole
family. A guard process reads from a pipe: if this process ends without stopping its children (a crash, SIGKILL), the
pipe closes and the guard stops them.
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
from typing import TYPE_CHECKING, Self

from riskwatch_local.services.process_tree import (
    MARKER,
    POLL_S,
    Listener,
    ProcessError,
    family,
    listeners,
    start_time,
    terminate,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import psutil

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Requests to loopback ignore the proxy that the environment names.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def answers(url: str, timeout_s: float = 2.0) -> bool:
    """Return whether a GET of `url` is answered with a status below 400."""
    try:
        with _opener.open(url, timeout=timeout_s) as response:
            return bool(response.status < 400)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def tail(log: Path, lines: int = 20) -> str:
    """Return the last lines of a log file, "" if the file does not exist."""
    try:
        with log.open("rb") as handle:
            handle.seek(max(0, log.stat().st_size - 64_000))
            text = handle.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


@contextlib.contextmanager
def _ignore_signals() -> Iterator[None]:
    """Ignore the signals that end a program during this context.

    Only the main thread can; in another thread nothing changes.
    """
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
    """A started process, its log, and the marker that its descendants inherit.

    `start_again` starts the same command once more and returns the new child; only its supervisor calls it.
    """

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    marker: str
    start_again: Callable[[], Child] = field(repr=False)
    restartable: bool = False
    started: float = field(default_factory=time.monotonic)
    stopped: bool = False

    @property
    def pid(self) -> int:
        """Process id, which is also the id of the session and of the process group."""
        return self.process.pid

    def alive(self) -> bool:
        """Return whether the process itself still runs."""
        return self.process.poll() is None

    def family(self) -> list[psutil.Process]:
        """Return the process and all of its living descendants, [] after `stop`."""
        if self.stopped:
            return []
        ended = self.process.poll() is not None
        members = family([self.pid], self.marker)
        # Once its exit code was read, the system may give the process id to another process.
        return [member for member in members if not (ended and member.pid == self.pid)]

    def ending(self) -> str | None:
        """Return how the process has ended by itself, for example "was ended by SIGKILL"; None if it has not."""
        code = self.process.poll()
        if code is None or self.stopped:
            return None
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def ensure_alive(self) -> None:
        """Raise ProcessError with the end of the log if the process has ended by itself."""
        if how := self.ending():
            raise ProcessError(f"{self.name} {how}. The last lines of {self.log}:\n{tail(self.log) or '(nothing)'}")

    def wait_healthy(self, health: str | Callable[[], bool], timeout_s: float = 60.0) -> float:
        """Wait until the process is healthy; return the seconds since its start.

        `health` is a URL that answers, or a callable that returns True. Raises ProcessError with the end of the log if
        the process dies first, or after `timeout_s` seconds.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            self.ensure_alive()
            if answers(health) if isinstance(health, str) else health():
                self.ensure_alive()  # another process may use the port and answer
                return time.monotonic() - self.started
            if time.monotonic() >= deadline:
                raise ProcessError(
                    f"{self.name} was not ready after {timeout_s:g} s (asked: {health}). "
                    f"The last lines of {self.log}:\n{tail(self.log) or '(nothing)'}"
                )
            time.sleep(POLL_S)

    def stop(self, grace_s: float = 15.0) -> None:
        """Stop the process and its descendants; may be repeated.

        They get SIGTERM, and SIGKILL after `grace_s` seconds.
        """
        terminate(self.family, grace_s)
        self.process.wait()
        self.stopped = True


class Supervisor:
    """A context that starts child processes and stops all of them at its end.

    The newest child is stopped first. >>> from pathlib import Path >>> with Supervisor() as supervisor: ...
    supervisor.start("sleeper", ["sleep", "60"], log=Path("/dev/null")).alive() True
    """

    def __init__(self, grace_s: float = 15.0) -> None:
        self.grace_s = grace_s
        self.children: list[Child] = []
        self._run = uuid.uuid4().hex
        self._started = 0
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
        restartable: bool = False,
    ) -> Child:
        """Start `command` in its own session and append its output to `log`.

        `env` is its whole environment (default: that of this process). `restartable` says that a new process continues
        where a dead one ended. Raises ProcessError if the start fails.
        """
        self._ensure_guard()
        marker = f"{self._run}-{self._started}"
        self._started += 1
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
        start_again = partial(self.start, name, command, log=log, env=env, cwd=cwd, restartable=restartable)
        child = Child(name, process, log, marker, start_again, restartable)
        self.children.append(child)
        self._tell_guard(f"{marker} {child.pid} {start_time(child.pid)!r}\n")
        return child

    def ensure_alive(self) -> None:
        """Raise ProcessError for the first child that has ended."""
        for child in self.children:
            child.ensure_alive()

    def restart(self, child: Child) -> Child:
        """Stop what is left of `child`, start its command again and return the new child, which takes its place."""
        child.stop(self.grace_s)
        place = self.children.index(child)
        new = child.start_again()
        self.children.remove(new)
        self.children[place] = new
        return new

    def pids(self) -> list[int]:
        """Return the ids of all living children and their descendants."""
        return sorted({process.pid for child in self.children for process in child.family()})

    def listeners(self) -> list[Listener]:
        """Return every TCP socket on which a child or a descendant listens."""
        return listeners(self.pids())

    def stop(self) -> None:
        """Stop all children, newest first, then the guard.

        A child that cannot be stopped does not prevent the others from being stopped; its error is raised at the end.
        Signals that would end this process are ignored meanwhile.
        """
        with _ignore_signals(), contextlib.ExitStack() as stack:
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
    """Read children, one per line, and stop their families at the end.

    The end is a closed pipe; if the last line is "done", nothing is stopped. A line has marker, process id and start
    time. A process that sets its title, such as Airflow's api-server, overwrites the marker in its environment, so its
    id is needed too; once the parent has gone, the id may belong to another process, which started at another time.
    """
    children = [line.split() for line in lines]
    if children[-1:] == [["done"]]:
        return
    for marker, pid, started in reversed(children):
        leaders = [int(pid)] if start_time(int(pid)) in (float(started), 0.0) else []
        terminate(partial(family, leaders, marker), grace_s)


if __name__ == "__main__":
    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    guard(sys.stdin, float(sys.argv[1]))
