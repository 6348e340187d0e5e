"""The environment of the embedded AWS: clients get no setting of the user's own account."""

import pytest

from riskwatch_local.services import embedded_aws


def test_the_client_environment_replaces_every_aws_setting():
    # GIVEN a shell that is set up for a real account
    shell = {
        "PATH": "/bin",
        "AWS_PROFILE": "production",
        "AWS_SESSION_TOKEN": "secret",
        "AWS_ENDPOINT_URL_S3": "https://s3.example",
        "HTTP_PROXY": "http://proxy:3128",
        "NO_PROXY": "internal",
    }
    # WHEN the environment for a client is made
    environment = embedded_aws.client_environment("http://127.0.0.1:4566", "key", shell)
    # THEN only the embedded AWS remains, and loopback is asked without the proxy
    assert environment["PATH"] == "/bin"
    assert environment["AWS_ENDPOINT_URL"] == "http://127.0.0.1:4566"
    assert environment["AWS_ACCESS_KEY_ID"] == "key"
    assert {"AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"}.isdisjoint(environment)
    assert environment["NO_PROXY"] == "internal,127.0.0.1,localhost"


def test_an_absent_installation_says_what_to_run(tmp_path):
    with pytest.raises(embedded_aws.EmbeddedAwsError, match="make install"):
        embedded_aws.command(tmp_path)
