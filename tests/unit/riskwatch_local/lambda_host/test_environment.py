"""The local Lambda environment: small functions, healthy and failing, run by AWS's own runtime client."""

import io
import threading
import time
import zipfile

import pytest

from riskwatch_local.lambda_host.environment import PAYLOAD_LIMIT, LambdaRuntime, RuntimeSetupError, interpreter
from riskwatch_local.lambda_host.function import Function, FunctionError, unpack
from riskwatch_local.services.embedded_aws import client_settings
from riskwatch_local.services.supervisor import Supervisor

pytestmark = pytest.mark.timeout(60)

CODE = """
import os, sys, time

count = 0


def handle(event, context):
    global count
    count += 1
    if event == "fail":
        raise ValueError("this one is bad")
    if event == "exit":
        os._exit(3)
    if event == "sleep":
        print("going to sleep", flush=True)
        time.sleep(60)
    if event == "context":
        return [context.aws_request_id, context.function_version, context.invoked_function_arn,
                context.get_remaining_time_in_millis()]
    if event == "environment":
        return dict(os.environ)
    return {"count": count, "event": event}
"""


def zipped(**files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(f"{name}.py", text)
    return buffer.getvalue()


def function(code=CODE, handler="app.handle", timeout_s=30.0, **variables):
    return Function("inference", "arn:inference:live", "7", handler, timeout_s, 512, variables, zipped(app=code))


@pytest.fixture(scope="module")
def supervisor():
    with Supervisor(grace_s=1) as running:
        yield running


@pytest.fixture
def start(supervisor, tmp_path):
    """Give environments that end with the test."""
    started = []

    def make(of):
        settings = client_settings("http://127.0.0.1:1", "key")
        started.append(LambdaRuntime(supervisor, of, tmp_path / f"runtime-{len(started)}", settings))
        return started[-1]

    yield make
    for runtime in started:
        runtime.stop()


def test_a_function_stays_warm_and_keeps_its_state_over_failures(start):
    # GIVEN a function WHEN it is invoked, fails, and is invoked again
    runtime = start(function())
    first, failed, second = (runtime.invoke(event) for event in ({"a": 1}, "fail", {"a": 2}))
    # THEN the same process answers all three, and the failure is an answer in Lambda's form
    assert first.payload == {"count": 1, "event": {"a": 1}}
    assert first.function_error is None
    assert failed.function_error == "Unhandled"
    assert (failed.payload["errorType"], failed.payload["errorMessage"]) == ("ValueError", "this one is bad")
    assert "app.py" in failed.payload["stackTrace"][0]
    assert second.payload["count"] == 3
    assert runtime.starts == 1
    assert "this one is bad" in runtime.log.read_text()
    assert 5 < runtime.peak_memory_mb() < 200


def test_a_function_sees_lambdas_environment_and_nothing_of_ours(start, monkeypatch):
    # GIVEN a secret of the user's in our environment
    monkeypatch.setenv("AWS_PROFILE", "mine")
    monkeypatch.setenv("SECRET", "s")
    runtime = start(function(RISKWATCH_BUCKET="bucket", AWS_ENDPOINT_URL="http://127.0.0.1:2"))
    # WHEN the function looks around
    variables = runtime.invoke("environment").payload
    answer = runtime.invoke("context")
    # THEN it finds its own variables, and a context of this invocation
    assert variables["RISKWATCH_BUCKET"] == "bucket"
    assert variables["AWS_ENDPOINT_URL"] == "http://127.0.0.1:2"
    assert variables["AWS_LAMBDA_INITIALIZATION_TYPE"] == "on-demand"
    assert {"AWS_PROFILE", "SECRET", "HOME", "PYTHONPATH"}.isdisjoint(variables)
    request_id, version, arn, left_ms = answer.payload
    assert (request_id, version, arn) == (answer.request_id, "7", "arn:inference:live")
    assert answer.version == "7"
    assert 20_000 < left_ms <= 30_000


def test_a_process_that_ends_is_an_error_and_the_next_invocation_gets_a_new_one(start):
    runtime = start(function())
    answer = runtime.invoke("exit")
    assert answer.function_error
    assert answer.payload["errorType"] == "Runtime.ExitError"
    assert "exit status 3" in answer.payload["errorMessage"]
    assert runtime.invoke(1).payload["count"] == 1
    assert runtime.starts == 2


def test_a_killed_process_is_an_error_of_the_invocation_under_way(start):
    # GIVEN an invocation that hangs
    runtime = start(function())
    answers = []
    thread = threading.Thread(target=lambda: answers.append(runtime.invoke("sleep")))
    thread.start()
    while not runtime.log.exists() or "going to sleep" not in runtime.log.read_text():
        time.sleep(0.01)
    # WHEN the process is killed THEN it says so at once
    runtime.kill()
    thread.join(10)
    assert answers[0].payload["errorType"] == "Runtime.ExitError"
    assert "signal: killed" in answers[0].payload["errorMessage"]


def test_a_function_that_takes_too_long_is_ended(start):
    runtime = start(function(timeout_s=1.0))
    answer = runtime.invoke("sleep")
    assert answer.payload["errorType"] == "Sandbox.Timedout"
    assert "Task timed out after 1.00 seconds" in answer.payload["errorMessage"]
    assert runtime.invoke(1).payload["count"] == 1


@pytest.mark.parametrize(
    ("code", "handler", "kind", "text"),
    [
        ("raise ValueError('model.bin is not what it was')", "app.handle", "ValueError", "model.bin is not what"),
        ("import sys; sys.exit(4)", "app.handle", "Runtime.ExitError", "exit status 4"),
        ("handle = 1 +", "app.handle", "Runtime.UserCodeSyntaxError", "Syntax error"),
        ("pass", "app.handle", "Runtime.HandlerNotFound", "'handle' missing"),
        ("pass", "nothing.handle", "Runtime.ImportModuleError", "nothing"),
    ],
)
def test_a_function_that_cannot_start_says_why_every_time(start, code, handler, kind, text):
    runtime = start(function(code, handler))
    for _ in range(2):
        answer = runtime.invoke({})
        assert answer.function_error
        assert answer.payload["errorType"] == kind
        assert text in answer.payload["errorMessage"]
    assert runtime.starts == 2


def test_an_event_beyond_six_megabytes_is_refused(start):
    with pytest.raises(RuntimeSetupError, match=f"Lambda takes {PAYLOAD_LIMIT}"):
        start(function()).invoke("x" * PAYLOAD_LIMIT)


def test_an_event_of_six_megabytes_arrives(start):
    event = "x" * (PAYLOAD_LIMIT - 2)
    assert start(function("def handle(event, context):\n    return len(event)")).invoke(event).payload == len(event)


def test_code_that_is_no_zip_is_refused(tmp_path):
    whole = zipped(app=CODE)
    for damaged in (b"", whole[:-10], whole.replace(b"this one", b"that one", 1)):
        with pytest.raises(FunctionError, match="not an intact zip"):
            unpack(damaged, tmp_path / str(len(damaged)) / damaged[100:108].hex())


def test_a_missing_runtime_client_says_what_to_do(tmp_path):
    with pytest.raises(RuntimeSetupError, match="run `make install`"):
        interpreter(tmp_path)
