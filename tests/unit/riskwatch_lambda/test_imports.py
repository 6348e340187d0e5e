"""What the function imports: Python's own modules, boto3 and itself."""

import ast
import sys
from pathlib import Path

import riskwatch_lambda

ALLOWED = {*sys.stdlib_module_names, "boto3", "botocore", "riskwatch_lambda"}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            yield node.module


def test_the_function_needs_nothing_but_python_and_boto3():
    # GIVEN every module of the function
    paths = list(Path(riskwatch_lambda.__file__).parent.rglob("*.py"))
    assert len(paths) > 20

    # WHEN / THEN no import is of anything else, within functions and for type checkers included
    assert {
        f"{path.stem}: {name}" for path in paths for name in imported(path) if name.split(".")[0] not in ALLOWED
    } == set()
