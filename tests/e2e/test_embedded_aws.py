"""The embedded AWS as the demo uses it: the stack deploys, metrics come back as put, nothing is left behind."""

import io
import json
import zipfile
from datetime import UTC, datetime, timedelta

import boto3
import numpy as np
import pandas as pd
import psutil
import pytest

from riskwatch_infra import deploy
from riskwatch_local.demo import publish, simulator
from riskwatch_local.services.embedded_aws import EmbeddedAws
from riskwatch_local.services.supervisor import Supervisor
from riskwatch_ml.registry import release, serving
from riskwatch_ml.schema import catalogue

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_it_listens_on_loopback_only(supervisor, aws):
    listening = supervisor.listeners()
    assert [listener.port for listener in listening] == [aws.port]
    assert all(listener.loopback for listener in listening)


def test_the_stack_deploys_again_without_moving_anything(aws, stack):
    # GIVEN the deployed stack WHEN it is deployed again, unchanged and with a link
    clients = boto3.client("cloudformation"), boto3.client("lambda")
    before = boto3.client("lambda").get_alias(FunctionName=stack.function, Name="live")
    assert deploy.deploy(*clients, poll_s=0.05) == stack
    assert deploy.deploy(*clients, parameters={"Link": "http://127.0.0.1:8080"}, poll_s=0.05) == stack
    # THEN the alias is where it was and the endpoint was kept
    after = boto3.client("lambda").get_alias(FunctionName=stack.function, Name="live")
    assert (after["FunctionVersion"], after["RevisionId"]) == (before["FunctionVersion"], before["RevisionId"])
    variables = boto3.client("lambda").get_function_configuration(FunctionName=stack.function)["Environment"][
        "Variables"
    ]
    assert variables["AWS_ENDPOINT_URL"] == aws.endpoint
    assert variables["RISKWATCH_LINK"] == "http://127.0.0.1:8080"
    assert variables["RISKWATCH_BUCKET"] == stack.bucket


@pytest.fixture
def in_service(stack):
    """Put a version into service as a promotion does; give what reads the checksum of the artifact that serves."""
    client = boto3.client("lambda")
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("index.py", "def handle(event, context):\n    return {'model_id': 'm-1'}\n")
    client.update_function_code(FunctionName=stack.function, ZipFile=code.getvalue())
    client.get_waiter("function_updated_v2").wait(FunctionName=stack.function)
    client.update_function_configuration(FunctionName=stack.function, Handler=release.HANDLER)
    client.get_waiter("function_updated_v2").wait(FunctionName=stack.function)
    version = client.publish_version(FunctionName=stack.function)["Version"]
    client.update_alias(
        FunctionName=stack.function, Name="live", FunctionVersion=version, Description="from 1; m-1; approved by ada"
    )
    yield lambda: serving.alias_target(client, stack.function, "live").checksum
    deploy.deploy(boto3.client("cloudformation"), client, poll_s=0.05)
    client.update_alias(FunctionName=stack.function, Name="live", FunctionVersion="1")


CHANGES = {
    "the alias": ("The promoted model; moved by promotion and rollback only", "another text"),
    "another resource": ("Description: Labels metric rows and keeps episodes", "Description: another text"),
    "nothing": ("Description: placeholder", "Description: placeholder"),
}


def write_changed(path, old, new):
    text = deploy.TEMPLATE.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


@pytest.mark.parametrize("change", CHANGES)
def test_a_deployment_leaves_the_promoted_model_in_service(stack, in_service, monkeypatch, tmp_path, change):
    # GIVEN a promoted version, and a template with a change
    checksum, lines = in_service(), []
    monkeypatch.setattr(deploy, "TEMPLATE", write_changed(tmp_path / "stack.yaml", *CHANGES[change]))
    # WHEN it is deployed with a changed parameter
    clients = boto3.client("cloudformation"), boto3.client("lambda")
    hour = {"DigestHour": str(9 + list(CHANGES).index(change))}
    deploy.deploy(*clients, parameters=hour, poll_s=0.05, report=lines.append)
    # THEN the same code serves when the command ends, and the command reports if it moved the alias back
    assert checksum is not None
    assert in_service() == checksum
    assert [checksum in line for line in lines] == ([True] if change == "the alias" else [])
    # AND the stack has the policy by which AWS refuses such a change
    policy = json.loads(clients[0].get_stack_policy(StackName=deploy.DEFAULT_STACK)["StackPolicyBody"])
    assert policy == json.loads(deploy.POLICY.read_text(encoding="utf-8"))


def test_an_update_that_fails_leaves_the_promoted_model_in_service(stack, in_service, monkeypatch, tmp_path):
    # GIVEN a promoted version, and a template that asks for another version of the placeholder
    checksum, clients = in_service(), (boto3.client("cloudformation"), boto3.client("lambda"))
    deploy.deploy(*clients, poll_s=0.05)
    changed = write_changed(tmp_path / "stack.yaml", "Description: placeholder", "Description: another")
    # WHEN it is deployed THEN the update fails, and the same code serves
    with monkeypatch.context() as patch:
        patch.setattr(deploy, "TEMPLATE", changed)
        with pytest.raises(deploy.DeployError, match="PlaceholderVersion: "):
            deploy.deploy(*clients, poll_s=0.05)
    assert in_service() == checksum
    # AND WHEN the template is as before THEN it deploys again
    assert deploy.deploy(*clients, poll_s=0.05) == stack
    assert in_service() == checksum


def test_the_placeholder_answers_a_self_test_and_refuses_to_label(stack):
    client = boto3.client("lambda")
    answer = client.invoke(FunctionName=f"{stack.function}:live", Payload=b'{"selftest": {}}')
    assert "FunctionError" not in answer
    assert json.load(answer["Payload"]) == {"model_id": None}
    refused = client.invoke(FunctionName=f"{stack.function}:live", Payload=b'{"Records": []}')
    assert refused["FunctionError"]
    assert "no model has been promoted" in json.load(refused["Payload"])["errorMessage"]


def test_an_alert_reaches_the_queue_as_it_was_sent(stack):
    boto3.client("sns").publish(TopicArn=stack.topic_arn, Subject="Riskwatch", Message='{"version": 1}')
    received = boto3.client("sqs").receive_message(QueueUrl=stack.alert_queue_url, WaitTimeSeconds=10)
    assert [message["Body"] for message in received["Messages"]] == ['{"version": 1}']


def test_rows_that_cannot_be_labelled_are_tried_again_until_the_stream_forgets_them(stack):
    (mapping,) = boto3.client("lambda").list_event_source_mappings(FunctionName=f"{stack.function}:live")[
        "EventSourceMappings"
    ]
    assert mapping["MaximumRetryAttempts"] == -1
    assert mapping["MaximumRecordAgeInSeconds"] == 23 * 3600
    assert mapping["BisectBatchOnFunctionError"] is True
    assert mapping["DestinationConfig"]["OnFailure"]["Destination"].endswith("dead-letters")


def test_an_alarm_reaches_operations_and_not_those_who_get_alerts(stack):
    # GIVEN a reader of the operations topic beside the queue of the alerts
    cloudwatch, sns, sqs = (boto3.client(name) for name in ("cloudwatch", "sns", "sqs"))
    url = sqs.create_queue(QueueName="operations-reader")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    described = boto3.client("cloudformation").describe_stacks(StackName=deploy.DEFAULT_STACK)["Stacks"][0]["Outputs"]
    topic = next(item["OutputValue"] for item in described if item["OutputKey"] == "OperationsTopicArn")
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    names = {alarm["AlarmName"] for alarm in cloudwatch.describe_alarms()["MetricAlarms"]}
    stopped = ("export-stopped", "train-stopped", "watch-stopped")
    told = ("rows-wait", "dead-letters", "alerts-not-sent", "nothing-arrives", *stopped)
    assert names == {f"riskwatch-{name}" for name in told}
    # WHEN the alarm on the dead letters goes off
    cloudwatch.set_alarm_state(AlarmName="riskwatch-dead-letters", StateValue="ALARM", StateReason="one is there")
    # THEN the reader hears of it, and the alerts are as they were
    (message,) = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=10)["Messages"]
    assert "riskwatch-dead-letters" in message["Body"]
    assert "Messages" not in sqs.receive_message(QueueUrl=stack.alert_queue_url, WaitTimeSeconds=0)


def test_a_creation_that_fails_leaves_nothing_and_a_deletion_leaves_the_data(aws, tmp_path, monkeypatch):
    client, s3, dynamodb = (boto3.client(name) for name in ("cloudformation", "s3", "dynamodb"))
    names = {"Name": "second", "EndpointUrl": aws.endpoint}

    def kept():
        tables = [name for name in dynamodb.list_tables()["TableNames"] if name.startswith("second-")]
        return [b["Name"] for b in s3.list_buckets()["Buckets"] if b["Name"].startswith("second-")] + tables

    # GIVEN a template of which one resource cannot be made, after bucket and table: an alarm without a threshold
    text = deploy.TEMPLATE.read_text(encoding="utf-8")
    broken = tmp_path / "stack.yaml"
    broken.write_text(
        text.replace(
            "Resources:\n",
            "Resources:\n"
            "  Broken:\n    Type: AWS::CloudWatch::Alarm\n    DependsOn: [Bucket, Table]\n    Properties:\n"
            "      {Namespace: n, MetricName: m, ComparisonOperator: GreaterThanThreshold, EvaluationPeriods: 1}\n",
            1,
        ),
        encoding="utf-8",
    )
    # WHEN it is deployed THEN nothing is left that the next attempt would trip over
    with monkeypatch.context() as patch:
        patch.setattr(deploy, "TEMPLATE", broken)
        with pytest.raises(deploy.DeployError, match="Broken: "):
            deploy.deploy(client, boto3.client("lambda"), stack="second", parameters=names, poll_s=0.05)
    assert kept() == []
    client.delete_stack(StackName="second")
    deploy.deploy(client, boto3.client("lambda"), stack="second", parameters=names, poll_s=0.05)
    # AND WHEN a stack that was created is deleted THEN bucket and table stay
    client.delete_stack(StackName="second")
    client.get_waiter("stack_delete_complete").wait(StackName="second", WaiterConfig={"Delay": 1})
    assert len(kept()) == 2


def test_metrics_are_read_back_as_they_were_put(aws):
    # GIVEN a day of the simulated fleet, published
    metrics = catalogue.load()
    rows = simulator.simulate(datetime.now(UTC), days=1, stream_hours=6).rows
    rows = rows[rows["instance_id"].isin(["web-1", "database-3"])].reset_index(drop=True)
    counts = publish.publish(publish.client(), rows, metrics)
    assert counts.points == int(rows[list(metrics.names)].notna().sum().sum())
    # WHEN it is read with GetMetricData
    queries = {
        f"q{number}": (instance, metric)
        for number, (instance, metric) in enumerate(
            (instance, metric) for instance in ("web-1", "database-3") for metric in metrics.metrics
        )
    }
    answer = boto3.client("cloudwatch").get_metric_data(
        StartTime=rows["timestamp"].min().to_pydatetime(),
        EndTime=rows["timestamp"].max().to_pydatetime() + timedelta(minutes=5),
        ScanBy="TimestampAscending",
        MetricDataQueries=[
            {
                "Id": key,
                "MetricStat": {
                    "Metric": {
                        "Namespace": metric.namespace,
                        "MetricName": metric.metric,
                        "Dimensions": metric.dimensions_of(instance),
                    },
                    "Period": 300,
                    "Stat": metric.stat,
                },
            }
            for key, (instance, metric) in queries.items()
        ],
    )
    # THEN every point is there once, with its value
    assert len(answer["MetricDataResults"]) == 20
    for result in answer["MetricDataResults"]:
        instance, metric = queries[result["Id"]]
        put = rows[rows["instance_id"] == instance].set_index("timestamp")[metric.name].dropna()
        assert list(put.index) == [pd.Timestamp(moment) for moment in result["Timestamps"]]
        np.testing.assert_allclose(np.array(result["Values"]) * metric.scale, put.to_numpy(), rtol=1e-12)


def test_stopping_leaves_no_process_and_no_temporary_file(stack, tmp_path):
    # GIVEN a server of its own whose Lambda worker runs
    with Supervisor() as supervisor:
        own = EmbeddedAws.start(supervisor, tmp_path)
        functions = own.client("lambda")
        made = deploy.deploy(
            own.client("cloudformation"), functions, parameters={"EndpointUrl": own.endpoint}, poll_s=0.05
        )
        functions.invoke(FunctionName=made.function, Payload=b'{"selftest": {}}')
        pids = supervisor.pids()
        assert len(pids) >= 2
        # WHEN it is stopped
        own.stop()
        assert supervisor.pids() == []
    # THEN nothing of it is left
    left = [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]
    assert left == []
    assert not list(tmp_path.glob("aws/tmp/*"))


def test_a_persistent_server_finds_its_state_again(tmp_path):
    # GIVEN a server that keeps its state, with a point, an object and a stack
    with Supervisor() as supervisor:
        first = EmbeddedAws.start(supervisor, tmp_path, persist=True)
        made = deploy.deploy(first.client("cloudformation"), first.client("lambda"), poll_s=0.05)
        first.client("s3").put_object(Bucket=made.bucket, Key="ledger/a.json", Body=b"{}")
        first.client("cloudwatch").put_metric_data(Namespace="Fleet", MetricData=[{"MetricName": "m00", "Value": 1.0}])
        # WHEN it is stopped and started again, on another port
        first.stop()
        second = EmbeddedAws.start(supervisor, tmp_path, persist=True)
        # THEN all three are there
        assert deploy.outputs(second.client("cloudformation")).bucket == made.bucket
        stored = second.client("s3").get_object(Bucket=made.bucket, Key="ledger/a.json")
        assert stored["Body"].read() == b"{}"
        listed = second.client("cloudwatch").list_metrics(Namespace="Fleet")
        assert [metric["MetricName"] for metric in listed["Metrics"]] == ["m00"]
