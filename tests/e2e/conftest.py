"""An embedded AWS for each module that needs one, with this process as its client."""

import os

import boto3
import pytest

from riskwatch_infra import deploy
from riskwatch_local.services.embedded_aws import EmbeddedAws
from riskwatch_local.services.supervisor import Supervisor
from riskwatch_ml.core import aws as clients
from riskwatch_ml.core import settings


@pytest.fixture(scope="module")
def supervisor():
    with Supervisor() as running:
        yield running


@pytest.fixture(scope="module")
def aws(supervisor, tmp_path_factory, restored_environment):
    """An empty server; this process is a client of it and of nothing else, and has no setting of Riskwatch."""
    server = EmbeddedAws.start(supervisor, tmp_path_factory.mktemp("aws"))
    for name in [name for name in os.environ if name.startswith(("AWS_", "RISKWATCH_")) and "_TEST_" not in name]:
        del os.environ[name]
    os.environ.update(server.environment())
    settings.load.cache_clear()
    clients.clear_clients()
    return server


@pytest.fixture(scope="module")
def stack(aws):
    """The stack, deployed on the server of the module."""
    return deploy.deploy(
        boto3.client("cloudformation"), boto3.client("lambda"), parameters={"EndpointUrl": aws.endpoint}, poll_s=0.05
    )
