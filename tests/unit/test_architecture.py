"""The table of docs/architecture.md names every room, and no other; modules and functions stay small."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = ("bench", "cli", "dags", "expectations", "infra", "lambda", "local", "ml", "plugins")
LONGEST_MODULE, LONGEST_FUNCTION = 350, 50
# The line above the `def` of a longer function, or above its decorators, says why it is not cut.
REASON = re.compile(r"\s*# long: \S")


def modules(tops=CODE):
    """Return the text of every module below the folders by its path within the tree."""
    paths = (path for top in tops for path in (ROOT / top).rglob("*.py"))
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}


def long_functions(text):
    """Return the lines that each function takes, signature and docstring included, if too many for no reason."""
    above = ["", *text.splitlines()]
    functions = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    sizes = {}
    for function in functions:
        begin = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
        size = function.end_lineno - function.lineno + 1
        if size > LONGEST_FUNCTION and not (REASON.match(above[begin - 1]) or REASON.match(above[function.lineno - 1])):
            sizes[function.name] = size
    return sizes


def rooms():
    """Return the folders that hold modules, but for packages that hold rooms alone."""
    folders = {str(Path(name).parent) for name in modules() if not name.endswith("__init__.py")}
    # The one module beside the packages of plugins/ is by what Airflow finds the pages.
    return folders - {"plugins"}


def test_the_table_names_the_rooms_that_there_are():
    # GIVEN
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `([\w/]+)` \|", text, re.M)

    # WHEN / THEN
    assert len(named) == len(set(named))
    assert set(named) == rooms()


def test_no_module_is_two():
    sizes = {name: len(text.splitlines()) for name, text in modules((*CODE, "tests")).items()}
    assert {name: lines for name, lines in sizes.items() if lines > LONGEST_MODULE} == {}


def test_every_function_fits_a_screen():
    sizes = {name: long_functions(text) for name, text in modules().items()}
    assert {name: functions for name, functions in sizes.items() if functions} == {}


def test_a_long_function_needs_a_reason():
    # GIVEN a function of 51 lines, and the same one with a decorator
    body = "def f():\n" + "    x = 1\n" * LONGEST_FUNCTION
    decorated = f"@cache\n{body}"

    # WHEN / THEN it is too long, unless a comment above it or above its decorators says why
    assert long_functions(body) == long_functions(f"\n# long:\n{body}") == {"f": 51}
    assert long_functions(f"# long: one table\n{body}") == long_functions(f"# long: one table\n{decorated}") == {}
    assert long_functions(body.replace("    x = 1\n", "", 1)) == {}


def test_every_module_begins_with_a_sentence():
    texts = {name: text for name, text in modules().items() if not name.endswith("__init__.py")}
    assert [name for name, text in texts.items() if not ast.get_docstring(ast.parse(text))] == []
