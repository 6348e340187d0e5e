"""A Lambda environment on this machine, run by AWS's own runtime client.

The deployed zip runs under `awslambdaric`, the client that runs in Lambda, in the interpreter of `.venv-aws` and with
the variables that Lambda and the stack set; the embedded AWS runs functions in another way. A crash, a timeout or a
failed start is answered with an error as Lambda words it, and the next invocation starts a new process.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from riskwatch_local.lambda_host import function as lambda_function
from riskwatch_local.lambda_host.runtime_api import (
    ANSWERED,
    DISPATCHED,
    INIT_FAILED,
    Invocation,
    RuntimeApi,
    RuntimeEvent,
)
from riskwatch_local.services import embedded_aws
from riskwatch_local.services.supervisor import Supervisor, tail
from riskwatch_ml.core.errors import OperationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from riskwatch_local.lambda_host.function import Function
    from riskwatch_local.services.supervisor import Child

PAYLOAD_LIMIT = 6 * 1024 * 1024
# Lambda gives a function ten seconds to start; a function that needs longer gets its timeout in addition.
START_S = 10.0
POLL_S = 0.02
UNHANDLED = "Unhandled"


class RuntimeSetupError(OperationError):
    """The runtime client is not installed, or an event can never reach a function."""


class Answer(NamedTuple):
    """The answer to an invocation.

    `payload` is the decoded JSON. `function_error` is "Unhandled" if the function failed, else None.
    """

    payload: Any
    function_error: str | None
    request_id: str
    version: str


def interpreter(root: Path = embedded_aws.ROOT) -> Path:
    """Return the Python interpreter that has the runtime client.

    Raises RuntimeSetupError if it is missing.
    """
    python = root / ".venv-aws" / "bin" / "python"
    if not list(root.glob(".venv-aws/lib/python*/site-packages/awslambdaric")):
        raise RuntimeSetupError(
            f"the Lambda runtime is not installed ({python} has no awslambdaric): run `make install`"
        )
    return python


class LambdaRuntime:
    """A context in which a function is invoked as in Lambda, one event at a time.

    The end of the context ends its process. `folder` receives the code and the log; `client_settings` are the
    AWS variables of the function; its own variables take precedence.
    """

    def __init__(
        self, supervisor: Supervisor, function: Function, folder: Path, client_settings: Mapping[str, str]
    ) -> None:
        self.function = function
        self.log = folder / "function.log"
        self.starts = 0
        self._supervisor = supervisor
        self._client_settings = client_settings
        self._python = interpreter()
        self._code = folder / "task"
        self._environment: _Environment | None = None
        self._one_at_a_time = threading.Lock()
        lambda_function.unpack(function.code, self._code)

    def __enter__(self) -> LambdaRuntime:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def invoke(self, event: Any) -> Answer:
        """Invoke the function and wait for its answer.

        Errors of the function are part of the answer. Raises RuntimeSetupError for an event above Lambda's 6 MB.
        """
        body = json.dumps(event, separators=(",", ":")).encode()
        if len(body) > PAYLOAD_LIMIT:
            raise RuntimeSetupError(f"the event has {len(body)} bytes, Lambda takes {PAYLOAD_LIMIT}")
        invocation = Invocation(str(uuid.uuid4()), body, self.function.timeout_s)
        with self._one_at_a_time:
            if self._environment is None or not self._environment.child.alive():
                self._end()
                self._environment = self._start()
            happened = self._environment.run(invocation)
            if happened.kind != ANSWERED and not self._environment.usable:
                self._end()
        error = None if happened.kind == ANSWERED else UNHANDLED
        return Answer(happened.payload, error, invocation.request_id, self.function.version)

    def kill(self) -> None:
        """Kill the process at once, as a failure of its machine would."""
        if self._environment is not None:
            self._environment.child.process.kill()

    def stop(self) -> None:
        """End the process; the next invocation starts another one."""
        with self._one_at_a_time:
            self._end()

    def peak_memory_mb(self) -> float:
        """Return the peak memory of the running process in MB."""
        if self._environment is None:
            raise RuntimeSetupError("no process of the function runs: invoke it first")
        status = Path(f"/proc/{self._environment.child.pid}/status").read_text(encoding="ascii")
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))

    def _start(self) -> _Environment:
        api = RuntimeApi(self.function.arn)
        self.starts += 1
        child = self._supervisor.start(
            "the inference function",
            [self._python, "-m", "awslambdaric", self.function.handler],
            env=self._variables(api.address),
            cwd=self._code,
            log=self.log,
        )
        return _Environment(api, child, self.function.timeout_s)

    def _end(self) -> None:
        if self._environment is not None:
            self._environment.close()
            self._environment = None

    def _variables(self, api: str) -> dict[str, str]:
        """Return the variables that Lambda sets; of this process's own only PATH."""
        function = self.function
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            # In Lambda the folder of the code is read-only: no compiled files stay there.
            "PYTHONDONTWRITEBYTECODE": "1",
            **self._client_settings,
            **function.variables,
            "AWS_LAMBDA_RUNTIME_API": api,
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_FUNCTION_NAME": function.name,
            "AWS_LAMBDA_FUNCTION_VERSION": function.version,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
            "LAMBDA_TASK_ROOT": str(self._code),
            "_HANDLER": function.handler,
        }


class _Environment:
    """A process and the server that feeds it."""

    def __init__(self, api: RuntimeApi, child: Child, timeout_s: float) -> None:
        self.api = api
        self.child = child
        self.usable = True
        self._timeout_s = timeout_s

    def run(self, invocation: Invocation) -> RuntimeEvent:
        """Hand over an invocation and wait for its outcome."""
        self.api.submit(invocation)
        happened = self._next(START_S + self._timeout_s)
        if happened is not None and happened.kind == DISPATCHED:
            happened = self._next(self._timeout_s)
        if happened is None:
            self.usable = False
            return self._lost(invocation)
        self.usable = happened.kind != INIT_FAILED
        return happened

    def close(self) -> None:
        self.api.close()
        self.child.process.kill()
        self.child.stop(0)

    def _next(self, patience_s: float) -> RuntimeEvent | None:
        """Wait for the next event; None if the process has ended or time is up."""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            ended = not self.child.alive()
            with contextlib.suppress(queue.Empty):
                # Read once more after the end: the process may have answered just before it.
                return self.api.events.get(timeout=POLL_S)
            if ended:
                return None
        return None

    def _lost(self, invocation: Invocation) -> RuntimeEvent:
        code = self.child.process.poll()
        prefix = f"RequestId: {invocation.request_id} Error: "
        if code is None:
            reason = {
                "errorType": "Sandbox.Timedout",
                "errorMessage": f"{prefix}Task timed out after {self._timeout_s:.2f} seconds",
            }
        else:
            how = f"signal: {signal.strsignal(-code)}".lower() if code < 0 else f"exit status {code}"
            reason = {
                "errorType": "Runtime.ExitError",
                "errorMessage": f"{prefix}Runtime exited with error: {how}",
                "log": tail(self.child.log),
            }
        return RuntimeEvent("lost", reason)
