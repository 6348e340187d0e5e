"""What docker-compose.yaml needs beside its images: the `.env` file, the login, the deployed stack's settings, health.

`python3 local/riskwatch_local/compose.py env` runs on the host before anything is installed, `health` in every
container every few seconds: like `login` they need the standard library only. `setup` deploys the stack to the embedded
AWS.
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

# Loopback and the other services are asked directly, whatever proxy the environment names.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ComposeError(RuntimeError):  # no RiskwatchError: the standard library is all that the host has
    """A command of the container form could not do its work; the message says what to do."""


def dotenv(aws_env: str | None = None) -> str:
    """Return the text of a `.env` file with new secrets.

    `aws_env` names the file with the settings of an AWS account; without it the embedded AWS is used.
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
    return "".join(f"{name}={value}\n" for name, value in values.items())


def write_dotenv(path: Path, aws_env: str | None = None) -> None:
    """Write `dotenv` to `path`, readable by its owner only. Raises ComposeError where the file exists."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        raise ComposeError(
            f"{path} exists and was left as it is: the databases were made with its secrets. "
            "Edit it; or remove it together with the volumes (`docker compose down --volumes`) to start afresh"
        ) from None
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(dotenv(aws_env))


def write_login(path: Path, environment: Mapping[str, str]) -> None:
    """Write the passwords file of Airflow's simple auth manager (mode 0600) with the password in AIRFLOW_PASSWORD."""
    password = environment.get("AIRFLOW_PASSWORD")
    if not password:
        raise ComposeError("AIRFLOW_PASSWORD is missing: set it in .env")
    with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump({USER: password}, file)


def setup(path: Path, environment: Mapping[str, str]) -> Outputs:
    """Deploy the stack to the embedded AWS and write the settings that follow from its outputs to `path`.

    Doing it again updates the stack. Raises ComposeError where the environment names no endpoint: an AWS account is
    never touched from here; and where the stack cannot be made.
    """
    endpoint = environment.get("AWS_ENDPOINT_URL")
    if not endpoint:
        raise ComposeError("AWS_ENDPOINT_URL is missing: this deploys to the embedded AWS only, see docs/compose.md")
    from riskwatch_infra.deploy import DeployError, deploy
    from riskwatch_ml.core import aws

    link = environment.get("RISKWATCH_AIRFLOW_URL", "")
    parameters = {"EndpointUrl": endpoint, "Link": f"{link.rstrip('/')}/" if link else ""}
    try:
        outputs = deploy(aws.client("cloudformation"), parameters=parameters, poll_s=0.2)
    except DeployError as error:
        raise ComposeError(str(error)) from error
    values = {name: getattr(outputs, name) for name in ("bucket", "stream", "table", "function")}
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()), encoding="utf-8")
    unfinished.replace(path)
    return outputs


def health(url: str, component: str | None = None) -> None:
    """Return if `url` answers; with `component`, if Airflow's health answer there calls it healthy.

    Raises ComposeError otherwise.
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
        raise ComposeError(f"{url} says nothing about {component}") from error
    if status != "healthy":
        raise ComposeError(f"{component} is {status}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    chosen = _parser().parse_args(arguments)
    try:
        if chosen.command == "env":
            write_dotenv(chosen.file, chosen.aws_env)
            print(f"Wrote {chosen.file}. Airflow's login is {USER}; the password is AIRFLOW_PASSWORD in that file.")
        elif chosen.command == "login":
            write_login(chosen.file, os.environ)
        elif chosen.command == "setup":
            outputs = setup(chosen.file, os.environ)
            print(f"Wrote {chosen.file}: bucket {outputs.bucket}, function {outputs.function}")
        else:
            health(chosen.url, chosen.component)
    except (ComposeError, OSError) as error:
        print(f"riskwatch: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m riskwatch_local.compose", description="The container form's own commands."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    env = commands.add_parser("env", help="write the .env file with new secrets")
    env.add_argument("--aws-env", help="file with the settings of an AWS account (default: the embedded AWS)")
    env.add_argument("--file", type=Path, default=Path(".env"), help="the file to write (default: .env)")
    login = commands.add_parser("login", help="write Airflow's passwords file from AIRFLOW_PASSWORD")
    login.add_argument("file", type=Path)
    deploy = commands.add_parser("setup", help="deploy the stack to the embedded AWS and write the settings")
    deploy.add_argument("file", type=Path)
    check = commands.add_parser("health", help="end with 0 if a URL answers, or an Airflow component is healthy")
    check.add_argument("url")
    check.add_argument("component", nargs="?")
    return parser


if __name__ == "__main__":
    sys.exit(main())
