"""The CloudWatch hook: its client, and the role that it assumes."""

from datetime import UTC, datetime, timedelta

import boto3
import pytest
from botocore.config import Config
from botocore.stub import Stubber

from riskwatch_airflow.hooks.cloudwatch import CloudWatchMetricsHook
from riskwatch_ml.core import aws
from riskwatch_ml.core.accounts import AccountRegion
from riskwatch_ml.ingest.reader import ForbiddenError

ROLE = "arn:aws:iam::123456789012:role/riskwatch-reader"


def test_the_hook_is_the_providers_with_long_reads():
    # GIVEN / WHEN
    made = CloudWatchMetricsHook(aws_conn_id=None)

    # THEN
    assert made.client_type == "cloudwatch"
    assert made.config.read_timeout == 180


@pytest.fixture
def sts(monkeypatch):
    """A session whose STS answers what the test gives."""
    session = boto3.session.Session("own", "secret", region_name="eu-west-1")
    client = session.client("sts", config=Config(retries={"max_attempts": 1}))
    monkeypatch.setattr(boto3.session.Session, "client", lambda self, name, **_: client)
    with Stubber(client) as stubber:
        yield stubber, session


def test_a_role_is_assumed_and_renewed(sts):
    # GIVEN credentials that are about to expire, then others
    answers, session = sts
    soon, later = datetime.now(UTC) + timedelta(seconds=30), datetime.now(UTC) + timedelta(hours=1)
    for key, expires in (("first" * 4, soon), ("second" * 3, later)):
        credentials = {"AccessKeyId": key, "SecretAccessKey": "s", "SessionToken": "t", "Expiration": expires}
        answers.add_response(
            "assume_role", {"Credentials": credentials}, {"RoleArn": ROLE, "RoleSessionName": "riskwatch"}
        )

    # WHEN
    made = aws.session_in_role(session, ROLE)

    # THEN using them asks for new ones
    assert made.region_name == "eu-west-1"
    assert made.get_credentials().get_frozen_credentials().access_key == "second" * 3
    answers.assert_no_pending_responses()


def test_a_role_that_may_not_be_assumed_is_named(sts, monkeypatch):
    # GIVEN
    answers, session = sts
    answers.add_client_error("assume_role", "AccessDenied", "not you", 403)
    monkeypatch.setattr("airflow.providers.amazon.aws.hooks.base_aws.AwsGenericHook.get_session", lambda *_: session)

    # WHEN / THEN
    with pytest.raises(ForbiddenError, match=f"sts:AssumeRole of {ROLE} is not allowed .not you.: allow it"):
        CloudWatchMetricsHook(aws_conn_id=None, account_region=AccountRegion(ROLE)).get_session()
