"""Every error of the project has the one root."""

import ast
import builtins
from pathlib import Path

ROOT = Path(__file__).parents[4]
# The function travels alone; a command of the container form has the standard library only.
APART = ("errors.py", "compose.py")


def test_no_error_derives_from_a_builtin_alone():
    found = []
    for folder in ("ml", "plugins", "expectations", "cli", "local", "infra"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                bases = [base.id for base in getattr(node, "bases", ()) if isinstance(base, ast.Name)]
                kinds = [getattr(builtins, name, None) for name in bases]
                if any(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
                    found.append(path.name)
    assert set(found) == set(APART)
