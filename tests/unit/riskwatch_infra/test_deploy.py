"""Deployment: create, update, nothing to do, and what is said when a stack fails."""

# The fakes take the arguments under AWS's names.

import hashlib

import pytest
from botocore.exceptions import ClientError

from riskwatch_infra import deploy
from riskwatch_ml.registry import release
from tests.support.contract import imitates
from tests.support.functions import FUNCTION, Lambda, artifact


def error(message):
    return ClientError({"Error": {"Code": "ValidationError", "Message": message}}, "Operation")


@imitates("cloudformation")
class FakeCloudFormation:
    """One stack that goes through the given states, one for each time it is described."""

    def __init__(self, states, events=()):
        self.states = list(states)
        self.events = list(events)
        self.calls = []

    def describe_stacks(self, **_):
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if state is None:
            raise error("Stack with id riskwatch does not exist")
        values = {key: f"value of {key}" for key in deploy._OUTPUT_KEYS.values()} | {"FunctionName": FUNCTION}
        outputs = [{"OutputKey": key, "OutputValue": value} for key, value in values.items()]
        parameters = [{"ParameterKey": key} for key in ("Name", "AlertEmail", "Gone")]
        return {"Stacks": [{"StackStatus": state, "Outputs": outputs, "Parameters": parameters}]}

    def create_stack(self, **arguments):
        self.calls.append(("create", arguments))

    def set_stack_policy(self, **arguments):
        self.calls.append(("policy", arguments))

    def update_stack(self, **arguments):
        self.calls.append(("update", arguments))

    def describe_stack_events(self, **_):
        return {"StackEvents": self.events}


def promoted():
    """Return a function with the placeholder as version 1 and a promoted model as version 2, which serves."""
    functions = Lambda()
    release.promote(functions, FUNCTION, "live", artifact("m-1"), approved_by="ada")
    return functions


class Moves(FakeCloudFormation):
    """A stack of which an update moves the alias, as CloudFormation does if the template of the alias changed."""

    def __init__(self, states, move):
        super().__init__(states)
        self.move = move

    def update_stack(self, **arguments):
        super().update_stack(**arguments)
        self.move()


def test_an_absent_stack_is_created_and_waited_for():
    client = FakeCloudFormation([None, "CREATE_IN_PROGRESS", "CREATE_COMPLETE"])
    outputs = deploy.deploy(client, promoted(), parameters={"Name": "rw"}, poll_s=0)
    ((action, arguments),) = client.calls
    assert action == "create"
    assert arguments["Parameters"] == [{"ParameterKey": "Name", "ParameterValue": "rw"}]
    assert arguments["Capabilities"] == ["CAPABILITY_IAM"]
    assert arguments["StackPolicyBody"] == deploy.POLICY.read_text(encoding="utf-8")
    assert outputs.bucket == "value of BucketName"


def test_an_update_keeps_the_parameters_left_out_that_the_template_still_has():
    client = FakeCloudFormation(["CREATE_COMPLETE", "UPDATE_COMPLETE"])
    deploy.deploy(client, promoted(), parameters={"Name": "rw"}, poll_s=0)
    # THEN the stack policy is set before the update that it decides about
    (policy, (action, arguments)) = client.calls
    assert (policy[0], action) == ("policy", "update")
    assert arguments["Parameters"][1:] == [{"ParameterKey": "AlertEmail", "UsePreviousValue": True}]


def test_nothing_to_update_is_no_error():
    class Unchanged(FakeCloudFormation):
        def update_stack(self, **_):
            raise error("No updates are to be performed.")

    assert deploy.deploy(Unchanged(["CREATE_COMPLETE"]), promoted(), poll_s=0).stream == "value of StreamName"


def test_nothing_to_update_after_a_rolled_back_update_is_no_error():
    class Unchanged(FakeCloudFormation):
        def update_stack(self, **_):
            raise error("No updates are to be performed.")

    rolled_back = Unchanged(["UPDATE_ROLLBACK_COMPLETE"])
    assert deploy.deploy(rolled_back, promoted(), poll_s=0).stream == "value of StreamName"


@pytest.mark.parametrize("end", ["UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"])
@pytest.mark.parametrize(
    "description", ["The promoted model; moved by promotion and rollback only", "from 1; m-1; approved by ada"]
)
def test_an_alias_that_an_update_moved_is_moved_back_and_reported(end, description):
    # GIVEN version 2 in service, and an update that moves the alias to the placeholder, with the description of the
    # template or with the one that was there, and then succeeds or fails
    functions, lines = promoted(), []
    client = Moves(["CREATE_COMPLETE", end], lambda: functions.move("1", description))
    # WHEN it is deployed
    try:
        deploy.deploy(client, functions, poll_s=0, report=lines.append)
    except deploy.DeployError:
        assert end == "UPDATE_ROLLBACK_COMPLETE"
    # THEN version 2 serves again, and one line has both versions and the checksum
    assert functions.alias["FunctionVersion"] == "2"
    (line,) = lines
    checksum = hashlib.sha256(artifact("m-1")).hexdigest()
    assert f"to version 1; it is back on version 2 (checksum {checksum})" in line


def test_a_promotion_during_an_update_stays():
    functions, lines = promoted(), []
    client = Moves(
        ["CREATE_COMPLETE", "UPDATE_COMPLETE"],
        lambda: release.promote(functions, FUNCTION, "live", artifact("m-2"), approved_by="ada"),
    )
    deploy.deploy(client, functions, poll_s=0, report=lines.append)
    assert (functions.alias["FunctionVersion"], lines) == ("3", [])


def test_an_alias_that_cannot_be_moved_back_is_a_deploy_error():
    # GIVEN an alias that an update moves to the placeholder while another user changes it too
    functions = promoted()
    functions.before["update_alias"] = lambda: functions.move("1", "moved once more")
    client = Moves(["CREATE_COMPLETE", "UPDATE_COMPLETE"], lambda: functions.move("1"))
    # WHEN / THEN
    with pytest.raises(deploy.DeployError, match="'live'"):
        deploy.deploy(client, functions, poll_s=0)


def test_a_failure_names_the_resources_with_the_cause_first():
    # GIVEN events as CloudFormation lists them, newest first, the last one of an earlier operation
    stack = "AWS::CloudFormation::Stack"
    events = [
        {"ResourceStatus": "CREATE_FAILED", "LogicalResourceId": "Table", "ResourceStatusReason": "cancelled"},
        {"ResourceStatus": "CREATE_FAILED", "LogicalResourceId": "Bucket", "ResourceStatusReason": "name is taken"},
        {"ResourceStatus": "CREATE_IN_PROGRESS", "LogicalResourceId": "riskwatch", "ResourceType": stack},
        {"ResourceStatus": "CREATE_FAILED", "LogicalResourceId": "Old", "ResourceStatusReason": "long ago"},
    ]
    client = FakeCloudFormation([None, "ROLLBACK_COMPLETE"], events)
    with pytest.raises(deploy.DeployError, match=r"(?s)ROLLBACK_COMPLETE:\s+Bucket: name is taken\s+Table: cancelled$"):
        deploy.deploy(client, promoted(), poll_s=0)


def test_what_a_failed_creation_left_is_told_to_be_deleted():
    with pytest.raises(deploy.DeployError, match="left over from a creation that failed: delete it"):
        deploy.deploy(FakeCloudFormation(["ROLLBACK_COMPLETE"]), promoted(), poll_s=0)


def test_refused_credentials_are_a_deploy_error():
    class Refuses(FakeCloudFormation):
        def describe_stacks(self, **_):
            raise error("The security token included in the request is invalid")

    with pytest.raises(deploy.DeployError, match="security token"):
        deploy.deploy(Refuses([None]), promoted())


def test_outputs_of_an_absent_stack_say_to_deploy_it():
    with pytest.raises(deploy.DeployError, match="deploy it first"):
        deploy.outputs(FakeCloudFormation([None]))
