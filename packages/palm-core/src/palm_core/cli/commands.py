"""Which commands there are, in the order in which they are listed."""

from __future__ import annotations

from cyclopts import Group

PALM = ("palm-core", "palm-eval", "palm-mod", "palm-trl")
_EVAL = PALM[:2]
#: Our commands that come with other packages than palm-core, each with the packages it takes.
PACKAGES = {
    "compare": _EVAL,
    "evaluate": _EVAL,
    "export": (*_EVAL, "palm-trl"),
    "figures": _EVAL,
    "report": _EVAL,
    "reproduce": _EVAL,
    "tables": _EVAL,
}

_LISTED = {
    "From a table of models": ("select", "route"),
    "From an oracle": ("oracles", "plan", "build"),
    "A run": ("status", "runs", "prune", "evaluate", "compare", "report", "export"),
    "As in the paper": ("tables", "figures", "reproduce"),
    "From other packages": (),
    "This program": ("completion", "--help", "--version"),
}
#: All that a command takes, in its help.
PARAMETERS = Group("Parameters")
_GROUPS = {title: Group(title, sort_key=place) for place, title in enumerate(_LISTED)}


def group_of(command: str) -> tuple[Group, int]:
    """Where a command is listed: under which heading, and how far down."""
    for title, names in _LISTED.items():
        if command in names:
            return _GROUPS[title], names.index(command)
    return _GROUPS["From other packages"], 0
