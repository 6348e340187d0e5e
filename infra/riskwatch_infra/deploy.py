"""Create or update the stack of `stack.yaml`, and return its outputs.

The same call serves an AWS account and the embedded AWS. The environment of the clients selects one of them. Deploying
never moves the alias of the function: see `live_alias`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from riskwatch_infra import live_alias
from riskwatch_ml.core.errors import OperationError, UserInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TEMPLATE = Path(__file__).with_name("stack.yaml")
POLICY = Path(__file__).with_name("stack-policy.json")
"""The stack policy: CloudFormation refuses to update the alias and the version of the placeholder."""
DEFAULT_STACK = "riskwatch"
CAPABILITIES = ["CAPABILITY_IAM"]
DONE = ("CREATE_COMPLETE", "UPDATE_COMPLETE")


class DeployError(UserInputError):
    """The stack could not be created, updated or read."""


@dataclass(frozen=True)
class Outputs:
    """Outputs of the stack: names, ARNs and URLs that the settings need."""

    bucket: str
    stream: str
    table: str
    topic_arn: str
    operations_topic_arn: str
    alert_queue_url: str
    dead_letter_queue_url: str
    function: str
    airflow_policy_arn: str


_OUTPUT_KEYS = {
    "bucket": "BucketName",
    "stream": "StreamName",
    "table": "TableName",
    "topic_arn": "TopicArn",
    "operations_topic_arn": "OperationsTopicArn",
    "alert_queue_url": "AlertQueueUrl",
    "dead_letter_queue_url": "DeadLetterQueueUrl",
    "function": "FunctionName",
    "airflow_policy_arn": "AirflowPolicyArn",
}


def deploy(
    client: Any,
    functions: Any,
    *,
    stack: str = DEFAULT_STACK,
    parameters: Mapping[str, str] | None = None,
    timeout_s: float = 900.0,
    poll_s: float = 5.0,
    report: Callable[[str], None] = print,
) -> Outputs:
    """Create or update `stack`, wait for the end and return its outputs.

    `client` is a CloudFormation client, `functions` a Lambda client. `parameters` are those of the template (Name,
    AlertEmail, Link, EndpointUrl, ...); on an update, parameters left out keep their value. `report` gets a line if the
    update moved alias `live`, which is then moved back. Raises DeployError with the failing resources and their
    reasons.
    """
    try:
        existing = _describe(client, stack)
        with live_alias.kept(functions, _function(existing), report):
            finished = _apply(client, stack, existing, dict(parameters or {}), timeout_s, poll_s)
    except (ClientError, BotoCoreError, OperationError) as error:
        raise DeployError(f"stack {stack}: {error}") from error
    return _read_outputs(stack, finished)


def outputs(client: Any, stack: str = DEFAULT_STACK) -> Outputs:
    """Return the outputs of a finished stack.

    Raises DeployError if the stack does not exist or failed.
    """
    try:
        description = _describe(client, stack)
    except (ClientError, BotoCoreError) as error:
        raise DeployError(f"stack {stack}: {error}") from error
    if description is None:
        raise DeployError(f"stack {stack} does not exist: deploy it first")
    return _read_outputs(stack, description)


def _apply(
    client: Any,
    stack: str,
    existing: Mapping[str, Any] | None,
    parameters: Mapping[str, str],
    timeout_s: float,
    poll_s: float,
) -> Mapping[str, Any]:
    """Create or update the stack and return its description after the end."""
    body, policy = TEMPLATE.read_text(encoding="utf-8"), POLICY.read_text(encoding="utf-8")
    if existing is not None and existing["StackStatus"] == "ROLLBACK_COMPLETE":
        raise DeployError(f"stack {stack} is left over from a creation that failed: delete it, then deploy again")
    if existing is None:
        client.create_stack(
            StackName=stack,
            TemplateBody=body,
            Parameters=_parameters(parameters),
            Capabilities=CAPABILITIES,
            StackPolicyBody=policy,
        )
        return _finished(client, stack, timeout_s, poll_s)
    # Before the update, so that the policy decides about this update too.
    client.set_stack_policy(StackName=stack, StackPolicyBody=policy)
    names = [parameter["ParameterKey"] for parameter in existing.get("Parameters", [])]
    unchanged = [name for name in names if name not in parameters and f"  {name}:\n" in body]
    previous = [{"ParameterKey": name, "UsePreviousValue": True} for name in unchanged]
    try:
        client.update_stack(
            StackName=stack,
            TemplateBody=body,
            Parameters=_parameters(parameters) + previous,
            Capabilities=CAPABILITIES,
        )
    except ClientError as error:
        if "No updates are to be performed" not in str(error):
            raise
        # Also if the update before was rolled back: the stack is as this template describes it.
        return existing
    return _finished(client, stack, timeout_s, poll_s)


def _function(description: Mapping[str, Any] | None) -> str | None:
    """Return the name of the function of a stack; None if the stack has none."""
    outputs = [] if description is None else description.get("Outputs", [])
    return next((item["OutputValue"] for item in outputs if item["OutputKey"] == _OUTPUT_KEYS["function"]), None)


def _parameters(values: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()]


def _describe(client: Any, stack: str) -> dict[str, Any] | None:
    try:
        description: dict[str, Any] = client.describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise
    return None if description["StackStatus"] == "DELETE_COMPLETE" else description


def _wait(client: Any, stack: str, timeout_s: float, poll_s: float) -> dict[str, Any]:
    deadline = time.monotonic() + timeout_s
    while True:
        description = _describe(client, stack)
        status = description["StackStatus"] if description else "absent"
        if description and not status.endswith("_IN_PROGRESS"):
            return description
        if time.monotonic() >= deadline:
            raise DeployError(f"stack {stack} was still {status} after {timeout_s:g} s; see its events")
        time.sleep(poll_s)


def _finished(client: Any, stack: str, timeout_s: float, poll_s: float) -> Mapping[str, Any]:
    description = _wait(client, stack, timeout_s, poll_s)
    if description["StackStatus"] not in DONE:
        raise DeployError(f"stack {stack} ended as {description['StackStatus']}:\n{_failures(client, stack)}")
    return description


def _failures(client: Any, stack: str) -> str:
    """Return the failures of the newest operation, oldest first.

    The first one is the cause; CloudFormation cancelled the others because of it.
    """
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


def _read_outputs(stack: str, description: Mapping[str, Any]) -> Outputs:
    values = {item["OutputKey"]: item["OutputValue"] for item in description.get("Outputs", [])}
    missing = [key for key in _OUTPUT_KEYS.values() if key not in values]
    if missing:
        raise DeployError(f"stack {stack} has no output {', '.join(missing)}: it was made from another template")
    return Outputs(**{item.name: values[_OUTPUT_KEYS[item.name]] for item in fields(Outputs)})
