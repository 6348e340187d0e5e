"""What makes the bytes of an artifact: source as it is shipped, and a zip that is the same wherever it is written.

The function compiles its source at every cold start and its size counts, so docstrings and comments stay here. Line
numbers are kept: a traceback of the function points into this repository. The zip is stored uncompressed, sorted, with
fixed dates and modes. Standard library alone, and the same bytes on every Python that can run the function.
"""

from __future__ import annotations

import ast
import io
import tokenize
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

FIXED_DATE = (1980, 1, 1, 0, 0, 0)
REGULAR_FILE_0644 = 0o100644 << 16
UNIX = 3
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


def stored_zip(members: Mapping[str, bytes]) -> bytes:
    """Give a zip of the members by name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            entry = zipfile.ZipInfo(name, FIXED_DATE)
            entry.compress_type = zipfile.ZIP_STORED
            entry.create_system = UNIX
            entry.external_attr = REGULAR_FILE_0644
            archive.writestr(entry, members[name])
    return buffer.getvalue()
