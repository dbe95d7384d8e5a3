"""Registry of plugins: entry points, factories by name, validation of options.

Packages announce oracles as entry points of the group ``palm.oracles``, each a
factory: a class or function that takes the options of a task's ``[oracle]``
table by keyword and returns an oracle. Listing reads the metadata of installed
packages and imports none of them; :func:`load_oracle` imports the requested
one only.
"""

from __future__ import annotations

import inspect
import re
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from importlib import import_module, invalidate_caches
from importlib.machinery import PathFinder
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from palm_core.errors import (
    DuplicateOracleError,
    InputError,
    OracleImportError,
    OracleNotInstalledError,
    PalmError,
    PluginError,
    UnknownOracleError,
)
from palm_core.model.files import known_packages, providers
from palm_core.validation import did_you_mean, error_reason

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from importlib.metadata import EntryPoint

    from palm_core.oracles.protocol import Oracle

#: Number of options up to which an error about a missing one lists them all.
SHORT_LIST = 12


@dataclass(frozen=True, kw_only=True)
class PluginKind:
    """A kind of plugin: its names, entry point group and errors.

    Attributes:
        noun: its name in messages.
        group: its group of entry points.
        form: form of a name without an entry point.
        table: the table of a task file with its options; "" for none.
        unknown: error for an unknown name.
        broken: error for a failed import or construction.
        duplicate: error for a name that several packages provide.
    """

    noun: str
    group: str
    form: str = "module:function"
    table: str = ""
    unknown: type[PluginError] = PluginError
    broken: type[PluginError] = PluginError
    duplicate: type[PluginError] = PluginError

    def import_named(self, name: str, folder: Path) -> Any:
        """Import the object ``name``, "package.module:attribute".

        Raises:
            InputError: ``name`` is not of that form.
            PluginError: of the kind: there is no such module, or nothing of that name in it;
                the module fails to import, or another file of its name is imported already.
        """
        module_name, _, attribute = name.partition(":")
        for part in (*module_name.split("."), *attribute.split(".")):
            if not part.isidentifier():
                raise InputError(f"{self.noun} {name!r}: must be a name or {self.form!r}")
        self._check_not_taken(name, module_name.partition(".")[0], folder)
        try:
            module = import_module(module_name)
        except Exception as error:
            absent = getattr(error, "name", None)
            if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(
                f"{absent}."
            ):
                raise self.unknown(
                    f"unknown {self.noun} {name!r}: there is no module {absent!r} in {folder} "
                    "or among the installed packages"
                ) from error
            raise self.broken(
                f"{self.noun} {name!r} does not import: {error_reason(error)}"
            ) from error
        try:
            return reduce(getattr, attribute.split("."), module)
        except AttributeError as error:
            names = [item for item in dir(module) if not item.startswith("_")]
            raise self.unknown(
                f"unknown {self.noun} {name!r}: {error}" + did_you_mean(attribute, names)
            ) from error

    def _check_not_taken(self, name: str, top: str, folder: Path) -> None:
        """Refuse a module of the same name that was imported from another file."""
        spec = PathFinder.find_spec(top, [str(folder)])
        if top not in sys.modules or spec is None or not spec.has_location or spec.origin is None:
            return
        present = getattr(sys.modules[top], "__file__", None)
        if present is None or Path(present).resolve() != Path(spec.origin).resolve():
            raise self.broken(
                f"{self.noun} {name!r} does not import: another module {top!r} is imported already "
                f"({present or 'part of Python'}); rename {spec.origin}"
            )

    def check_options(
        self,
        name: str,
        factory: Callable[..., Any],
        options: Mapping[str, Any],
        offers: Collection[str] = (),
    ) -> None:
        """Refuse unknown and missing options of ``factory``.

        Args:
            name: of the plugin.
            factory: the callable that takes the options.
            options: by name.
            offers: options that are passed automatically, and not listed.

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
        where = self.table or self.noun
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            for option in options:
                if option not in accepted:
                    near = did_you_mean(option, told) or listed
                    raise InputError(f"{where} {option}: unknown option of {name!r}{near}")
        for parameter in named:
            if parameter.default is parameter.empty and parameter.name not in options:
                more = listed if len(told) <= SHORT_LIST else ""
                raise InputError(f"{where} {parameter.name}: missing, {name!r} needs it{more}")

    def make(self, name: str, factory: Callable[..., Any], options: Mapping[str, Any]) -> Any:
        """Call ``factory``; its exceptions become one line, with ``__cause__``.

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
            where = self.table or self.noun
            raise InputError(
                f"{where} {name!r} refused its options: {error_reason(error)}"
            ) from error
        except Exception as error:
            what = "does not import" if isinstance(error, ImportError) else "could not be made"
            raise self.broken(f"{self.noun} {name!r} {what}: {error_reason(error)}") from error

    def entries(self) -> list[EntryPoint]:
        """The entry points of the kind, without duplicates, sorted by name.

        Python reads a package with a duplicate entry on ``sys.path`` once.
        """
        found = {
            (entry.name, _normalized(package_of(entry)), entry.value): entry
            for entry in entry_points(group=self.group)
        }
        return [found[key] for key in sorted(found)]

    def names(self) -> tuple[str, ...]:
        """The sorted names of the installed plugins; imports none of them."""
        return tuple(sorted({entry.name for entry in self.entries()}))

    def load(self, name: str, *, known: Iterable[str] = ()) -> Any:
        """Import the object of the entry point ``name``.

        Args:
            name: of the entry point.
            known: names that could be installed, for suggestions.

        Raises:
            PluginError: of the kind: none or several of that name, or it does not import.
        """
        found = self.entries()
        matches = [entry for entry in found if entry.name == name]
        if not matches:
            installed = sorted({entry.name for entry in found})
            near = did_you_mean(name, {*installed, *known}).replace("; did", ". Did")
            article = "an" if self.noun[0] in "aeiou" else "a"
            own = f"; {article} {self.noun} of your own is named {self.form!r}" if not near else ""
            raise self.unknown(
                f"unknown {self.noun} {name!r}; "
                f"installed: {', '.join(installed) or 'none'}{near}{own}"
            )
        if len(matches) > 1:
            providers = " and ".join(f"{package_of(entry)} ({entry.value})" for entry in matches)
            raise self.duplicate(
                f"{self.noun} {name!r} is provided by {providers}: uninstall all but one"
            )
        entry = matches[0]
        if not _ATTRIBUTE.fullmatch(entry.value.strip()):
            form = self.form.rpartition(".")[2]
            raise self.broken(
                f"{self.noun} {name!r} is installed but does not import: {package_of(entry)} "
                f"announces {entry.value!r}, must be {form!r}"
            )
        try:
            return entry.load()
        except Exception as error:
            raise self.broken(
                f"{self.noun} {name!r} is installed but does not import: {error_reason(error)}"
                + _how_to_mend(error, entry)
            ) from error

    def load_function(self, name: str, folder: str | Path | None, signature: str) -> Any:
        """Load the function ``name``: an entry point, or "package.module:function".

        Args:
            name: see above.
            folder: searched first for such a module; ``None`` means the current directory.
            signature: the required signature, for the message.

        Raises:
            PluginError: of the kind: it cannot be had.
            InputError: ``name`` is none, or what it names is no function.
        """
        self.check_name(name)
        if ":" in name:
            where = Path.cwd() if folder is None else Path(folder)
            with importable(where):
                function = self.import_named(name, where)
        else:
            function = self.load(name)
        if not callable(function) or inspect.isclass(function):
            raise InputError(
                f"{self.noun} {name!r} is of type {type(function).__name__}: must be a function "
                f"{signature}"
            )
        return function

    def check_name(self, name: Any) -> None:
        """Raise :class:`InputError` for an invalid name of a plugin."""
        if not isinstance(name, str) or not name:
            raise InputError(f"{self.noun} = {name!r}: must be a name or {self.form!r}")


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Put ``folder`` first on ``sys.path``; afterwards last, for worker processes.

    A worker that receives the oracle imports its module again, along the
    inherited ``sys.path``.
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


def settle(
    factory: Callable[..., Any],
    options: Mapping[str, Any],
    *,
    offers: Mapping[str, Any],
    folder: Path,
) -> dict[str, Any]:
    """Complete the options of an ``[oracle]`` table by values from the task.

    An offer (the run's seed) is passed where ``factory`` has a parameter of that name.
    Text for a parameter annotated with ``Path`` is relative to ``folder``, not to the
    current directory; it becomes a path, or stays text where the annotation allows text.
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
        return None  # compiled callables may have no signature; the call raises


_ATTRIBUTE = re.compile(r"\w+(\.\w+)*\s*:\s*\w+(\.\w+)*\s*(\[.*\])?")


def package_of(entry: EntryPoint) -> str:
    """The package that announces an entry point."""
    return str(entry.dist.name) if entry.dist else "an unnamed package"


def how_to_install(packages: Iterable[str]) -> str:
    """The installation command for packages of this repository."""
    folders = " ".join(f"./packages/{package}" for package in packages)
    return f"where a checkout of the PALM repository has it: pip install {folders}"


def _how_to_mend(error: Exception, entry: EntryPoint) -> str:
    """The package's requirement for the missing module, if it has one."""
    if not isinstance(error, ModuleNotFoundError) or not error.name or not entry.dist:
        return ""
    missing = _normalized(error.name.partition(".")[0])
    if missing in known_packages():  # not on a package index
        return f" ({how_to_install([missing])})"
    for line in entry.dist.requires or []:
        requirement = line.partition(";")[0].strip()
        package = re.match(r"[\w.-]+", requirement)
        if package and _normalized(package.group()) == missing:
            return f' (pip install "{requirement}")'
    return ""


def _normalized(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


_ORACLE = PluginKind(
    noun="oracle",
    group="palm.oracles",
    form="package.module:factory",
    table="[oracle]",
    unknown=UnknownOracleError,
    broken=OracleImportError,
    duplicate=DuplicateOracleError,
)


_EXPORTER = PluginKind(noun="export target", group="palm.exporters", table="--to")
_ANALYSIS = PluginKind(noun="analysis", group="palm.analyses")


@dataclass(frozen=True, kw_only=True)
class OracleInfo:
    """Metadata of an oracle, without importing it.

    Attributes:
        name: its name in a task file and for :func:`load_oracle`.
        value: its factory as ``"module:attribute"``, or ``None``.
        distribution: the package that provides it, or would.
        version: that package's version, or ``None``.
        installed: whether that package is installed.
        hint: how to make an oracle loadable, else empty.
    """

    name: str
    value: str | None
    distribution: str
    version: str | None
    installed: bool
    hint: str = ""


def available_oracles() -> tuple[str, ...]:
    """The sorted names of the installed oracles; imports none of them."""
    return _ORACLE.names()


def describe_oracles() -> tuple[OracleInfo, ...]:
    """Every oracle that is installed or known, by name; imports none of them.

    A name that two packages provide is listed once for each, with a hint.
    """
    found = _ORACLE.entries()
    names = [entry.name for entry in found]
    infos = [
        OracleInfo(
            name=entry.name,
            value=entry.value,
            distribution=package_of(entry),
            version=entry.dist.version if entry.dist else None,
            installed=True,
            hint="several packages provide it: uninstall all but one"
            if names.count(entry.name) > 1
            else "",
        )
        for entry in found
    ]
    infos += [
        OracleInfo(
            name=name,
            value=None,
            distribution=packages[-1],
            version=None,
            installed=False,
            hint=how_to_install(packages),
        )
        for name, packages in providers("oracles").items()
        if name not in names
    ]
    return tuple(sorted(infos, key=lambda info: (info.name, info.distribution)))


def load_oracle(name: str, folder: str | Path | None = None, /, **options: Any) -> Oracle:
    """Make the oracle called ``name`` with the given options.

    Args:
        name: an entry point's name, or ``"package.module:factory"`` for an
            oracle that is not installed as a plugin.
        folder: searched first for such a module; ``None`` means the
            current directory. It stays at the end of ``sys.path``, so that
            worker processes find the module too.
        **options: passed to the oracle's factory, after validation of their names.

    Raises:
        UnknownOracleError: no such entry point, module or factory.
        OracleNotInstalledError: the package that provides it is not installed.
        DuplicateOracleError: several packages provide it.
        OracleImportError: it is there, but importing or making it failed;
            ``__cause__`` is the reason.
        InputError: an option is unknown, missing or refused by the factory, or
            what the factory made is not an oracle.
    """
    return make_oracle(name, Path.cwd() if folder is None else Path(folder), options, offers={})


def make_oracle(
    name: str, folder: Path, options: Mapping[str, Any], *, offers: Mapping[str, Any]
) -> Oracle:
    """:func:`load_oracle` with offers: values for the factory's parameters of these names."""
    _ORACLE.check_name(name)
    if ":" not in name:
        return _make(name, _installed(name), options, offers, folder)
    # The factory may import modules beside it, so ``folder`` stays importable.
    with importable(folder):
        return _make(name, _ORACLE.import_named(name, folder), options, offers, folder)


def _make(
    name: str,
    factory: Any,
    options: Mapping[str, Any],
    offers: Mapping[str, Any],
    folder: Path,
) -> Oracle:
    if not callable(factory):
        raise OracleImportError(
            f"oracle {name!r} is of type {type(factory).__name__}: must be a class or a function"
        )
    settled = settle(factory, options, offers=offers, folder=folder)
    _ORACLE.check_options(name, factory, settled, offers)
    oracle = _ORACLE.make(name, factory, settled)
    from palm_core.oracles.protocol import (
        check_oracle,  # lazy: listing needs no NumPy
    )

    check_oracle(oracle)
    return cast("Oracle", oracle)


def _installed(name: str) -> Any:
    """Import the factory of an entry point."""
    _check_installed(_ORACLE, "oracles", name, f"oracle {name!r}", OracleNotInstalledError)
    return _ORACLE.load(name, known=providers("oracles"))


def _check_installed(
    kind: PluginKind, names: str, name: str, label: str, error: type[PluginError] = PluginError
) -> None:
    """Refuse a name of a known package that is not installed.

    Args:
        kind: of the plugin.
        names: the key of its names in ``packages.toml``.
        name: of the plugin.
        label: how the message names it.
        error: the class of the error.
    """
    known = providers(names)
    if name in known and name not in kind.names():
        packages = known[name]
        raise error(
            f"{label} comes with {packages[-1]}, which is not installed; "
            + how_to_install(packages)
        )


def load_exporter(name: str, options: Mapping[str, Any]) -> Callable[..., dict[str, Any]]:
    """Load the exporter ``name``: an entry point of ``palm.exporters``, or "module:function".

    It is called with the path of a run or portfolio and ``options``, and returns a dictionary:
    ``export`` (the folder), ``to``, ``objectives``, ``models`` (each ``name``, ``share``,
    ``serves``), ``missing`` (sentences), and optionally ``next`` (the command to run next).

    Args:
        name: of the target.
        options: "out", "task", "base", if present.

    Raises:
        PluginError: it cannot be had.
        InputError: it does not take an option.
    """
    _EXPORTER.check_name(name)
    _check_installed(_EXPORTER, "exporters", name, f"--to {name}:")
    exporter = _EXPORTER.load_function(name, None, "(source, *, out, task, base) -> dict")
    _EXPORTER.check_options(name, exporter, {"source": None, **options}, offers=("source",))
    return cast("Callable[..., dict[str, Any]]", exporter)


def load_analysis(name: str) -> Callable[..., Any]:
    """Load the analysis ``name`` of finished runs: an entry point of ``palm.analyses``.

    It is called with the run, and returns what :class:`palm_core.Run` keeps under that name.

    Raises:
        PluginError: it cannot be had.
    """
    _check_installed(_ANALYSIS, "analyses", name, f"{name} of a run:")
    return cast("Callable[..., Any]", _ANALYSIS.load_function(name, None, "(run) -> result"))
