"""The shape that the design gives the code: one direction, small modules, a lazy door."""

from __future__ import annotations

import ast
import graphlib
import importlib
import inspect
import re
import sys
from pathlib import Path
from typing import Any

import pytest

# The layers of palm_core from the lowest up; one may import those before it.
LAYERS = (
    *("errors", "validation", "geometry", "model", "weights", "guarantees", "cover"),
    *("tables", "oracles", "run", "cli"),
)
# What holds public names, and what starts the command line, may import all.
PUBLIC_LAYER = {"palm_core", "palm_core.plugin", "palm_core.testing"}
MOST_ENTRIES, MOST_PLUGIN_NAMES = 16, 60

# Who may import whom: core knows no plugin, and oracles do not know one another.
MAY_IMPORT: dict[str, set[str]] = {
    "palm_core": set(),
    "palm_eval": {"palm_core"},
    "palm_mod": {"palm_core", "palm_eval"},
    "palm_trl": {"palm_core", "palm_eval"},
}


def modules(source: Path) -> dict[str, Path]:
    """Dotted name → file of every module under ``source``."""
    return {
        ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(source.rglob("*.py"))
    }


def imported(path: Path, *, for_types: bool) -> set[str]:
    """What a module imports, in functions too; "a.b" for ``from a import b``.

    ``for_types``: also what only type checkers import.
    """
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                if for_types:
                    visit(child)
                continue
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}: imports are absolute"
                found.update(f"{child.module}.{alias.name}" for alias in child.names)
                found.add(str(child.module))
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def cycle(source: Path, home: dict[str, str]) -> list[str]:
    """Modules that know one another in a circle, or none; by their types is knowing too.

    ``home``: public name → module, for what a package loads lazily.
    """
    files = modules(source)
    graph = {
        name: {home.get(item, item) for item in imported(path, for_types=True)}
        & (files.keys() - {name})
        for name, path in files.items()
    }
    # A package is imported with each of its modules; that is no circle of its own.
    graph = {
        name: {item for item in items if not name.startswith(f"{item}.")}
        for name, items in graph.items()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def lazy_names(package: str) -> dict[str, str]:
    """ "package.Name" → "package.module", for what it loads lazily."""
    init = Path(str(importlib.import_module(package).__file__))
    return {
        f"{package}.{name}": f"{package}.{module}"
        for module, names in names_for_types(init).items()
        for name in names
    }


def names_for_types(file: Path) -> dict[str, tuple[str, ...]]:
    """Module → the names that type checkers are told a package imports from it."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    (block,) = (
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    return {
        str(node.module).partition(".")[2]: tuple(alias.name for alias in node.names)
        for node in block.body
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("palm_")
    }


@pytest.fixture(params=sorted(path.name for path in Path(__file__).parents[2].glob("packages/*")))
def package(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def source(root: Path, package: str) -> Path:
    return root / "packages" / package / "src"


def test_no_modules_import_one_another_in_a_circle(source: Path, package: str) -> None:
    assert cycle(source, lazy_names(package.replace("-", "_"))) == []


def test_packages_import_one_another_in_one_direction(source: Path, package: str) -> None:
    own = package.replace("-", "_")
    for name, path in modules(source).items():
        found = imported(path, for_types=True)
        ours = {item.partition(".")[0] for item in found} & MAY_IMPORT.keys()
        assert ours <= MAY_IMPORT[own] | {own}, name


def test_packages_import_the_public_layers_of_others_alone(source: Path, package: str) -> None:
    own = package.replace("-", "_")
    for name, path in modules(source).items():
        for other in imported(path, for_types=True):
            top, _, inner = other.partition(".")
            if top == own or top not in MAY_IMPORT or not inner:
                continue
            # "a.b" is a module of a, or a name that a itself exports.
            exported = getattr(importlib.import_module(top), "__all__", ())
            public = other in PUBLIC_LAYER or inner.split(".")[0] in {
                *exported,
                "plugin",
                "testing",
            }
            assert public, f"{name} imports {other}"


@pytest.fixture
def core(root: Path) -> dict[str, Path]:
    """The modules of palm_core."""
    return modules(root / "packages" / "palm-core" / "src")


def test_layers_of_core_import_downwards(core: dict[str, Path]) -> None:
    def layer(name: str) -> int | None:
        part = name.split(".")[1] if "." in name else ""
        return LAYERS.index(part) if part in LAYERS else None

    for name, path in core.items():
        own = layer(name)
        if own is not None:
            found = imported(path, for_types=True) & core.keys()
            above = {item for item in found if (layer(item) or 0) > own}
            assert not above, name


def test_pages_and_examples_import_the_public_layer_alone(root: Path) -> None:
    pages = [root / "README.md", *root.glob("docs/**/*.md"), *root.glob("examples/**/*.py")]
    for page in pages:
        found = set(
            re.findall(r"^(?:from|import) (palm_core[\w.]*)", page.read_text("utf-8"), re.M)
        )
        assert found <= PUBLIC_LAYER, page


def test_core_names_no_package_that_extends_it(core: dict[str, Path]) -> None:
    for name, path in core.items():
        assert not re.findall(r"palm[-_](?:eval|mod|trl)", path.read_text("utf-8")), name


def test_core_has_few_entries_and_plugins_few_names(core: dict[str, Path]) -> None:
    plugin = importlib.import_module("palm_core.plugin")
    assert len({name.split(".")[1] for name in core if "." in name}) < MOST_ENTRIES
    assert len(plugin.__all__) <= MOST_PLUGIN_NAMES


@pytest.mark.parametrize("name", ["palm_core.plugin", "palm_eval.plugin"])
def test_names_for_plugins_are_typed_and_documented(name: str) -> None:
    plugin = importlib.import_module(name)
    typed = {one for names in names_for_types(Path(str(plugin.__file__))).values() for one in names}
    assert typed | {"on_demand"} == {*plugin.__all__, "on_demand"}
    for one in plugin.__all__:
        assert not one.startswith("_")
        value = getattr(plugin, one)
        if inspect.isclass(value) or inspect.isroutine(value):
            assert value.__doc__, one


def test_what_is_imported_is_declared(source: Path, package: str, projects: Any) -> None:
    project = projects[package]
    groups = [project["dependencies"], *project.get("optional-dependencies", {}).values()]
    declared = {
        re.split(r"[^\w-]", line)[0].replace("-", "_") for group in groups for line in group
    }
    for name, path in modules(source).items():
        needed = {item.partition(".")[0] for item in imported(path, for_types=False)}
        strangers = needed - declared - sys.stdlib_module_names - {package.replace("-", "_")}
        assert not strangers, name


class TestPublicNames:
    @pytest.fixture
    def door(self, package: str) -> Any:
        return importlib.import_module(package.replace("-", "_"))

    @pytest.fixture
    def typed(self, source: Path, package: str) -> dict[str, tuple[str, ...]]:
        """Module → the names that type checkers are told it holds."""
        (init,) = source.glob("*/__init__.py")
        return names_for_types(init)

    def test_all_is_complete_and_sorted(self, door: Any, typed: Any) -> None:
        assert door.__all__ == sorted(name for names in typed.values() for name in names)

    def test_every_name_resolves_to_its_home(self, door: Any, typed: Any) -> None:
        # All modules first: each then stands in the package under its own name,
        # and would hide a public name that is the same.
        homes = {name: importlib.import_module(f"{door.__name__}.{name}") for name in typed}
        for module, names in typed.items():
            for name in names:
                assert getattr(door, name) is getattr(homes[module], name), f"{name} is hidden"
                assert name in dir(door)

    def test_an_unknown_name_is_an_attribute_error(self, door: Any) -> None:
        with pytest.raises(AttributeError, match="has no attribute 'unknown_name'"):
            _ = door.unknown_name

    def test_public_names_have_a_docstring_of_one_line_and_more(self, door: Any) -> None:
        for name in door.__all__:
            text = getattr(door, name).__doc__
            assert text, name
            assert text.strip().splitlines()[0].rstrip().endswith((".", "?")), name


class TestTheChecksThemselves:
    """Each of the searches above finds what it looks for."""

    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        (tmp_path / "p").mkdir()
        (tmp_path / "p/__init__.py").write_text("")
        return tmp_path

    @pytest.mark.parametrize(
        ("a", "b"),
        [
            ("import p.b", "import p.a"),
            ("from p import b", "from p.a import thing"),
            ("def f():\n    from p.b import x", "import p.a"),
            ("from p import Name", "from p import a"),
            (
                "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.b import Type",
                "def f():\n    from p.a import thing",
            ),
        ],
    )
    def test_a_circle_is_found(self, tree: Path, a: str, b: str) -> None:
        (tree / "p/a.py").write_text(a)
        (tree / "p/b.py").write_text(b)
        assert set(cycle(tree, {"p.Name": "p.b"})) == {"p.a", "p.b"}

    def test_a_line_is_no_circle(self, tree: Path) -> None:
        (tree / "p/a.py").write_text("import p.b\nimport json\nimport p")
        (tree / "p/b.py").write_text("import json\nimport p")
        assert cycle(tree, {}) == []

    def test_what_is_for_types_only_is_told_apart(self, tmp_path: Path) -> None:
        file = tmp_path / "a.py"
        file.write_text("import b\nif TYPE_CHECKING:\n    from c import d\ndef f():\n    import e")
        assert imported(file, for_types=False) == {"b", "e"}
        assert imported(file, for_types=True) == {"b", "c", "c.d", "e"}
