"""Shipped source: fewer bytes, the same program, the same line numbers."""

import ast
from pathlib import Path

import pytest

import riskwatch_lambda
from ml.shipped_source import shipped

MODULES = sorted(Path(riskwatch_lambda.__file__).parent.glob("*.py"))


def program(source: str) -> tuple[str, list[tuple[str, int]]]:
    """The syntax tree without docstrings, and the line of every statement of it."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass(lineno=node.body[0].lineno)]
    if tree.body and isinstance(tree.body[0], ast.Pass):  # a module may be empty
        tree.body = []
    return ast.dump(tree), [(type(node).__name__, node.lineno) for node in ast.walk(tree) if isinstance(node, ast.stmt)]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_program_of_every_module_is_unchanged(path: Path):
    # GIVEN a module of the function, WHEN it is shipped
    source = path.read_text()
    text = shipped(source)

    # THEN it is the same program on the same lines, without docstrings, and shipping it again changes nothing
    assert program(text) == program(source)
    assert ast.get_docstring(ast.parse(text)) is None
    assert shipped(text) == text


def test_comments_and_docstrings_go_and_strings_stay():
    # GIVEN a source with everything that looks like a comment or a docstring
    source = '"""Module."""\nX = "# no comment"  # a comment\n\n\nclass Known(ValueError):\n    """Only\n    this."""\n'
    # WHEN it is shipped, THEN comment and docstrings are gone, line for line, and an empty body has a statement
    assert shipped(source) == '\nX = "# no comment"\n\n\nclass Known(ValueError):\n    pass\n\n'


def test_what_is_no_python_is_refused():
    with pytest.raises(SyntaxError):
        shipped("def")
