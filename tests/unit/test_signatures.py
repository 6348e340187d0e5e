"""What one room passes to another has a type that names its fields: no public signature says `dict[str, Any]`."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("cli", "expectations", "infra", "lambda", "local", "ml", "plugins")
# These rooms import from packages, and nothing imports from them.
IMPORTERS = ("bench", "dags")
MAPPINGS = {"dict", "Dict", "Mapping", "MutableMapping"}
# Functions that may keep such a type, by name, each with its reason.
EXCUSED = {
    "riskwatch_local.lambda_host.event_source.Settings.of": "an event source mapping as boto3 answers",
    "riskwatch_ml.schema.inventory.from_tags": "entries of GetResources as boto3 answers",
}


def modules(root, tops):
    """Return the syntax tree of every module below the folders, by module name."""
    paths = {path: top for top in tops for path in (root / top).rglob("*.py")}
    return {_name(root, path, top): ast.parse(path.read_text(encoding="utf-8")) for path, top in paths.items()}


def _name(root, path, top):
    base = root if top in IMPORTERS else root / top
    return ".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__")


def room(module):
    """Return the room of a module: its folder in the package, or the package."""
    package, *folders = module.split(".")
    return f"{package}.{folders[0]}" if len(folders) > 1 else package


def imported(tree, known):
    """Return the known modules that a module imports anywhere, for type checking too."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names & known


def shared(root):
    """Return the modules of the packages that a module of another room imports, with their syntax trees."""
    packages = modules(root, PACKAGES)
    names = set()
    for importer, tree in {**packages, **modules(root, IMPORTERS)}.items():
        names |= {name for name in imported(tree, packages.keys()) if room(name) != room(importer)}
    return {name: packages[name] for name in names}


def functions(tree):
    """Yield the public functions of a module, and the public methods of its public classes, with their names."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from ((f"{node.name}.{name}", method) for name, method in functions(node))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (
            not node.name.startswith("_") or node.name in ("__init__", "__call__")
        ):
            yield node.name, node


def annotations(function):
    """Return the annotations of all parameters and of the result."""
    given = function.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    return [note for note in (*(one.annotation for one in every if one), function.returns) if note]


def is_untyped(annotation):
    """Return whether an annotation has a mapping of text to anything, at any depth."""
    return any(_is_untyped_mapping(node) or _quotes_untyped(node) for node in ast.walk(annotation))


def _is_untyped_mapping(node):
    if (
        not isinstance(node, ast.Subscript)
        or _last(node.value) not in MAPPINGS
        or not isinstance(node.slice, ast.Tuple)
    ):
        return False
    return [_last(argument) for argument in node.slice.elts] == ["str", "Any"]


def _quotes_untyped(node):
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        return False
    try:
        return is_untyped(ast.parse(node.value, mode="eval").body)
    except SyntaxError:  # the text of a Literal
        return False


def _last(node):
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", None)


@cache
def untyped(root):
    """Return the names of the functions that rooms share and that have an untyped mapping in their signature."""
    return {
        f"{module}.{name}"
        for module, tree in shared(root).items()
        for name, function in functions(tree)
        if any(map(is_untyped, annotations(function)))
    }


def test_what_rooms_share_has_types():
    assert sorted(untyped(ROOT) - EXCUSED.keys()) == []


def test_no_excuse_is_left_over():
    assert sorted(EXCUSED.keys() - untyped(ROOT)) == []


@pytest.mark.parametrize(
    ("annotation", "rejected"),
    [
        ("dict[str, Any]", True),
        ("Dict[str, typing.Any]", True),
        ("collections.abc.Mapping[str, Any] | None", True),
        ("list[dict[str, Any]]", True),
        ("tuple[int, Callable[[Mapping[str, Any]], None]]", True),
        ("list['dict[str, Any]']", True),
        ("dict[str, int]", False),
        ("Mapping[str, object]", False),
        ("Literal['no code']", False),
        ("Any", False),
        ("TrainingPlan", False),
    ],
)
def test_an_untyped_mapping_is_recognised(annotation, rejected):
    # GIVEN / WHEN / THEN
    assert is_untyped(ast.parse(annotation, mode="eval").body) == rejected


def test_a_room_is_a_folder_of_a_package():
    # GIVEN / WHEN / THEN
    names = ("riskwatch_ml.storage.keys", "riskwatch_lambda.handler", "riskwatch_lambda", "dags.train_models")
    assert [room(name) for name in names] == ["riskwatch_ml.storage", "riskwatch_lambda", "riskwatch_lambda", "dags"]


def test_only_modules_that_another_room_imports_are_held_to_it(tmp_path):
    # GIVEN two rooms with a public function and a private one each; the second imports the first, for type checking
    source = "def public(value: dict[str, Any]) -> None: ...\ndef _private(value: dict[str, Any]) -> None: ...\n"
    for name, head in (("core", ""), ("model", "if TYPE_CHECKING:\n    from one.core import clock\n")):
        folder = tmp_path / "ml" / "one" / name
        folder.mkdir(parents=True)
        (folder / "clock.py").write_text(head + source)

    # WHEN / THEN
    assert untyped(tmp_path) == {"one.core.clock.public"}
