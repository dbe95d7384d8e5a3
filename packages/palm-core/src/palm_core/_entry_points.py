"""Entry points, by which packages announce plugins: listing imports none, loading one."""

from __future__ import annotations

import inspect
import re
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palm_core._factories import import_named, importable
from palm_core.errors import InputError
from palm_core.text import did_you_mean, reason

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.metadata import EntryPoint

    from palm_core._factories import Kind

# The packages of this repository. They are not on a package index: whatever stands
# there under these names is not ours.
_OURS = ("palm-core", "palm-eval", "palm-mod", "palm-trl")

_ATTRIBUTE = re.compile(r"\w+(\.\w+)*\s*:\s*\w+(\.\w+)*\s*(\[.*\])?")


def entries(kind: Kind) -> list[EntryPoint]:
    """The kind's entry points, each once for its package and value, sorted by name.

    Python reads a package that stands twice on ``sys.path`` once.
    """
    found = {
        (entry.name, _normalized(package_of(entry)), entry.value): entry
        for entry in entry_points(group=kind.group)
    }
    return [found[key] for key in sorted(found)]


def available(kind: Kind) -> tuple[str, ...]:
    """The sorted names of what is installed; imports none of it."""
    return tuple(sorted({entry.name for entry in entries(kind)}))


def load_entry(kind: Kind, name: str, *, known: Iterable[str] = ()) -> Any:
    """What stands behind the entry point called ``name``, imported.

    Args:
        kind: of the plugin.
        name: of the entry point.
        known: names that could be installed, which may have been meant.

    Raises:
        PluginError: of the kind: none or several of that name, or it does not import.
    """
    found = entries(kind)
    matches = [entry for entry in found if entry.name == name]
    if not matches:
        installed = sorted({entry.name for entry in found})
        near = did_you_mean(name, {*installed, *known}).replace("; did", ". Did")
        article = "an" if kind.noun[0] in "aeiou" else "a"
        own = f"; {article} {kind.noun} of your own is named {kind.form!r}" if not near else ""
        raise kind.unknown(
            f"unknown {kind.noun} {name!r}; installed: {', '.join(installed) or 'none'}{near}{own}"
        )
    if len(matches) > 1:
        providers = " and ".join(f"{package_of(entry)} ({entry.value})" for entry in matches)
        raise kind.duplicate(
            f"{kind.noun} {name!r} is provided by {providers}: uninstall all but one"
        )
    entry = matches[0]
    if not _ATTRIBUTE.fullmatch(entry.value.strip()):
        form = kind.form.rpartition(".")[2]
        raise kind.broken(
            f"{kind.noun} {name!r} is installed but does not import: {package_of(entry)} "
            f"announces {entry.value!r}, must be {form!r}"
        )
    try:
        return entry.load()
    except Exception as error:
        raise kind.broken(
            f"{kind.noun} {name!r} is installed but does not import: {reason(error)}"
            + _how_to_mend(error, entry)
        ) from error


def load_function(kind: Kind, name: str, folder: str | Path | None, signature: str) -> Any:
    """The function called ``name``: an entry point's, or "package.module:function".

    Args:
        kind: of the plugin.
        name: see above.
        folder: where such a module is looked for first; ``None`` means the current one.
        signature: what the function must take and give, for the message.

    Raises:
        PluginError: of the kind: it cannot be had.
        InputError: ``name`` is none, or what it names is no function.
    """
    check_name(kind, name)
    if ":" in name:
        where = Path.cwd() if folder is None else Path(folder)
        with importable(where):
            function = import_named(kind, name, where)
    else:
        function = load_entry(kind, name)
    if not callable(function) or inspect.isclass(function):
        raise InputError(
            f"{kind.noun} {name!r} is of type {type(function).__name__}: must be a function "
            f"{signature}"
        )
    return function


def check_name(kind: Kind, name: Any) -> None:
    """Refuse what is no name of a plugin: :class:`InputError`."""
    if not isinstance(name, str) or not name:
        raise InputError(f"{kind.noun} = {name!r}: must be a name or {kind.form!r}")


def package_of(entry: EntryPoint) -> str:
    """The package that announces an entry point."""
    return str(entry.dist.name) if entry.dist else "an unnamed package"


def how_to_install(packages: Iterable[str]) -> str:
    """What to type for packages of this repository."""
    folders = " ".join(f"./packages/{package}" for package in packages)
    return f"where a checkout of the PALM repository has it: pip install {folders}"


def _how_to_mend(error: Exception, entry: EntryPoint) -> str:
    """The package's own requirement for the module that is missing, if it has one."""
    if not isinstance(error, ModuleNotFoundError) or not error.name or not entry.dist:
        return ""
    missing = _normalized(error.name.partition(".")[0])
    if missing in _OURS:
        return f" ({how_to_install([missing])})"
    for line in entry.dist.requires or []:
        requirement = line.partition(";")[0].strip()
        package = re.match(r"[\w.-]+", requirement)
        if package and _normalized(package.group()) == missing:
            return f' (pip install "{requirement}")'
    return ""


def _normalized(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()
