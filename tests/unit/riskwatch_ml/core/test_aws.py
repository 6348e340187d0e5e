"""AWS clients: one per service and process, made again after the environment has changed."""

import os

import pytest

from riskwatch_ml.core import aws


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name, value in (("ACCESS_KEY_ID", "test"), ("SECRET_ACCESS_KEY", "test"), ("DEFAULT_REGION", "eu-west-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    aws.clear_clients()
    yield
    aws.clear_clients()


def test_a_process_has_one_client_of_a_service():
    # GIVEN / WHEN / THEN
    assert aws.client("s3") is aws.client("s3")
    assert aws.client("s3") is not aws.client("kinesis")


def test_a_forked_process_makes_its_own_client(monkeypatch):
    # GIVEN
    parent = aws.client("s3")

    # WHEN the process id is another one
    monkeypatch.setattr(os, "getpid", lambda: -1)

    # THEN
    assert aws.client("s3") is not parent


def test_a_new_endpoint_is_used_after_the_clients_are_dropped(monkeypatch):
    # GIVEN a client, then another endpoint in the environment
    old = aws.client("s3")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")

    # WHEN
    aws.clear_clients()

    # THEN
    assert aws.client("s3").meta.endpoint_url == "http://127.0.0.1:4566" != old.meta.endpoint_url
