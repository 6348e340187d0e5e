"""Source as it is shipped: without docstrings and comments, every line where it was.

The function compiles its source at every cold start and its size counts, so what no machine reads stays here. Line
numbers are kept: a traceback of the function points into this repository. The same text comes out on every Python that
can parse it.
"""

from __future__ import annotations

import ast
import io
import tokenize

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def shipped(source: str) -> str:
    """Give a module's source with docstrings and comments blanked out; raises SyntaxError where it is no Python."""
    lines = source.splitlines()
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            _blank(lines, node.body[0], alone=len(node.body) == 1 and not isinstance(node, ast.Module))
    text = "\n".join(lines) + "\n"
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            line, column = token.start
            lines[line - 1] = lines[line - 1][:column].rstrip()
    return "\n".join(lines) + "\n"


def _blank(lines: list[str], docstring: ast.stmt, *, alone: bool) -> None:
    """Blank the lines of a docstring; a body of nothing else keeps a statement."""
    first, last = docstring.lineno - 1, docstring.end_lineno or docstring.lineno
    lines[first:last] = [""] * (last - first)
    if alone:
        lines[first] = " " * docstring.col_offset + "pass"
