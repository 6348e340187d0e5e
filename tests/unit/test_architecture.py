"""The table of docs/architecture.md names every room, and no other; modules and functions stay small."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = ("bench", "cli", "dags", "expectations", "infra", "lambda", "local", "ml", "plugins")
LONGEST_MODULE = 350


def rooms():
    """Return the folders that hold modules, but for packages that hold rooms alone."""
    folders = {path.parent for top in CODE for path in (ROOT / top).rglob("*.py") if path.name != "__init__.py"}
    # The one module beside the packages of plugins/ is by what Airflow finds the pages.
    return {str(folder.relative_to(ROOT)) for folder in folders} - {"plugins"}


def test_the_table_names_the_rooms_that_there_are():
    # GIVEN
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `([\w/]+)` \|", text, re.M)

    # WHEN / THEN
    assert len(named) == len(set(named))
    assert set(named) == rooms()


def test_no_module_is_two():
    sizes = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for top in CODE
        for path in (ROOT / top).rglob("*.py")
    }
    assert {name: lines for name, lines in sizes.items() if lines > LONGEST_MODULE} == {}


def test_every_module_begins_with_a_sentence():
    paths = [path for top in CODE for path in (ROOT / top).rglob("*.py") if path.name != "__init__.py"]
    without = [str(path) for path in paths if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert without == []
