"""The template: it parses, its roles may do what they need on named resources and nothing else, its defences are on."""

import json
from pathlib import Path

import pytest

from riskwatch_airflow.tasks import heartbeat
from riskwatch_infra import deploy, live_alias
from riskwatch_lambda import logs
from riskwatch_lambda.episodes import repository
from riskwatch_lambda.events import tick
from riskwatch_ml.storage import labelled_rows

# Actions for which AWS knows no resource-level permissions.
WITHOUT_RESOURCE = {
    "cloudwatch:GetMetricData",
    "cloudwatch:ListMetrics",
    "cloudwatch:PutMetricData",
    "tag:GetResources",
}


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
    assert prefixes == {"raw", "validated", "quarantine", "labelled", "inventory", "docs"}


def test_the_pages_may_query_the_table_and_the_index_of_what_is_unfinished(resources):
    queries = [
        item
        for item in resources["AirflowPolicy"]["Properties"]["PolicyDocument"]["Statement"]
        if "dynamodb:Query" in listed(item["Action"])
    ]
    assert [item["Resource"] for item in queries] == [
        [{"Fn::GetAtt": "Table.Arn"}, {"Fn::Sub": f"${{Table.Arn}}/index/{repository.UNFINISHED}"}]
    ]


def test_the_data_are_kept_versioned_encrypted_and_private(resources):
    bucket = resources["Bucket"]
    # Plain Retain would leave bucket and table behind when the stack cannot be created, and block the next attempt.
    for kept in (bucket, resources["Table"]):
        assert (kept["DeletionPolicy"], kept["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")
    assert bucket["Properties"]["VersioningConfiguration"] == {"Status": "Enabled"}
    assert all(bucket["Properties"]["PublicAccessBlockConfiguration"].values())
    assert bucket["Properties"]["BucketEncryption"]
    table = resources["Table"]
    assert table["Properties"]["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


def test_a_batch_is_tried_again_until_the_stream_is_about_to_forget_it(resources):
    # GIVEN a fault outside of the batch: real Lambda gives a batch up after its attempts or its age
    mapping = resources["StreamMapping"]["Properties"]
    assert mapping["FunctionName"] == {"Ref": "LiveAlias"}
    assert mapping["StartingPosition"] == "TRIM_HORIZON"
    assert mapping["BisectBatchOnFunctionError"] is True
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    # THEN attempts do not run out, and a dropped batch can still be read from the stream for an hour
    assert mapping["MaximumRetryAttempts"] == -1
    retention_s = resources["Stream"]["Properties"]["RetentionPeriodHours"] * 3600
    assert mapping["MaximumRecordAgeInSeconds"] == retention_s - 3600
    assert mapping["DestinationConfig"]["OnFailure"]["Destination"] == {"Fn::GetAtt": "DeadLetterQueue.Arn"}
    # AND the compaction of labelled rows looks back further than any row can wait
    assert retention_s < labelled_rows.LATE.total_seconds()


def test_alarms_tell_operations_and_never_those_who_get_alerts(resources):
    alarms = {name: item["Properties"] for name, item in resources.items() if item["Type"] == "AWS::CloudWatch::Alarm"}
    for alarm in alarms.values():
        assert alarm["AlarmActions"] == [{"Ref": "OperationsTopic"}]
    # GIVEN one dead letter THEN its alarm goes off, and an empty queue, of which SQS is silent, is no alarm
    dead = alarms["DeadLettersAlarm"]
    assert (dead["Namespace"], dead["MetricName"]) == ("AWS/SQS", "ApproximateNumberOfMessagesVisible")
    assert dead["Dimensions"] == [{"Name": "QueueName", "Value": {"Fn::GetAtt": "DeadLetterQueue.QueueName"}}]
    assert (dead["ComparisonOperator"], dead["Threshold"]) == ("GreaterThanThreshold", 0)
    assert dead["TreatMissingData"] == "notBreaching"
    # AND rows that wait raise an alarm long before they are dropped
    wait_s = alarms["RowsWaitAlarm"]["Threshold"] / 1000
    assert alarms["RowsWaitAlarm"]["MetricName"] == "IteratorAge"
    assert wait_s * 10 < resources["StreamMapping"]["Properties"]["MaximumRecordAgeInSeconds"]
    # AND subscribers of alerts get no such message
    topics = {name: item["Properties"]["TopicArn"] for name, item in resources.items() if "Subscription" in name}
    assert topics.pop("OperationsEmailSubscription") == {"Ref": "OperationsTopic"}
    assert all(topic == {"Ref": "Topic"} for topic in topics.values())


def test_the_alarm_on_silence_reads_what_the_function_reports_of_ticks(resources, capsys, monkeypatch):
    # GIVEN a function of the stack's
    name = resources["Function"]["Properties"]["FunctionName"]["Fn::Sub"].replace("${Name}", "riskwatch")
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", name)
    alarm = resources["NothingArrivesAlarm"]["Properties"]
    # WHEN it reports an answered tick
    logs.heartbeat(5, tick.ANSWERED)
    # THEN it is the metric that the alarm asks for, with the same dimensions, and no other stack's
    line = json.loads(capsys.readouterr().out)
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == alarm["Namespace"]
    assert directive["Metrics"] == [{"Name": alarm["MetricName"], "Unit": "Count"}]
    assert alarm["Dimensions"] == [{"Name": "FunctionName", "Value": {"Ref": "Function"}}]
    assert directive["Dimensions"] == [["FunctionName"]]
    assert (line["_aws"]["Timestamp"], line["FunctionName"], line[alarm["MetricName"]]) == (5, name, 1)
    # AND less than one in a period, or nothing at all, sets it off
    assert (alarm["Statistic"], alarm["ComparisonOperator"], alarm["Threshold"]) == ("Sum", "LessThanThreshold", 1)
    assert alarm["TreatMissingData"] == "breaching"


@pytest.mark.parametrize(
    ("title", "dag", "hours"),
    [("Export", "export_metrics", 3), ("Train", "train_models", 50), ("Watch", "watch_model", 3)],
)
def test_each_heartbeat_has_an_alarm(template, resources, title, dag, hours):
    # GIVEN the alarm of a DAG
    alarm = resources[f"{title}StoppedAlarm"]
    properties, chosen = alarm["Properties"], template["Parameters"][f"{title}QuietHours"]
    # THEN it reads what the heartbeat task of the DAG reports, and no other stack's
    assert (properties["Namespace"], properties["MetricName"]) == (heartbeat.NAMESPACE, heartbeat.METRIC)
    assert properties["Dimensions"] == [
        {"Name": "FunctionName", "Value": {"Ref": "Function"}},
        {"Name": "DagId", "Value": dag},
    ]
    # AND no success within the hours chosen, at most the week that CloudWatch looks back, sets it off
    assert (properties["Statistic"], properties["ComparisonOperator"]) == ("Sum", "LessThanThreshold")
    assert (properties["Threshold"], properties["TreatMissingData"]) == (1, "breaching")
    assert properties["EvaluationPeriods"] == {"Ref": f"{title}QuietHours"}
    assert chosen["Default"] == hours
    assert chosen["MaxValue"] * properties["Period"] == 7 * 86_400
    # AND 0 leaves the alarm out
    none = {"Fn::Not": [{"Fn::Equals": [{"Ref": f"{title}QuietHours"}, 0]}]}
    assert template["Conditions"][alarm["Condition"]] == none


def test_how_long_no_tick_may_come_can_be_chosen(template, resources):
    # GIVEN the alarm, and the periods of which an installation chooses
    alarm, chosen = resources["NothingArrivesAlarm"], template["Parameters"]["QuietPeriods"]
    assert alarm["Properties"]["EvaluationPeriods"] == {"Ref": "QuietPeriods"}
    # THEN it is half an hour where nothing is chosen
    assert chosen["Default"] * alarm["Properties"]["Period"] == 1800
    # AND none goes off between two runs of five minutes, or is longer than the day that CloudWatch looks back
    off, *lengths = chosen["AllowedValues"]
    assert min(lengths) * alarm["Properties"]["Period"] == 600
    assert max(lengths) * alarm["Properties"]["Period"] == 86_400
    # AND 0 leaves the alarm out
    assert off == 0
    assert template["Conditions"][alarm["Condition"]] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "QuietPeriods"}, 0]}]}


def test_the_alarm_on_unsent_alerts_reads_a_metric_that_the_function_reports(resources, capsys):
    alarm = resources["AlertsNotSentAlarm"]["Properties"]
    source = (Path(logs.__file__).parent / "events" / "batch.py").read_text(encoding="utf-8")
    assert f'"{alarm["MetricName"]}": failed' in source
    # WHEN the function reports a batch THEN the metric is there without dimensions, as the alarm asks for it
    logs.metrics(0, "7", {alarm["MetricName"]: 1}, {})
    directive = json.loads(capsys.readouterr().out)["_aws"]["CloudWatchMetrics"][0]
    assert directive["Namespace"] == alarm["Namespace"]
    assert [] in directive["Dimensions"]
    assert "Dimensions" not in alarm


def test_what_can_be_made_again_expires_and_the_record_never_does(template, resources):
    rules = resources["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    expiring = {rule["Prefix"]: rule["ExpirationInDays"]["Ref"] for rule in rules if "ExpirationInDays" in rule}
    days = {prefix: template["Parameters"][name]["Default"] for prefix, name in expiring.items()}
    assert days == {
        "raw/": 90,
        "quarantine/": 180,
        "labelled/arrived/": 30,
        "training/": 90,
        "candidates/": 90,
        "watch/": 365,
    }
    # GIVEN the keys that are read for good, however old THEN no rule touches them
    for key in (
        "validated/dt=", "labelled/rows/dt=", "labelled/watermark.json", "artifacts/", "ledger/", "config/", "stream/",
        "health/",
    ):  # fmt: skip
        assert not [prefix for prefix in days if key.startswith(prefix)], key
    # AND arrived rows outlive the time in which compaction looks for them, whatever is chosen
    least = template["Parameters"][expiring["labelled/arrived/"]]["MinValue"]
    assert least * 86_400 > labelled_rows.LATE.total_seconds()
    # AND a rule without a prefix removes only versions that were replaced
    for rule in rules:
        assert "Prefix" in rule or not rule.keys() & {"ExpirationInDays", "ExpirationDate"}


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


ALIAS_BYTES = """\
  PlaceholderVersion:
    Type: AWS::Lambda::Version
    DeletionPolicy: Retain
    UpdateReplacePolicy: Retain
    Properties:
      FunctionName: !Ref Function
      Description: placeholder

  LiveAlias:
    Type: AWS::Lambda::Alias
    Properties:
      FunctionName: !Ref Function
      FunctionVersion: !GetAtt PlaceholderVersion.Version
      Name: live
      Description: The promoted model; moved by promotion and rollback only

"""


def test_the_alias_and_its_version_never_change():
    # A change of one byte moves `live` to the placeholder at the next deployment of every user, or fails it.
    assert ALIAS_BYTES in deploy.TEMPLATE.read_text(encoding="utf-8")
    assert live_alias.ALIAS == "live"


def test_the_stack_policy_denies_updates_of_the_alias_and_its_version_only(resources):
    allow, deny = json.loads(deploy.POLICY.read_text(encoding="utf-8"))["Statement"]
    assert (allow["Effect"], allow["Action"], allow["Resource"]) == ("Allow", "Update:*", "*")
    protected = [
        name
        for name, item in resources.items()
        if item["Type"].startswith("AWS::Lambda::") and item["Type"].endswith(("Alias", "Version"))
    ]
    assert (deny["Effect"], deny["Action"]) == ("Deny", "Update:*")
    assert sorted(deny["Resource"]) == sorted(f"LogicalResourceId/{name}" for name in protected)
