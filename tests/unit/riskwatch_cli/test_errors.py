"""Errors of commands: one line for user errors, else also a traceback in a file."""

import errno

import pytest
import typer

from riskwatch_cli.errors import report_errors
from riskwatch_lambda.table import TableError
from riskwatch_ml.core.errors import OperationError, UserInputError
from riskwatch_ml.streaming.live_model import NoModelError


class MlflowError(Exception):
    """An error of a package with a name that resembles one of ours."""


MlflowError.__module__ = "mlflow.exceptions"


def test_a_full_disk_is_named_first(tmp_path, capsys):
    # GIVEN a command that fails because of a write, three errors further up
    def command():
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "/data/mlflow.db")
        except OSError as error:
            raise ValueError("cannot store the model") from error

    with pytest.raises(typer.Exit), report_errors(tmp_path, "stopped"):
        command()
    # THEN the first line says what to do, and the error follows
    first, second = capsys.readouterr().err.splitlines()[:2]
    assert first == "riskwatch: the disk is full: free some space for /data/mlflow.db and try again"
    assert second == "riskwatch: ValueError: cannot store the model"


@pytest.mark.parametrize(
    ("error", "line", "traced"),
    [
        (UserInputError("give a path"), "riskwatch: give a path", False),
        (NoModelError("promote one first"), "riskwatch: promote one first", False),
        (OperationError("the loop stopped"), "riskwatch: the loop stopped", True),
        (TableError("the table is away"), "riskwatch: the table is away", True),
        (MlflowError("no such run"), "riskwatch: MlflowError: no such run", True),
        (ValueError("not ours"), "riskwatch: ValueError: not ours", True),
    ],
)
def test_only_errors_that_the_user_cannot_fix_have_a_traceback(tmp_path, capsys, error, line, traced):
    # GIVEN / WHEN a command fails
    with pytest.raises(typer.Exit) as ended, report_errors(tmp_path, "stopped"):
        raise error

    # THEN one line says so, and a traceback is kept where it helps
    assert ended.value.exit_code == 1
    assert capsys.readouterr().err.splitlines()[0] == line
    assert (tmp_path / "error.log").exists() is traced
