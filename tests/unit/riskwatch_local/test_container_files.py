"""The container set-up against the native one: same commands and settings, nothing published, no secret, no compiler.

These tests read files only; they start no container engine.
"""

import os
import re
import tomllib
from dataclasses import MISSING, fields
from pathlib import Path
from unittest import mock

import pytest
import yaml
from botocore.session import Session

from riskwatch_local import compose
from riskwatch_local.services import airflow_components, embedded_aws, mlflow_server
from riskwatch_ml.core.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
FILE = yaml.safe_load((ROOT / "docker-compose.yaml").read_text(encoding="utf-8"))
SERVICES = FILE["services"]
ONE_SHOT = {"airflow-migrate", "airflow-login", "embedded-aws-setup"}
AIRFLOW = ("airflow-migrate", *airflow_components.COMPONENTS)
KEY = "${EMBEDDED_AWS_ACCESS_KEY:?add it to .env with a random value of letters and digits}"
REQUIRED = re.compile(r"^\$\{[A-Z_]+:\?[^}]+\}$")
STAGE = re.compile(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", re.MULTILINE | re.DOTALL)
STAGES = dict(STAGE.findall((ROOT / "Dockerfile").read_text(encoding="utf-8")))


def strings(node):
    """Every string of a parsed YAML tree."""
    if isinstance(node, dict):
        return [text for key, value in node.items() for text in [str(key), *strings(value)]]
    if isinstance(node, list):
        return [text for value in node for text in strings(value)]
    return [node] if isinstance(node, str) else []


def without_values(command):
    """A command line with its program by name, and without the values that differ: hosts, ports, locations."""
    differing = {"--host", "--port", "--backend-store-uri", "--artifacts-destination", "--allowed-hosts"}
    words = [re.sub(r"^python[\d.]*$", "python", Path(command[0]).name), *command[1:]]
    return ["…" if number and words[number - 1] in differing else word for number, word in enumerate(words)]


def env_file(service):
    """The variables of a service's env files, those of the embedded AWS where the user chooses the file."""
    lines = (ROOT / compose.EMBEDDED_ENV).read_text(encoding="utf-8").splitlines()
    assert len(service["env_file"]) == 1
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


# --- Commands and settings are those of the native form ---------------------------------------------------------------


@pytest.mark.parametrize("name", airflow_components.COMPONENTS)
def test_airflow_components_are_started_as_the_demo_starts_them(name):
    assert without_values(SERVICES[name]["command"]) == without_values(airflow_components.component(name))


def test_migration_and_mlflow_and_embedded_aws_are_started_as_the_demo_starts_them(tmp_path):
    migrate = airflow_components.command("db", "migrate")
    assert without_values(SERVICES["airflow-migrate"]["command"]) == without_values(migrate)
    native = mlflow_server.command(tmp_path, 5000)
    assert without_values(SERVICES["mlflow"]["command"]) == without_values(native)
    (tmp_path / ".venv-aws" / "lib" / "python3.11" / "site-packages" / "ministack").mkdir(parents=True)
    *words, script = without_values(embedded_aws.command(tmp_path))
    assert SERVICES["embedded-aws"]["command"] == [*words, f"/opt/riskwatch/{Path(script).name}"]
    assert f"COPY local/riskwatch_local/services/{Path(script).name} /opt/riskwatch/" in STAGES["embedded-aws"]


def test_own_commands_exist():
    # GIVEN every command line and health check that calls riskwatch_local.compose
    lines = [service.get("command", []) for service in SERVICES.values()]
    lines += [service["healthcheck"]["test"][1:] for service in SERVICES.values() if "healthcheck" in service]
    own = [line[3:] for line in lines if line[:3] == ["python", "-m", "riskwatch_local.compose"]]
    # THEN its parser takes each of them
    assert {compose._parser().parse_args(line).command for line in own} == {"login", "setup", "health"}


def test_airflow_has_the_demo_s_settings(tmp_path):
    # GIVEN what a native component is given, and what every Airflow service is given
    native = airflow_components.environment(tmp_path, 8080)
    environments = [SERVICES[name]["environment"] for name in AIRFLOW]
    # THEN all services have the same environment, keys included, ...
    assert all(environment == environments[0] for environment in environments)
    ours = environments[0]
    # ... nothing is left out, and what does not name a place, an address or a secret is equal
    assert set(native) <= set(ours)
    for key, value in native.items():
        if not re.search(r"HOME|FOLDER|FILE|HOST|PORT|URL|SECRET|SQL_ALCHEMY_CONN", key):
            assert ours[key] == value, key
    assert ours["AIRFLOW__CORE__HOSTNAME_CALLABLE"] == native["AIRFLOW__CORE__HOSTNAME_CALLABLE"]
    assert ours["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"].split(":")[0] == compose.USER == airflow_components.USER


def test_mlflow_has_the_demo_s_settings_and_admits_its_own_name():
    assert mlflow_server.environment().items() <= SERVICES["mlflow"]["environment"].items()
    command = SERVICES["mlflow"]["command"]
    assert "mlflow:5000" in command[command.index("--allowed-hosts") + 1].split(",")
    assert SERVICES["scheduler"]["environment"]["RISKWATCH_MLFLOW_URI"] == "http://mlflow:5000"


def test_the_embedded_aws_has_the_demo_s_settings():
    # GIVEN the environment of a native server that keeps its state, started from an empty one
    with mock.patch.dict(os.environ, clear=True):
        client = embedded_aws.client_environment("http://embedded-aws:4566", KEY)
        native = embedded_aws._server_environment(Path("/state"), 4566, client, True)
    ours = {**SERVICES["embedded-aws"]["environment"], **env_file(SERVICES["embedded-aws"])}
    # THEN nothing is left out, and what does not name a place or an address is equal
    assert set(native) - {"NO_PROXY", "no_proxy"} == set(ours) - {"RISKWATCH_CONFIG"}
    for key in set(native) & set(ours) - {"STATE_DIR", "S3_DATA_DIR", "TMPDIR", "DOCKER_HOST"} - {
        "BIND_HOST",
        "MINISTACK_HOST",
    }:
        assert ours[key] == native[key], key
    assert SERVICES["embedded-aws"]["stop_grace_period"] == f"{embedded_aws.PERSIST_GRACE_S:.0f}s"


def test_clients_of_the_embedded_aws_ask_for_buckets_by_path(monkeypatch):
    # GIVEN the client settings of the containers
    settings = env_file(SERVICES["scheduler"])
    assert embedded_aws.client_settings("http://embedded-aws:4566", KEY).items() <= settings.items()
    for key in [key for key in os.environ if key.startswith("AWS_")]:
        monkeypatch.delenv(key)
    for key, value in settings.items():
        monkeypatch.setenv(key, value)
    # WHEN a client addresses an object THEN its host is the service: a name below it would not resolve
    client = Session().create_client("s3")
    url = client.generate_presigned_url("get_object", Params={"Bucket": "riskwatch", "Key": "a"})
    assert url.startswith("http://embedded-aws:4566/riskwatch/a?")


# --- Safe by default --------------------------------------------------------------------------------------------------


def test_ports_are_published_on_loopback_only():
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"api-server", "mlflow"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert not any("network_mode" in service or service.get("privileged") for service in SERVICES.values())


def test_no_secret_is_written_down():
    # GIVEN every variable that holds a secret by its name
    secret = re.compile(r"PASSWORD$|SECRET$|_KEY$")
    values = {
        (name, key): value
        for name, service in SERVICES.items()
        for key, value in service.get("environment", {}).items()
        if secret.search(key)
    }
    assert len(values) > 10
    # THEN each is required from outside, by what `env` writes and nothing else
    assert [place for place, value in values.items() if not REQUIRED.match(value)] == []
    settings = (ROOT / compose.EMBEDDED_ENV).read_text(encoding="utf-8")
    required = set(re.findall(r"\$\{([A-Z_]+):\?", "\n".join([*strings(SERVICES), settings])))
    written = dict(line.split("=", 1) for line in compose.dotenv().splitlines())
    assert required == set(written) - {"COMPOSE_PROFILES"}
    assert not any(re.search(r"://[^/@\s]+:[^/@\s]+@", text) for text in strings(FILE))


def test_the_repository_s_sources_are_mounted_read_only_and_nothing_else_of_the_host_is():
    volumes = [volume for service in SERVICES.values() for volume in service.get("volumes", [])]
    mounts = {volume for volume in volumes if volume.startswith((".", "/", "~"))}
    assert mounts == {"./dags:/opt/riskwatch/dags:ro", "./plugins:/opt/riskwatch/plugins:ro"}
    assert {volume.split(":")[0] for volume in set(volumes) - mounts} == set(FILE["volumes"])


# --- Order and health -------------------------------------------------------------------------------------------------


def test_services_have_health_checks_and_one_shots_do_not_restart():
    for name, service in SERVICES.items():
        if name in ONE_SHOT:
            assert service["restart"] == "no"
        else:
            assert service["restart"] == "unless-stopped"
            assert {"test", "interval", "timeout", "retries", "start_period"} <= set(service["healthcheck"]), name


def test_dependencies_exist_and_wait_for_health_or_completion():
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if other in ONE_SHOT else "service_healthy"
            assert how["condition"] == expected, (name, other)
            # A service outside the profile must not need one inside it.
            optional = "profiles" in SERVICES[other] and "profiles" not in service
            assert how.get("required", True) is not optional, (name, other)
    first, *others = airflow_components.COMPONENTS
    assert all(first in SERVICES[name]["depends_on"] for name in others)


def test_the_profile_holds_the_embedded_aws_alone():
    assert {name for name, service in SERVICES.items() if "profiles" in service} == {
        "embedded-aws",
        "embedded-aws-setup",
    }


# --- Images -----------------------------------------------------------------------------------------------------------


def test_every_referenced_file_and_target_exists():
    for service in SERVICES.values():
        if "build" in service:
            assert (ROOT / service["build"]["context"] / "Dockerfile").is_file()
            assert service["build"]["target"] in STAGES
        for entry in service.get("env_file", []):
            assert "$" in entry["path"] or (ROOT / entry["path"]).is_file()
    assert (ROOT / compose.EMBEDDED_ENV).is_file()
    assert (ROOT / "dags").is_dir()
    assert (ROOT / "plugins").is_dir()


def test_the_image_is_given_every_folder_that_the_native_form_has():
    # GIVEN what the first stage copies from the checkout
    copied = {
        word
        for line in re.findall(r"^COPY (?!--from)(.+)$", STAGES["build"], re.MULTILINE)
        for word in line.split()[:-1]
    }
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {package.split("/")[0] for package in packages["packages"]} | {"dags", "plugins", "uv.lock", "LICENSE"}
    # THEN all packages are among it, everything exists, and the build context admits exactly that
    assert needed <= copied
    assert all((ROOT / name).exists() for name in copied)
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {line[1:] for line in ignore if line.startswith("!")} == copied
    assert "*" in ignore
    assert "**/*.env" in ignore


def test_only_the_first_stage_has_a_compiler_and_no_container_runs_as_root():
    first, *later = STAGES
    assert first == "build"
    assert "g++" in STAGES[first]
    for name in later:
        assert not re.search(r"\bapt(-get)?\b|\bgcc\b|g\+\+|build-essential|python3?-dev", STAGES[name]), name
    for name in ("riskwatch", "embedded-aws"):
        instructions = re.findall(r"^([A-Z]+) ", STAGES[name], re.MULTILINE)
        assert "USER riskwatch" in STAGES[name]
        assert "RUN" not in instructions[instructions.index("USER") :]
        assert not re.search(r"\bpip\b|\buv\b", STAGES[name])
    assert list(STAGES)[-1] == "riskwatch"  # what `docker build .` makes


def test_the_image_is_installed_from_the_lock_with_the_uv_of_make_install():
    version = re.search(r"^UV_VERSION=(\S+)$", (ROOT / "local" / "install.sh").read_text(), re.MULTILINE).group(1)
    for name in ("build", "build-embedded-aws"):
        assert re.findall(r"uv==(\S+)", STAGES[name]) == [version]
    syncs = re.findall(r"uv sync (.+?)(?: \\)?$", STAGES["build"], re.MULTILINE)
    assert len(syncs) == 2
    assert all({"--locked", "--no-dev", "--compile-bytecode"} <= set(options.split()) for options in syncs)
    assert "--require-hashes" in STAGES["build-embedded-aws"]


def test_the_guide_names_every_setting_that_an_account_needs():
    guide = (ROOT / "docs" / "compose.md").read_text(encoding="utf-8")
    needed = {item.name for item in fields(Settings) if item.default is MISSING and item.name != "schedules"}
    assert "bucket" in needed
    given = SERVICES["scheduler"]["environment"]
    absent = [name for name in needed if f"`RISKWATCH_{name.upper()}`" not in guide]
    assert [name for name in absent if f"RISKWATCH_{name.upper()}" not in given] == []
