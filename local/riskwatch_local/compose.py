"""Commands of the container set-up: secrets, login, deployment, health.

`env` runs on the host before anything is installed, as `python3 local/riskwatch_local/compose.py env`. `health` runs in
every container every few seconds. These two and `login` need only the standard library. `setup` deploys the stack to
the embedded AWS.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import secrets
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from riskwatch_infra.deploy import Outputs

USER = "riskwatch"
EMBEDDED_ENV = "local/embedded-aws.env"
HEALTH_TIMEOUT_S = 8.0

# Requests to loopback and to the other services ignore the proxy that the environment names.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ComposeError(RuntimeError):  # no RiskwatchError: the host has only the standard library
    """A command of the container set-up failed; the message says what to do."""


def dotenv(aws_env: str | None = None) -> str:
    """Return the text of a `.env` file with new secrets.

    `aws_env` names the file with the settings of an AWS account; without it, the embedded AWS is used.
    """
    values = {
        "COMPOSE_PROFILES": "" if aws_env else "embedded",
        "RISKWATCH_AWS_ENV": aws_env or EMBEDDED_ENV,
        "POSTGRES_PASSWORD": secrets.token_hex(24),
        "AIRFLOW_PASSWORD": secrets.token_urlsafe(12),
        # A Fernet key: 32 random bytes in URL-safe base64.
        "AIRFLOW_FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "AIRFLOW_API_SECRET_KEY": secrets.token_hex(32),
        "AIRFLOW_JWT_SECRET": secrets.token_hex(64),
    }
    if not aws_env:
        values["EMBEDDED_AWS_ACCESS_KEY"] = secrets.token_hex(16)
    return "".join(f"{name}={value}\n" for name, value in values.items())


def write_dotenv(path: Path, aws_env: str | None = None) -> None:
    """Write `dotenv` to `path`, readable by its owner only.

    Raises ComposeError if the file exists.
    """
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        raise ComposeError(
            f"{path} exists and was left unchanged: the databases use its secrets. Edit it, or remove it together with "
            "the volumes (`docker compose down --volumes`) to start with empty databases"
        ) from None
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(dotenv(aws_env))


def write_login(path: Path, environment: Mapping[str, str]) -> None:
    """Write the passwords file of Airflow's simple auth manager (mode 0600).

    The password is AIRFLOW_PASSWORD of `environment`. Raises ComposeError if it is missing.
    """
    password = environment.get("AIRFLOW_PASSWORD")
    if not password:
        raise ComposeError("AIRFLOW_PASSWORD is missing: set it in .env")
    with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump({USER: password}, file)


def setup(path: Path, environment: Mapping[str, str]) -> Outputs:
    """Deploy the stack to the embedded AWS and write its settings to `path`.

    A second call updates the stack. Raises ComposeError if the environment names no endpoint, because this command
    never deploys to an AWS account, or if the deployment fails.
    """
    endpoint = environment.get("AWS_ENDPOINT_URL")
    if not endpoint:
        raise ComposeError("AWS_ENDPOINT_URL is missing: this deploys to the embedded AWS only, see docs/compose.md")
    from riskwatch_infra.deploy import DeployError, deploy
    from riskwatch_ml.core import aws

    link = environment.get("RISKWATCH_AIRFLOW_URL", "")
    parameters = {"EndpointUrl": endpoint, "Link": f"{link.rstrip('/')}/" if link else ""}
    try:
        outputs = deploy(aws.client("cloudformation"), aws.client("lambda"), parameters=parameters, poll_s=0.2)
    except DeployError as error:
        raise ComposeError(str(error)) from error
    values = {
        name: getattr(outputs, name) for name in ("bucket", "stream", "table", "function", "operations_topic_arn")
    }
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()), encoding="utf-8")
    unfinished.replace(path)
    return outputs


def health(url: str, component: str | None = None) -> None:
    """Check that `url` answers, or that Airflow reports `component` as healthy.

    With `component`, `url` is Airflow's health endpoint. Raises ComposeError otherwise.
    """
    try:
        with _opener.open(url, timeout=HEALTH_TIMEOUT_S) as response:
            body = response.read()
    except (OSError, urllib.error.URLError) as error:
        raise ComposeError(f"{url} does not answer: {error}") from error
    if component is None:
        return
    try:
        status = json.loads(body)[component]["status"]
    except (ValueError, KeyError, TypeError) as error:
        raise ComposeError(f"the answer of {url} has no status of {component}") from error
    if status != "healthy":
        raise ComposeError(f"{component} is {status}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "env":
            write_dotenv(options.file, options.aws_env)
            print(f"Wrote {options.file}. Airflow's login is {USER}; the password is AIRFLOW_PASSWORD in that file.")
        elif options.command == "login":
            write_login(options.file, os.environ)
        elif options.command == "setup":
            outputs = setup(options.file, os.environ)
            print(f"Wrote {options.file}: bucket {outputs.bucket}, function {outputs.function}")
        else:
            health(options.url, options.component)
    except (ComposeError, OSError) as error:
        print(f"riskwatch: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m riskwatch_local.compose", description="Commands of the container set-up."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    env = commands.add_parser("env", help="write the .env file with new secrets")
    env.add_argument("--aws-env", help="file with the settings of an AWS account (default: the embedded AWS)")
    env.add_argument("--file", type=Path, default=Path(".env"), help="the file to write (default: .env)")
    login = commands.add_parser("login", help="write Airflow's passwords file from AIRFLOW_PASSWORD")
    login.add_argument("file", type=Path)
    deploy = commands.add_parser("setup", help="deploy the stack to the embedded AWS and write the settings")
    deploy.add_argument("file", type=Path)
    check = commands.add_parser("health", help="exit with 0 if a URL answers or an Airflow component is healthy")
    check.add_argument("url")
    check.add_argument("component", nargs="?")
    return parser


if __name__ == "__main__":
    sys.exit(main())
