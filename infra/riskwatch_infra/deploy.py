"""Creates or updates the stack of `stack.yaml` and returns its outputs.

The same call serves an AWS account and the embedded AWS; which one is decided by the client's environment alone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from riskwatch_ml.core.errors import UserInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

TEMPLATE = Path(__file__).with_name("stack.yaml")
DEFAULT_STACK = "riskwatch"
CAPABILITIES = ["CAPABILITY_IAM"]
DONE = ("CREATE_COMPLETE", "UPDATE_COMPLETE")


class DeployError(UserInputError):
    """The stack could not be created, updated or read."""


@dataclass(frozen=True)
class Outputs:
    """What the stack made: names, ARNs and URLs that the settings need."""

    bucket: str
    stream: str
    table: str
    topic_arn: str
    alert_queue_url: str
    dead_letter_queue_url: str
    function: str
    airflow_policy_arn: str


_OUTPUT_KEYS = {
    "bucket": "BucketName",
    "stream": "StreamName",
    "table": "TableName",
    "topic_arn": "TopicArn",
    "alert_queue_url": "AlertQueueUrl",
    "dead_letter_queue_url": "DeadLetterQueueUrl",
    "function": "FunctionName",
    "airflow_policy_arn": "AirflowPolicyArn",
}


def deploy(
    client: Any,
    *,
    stack: str = DEFAULT_STACK,
    parameters: Mapping[str, str] | None = None,
    timeout_s: float = 900.0,
    poll_s: float = 5.0,
) -> Outputs:
    """Create `stack`, or update it if it exists, wait for the end and return its outputs.

    `client` is a CloudFormation client. `parameters` are those of the template (Name, AlertEmail, Link, EndpointUrl,
    ...); on an update, parameters left out keep their value. Raises DeployError with the failing
    resources and their reasons.
    """
    try:
        return _deploy(client, stack, dict(parameters or {}), timeout_s, poll_s)
    except (ClientError, BotoCoreError) as error:
        raise DeployError(f"stack {stack}: {error}") from error


def outputs(client: Any, stack: str = DEFAULT_STACK) -> Outputs:
    """Return the outputs of a finished stack. Raises DeployError if it does not exist or failed."""
    try:
        found = _describe(client, stack)
    except (ClientError, BotoCoreError) as error:
        raise DeployError(f"stack {stack}: {error}") from error
    if found is None:
        raise DeployError(f"stack {stack} does not exist: deploy it first")
    return _read_outputs(stack, found)


def _deploy(client: Any, stack: str, parameters: dict[str, str], timeout_s: float, poll_s: float) -> Outputs:
    existing = _describe(client, stack)
    body = TEMPLATE.read_text(encoding="utf-8")
    if existing is not None and existing["StackStatus"] == "ROLLBACK_COMPLETE":
        raise DeployError(f"stack {stack} is left over from a creation that failed: delete it, then deploy again")
    if existing is None:
        client.create_stack(
            StackName=stack, TemplateBody=body, Parameters=_parameters(parameters), Capabilities=CAPABILITIES
        )
    else:
        kept = [p["ParameterKey"] for p in existing.get("Parameters", []) if p["ParameterKey"] not in parameters]
        try:
            client.update_stack(
                StackName=stack,
                TemplateBody=body,
                Parameters=_parameters(parameters)
                + [{"ParameterKey": key, "UsePreviousValue": True} for key in kept if f"  {key}:\n" in body],
                Capabilities=CAPABILITIES,
            )
        except ClientError as error:
            if "No updates are to be performed" not in str(error):
                raise
    finished = _wait(client, stack, timeout_s, poll_s)
    if finished["StackStatus"] not in DONE:
        raise DeployError(f"stack {stack} ended as {finished['StackStatus']}:\n{_failures(client, stack)}")
    return _read_outputs(stack, finished)


def _parameters(values: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()]


def _describe(client: Any, stack: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = client.describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise
    return None if found["StackStatus"] == "DELETE_COMPLETE" else found


def _wait(client: Any, stack: str, timeout_s: float, poll_s: float) -> dict[str, Any]:
    deadline = time.monotonic() + timeout_s
    while True:
        found = _describe(client, stack)
        status = found["StackStatus"] if found else "absent"
        if found and not status.endswith("_IN_PROGRESS"):
            return found
        if time.monotonic() >= deadline:
            raise DeployError(f"stack {stack} was still {status} after {timeout_s:g} s; see its events")
        time.sleep(poll_s)


def _failures(client: Any, stack: str) -> str:
    """The failures of the newest operation, oldest first: the first is the cause, the others were cancelled for it."""
    lines: list[str] = []
    for event in client.describe_stack_events(StackName=stack)["StackEvents"]:
        status = event.get("ResourceStatus", "")
        if event.get("ResourceType") == "AWS::CloudFormation::Stack" and status in (
            "CREATE_IN_PROGRESS",
            "UPDATE_IN_PROGRESS",
        ):
            break
        if status.endswith("_FAILED"):
            lines.append(f"  {event.get('LogicalResourceId')}: {event.get('ResourceStatusReason', 'no reason given')}")
    return "\n".join(reversed(lines)) or "  no resource failed; see the stack's events"


def _read_outputs(stack: str, found: Mapping[str, Any]) -> Outputs:
    values = {item["OutputKey"]: item["OutputValue"] for item in found.get("Outputs", [])}
    missing = [key for key in _OUTPUT_KEYS.values() if key not in values]
    if missing:
        raise DeployError(f"stack {stack} has no output {', '.join(missing)}: it was made from another template")
    return Outputs(**{item.name: values[_OUTPUT_KEYS[item.name]] for item in fields(Outputs)})
