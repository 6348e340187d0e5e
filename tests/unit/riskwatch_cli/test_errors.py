"""How a command ends: what the user can put right is one line, of anything else the traceback is in a file."""

import pytest
import typer

from riskwatch_cli.errors import explained
from riskwatch_lambda.table import RegistryError
from riskwatch_ml.core.errors import OperationError, UserInputError
from riskwatch_ml.streaming.live_model import NoModelError


class MlflowError(Exception):
    """An error of a package whose name begins as one of ours once did."""


MlflowError.__module__ = "mlflow.exceptions"


@pytest.mark.parametrize(
    ("error", "line", "traced"),
    [
        (UserInputError("give a path"), "riskwatch: give a path", False),
        (NoModelError("promote one first"), "riskwatch: promote one first", False),
        (OperationError("the loop stopped"), "riskwatch: the loop stopped", True),
        (RegistryError("the table is away"), "riskwatch: the table is away", True),
        (MlflowError("no such run"), "riskwatch: MlflowError: no such run", True),
        (ValueError("not ours"), "riskwatch: ValueError: not ours", True),
    ],
)
def test_who_can_do_something_about_it_decides_what_is_shown(tmp_path, capsys, error, line, traced):
    # GIVEN / WHEN a command fails
    with pytest.raises(typer.Exit) as ended, explained(tmp_path, "stopped"):
        raise error

    # THEN one line says so, and a traceback is kept where it helps
    assert ended.value.exit_code == 1
    assert capsys.readouterr().err.splitlines()[0] == line
    assert (tmp_path / "error.log").exists() is traced
