"""Which oracles there are, and getting one by its name.

Packages announce oracles as entry points of the group ``palm.oracles``, each a
factory: a class or function that takes the options of a task's ``[oracle]``
table by keyword and returns an oracle. Listing reads the metadata of installed
packages and imports none of them; only :func:`load_oracle` imports, and only
what it was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from palm_core._entry_points import (
    available,
    check_name,
    entries,
    how_to_install,
    load_entry,
    package_of,
)
from palm_core._factories import Kind, check_options, import_named, importable, make, settle
from palm_core.errors import (
    DuplicateOracleError,
    InputError,
    OracleImportError,
    OracleNotInstalledError,
    UnknownOracleError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from palm_core.oracle import Oracle
    from palm_core.task import Task

#: The folder of a run, beside its artifacts, for calls that are not finished.
WORK = "work"
_ORACLE = Kind(
    noun="oracle",
    group="palm.oracles",
    form="package.module:factory",
    table="[oracle]",
    unknown=UnknownOracleError,
    broken=OracleImportError,
    duplicate=DuplicateOracleError,
)

# Our own oracles are named even where they are not installed, each with the
# packages of this repository that it takes.
_OURS = {
    "grpo": ("palm-core", "palm-eval", "palm-trl"),
    "mod": ("palm-core", "palm-eval", "palm-mod"),
    "soup": ("palm-core", "palm-eval", "palm-mod"),
    "tabular": ("palm-core",),
}


@dataclass(frozen=True, kw_only=True)
class OracleInfo:
    """What is known of an oracle without importing it.

    Attributes:
        name: what a task file or :func:`load_oracle` calls it.
        value: its factory as ``"module:attribute"``, or ``None``.
        distribution: the package that provides it, or would.
        version: that package's version, or ``None``.
        installed: whether that package is installed.
        hint: what to do about an oracle that cannot be loaded, else empty.
    """

    name: str
    value: str | None
    distribution: str
    version: str | None
    installed: bool
    hint: str = ""


def available_oracles() -> tuple[str, ...]:
    """The sorted names of the installed oracles; imports none of them."""
    return available(_ORACLE)


def describe_oracles() -> tuple[OracleInfo, ...]:
    """Every oracle that is installed or known, by name; imports none of them.

    A name that two packages provide is listed once for each, with a hint.
    """
    found = entries(_ORACLE)
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
        for name, packages in _OURS.items()
        if name not in names
    ]
    return tuple(sorted(infos, key=lambda info: (info.name, info.distribution)))


def load_oracle(name: str, folder: str | Path | None = None, /, **options: Any) -> Oracle:
    """Make the oracle called ``name`` with the given options.

    Args:
        name: an entry point's name, or ``"package.module:factory"`` for an
            oracle that is not installed as a plugin.
        folder: where such a module is looked for first; ``None`` means the
            current directory. It stays at the end of ``sys.path``, so that
            worker processes find the module too.
        **options: go to the oracle's factory, after their names are checked.

    Raises:
        UnknownOracleError: no such entry point, module or factory.
        OracleNotInstalledError: the package that provides it is not installed.
        DuplicateOracleError: several packages provide it.
        OracleImportError: it is there, but importing or making it failed;
            ``__cause__`` is the reason.
        InputError: an option is unknown, missing or refused by the factory, or
            what the factory made is not an oracle.
    """
    return _load(name, Path.cwd() if folder is None else Path(folder), options, offers={})


def load_task_oracle(task: Task, artifact_dir: Path | None = None) -> Oracle:
    """Make the oracle of a task file; raises as :func:`load_oracle` does.

    Args:
        task: as it was read.
        artifact_dir: the run's folder for artifacts, for a factory that has a parameter
            of that name; ``None`` where nothing is going to be built. Beside it is the
            folder that a parameter ``work_dir`` gets, for what an oracle needs to go on
            with a call that was killed (checkpoints); nobody else looks into it.

    Relative paths in ``[oracle]`` are relative to the task file, for the factory's
    parameters annotated with ``Path``; ``task_dir`` gets its folder, for names that only
    may be paths. A factory that has a parameter ``run_seed`` gets the seed of ``[run]``,
    to derive its own from (run seed, weight vector), so that order and workers change
    nothing.
    """
    work_dir = None if artifact_dir is None else artifact_dir.with_name(WORK)
    offers = {
        "run_seed": task.seed,
        "task_dir": task.folder,
        "artifact_dir": artifact_dir,
        "work_dir": work_dir,
    }
    try:
        return _load(task.oracle, task.folder, task.options, offers=offers)
    except InputError as error:
        # Of the kinds of errors only this one is about what stands in the file.
        if not task.source or type(error) is not InputError:
            raise
        told = str(error).removeprefix("[oracle] ")
        raise InputError(f"{task.source} [oracle] {told}") from error


@dataclass(frozen=True)
class TaskOracle:
    """Makes the oracle of a task, here or in a worker: see :func:`load_task_oracle`."""

    task: Task
    artifact_dir: Path

    def __call__(self) -> Oracle:
        """Make it."""
        return load_task_oracle(self.task, self.artifact_dir)


def _load(
    name: str, folder: Path, options: Mapping[str, Any], *, offers: Mapping[str, Any]
) -> Oracle:
    check_name(_ORACLE, name)
    if ":" not in name:
        return _make(name, _installed(name), options, offers, folder)
    # The factory may import its neighbours too, so it runs where it was found.
    with importable(folder):
        return _make(name, import_named(_ORACLE, name, folder), options, offers, folder)


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
    check_options(_ORACLE, name, factory, settled, offers)
    oracle = make(_ORACLE, name, factory, settled)
    from palm_core.oracle import check_oracle  # not for those who only list: it takes NumPy

    check_oracle(oracle)
    return cast("Oracle", oracle)


def _installed(name: str) -> Any:
    """The factory behind an entry point, imported."""
    if name in _OURS and name not in available(_ORACLE):
        packages = _OURS[name]
        raise OracleNotInstalledError(
            f"oracle {name!r} comes with {packages[-1]}, which is not installed; "
            + how_to_install(packages)
        )
    return load_entry(_ORACLE, name, known=_OURS)
