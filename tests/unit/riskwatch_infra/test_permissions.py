"""Who may do what: the actions that the template grants are the operations that the code calls, no fewer and no more.

The operations are found in the source: every method of a boto3 client, every paginator and every waiter. botocore's own
models say which operation each one sends.
"""

import ast
import json
import re
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name

from riskwatch_infra import deploy
from riskwatch_lambda.episodes import paging_settings
from riskwatch_ml.schema import catalogue
from riskwatch_ml.storage import keys

ROOT = deploy.TEMPLATE.parents[2]
FUNCTION = ("lambda/riskwatch_lambda",)
AIRFLOW = ("plugins", "dags", "ml")

# The services whose clients these sources make.
SERVICES = (
    "s3",
    "dynamodb",
    "sns",
    "sqs",
    "kinesis",
    "cloudwatch",
    "lambda",
    "resourcegroupstaggingapi",
    "logs",
    "sts",
)

# Names that a client and something else share, and which of the two they are: (file, method).
NOT_AWS = {("stream_metrics.py", "publish")}

# Methods that boto3 adds to its clients; which operations they send is in no model.
INJECTED = {"upload_file", "upload_fileobj", "download_file", "download_fileobj", "generate_presigned_url"}

# Where the action is not service:Operation. Every entry of TransactWriteItems is an Update here.
ACTIONS = {
    "resourcegroupstaggingapi:GetResources": "tag:GetResources",
    "s3:ListObjectsV2": "s3:ListBucket",
    "lambda:Invoke": "lambda:InvokeFunction",
    "dynamodb:TransactWriteItems": "dynamodb:UpdateItem",
}

# What Lambda itself does with the function's role: it reads the stream, gives batches up and writes logs.
OF_LAMBDA = {
    "kinesis:DescribeStream",
    "kinesis:DescribeStreamSummary",
    "kinesis:ListShards",
    "kinesis:GetShardIterator",
    "kinesis:GetRecords",
    "sqs:SendMessage",
    "logs:CreateLogStream",
    "logs:PutLogEvents",
}


# What trainings do through the table module of the function.
OF_THE_TABLE = {"dynamodb:BatchGetItem", "dynamodb:UpdateItem"}


@cache
def operations():
    """Return method name -> (service, operation) of every client, and the same for its waiters."""
    session = botocore.session.get_session()
    methods, waiters = {}, {}
    for service in SERVICES:
        for name in session.get_service_model(service).operation_names:
            methods.setdefault(xform_name(name), []).append((service, name))
        try:
            model = session.get_waiter_model(service)
        except botocore.exceptions.UnknownServiceError:
            continue
        for name in model.waiter_names:
            waiters[xform_name(name)] = (service, model.get_waiter(name).operation)
    return methods, waiters


def texts(call):
    return [item.value for item in call.args[:1] if isinstance(item, ast.Constant) and isinstance(item.value, str)]


def called(source, file=""):
    """Return the actions that a source needs."""
    methods, waiters = operations()
    found = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        assert name not in INJECTED, f"{file}: {name} is unknown to this test: use the operation itself"
        if name == "get_waiter":
            found.update(waiters[text] for text in texts(node))
            continue
        # A method may be called by its name, as a paginator is.
        for method in (name, *texts(node)) if name in ("get_paginator", "_call") else (name,):
            if (file, method) in NOT_AWS:
                continue
            known = methods.get(method, [])
            assert len(known) < 2, f"{file}: {method} is an operation of {known}: say in this test which is meant"
            found.update(known)
    return {ACTIONS.get(f"{service}:{name}", f"{service}:{name}") for service, name in found}


def needed(folders):
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    assert len(files) > 5, "these folders hold no code"
    return set().union(*(called(path.read_text(encoding="utf-8"), path.name) for path in files))


def granted(document):
    actions = [item["Action"] for item in document["Statement"] if item["Effect"] == "Allow"]
    return {action for each in actions for action in (each if isinstance(each, list) else [each])}


def test_the_function_may_do_what_it_does_and_nothing_else(resources):
    policy = granted(resources["FunctionRole"]["Properties"]["Policies"][0]["PolicyDocument"])
    assert policy == needed(FUNCTION) | OF_LAMBDA
    # The table of what Lambda does itself must not hide an operation of the code.
    assert not needed(FUNCTION) & OF_LAMBDA


def test_the_dags_and_pages_may_do_what_they_do_and_nothing_else(resources):
    assert granted(resources["AirflowPolicy"]["Properties"]["PolicyDocument"]) == needed(AIRFLOW) | OF_THE_TABLE


def test_the_dags_write_the_settings_of_paging_into_the_table_and_no_episode(resources):
    # GIVEN the statements that let the tasks write to the table
    statements = resources["AirflowPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    writing = [statement for statement in statements if "dynamodb:UpdateItem" in statement["Action"]]

    # THEN there is one, for the partition of these settings alone
    condition = {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": [paging_settings.PARTITION]}}
    assert [statement["Condition"] for statement in writing] == [condition]


TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
KINDS = catalogue.load_all(("ec2", "rds"))
ID, CHECKSUM = "20261122T100000Z", "ab" * 32
# A key of each kind that the DAGs and the commands write, and of each kind that they only read.
WRITTEN = (
    *(keys.hour_key(layer, TEN) for layer in (keys.RAW, keys.VALIDATED, keys.QUARANTINE, keys.REFUSED_VALUES)),
    *(keys.hour_key(keys.LABELLED_ROWS, TEN), keys.COMPACTION_MARK, keys.tagged("eu-west-1")),
    *(keys.vanished("default", kind) for kind in KINDS),
    *(keys.hour_key(keys.of_kind(keys.RAW, kind), TEN) for kind in KINDS),
    *(keys.STREAM_MARK, keys.LAST_SEEN, keys.SERVING, keys.training_rows(ID)),
    *(keys.REPORTED_HEALTH, keys.REPORTED_UNREADABLE),
    *(keys.candidate(ID, "kmeans"), keys.candidate_summary(keys.candidate(ID, "kmeans")), keys.ranking(ID)),
    *(keys.contest(ID), keys.artifact(CHECKSUM), keys.ledger_entry(TEN, "promote", CHECKSUM), keys.report(TEN)),
    *(keys.data_docs(TEN, TEN, "default"), f"{keys.hour_prefix(keys.REFUSED, TEN)}a.json.gz"),
    keys.resent(f"{keys.hour_prefix(keys.REFUSED, TEN)}a.json.gz"),
)
READ_ONLY = (f"{keys.hour_prefix(keys.ARRIVED, TEN)}a.json.gz", keys.INVENTORY, "anything", "labelled/other.json")


def writers(document):
    """Return the key patterns under which a policy allows PutObject."""
    return [
        resource["Fn::Sub"].removeprefix("${Bucket.Arn}/")
        for item in document["Statement"]
        if "s3:PutObject" in granted({"Statement": [item]})
        for resource in (item["Resource"] if isinstance(item["Resource"], list) else [item["Resource"]])
    ]


def test_the_dags_write_only_under_the_prefixes_that_they_write(resources):
    patterns = writers(resources["AirflowPolicy"]["Properties"]["PolicyDocument"])

    # GIVEN / WHEN / THEN
    def may_write(key):
        return any(fnmatchcase(key, pattern) for pattern in patterns)

    assert [key for key in WRITTEN if not may_write(key)] == []
    assert [key for key in READ_ONLY if may_write(key)] == []
    # AND no pattern is left over, but that of MLflow, which the settings of the container form may place here
    used = {pattern for pattern in patterns for key in WRITTEN if fnmatchcase(key, pattern)}
    assert set(patterns) - used == {"mlflow/*"}


def test_the_policy_of_the_dags_fits_into_what_iam_allows(resources):
    # GIVEN the longest name of a stack, in a region with a long name
    arn = f"arn:aws-us-gov:service:ap-southeast-2:123456789012:{'n' * 26}-123456789012-ap-southeast-2"
    text = json.dumps(resources["AirflowPolicy"]["Properties"]["PolicyDocument"], separators=(",", ":"))

    # WHEN each reference is an ARN
    text = re.sub(r'\{"(?:Ref|Fn::GetAtt|Fn::Sub)":"(?:\$\{[A-Za-z.]+\})?([^"]*)"\}', rf'"{arn}\1"', text)

    # THEN a managed policy has at most 6,144 characters
    assert text.count(arn) > 25
    assert len(text) <= 6_144


def test_every_prefix_of_the_bucket_is_in_this_test():
    constants = {value for name, value in vars(keys).items() if name.isupper() and isinstance(value, str)}
    known = (*WRITTEN, *READ_ONLY)
    assert [value for value in constants if not any(key.startswith(value) for key in known)] == []


def test_ledger_and_artifacts_are_created_and_never_overwritten(resources):
    # GIVEN the statement of the bucket's policy that no permission of a role outweighs
    statements = resources["BucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    (denied,) = [item for item in statements if item["Action"] == "s3:PutObject"]

    # THEN a PUT without If-None-Match is denied to all
    assert (denied["Effect"], denied["Principal"]) == ("Deny", "*")
    assert denied["Condition"] == {"Null": {"s3:if-none-match": "true"}}
    kept = [resource["Fn::Sub"].partition("${Bucket}/")[2] for resource in denied["Resource"]]
    for key in (keys.ledger_entry(TEN, "promote", CHECKSUM), keys.artifact(CHECKSUM)):
        assert any(fnmatchcase(key, pattern) for pattern in kept)
    assert not any(fnmatchcase(key, pattern) for key in WRITTEN[:10] for pattern in kept)
    # AND the DAGs may delete none of them
    policy = resources["AirflowPolicy"]["Properties"]["PolicyDocument"]
    deletable = next(item["Resource"] for item in policy["Statement"] if item["Action"] == "s3:DeleteObject")
    assert not [item for item in deletable if item["Fn::Sub"].endswith(("/ledger/*", "/artifacts/*", "Arn}/*"))]


@pytest.mark.parametrize(
    ("path", "count"),
    [
        ("ml/riskwatch_ml/registry/ledger.py", 1),
        ("ml/riskwatch_ml/registry/reconcile.py", 1),
        ("plugins/riskwatch_airflow/tasks/promote.py", 1),
    ],
)
def test_whoever_writes_the_record_asks_for_a_new_object(path, count):
    # GIVEN the calls that write ledger entries and artifacts in service
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    puts = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "attr", "") == "put_bytes"]

    # WHEN / THEN
    assert len(puts) == count
    for call in puts:
        assert [word.value.value for word in call.keywords if word.arg == "if_absent"] == [True]


def test_the_reader_of_another_account_may_do_what_the_hook_does_there(load):
    # GIVEN the template for further accounts, and the modules that work with the credentials of its role
    role = load(deploy.TEMPLATE.with_name("reader.yaml"))["Resources"]["Reader"]["Properties"]
    sources = ("plugins/riskwatch_airflow/hooks/cloudwatch.py", "ml/riskwatch_ml/ingest/reader.py")

    # WHEN / THEN
    wanted = set().union(*(called((ROOT / path).read_text(encoding="utf-8"), path) for path in sources))
    assert granted(role["Policies"][0]["PolicyDocument"]) == wanted
    # The name is the one that the stack lets Airflow assume.
    assert role["RoleName"] == "riskwatch-reader"
    assert "role/riskwatch-reader" in deploy.TEMPLATE.read_text(encoding="utf-8")


def test_every_write_of_a_transaction_is_an_update():
    source = (ROOT / "lambda/riskwatch_lambda/table.py").read_text(encoding="utf-8")
    kinds = {text for text in ("Put", "Update", "Delete", "ConditionCheck") if f'{{"{text}":' in source}
    assert kinds == {"Update"}


def test_every_client_that_is_made_is_one_this_test_looks_at():
    known = set(botocore.session.get_session().get_available_services())
    made = set()
    for folder in (*FUNCTION, *AIRFLOW):
        for path in Path(ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    of = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                    values = [*node.args, *(word.value for word in node.keywords if word.arg == "client_type")]
                    if of in ("client", "AwsGenericHook"):
                        made |= {v.value for v in values if isinstance(v, ast.Constant) and v.value in known}
    assert {"s3", "kinesis", "lambda", "dynamodb"} <= made <= set(SERVICES)


@pytest.mark.parametrize(
    ("source", "actions"),
    [
        ("client.put_object(Bucket=b)", {"s3:PutObject"}),
        ("self.client.get_paginator('list_objects_v2')", {"s3:ListBucket"}),
        ("lambda_client.get_waiter('function_updated_v2')", {"lambda:GetFunction"}),
        ("self._call('transact_write_items', TransactItems=[])", {"dynamodb:UpdateItem"}),
        ("rows.sort_values('put_item')", set()),
    ],
)
def test_the_scan_finds_calls_however_they_are_made(source, actions):
    assert called(source) == actions
