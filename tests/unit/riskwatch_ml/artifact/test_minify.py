"""Shipped source: fewer bytes, the same program, the same line numbers; and the same zip on every Python there is."""

import ast
import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import riskwatch_lambda
from bench import deployed
from riskwatch_ml.artifact import archive
from riskwatch_ml.artifact.minify import shipped
from tests.support import tiny

ROOT = Path(__file__).resolve().parents[4]
MODULES = sorted(Path(riskwatch_lambda.__file__).parent.rglob("*.py"))


def undocumented(node):
    if ast.get_docstring(node) is not None:
        node.body = node.body[1:] or [ast.Pass(lineno=node.body[0].lineno)] * (not isinstance(node, ast.Module))
    return node


class Unread(ast.NodeTransformer):
    """Takes from a program what does not run: docstrings, annotations, imports for type checkers."""

    def visit_Module(self, node):
        return undocumented(self.generic_visit(node))

    def visit_ClassDef(self, node):
        # The annotations of a class are its fields, of whatever type.
        for child in node.body:
            if isinstance(child, ast.AnnAssign):
                child.annotation = ast.Constant(0)
        node.body = [child if isinstance(child, ast.AnnAssign) else self.visit(child) for child in node.body]
        return undocumented(node)

    def visit_FunctionDef(self, node):
        node.returns = None
        return undocumented(self.generic_visit(node))

    def visit_arg(self, node):
        node.annotation = None
        return node

    def visit_AnnAssign(self, node):
        return node if node.value is None else ast.Assign([node.target], node.value, lineno=node.lineno)

    def visit_If(self, node):
        self.generic_visit(node)
        return None if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" else node


def program(source: str) -> tuple[str, list[tuple[str, int]]]:
    """The syntax tree of what runs, and the line of every statement of it."""
    tree = Unread().visit(ast.parse(source))
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for node in [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module != "__future__"]:
        node.names = [alias for alias in node.names if alias.name in used]
        if not node.names:
            tree.body.remove(node)
    return ast.dump(tree), [(type(node).__name__, node.lineno) for node in ast.walk(tree) if isinstance(node, ast.stmt)]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_program_of_every_module_is_unchanged(path: Path):
    # GIVEN a module of the function, WHEN it is shipped
    source = path.read_text()
    text = shipped(source)

    # THEN what is left is what runs, on the same lines, and shipping it again changes nothing
    assert ast.dump(ast.parse(text)) == program(source)[0]
    assert program(text) == program(source)
    assert shipped(text) == text


def test_comments_and_docstrings_go_and_strings_stay():
    # GIVEN a source with everything that looks like a comment or a docstring
    source = '"""Module."""\nX = "# no comment"  # a comment\n\n\nclass Known(ValueError):\n    """Only\n    this."""\n'
    # WHEN it is shipped, THEN comment and docstrings are gone, line for line, and an empty body has a statement
    assert shipped(source) == '\nX="# no comment"\n\n\nclass Known(ValueError):\n pass\n\n'


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(a: int = 1, *, b: dict[str,\n    int]) -> int:\n    return a\n", "def f(a=1,*,b\n):\n return a\n"),
        ("if TYPE_CHECKING:\n    def a(b: int): ...\nimport b\n", "\n\nimport b\n"),
        ("def f():\n    x: int = 1\n    y: int\n", "def f():\n x=1\n y:int\n"),
        ("class A:\n    x: int = 1\n    def f(self) -> None: ...\n", "class A:\n x:0=1\n def f(self):...\n"),
        ("class A:\n    x: dict[str,\n        int]\n", "class A:\n x:0\n\n"),
        ("from a import (\n    B,\n    C,\n)\nfrom d import E\nx: E = C\n", "from a import C\n\n\n\n\nx=C\n"),
        ("x = (\n    a\n    if b else 'c'\n)\n", "x=(\na\nif b else 'c'\n)\n"),
        ("x = f\"{a + 1:>{ w }} {{ {f'{b}'} \"  # c\n", "x=f\"{a + 1:>{ w }} {{ {f'{b}'} \"\n"),
        ('x = f"""\n  {a}\n  # b\n""" + c\n', 'x=f"""\n  {a}\n  # b\n"""+c\n'),
        ("x = a + \\\n    b\n", "x=a+\\\nb\n"),
        ('def f() -> str:\n    return "é" if 1 in "ü" else -1\n', 'def f():\n return "é" if 1 in "ü" else-1\n'),
    ],
)
def test_what_only_readers_need_goes_and_every_line_stays(source: str, expected: str):
    assert shipped(source) == expected
    assert expected.count("\n") == source.count("\n")
    ast.parse(expected)


def test_what_is_no_python_is_refused():
    with pytest.raises(SyntaxError):
        shipped("def")


REBUILD = """
import hashlib, json, sys, zipfile
from pathlib import Path
sys.path.insert(0, sys.argv[1] + "/ml")
from riskwatch_ml.artifact.minify import shipped, stored_zip
with zipfile.ZipFile(sys.argv[2]) as archive:
    members = {name: archive.read(name) for name in archive.namelist()}
for name in members:
    if name.endswith(".py"):
        members[name] = shipped(Path(sys.argv[1], "lambda", name).read_text(encoding="utf-8")).encode()
    if name.endswith(".json"):
        document = json.loads(members[name])
        members[name] = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
print(hashlib.sha256(stored_zip(dict(reversed(members.items())))).hexdigest())
"""


def other_pythons() -> list[str]:
    """Other Pythons on this machine that the function could run on, on the path or in pyenv."""
    places = [shutil.which(f"python3.{minor}") for minor in range(11, 15)]
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    places += [str(path) for path in root.glob("versions/3.1[1-9].*/bin/python")]
    found = {sys.version_info[:2]: ""}
    for place in filter(None, places):
        ask = [place, "-c", "import sys; print(*sys.version_info[:2])"]
        done = subprocess.run(ask, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            major, minor = map(int, done.stdout.split())
            found.setdefault((major, minor), place)
    return [place for place in found.values() if place]


@pytest.fixture(scope="module")
def pythons() -> list[str]:
    return other_pythons() or pytest.skip("there is no other Python of 3.11 or later on this machine")


def test_every_python_builds_the_same_zip(tmp_path, pythons):
    # GIVEN an artifact, and another Python
    zip_bytes = packed()
    (tmp_path / "artifact.zip").write_bytes(zip_bytes)
    for python in pythons:
        # WHEN it ships the same source and writes the same members in another order, THEN the digest is the same
        command = [python, "-I", "-c", REBUILD, str(ROOT), str(tmp_path / "artifact.zip")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == archive.checksum(zip_bytes), python


def test_every_python_scores_alike(tmp_path, pythons):
    # GIVEN an artifact, and records with and without context
    rows = [[[60.0, 100.0]], [[12.0, None], [9.5, 131.0]], [[None, None]]]
    data = [base64.b64encode(json.dumps(tiny.stream_record(part)).encode()).decode() for part in rows]

    # WHEN other Pythons run its code, THEN they say what this one says
    expected = deployed.verdicts(packed(), data, tmp_path / "own")
    assert [verdict["level"] for verdict in expected] == ["High Load", "Normal", "Normal"]
    for number, python in enumerate(pythons):
        assert deployed.verdicts(packed(), data, tmp_path / str(number), python) == expected, python


def packed() -> bytes:
    return archive.pack(tiny.document(), {name: np.array(v, np.float32) for name, v in tiny.ARRAYS.items()})
