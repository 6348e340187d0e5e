"""The wheel beside a user's own modules: neither hides the other."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "riskwatch_airflow",
    "riskwatch_cli",
    "riskwatch_dashboard",
    "riskwatch_expectations",
    "riskwatch_infra",
    "riskwatch_lambda",
    "riskwatch_local",
    "riskwatch_ml",
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel, built from this tree and unpacked as `pip install --no-deps --target` does."""
    folder = tmp_path_factory.mktemp("wheel")
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with zipfile.ZipFile(wheel) as archived:
        archived.extractall(folder / "site")
    return folder / "site"


def test_it_holds_packages_with_names_of_their_own_and_their_data(installed):
    assert sorted(path.name for path in installed.iterdir() if path.suffix != ".dist-info") == sorted(PACKAGES)
    assert {path.name for path in (installed / "riskwatch_infra").iterdir()} >= {"stack.yaml", "stack-policy.json"}
    assert list((installed / "riskwatch_ml" / "schema" / "catalogues").glob("*.toml"))


def test_a_users_own_ml_and_cli_are_imported_beside_it(installed, tmp_path):
    # GIVEN a dags folder with modules that are named as our top-level folders are
    for name, module in (("ml", "my_features"), ("cli", "tools")):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{module}.py").write_text("MINE = True\n")

    # WHEN a process that sees the dependencies, the wheel and that folder imports both sides
    program = (
        "import sys\n"
        f"rest = [p for p in sys.path if {str(ROOT)!r} not in p or '.venv' in p]\n"
        f"sys.path = [{str(tmp_path)!r}, {str(installed)!r}, *rest]\n"
        "import ml.my_features, cli.tools\n"
        f"import {', '.join(PACKAGES)}\n"
        "import riskwatch_ml.core.settings, riskwatch_cli.main, riskwatch_infra.deploy\n"
        f"for name in {PACKAGES!r}:\n"
        f"    assert {str(installed)!r} in str(list(sys.modules[name].__path__)), name\n"
        "assert ml.my_features.MINE and cli.tools.MINE\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )

    # THEN
    assert done.returncode == 0, done.stderr
