"""Deployment: create, update, nothing to do, and what is said when a stack fails."""

import pytest
from botocore.exceptions import ClientError

from riskwatch_infra import deploy
from tests.support.contract import imitates


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
        outputs = [{"OutputKey": key, "OutputValue": f"value of {key}"} for key in deploy._OUTPUT_KEYS.values()]
        parameters = [{"ParameterKey": key} for key in ("Name", "AlertEmail", "Gone")]
        return {"Stacks": [{"StackStatus": state, "Outputs": outputs, "Parameters": parameters}]}

    def create_stack(self, **arguments):
        self.calls.append(("create", arguments))

    def update_stack(self, **arguments):
        self.calls.append(("update", arguments))

    def describe_stack_events(self, **_):
        return {"StackEvents": self.events}


def test_an_absent_stack_is_created_and_waited_for():
    client = FakeCloudFormation([None, "CREATE_IN_PROGRESS", "CREATE_COMPLETE"])
    outputs = deploy.deploy(client, parameters={"Name": "rw"}, poll_s=0)
    ((action, arguments),) = client.calls
    assert action == "create"
    assert arguments["Parameters"] == [{"ParameterKey": "Name", "ParameterValue": "rw"}]
    assert arguments["Capabilities"] == ["CAPABILITY_IAM"]
    assert outputs.bucket == "value of BucketName"


def test_an_update_keeps_the_parameters_left_out_that_the_template_still_has():
    client = FakeCloudFormation(["CREATE_COMPLETE", "UPDATE_COMPLETE"])
    deploy.deploy(client, parameters={"Name": "rw"}, poll_s=0)
    ((action, arguments),) = client.calls
    assert action == "update"
    assert arguments["Parameters"][1:] == [{"ParameterKey": "AlertEmail", "UsePreviousValue": True}]


def test_nothing_to_update_is_no_error():
    class Unchanged(FakeCloudFormation):
        def update_stack(self, **_):
            raise error("No updates are to be performed.")

    assert deploy.deploy(Unchanged(["CREATE_COMPLETE"]), poll_s=0).stream == "value of StreamName"


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
        deploy.deploy(client, poll_s=0)


def test_what_a_failed_creation_left_is_told_to_be_deleted():
    with pytest.raises(deploy.DeployError, match="left over from a creation that failed: delete it"):
        deploy.deploy(FakeCloudFormation(["ROLLBACK_COMPLETE"]), poll_s=0)


def test_refused_credentials_are_a_deploy_error():
    class Refuses(FakeCloudFormation):
        def describe_stacks(self, **_):
            raise error("The security token included in the request is invalid")

    with pytest.raises(deploy.DeployError, match="security token"):
        deploy.deploy(Refuses([None]))


def test_outputs_of_an_absent_stack_say_to_deploy_it():
    with pytest.raises(deploy.DeployError, match="deploy it first"):
        deploy.outputs(FakeCloudFormation([None]))
