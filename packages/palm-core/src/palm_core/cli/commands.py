"""Registration of commands: built-in and from plugins."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from cyclopts import Group

from palm_core.errors import InputError
from palm_core.validation import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.metadata import EntryPoint

    from cyclopts import App

_OTHERS = "From other packages"
_LISTED = {
    "Select from a table of models": ("select", "route"),
    "Build with an oracle": ("oracles", "plan", "build"),
    "Work with runs": ("status", "runs", "prune", "evaluate", "compare", "report", "export"),
    "Reproduce the paper": ("tables", "figures", "reproduce"),
    _OTHERS: (),
    "Setup and help": ("completion", "--help", "--version"),
}
#: Heading of a command's parameters in its help.
PARAMETERS = Group("Parameters")
_GROUPS = {title: Group(title, sort_key=place) for place, title in enumerate(_LISTED)}


def group_of(command: str) -> tuple[Group, int]:
    """The help group of a command and its position in that group."""
    for title, names in _LISTED.items():
        if command in names:
            return _GROUPS[title], names.index(command)
    return _GROUPS[_OTHERS], 0


GROUP = "palm.commands"


def add_commands(app: App, arguments: Sequence[str], own: Sequence[str]) -> None:
    """Add the commands of installed packages to ``app``; built-in commands cannot be replaced.

    Args:
        app: the application to extend.
        arguments: the command line; only the command that it names is loaded.
        own: names of the built-in commands.
    """
    if arguments and arguments[0] in own:
        return
    for entry in _entries():
        if entry.name in own:
            continue
        if arguments and not arguments[0].startswith("-") and arguments[0] != entry.name:
            # Registered without loading, for suggestions on a mistyped name.
            function = _unloaded
        else:
            function = _loaded(entry)
        group, place = group_of(entry.name)
        app.command(function, name=entry.name, group=group, sort_key=place)


def has_command(name: str) -> bool:
    """Whether an installed package provides the command; imports nothing."""
    return any(entry.name == name for entry in _entries())


def _entries() -> list[EntryPoint]:
    found = {(entry.name, entry.value): entry for entry in entry_points(group=GROUP)}
    names = [name for name, _ in found]
    return [found[key] for key in sorted(found) if names.count(key[0]) == 1]


def _loaded(entry: EntryPoint) -> Callable[..., Any]:
    package = entry.dist.name if entry.dist else "an unnamed package"
    try:
        function = entry.load()
        if not callable(function):
            raise TypeError(f"{entry.value} is not a function")
    except Exception as error:  # noqa: BLE001  a broken plugin must not break other commands
        reason = one_line(f"{type(error).__name__}: {error}")

        def broken(*_: str) -> None:
            raise InputError(f"palm {entry.name}: {package} cannot be loaded: {reason}")

        broken.__doc__ = f"({package} cannot be loaded: {reason})"
        return broken
    return function  # type: ignore[no-any-return]  # checked to be callable


def _unloaded() -> None:
    raise AssertionError("the command was not loaded")
