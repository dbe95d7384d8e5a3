"""What plugins are made by: import ``"package.module:factory"``, check options, call it."""

from __future__ import annotations

import inspect
import re
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from importlib import import_module, invalidate_caches
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palm_core.errors import InputError, PalmError, PluginError
from palm_core.text import did_you_mean, reason

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

#: Options that are listed also to somebody who left out one of them.
SHORT_LIST = 12


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of plugin: what it is called, who announces it, how it fails to be had.

    Attributes:
        noun: what messages call it.
        group: the entry points that announce it.
        form: how one is named that no package announces.
        table: the table of a task file that its options stand in; "" where none does.
        unknown: raised where there is none of that name.
        broken: raised where one does not import, or cannot be made.
        duplicate: raised where several packages provide it.
    """

    noun: str
    group: str
    form: str = "module:function"
    table: str = ""
    unknown: type[PluginError] = PluginError
    broken: type[PluginError] = PluginError
    duplicate: type[PluginError] = PluginError


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Modules in ``folder`` come first; afterwards last, for worker processes.

    A worker that is handed the oracle imports its module again, along the
    ``sys.path`` it inherits.
    """
    if not folder.is_dir():
        raise InputError(f"folder = {str(folder)!r}: must be a folder that exists")
    entry = str(folder.resolve())
    lasting = entry in sys.path
    sys.path.insert(0, entry)
    invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(entry)
        if not lasting:
            sys.path.append(entry)


def import_named(kind: Kind, name: str, folder: Path) -> Any:
    """The object that ``name``, "package.module:attribute", stands for.

    Raises:
        InputError: ``name`` is not of that form.
        PluginError: of the kind: there is no such module, or nothing of that name in it;
            the module fails to import, or another file of its name is imported already.
    """
    module_name, _, attribute = name.partition(":")
    for part in (*module_name.split("."), *attribute.split(".")):
        if not part.isidentifier():
            raise InputError(f"{kind.noun} {name!r}: must be a name or {kind.form!r}")
    _check_not_taken(kind, name, module_name.partition(".")[0], folder)
    try:
        module = import_module(module_name)
    except Exception as error:
        absent = getattr(error, "name", None)
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{absent}."):
            raise kind.unknown(
                f"unknown {kind.noun} {name!r}: there is no module {absent!r} in {folder} "
                "or among the installed packages"
            ) from error
        raise kind.broken(f"{kind.noun} {name!r} does not import: {reason(error)}") from error
    try:
        return reduce(getattr, attribute.split("."), module)
    except AttributeError as error:
        names = [item for item in dir(module) if not item.startswith("_")]
        raise kind.unknown(
            f"unknown {kind.noun} {name!r}: {error}" + did_you_mean(attribute, names)
        ) from error


def _check_not_taken(kind: Kind, name: str, top: str, folder: Path) -> None:
    """Refuse to take a module of the same name, imported from elsewhere, for the user's."""
    spec = PathFinder.find_spec(top, [str(folder)])
    if top not in sys.modules or spec is None or not spec.has_location or spec.origin is None:
        return
    present = getattr(sys.modules[top], "__file__", None)
    if present is None or Path(present).resolve() != Path(spec.origin).resolve():
        raise kind.broken(
            f"{kind.noun} {name!r} does not import: another module {top!r} is imported already "
            f"({present or 'part of Python'}); rename {spec.origin}"
        )


def check_options(
    kind: Kind,
    name: str,
    factory: Callable[..., Any],
    options: Mapping[str, Any],
    offers: Collection[str] = (),
) -> None:
    """Refuse options that ``factory`` does not take, and their absence where it needs them.

    Args:
        kind: of the plugin.
        name: what it is called.
        factory: takes the options.
        options: by name.
        offers: options that are given to it without being asked for, and not listed.

    Raises:
        InputError: naming the option, and the nearest accepted one or all of them.
    """
    known = _parameters(factory)
    if known is None:
        return
    parameters = known.values()
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    accepted = [parameter.name for parameter in named]
    told = [option for option in accepted if option not in offers]
    listed = f". Accepted: {', '.join(told)}" if told else ". It takes no options"
    where = kind.table or kind.noun
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        for option in options:
            if option not in accepted:
                near = did_you_mean(option, told) or listed
                raise InputError(f"{where} {option}: unknown option of {name!r}{near}")
    for parameter in named:
        if parameter.default is parameter.empty and parameter.name not in options:
            more = listed if len(told) <= SHORT_LIST else ""
            raise InputError(f"{where} {parameter.name}: missing, {name!r} needs it{more}")


def settle(
    factory: Callable[..., Any],
    options: Mapping[str, Any],
    *,
    offers: Mapping[str, Any],
    folder: Path,
) -> dict[str, Any]:
    """Fill in what a task knows and its ``[oracle]`` table need not say.

    An offer (the run's seed) is taken where ``factory`` names it. Text given for
    a parameter annotated with ``Path`` is relative to ``folder``, not to
    wherever the command was typed; it becomes a path, or stays text where that may be too.
    """
    settled = dict(options)
    for name, parameter in (_parameters(factory) or {}).items():
        if name in offers:
            settled.setdefault(name, offers[name])
        value = settled.get(name)
        wanted = str(parameter.annotation)
        if isinstance(value, str) and "://" not in value and re.search(r"\bPath\b", wanted):
            path = folder / value
            settled[name] = str(path) if re.search(r"\bstr\b", wanted) else path
    return settled


def _parameters(factory: Callable[..., Any]) -> Mapping[str, inspect.Parameter] | None:
    try:
        return inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return None  # compiled callables may have no signature; the call will tell


def make(kind: Kind, name: str, factory: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    """Call ``factory``; what it raises comes out as one line, with its cause kept.

    Raises:
        PalmError: as the factory raised it.
        InputError: the factory refused a value.
        PluginError: of the kind: an import in the factory failed, or it broke otherwise.
    """
    try:
        return factory(**options)
    except PalmError:
        raise
    except (TypeError, ValueError, LookupError, OSError) as error:
        where = kind.table or kind.noun
        raise InputError(f"{where} {name!r} refused its options: {reason(error)}") from error
    except Exception as error:
        what = "does not import" if isinstance(error, ImportError) else "could not be made"
        raise kind.broken(f"{kind.noun} {name!r} {what}: {reason(error)}") from error
