"""Reproducible bytes: minified source in a deterministic zip.

The function compiles its source at every cold start, and its size counts. Everything that only readers and type
checkers need is removed: docstrings, comments, annotations, imports for them, and spaces. Line numbers and names stay,
so a traceback of the function points into this repository. The zip is uncompressed and sorted, with fixed dates and
modes. This module uses the standard library only, and gives the same bytes on every Python version that can run the
function.
"""

from __future__ import annotations

import ast
import io
import tokenize
import zipfile
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Span = Callable[[ast.expr | ast.stmt | ast.arg], tuple[int, int]]

FIXED_DATE = (1980, 1, 1, 0, 0, 0)
REGULAR_FILE_0644 = 0o100644 << 16
UNIX = 3
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DOCUMENTED = (ast.Module, ast.ClassDef, *_FUNCTIONS)
# Since Python 3.12 an f-string is several tokens; it is not minified.
_STARTS = getattr(tokenize, "FSTRING_START", None)
_ENDS = getattr(tokenize, "FSTRING_END", None)

# Begin and end of a removed part in bytes, and its replacement.
Cut = tuple[int, int, bytes]


def shipped(source: str) -> str:
    """Return a module's source without the parts that only its readers need.

    Raises SyntaxError if the source is not Python.
    """
    return _tight(_cut(_cut(source, _unread), _unimported))


def _cut(source: str, find: Callable[[ast.Module, bytes, Span], list[Cut]]) -> str:
    """Return the source without the parts that `find` returns.

    Line numbers stay the same.
    """
    content = source.encode()
    starts = [0, *accumulate(len(line) for line in content.splitlines(keepends=True))]

    def span(node: ast.expr | ast.stmt | ast.arg) -> tuple[int, int]:
        last_line, last_column = node.end_lineno or 0, node.end_col_offset or 0
        return starts[node.lineno - 1] + node.col_offset, starts[last_line - 1] + last_column

    parts: list[bytes] = []
    reached = 0
    for begin, end, instead in sorted(find(ast.parse(source), content, span)):
        if begin >= reached:  # else it lies inside a part that is removed already
            parts += content[reached:begin], instead, b"\n" * content.count(b"\n", begin, end)
            reached = end
    return b"".join([*parts, content[reached:]]).decode()


def _unread(tree: ast.Module, content: bytes, span: Span) -> list[Cut]:
    """Find docstrings and annotations."""
    cuts: list[Cut] = []
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED):
            cuts += _docstring(node, span)
        if isinstance(node, _FUNCTIONS) and node.returns is not None:
            begin, end = span(node.returns)
            cuts.append((content.rindex(b"->", 0, begin), end, b""))
        if isinstance(node, ast.arg) and node.annotation is not None:
            begin, end = span(node)
            cuts.append((begin + len(node.arg.encode()), end, b""))
        cuts += _unused(node, span)
    return cuts


def _unimported(tree: ast.Module, content: bytes, span: Span) -> list[Cut]:
    """Find imported names that only annotations used."""
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    cuts: list[Cut] = []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module != "__future__":
            names = [ast.unparse(alias) for alias in node.names if (alias.asname or alias.name) in used]
            if len(names) < len(node.names):
                line = f"from {node.module} import {','.join(names)}" if names else ""
                cuts.append((*span(node), line.encode()))
    return cuts


def _docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, span: Span) -> list[Cut]:
    if ast.get_docstring(node, clean=False) is None:
        return []
    # A body needs at least one statement.
    alone = len(node.body) == 1 and not isinstance(node, ast.Module)
    return [(*span(node.body[0]), b"pass" if alone else b"")]


def _unused(node: ast.AST, span: Span) -> list[Cut]:
    """Find types of variables, and imports for type checkers.

    A field of a class needs some type, so its type becomes `0`.
    """
    cuts: list[Cut] = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.AnnAssign) and (child.value is not None or isinstance(node, ast.ClassDef)):
            instead = b":0" if isinstance(node, ast.ClassDef) else b""
            cuts.append((span(child.target)[1], span(child.annotation)[1], instead))
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING" and not child.orelse:
            cuts.append((*span(child), b""))
    return cuts


def _tight(text: str) -> str:
    """Return the text without comments and needless spaces.

    A block is indented by one space per level; lines inside brackets are not indented.
    """
    parts: list[str] = []
    depth = brackets = 0
    row, before = 1, "\n"
    for kind, string, first_row, last_row in _tokens(text):
        depth += (kind == tokenize.INDENT) - (kind == tokenize.DEDENT)
        if kind in (tokenize.INDENT, tokenize.DEDENT, tokenize.COMMENT, tokenize.ENDMARKER):
            continue
        if kind in (tokenize.NEWLINE, tokenize.NL):
            training_set, string = "", "\n"
        elif before == "\n":
            training_set = "" if brackets else " " * depth
        else:
            training_set = "\\\n" * (first_row - row) or " " * (_is_word(before[-1]) and _is_word(string[0]))
        parts += training_set, string
        if kind == tokenize.OP:
            brackets += (string in "([{") - (string in ")]}")
        row, before = last_row, string
    return "".join(parts)


def _tokens(text: str) -> Iterator[tuple[int, str, int, int]]:
    """Yield kind, text, first row and last row of each token.

    An f-string is one token on every Python version.
    """
    lines = text.splitlines(keepends=True)
    opened: list[tuple[int, int]] = []
    for kind, string, start, end, _ in tokenize.generate_tokens(io.StringIO(text).readline):
        if kind == _STARTS:
            opened.append(start)
        if not opened:
            yield kind, string, start[0], end[0]
        if kind == _ENDS:
            first, column = opened.pop()
            if not opened:
                rows = lines[first - 1 : end[0]]
                rows[-1] = rows[-1][: end[1]]
                yield tokenize.STRING, "".join(rows)[column:], first, end[0]


def _is_word(character: str) -> bool:
    return character.isalnum() or character in "_'\""


def stored_zip(members: Mapping[str, bytes]) -> bytes:
    """Return a zip of the members, given by name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            entry = zipfile.ZipInfo(name, FIXED_DATE)
            entry.compress_type = zipfile.ZIP_STORED
            entry.create_system = UNIX
            entry.external_attr = REGULAR_FILE_0644
            archive.writestr(entry, members[name])
    return buffer.getvalue()
