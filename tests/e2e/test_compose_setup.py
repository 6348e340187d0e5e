"""The one-shot of the container form, as its command line, against an embedded AWS with the containers' settings."""

import json
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
import yaml

from riskwatch_local import compose
from riskwatch_local.services import ports
from riskwatch_local.services.embedded_aws import client_environment, command, new_access_key
from riskwatch_local.services.supervisor import Supervisor
from riskwatch_ml.core import settings

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
KEY = new_access_key()
SERVICES = yaml.safe_load((ROOT / "docker-compose.yaml").read_text(encoding="utf-8"))["services"]


@pytest.fixture
def endpoint(tmp_path):
    """A server with the container's own environment, except its folders, its port and the interface."""
    port = ports.free_port()
    environment = {
        **client_environment(f"http://127.0.0.1:{port}", KEY),
        **{
            key: value.replace("/var/lib/riskwatch/aws", str(tmp_path / "aws"))
            for key, value in SERVICES["embedded-aws"]["environment"].items()
        },
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "TMPDIR": str(tmp_path),
    }
    (tmp_path / "aws").mkdir()
    with Supervisor() as supervisor:
        child = supervisor.start("the embedded AWS", command(), env=environment, log=tmp_path / "aws.log")
        child.wait_healthy(f"http://127.0.0.1:{port}/_ministack/health", 60)
        yield f"http://127.0.0.1:{port}"


def test_it_deploys_the_stack_and_writes_settings_that_can_be_loaded(endpoint, tmp_path, monkeypatch):
    # GIVEN the command of the service, with the folder of its volume here
    *words, path = SERVICES["embedded-aws-setup"]["command"]
    written = tmp_path / Path(path).name
    environment = {**client_environment(endpoint, KEY), "RISKWATCH_AIRFLOW_URL": "http://127.0.0.1:8080"}
    # WHEN it runs twice, as it does at every `docker compose up`
    texts = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, *words[1:], str(written)], env=environment, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        texts.append(written.read_text())
    assert texts[0] == texts[1]
    # THEN the containers' settings are complete
    for key, value in SERVICES["scheduler"]["environment"].items():
        if key.startswith("RISKWATCH_"):
            monkeypatch.setenv(key, value)
    monkeypatch.setenv("RISKWATCH_CONFIG", str(written))
    settings.load.cache_clear()
    loaded = settings.load()
    settings.load.cache_clear()
    assert loaded.mlflow_uri == "http://mlflow:5000"
    # ... and name a bucket and a function that are there; the function is told the endpoint and the link
    client = {
        "endpoint_url": endpoint,
        "aws_access_key_id": KEY,
        "aws_secret_access_key": "unused",
        "region_name": "us-east-1",
    }
    boto3.client("s3", **client).head_bucket(Bucket=loaded.bucket)
    function = boto3.client("lambda", **client)
    variables = function.get_function_configuration(FunctionName=loaded.function)["Environment"]["Variables"]
    assert variables["AWS_ENDPOINT_URL"] == endpoint
    assert variables["RISKWATCH_LINK"] == "http://127.0.0.1:8080/"
    answer = function.invoke(FunctionName=f"{loaded.function}:live", Payload=b'{"selftest": {}}')
    assert json.load(answer["Payload"]) == {"model_id": None}


def test_a_server_that_is_not_there_is_one_message(tmp_path, monkeypatch, capsys):
    from riskwatch_ml.core import aws

    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{ports.free_port()}")
    for key, value in {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    aws.clear_clients()
    try:
        assert compose.main(["setup", str(tmp_path / "riskwatch.toml")]) == 1
    finally:
        aws.clear_clients()
    assert "stack riskwatch" in capsys.readouterr().err
    assert not (tmp_path / "riskwatch.toml").exists()
