"""The reference pages: every public name of every package, from its docstring.

Public is what a package's ``__all__`` lists, and what the modules below hold that are meant
for users, too. A public name without a docstring, or one whose docstring leaves out a
parameter, stops the build.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import griffe

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
#: By package, its modules that are public beside the names that the package itself exports.
MODULES = {
    "palm_core": (
        "errors",
        "plugin",
        "oracles.protocol",
        "oracles.registry",
        "run.ledger",
        "testing",
    ),
    "palm_eval": ("comparison", "figures", "plugin", "report", "rewards", "tables", "testing"),
    "palm_mod": (),
    "palm_trl": ("export.routing",),
}
INTRODUCTIONS = {
    "palm_core": "Grids, covers, pruning, exact gaps, certificates, oracles and runs.",
    "palm_eval": "Rewards, metrics, intervals, baselines, tables, figures and the report.",
    "palm_mod": "Language models without training: decoding by several, or averaging them.",
    "palm_trl": "Language models trained for each weight vector, and their export.",
}


@cache
def packages() -> dict[str, griffe.Module]:
    """The source of every package, read without importing it."""
    loader = griffe.GriffeLoader(
        search_paths=sorted(ROOT.glob("packages/*/src")),
        extensions=griffe.load_extensions("griffe_sphinx"),
    )
    for name in MODULES:
        loader.load(name)
    loader.resolve_aliases(external=False)
    return {name: _module(loader.modules_collection[name]) for name in MODULES}


def _module(loaded: griffe.Object | griffe.Alias) -> griffe.Module:
    assert isinstance(loaded, griffe.Module)
    return loaded


def public_names(package: griffe.Module, modules: tuple[str, ...]) -> dict[str, list[str]]:
    """The public names, by the module that a reader would look for them in.

    Each is the path to import it by; one that the package exports is not listed again.
    """
    found: dict[str, list[str]] = {}
    known: set[str] = set()
    for name in _listed(package):
        target = package[name]
        known.add(target.canonical_path)
        found.setdefault(target.canonical_path.rpartition(".")[0], []).append(target.path)
    for inner in modules:
        module = package[inner]
        for name in _listed(module) or _defined(module):
            if module[name].canonical_path not in known:
                known.add(module[name].canonical_path)
                found.setdefault(module.path, []).append(f"{module.path}.{name}")
    return dict(sorted(found.items()))


def _listed(module: griffe.Object | griffe.Alias) -> list[str]:
    return [str(name) for name in module.exports or () if str(name) != "__version__"]


def _defined(module: griffe.Object | griffe.Alias) -> list[str]:
    return [
        name
        for name, member in module.members.items()
        if not name.startswith("_")
        and not member.is_alias
        and (member.is_class or member.is_function)
    ]


def package_pages() -> dict[str, str]:
    """The pages, by their place in the site.

    Raises:
        SystemExit: what is public and not documented, all of it.
    """
    pages, faults = {}, []
    for name, package in packages().items():
        names = public_names(package, MODULES[name])
        for path in (path for paths in names.values() for path in paths):
            faults += list(undocumented(package[path.removeprefix(f"{name}.")], path))
        pages[f"reference/{name}.md"] = _page(package, names)
    if faults:
        raise SystemExit("public and not documented:\n  " + "\n  ".join(faults))
    return pages


def all_public_names() -> set[str]:
    """The public names of all packages: what the reference has an entry for."""
    found = (public_names(package, MODULES[name]) for name, package in packages().items())
    return {path for names in found for paths in names.values() for path in paths}


def exists(path: str) -> bool:
    """Whether there is a module or name of that path, public or not."""
    package, _, rest = path.partition(".")
    try:
        packages()[package][rest]
    except KeyError:
        return False
    return True


def undocumented(found: griffe.Object | griffe.Alias, path: str) -> Iterator[str]:
    """What is missing from the docstrings of a public object and of its public members."""
    if not found.has_docstring:
        yield path
    if found.is_class:
        for name, member in found.members.items():
            if name.startswith("_") or member.is_alias or "property" in member.labels:
                wanted = not name.startswith("_") and not member.is_alias
            else:
                wanted = member.is_function
            if wanted and not member.has_docstring:
                yield f"{path}.{name}"


def _page(package: griffe.Module, names: dict[str, list[str]]) -> str:
    rows = [f"# `{package.name}`", "", INTRODUCTIONS[package.name], ""]
    for paths in names.values():
        for path in paths:
            found = package[path.removeprefix(f"{package.name}.")]
            rows.append(f"- [`{path.removeprefix(package.name + '.')}`][{path}] {_first(found)}")
    for module, paths in names.items():
        rows += ["", f"## `{module.removeprefix(package.name + '.')}`", ""]
        for path in paths:
            rows += [f"::: {path}", ""]
    return "\n".join(rows) + "\n"


def _first(found: griffe.Object | griffe.Alias) -> str:
    text = found.docstring.value if found.docstring else ""
    line = " ".join(text.split("\n\n")[0].split())
    return f"· {line}" if line else ""
