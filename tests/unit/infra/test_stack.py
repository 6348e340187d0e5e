"""The template: it parses, its roles may do what they need on named resources and nothing else, its defences are on."""

import json
from pathlib import Path

import pytest
import yaml

from infra import deploy

# Actions for which AWS knows no resource-level permissions.
WITHOUT_RESOURCE = {"cloudwatch:GetMetricData", "cloudwatch:ListMetrics", "tag:GetResources"}


class Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms: !Ref x becomes {"Ref": x}, !Sub x {"Fn::Sub": x} and so on."""


def _short_form(loader, suffix, node):
    key = "Ref" if suffix == "Ref" else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        return {key: loader.construct_scalar(node)}
    return {
        key: loader.construct_sequence(node, deep=True)
        if isinstance(node, yaml.SequenceNode)
        else loader.construct_mapping(node, deep=True)
    }


Loader.add_multi_constructor("!", _short_form)


@pytest.fixture(scope="module")
def template():
    return yaml.load(deploy.TEMPLATE.read_text(encoding="utf-8"), Loader=Loader)


@pytest.fixture(scope="module")
def resources(template):
    return template["Resources"]


def listed(value):
    return value if isinstance(value, list) else [value]


def statements(resources):
    """Every Allow statement of every role and managed policy."""
    documents = []
    for resource in resources.values():
        properties = resource["Properties"]
        if resource["Type"] == "AWS::IAM::Role":
            documents += [policy["PolicyDocument"] for policy in properties["Policies"]]
        if resource["Type"] == "AWS::IAM::ManagedPolicy":
            documents.append(properties["PolicyDocument"])
    return [item for document in documents for item in document["Statement"] if item["Effect"] == "Allow"]


def test_no_statement_allows_a_wildcard_action(resources):
    for statement in statements(resources):
        assert "NotAction" not in statement
        assert not [action for action in listed(statement["Action"]) if "*" in action], statement["Sid"]


def test_every_statement_names_its_resources(resources):
    # GIVEN all statements THEN only actions without resource-level permissions may stand on "*"
    for statement in statements(resources):
        if "*" in listed(statement["Resource"]):
            assert set(statement["Action"]) <= WITHOUT_RESOURCE, statement["Sid"]
        else:
            assert all(isinstance(resource, dict) for resource in listed(statement["Resource"])), statement["Sid"]


def test_no_role_is_open_to_other_accounts_or_attaches_broad_policies(resources):
    for resource in resources.values():
        if resource["Type"] == "AWS::IAM::Role":
            assert "ManagedPolicyArns" not in resource["Properties"]
            principals = [item["Principal"] for item in resource["Properties"]["AssumeRolePolicyDocument"]["Statement"]]
            assert principals == [{"Service": "lambda.amazonaws.com"}]


def test_the_function_writes_only_its_own_prefixes(resources):
    policy = resources["FunctionRole"]["Properties"]["Policies"][0]["PolicyDocument"]
    s3 = [item for item in policy["Statement"] if any(a.startswith("s3:") for a in listed(item["Action"]))]
    assert [listed(item["Action"]) for item in s3] == [["s3:PutObject"]]
    assert [item["Fn::Sub"] for item in s3[0]["Resource"]] == [
        "${Bucket.Arn}/labelled/arrived/*",
        "${Bucket.Arn}/quarantine/records/*",
    ]


def test_ledger_and_artifacts_cannot_be_deleted_by_the_dags(resources):
    deletes = [item for item in statements(resources) if "s3:DeleteObject" in listed(item["Action"])]
    prefixes = {resource["Fn::Sub"].split("/")[1] for item in deletes for resource in item["Resource"]}
    assert prefixes == {"raw", "validated", "quarantine", "labelled"}


def test_the_data_are_kept_versioned_encrypted_and_private(resources):
    bucket = resources["Bucket"]
    assert bucket["DeletionPolicy"] == bucket["UpdateReplacePolicy"] == "Retain"
    assert bucket["Properties"]["VersioningConfiguration"] == {"Status": "Enabled"}
    assert all(bucket["Properties"]["PublicAccessBlockConfiguration"].values())
    assert bucket["Properties"]["BucketEncryption"]
    table = resources["Table"]
    assert table["DeletionPolicy"] == "Retain"
    assert table["Properties"]["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["Properties"]["TimeToLiveSpecification"] == {"AttributeName": "ttl", "Enabled": True}


def test_a_poisoned_batch_cannot_block_a_shard(resources):
    mapping = resources["StreamMapping"]["Properties"]
    assert mapping["FunctionName"] == {"Ref": "LiveAlias"}
    assert mapping["StartingPosition"] == "TRIM_HORIZON"
    assert mapping["BisectBatchOnFunctionError"] is True
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert 0 < mapping["MaximumRetryAttempts"] < 100
    assert 60 <= mapping["MaximumRecordAgeInSeconds"] <= 86400
    assert mapping["DestinationConfig"]["OnFailure"]["Destination"] == {"Fn::GetAtt": "DeadLetterQueue.Arn"}


def test_the_placeholder_answers_a_self_test_and_nothing_else(resources):
    # GIVEN the inline code, which becomes index.py: the handler has to name that module
    function = resources["Function"]["Properties"]
    assert function["Handler"] == "index.handle"
    namespace = {}
    exec(compile(function["Code"]["ZipFile"], "index.py", "exec"), namespace)
    assert json.dumps(namespace["handle"]({"selftest": {}}, None)) == '{"model_id": null}'
    with pytest.raises(RuntimeError, match="no model has been promoted"):
        namespace["handle"]({"Records": []}, None)


def test_the_endpoint_is_set_for_an_embedded_aws_only(template, resources):
    environment = resources["Function"]["Properties"]["Environment"]["Variables"]
    assert environment["AWS_ENDPOINT_URL"]["Fn::If"][0] == "HasEndpointUrl"
    assert template["Parameters"]["EndpointUrl"]["Default"] == ""


def test_every_output_that_deployment_reads_exists(template):
    assert set(deploy._OUTPUT_KEYS.values()) <= set(template["Outputs"])


def test_references_name_something_that_exists(template):
    """A misspelt reference would only fail when the stack is created."""
    known = set(template["Resources"]) | set(template["Parameters"]) | set(template["Conditions"])

    def walk(node):
        if isinstance(node, dict):
            for key, value in node.items():
                if key in ("Ref", "Condition") and isinstance(value, str):
                    yield value
                elif key == "Fn::GetAtt":
                    yield value.split(".")[0] if isinstance(value, str) else value[0]
                elif key == "Fn::If":
                    yield value[0]
                elif key == "DependsOn":
                    yield from listed(value)
                yield from walk(value)
        elif isinstance(node, list):
            for item in node:
                yield from walk(item)

    names = set(walk(template))
    assert {name for name in names if not name.startswith("AWS::")} <= known


def test_the_agents_configuration_collects_what_the_catalogue_reads():
    agent = json.loads(Path(deploy.TEMPLATE).with_name("cloudwatch-agent.json").read_text(encoding="utf-8"))
    metrics = agent["metrics"]
    assert metrics["namespace"] == "CWAgent"
    assert ["InstanceId"] in metrics["aggregation_dimensions"]
    collected = {"mem_used_percent", "diskio_iops_in_progress", "processes_running", "netstat_tcp_established"}
    named = {
        item if item.startswith(section) else f"{section}_{item}"
        for section, settings in metrics["metrics_collected"].items()
        for item in settings.get("measurement", [])
    }
    assert named == collected
