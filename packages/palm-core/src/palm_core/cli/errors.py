"""Error reporting: one line on standard error, and an exit code."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from cyclopts import (
    CoercionError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)
from cyclopts.annotations import resolve_optional

from palm_core.model.files import providers
from palm_core.oracles.registry import how_to_install
from palm_core.validation import did_you_mean, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cyclopts import CycloptsError

#: Option names of other programs → ours.
SAME = {
    "-o": "--out",
    "-j": "--workers",
    "-n": "--workers",
    "--output": "--out",
    "--out-dir": "--out",
    "--tolerance": "--epsilon",
    "--eps": "--epsilon",
    "--size": "--most",
    "--target-epsilon": "--target",
    "--weight": "--weights",
}


def message(error: CycloptsError) -> str:
    """Translate an error of cyclopts into a message of PALM."""
    name = " ".join(error.command_chain or ["palm"])
    unknown = _unknown_option(error)
    if unknown is not None:
        return f"{name} has no option {unknown}{_near_option(unknown, error, name)}"
    match error:
        case UnknownCommandError():
            line = _unknown_command((error.unused_tokens or [""])[0], error)
        case UnusedCliTokensError():
            line = _too_many(error.unused_tokens or [], name)
        case RepeatArgumentError():
            line = f"{error.token.keyword}: duplicate option"
        case MissingArgumentError():
            line = _missing(error, name)
        case CoercionError():
            line = _refused(error)
        case _:
            line = str(error)
    return line


def _too_many(extra: Sequence[str], name: str) -> str:
    words = " ".join(map(repr, extra))
    what = "unexpected argument" if len(extra) == 1 else "unexpected arguments"
    return f"{what} {words}; see palm {name} --help"


def _unknown_option(error: CycloptsError) -> str | None:
    """Message for an unknown option, also where another argument is missing."""
    if isinstance(error, UnknownOptionError):
        return str(error.token.keyword or error.token.value).partition("=")[0]
    if isinstance(error, MissingArgumentError) and not _has_keyword(error):
        options = [token for token in error.unused_tokens or () if token.startswith("-")]
        return options[0].partition("=")[0] if options else None
    return None


def _near_option(given: str, error: CycloptsError, name: str) -> str:
    """Suggest the nearest option, or the help that lists them."""
    known = _options(error)
    if SAME.get(given) in known and given not in known:
        return f"; did you mean {SAME[given]}?"
    near = difflib.get_close_matches(given, known, n=1)
    starts = [option for option in known if len(given) > 3 and option.startswith(given)]
    found = [*starts, *near]
    return f"; did you mean {found[0]}?" if found else f"; see palm {name} --help"


def _options(error: CycloptsError) -> list[str]:
    app = error.app
    if app is None or error.target is None:
        return []
    arguments = app.assemble_argument_collection()
    return [name for argument in arguments for name in argument.names if name.startswith("-")]


def _unknown_command(given: str, error: CycloptsError) -> str:
    known = [] if error.app is None else [name for name in error.app if not name.startswith("-")]
    if given.startswith("-"):
        near = nearest(given, ("--help", "--version"))
        ask = f"; did you mean {near}?" if near else ""
        return f"unknown option {given}{ask or '; options follow a command, see palm --help'}"
    packages = providers("commands").get(given)
    if packages:
        return (
            f"palm {given} comes with {packages[-1]}, which is not installed; "
            f"{how_to_install(packages)}"
        )
    ask = did_you_mean(given, known) or _command_for(given)
    return f"unknown command {given!r}{ask or '; see palm --help'}"


def _command_for(given: str) -> str:
    """The command to suggest for a file that was passed in place of a command."""
    ending = given.rpartition(".")[2].lower()
    if ending == "toml":
        return f"; for a task file: palm build {given} --out RUN"
    if ending in {"csv", "tsv", "parquet", "npy", "npz"}:
        return f"; for a table of models: palm select {given} --maximize COLUMN --minimize COLUMN"
    return ""


def _missing(error: MissingArgumentError, name: str) -> str:
    assert error.argument is not None
    option = error.argument.name
    if _has_keyword(error):
        kind = error.argument.parameter.metavar
        accepted = _choices(error.argument.hint)
        what = f": {_either(accepted)}" if accepted else f": {kind}" if kind else ""
        return f"{option} needs a value{what}"
    accepted = _choices(error.argument.hint)
    ask = f" ({_either(accepted)})" if accepted else ""
    example = first_example(error.target)
    more = f"; for example: {example}" if example else f"; see palm {name} --help"
    return f"{name} needs {option}{ask}{more}"


def _has_keyword(error: MissingArgumentError) -> bool:
    """Whether the option was passed without its value."""
    argument = error.argument
    return error.keyword is not None or (argument is not None and bool(argument.tokens))


def _refused(error: CoercionError) -> str:
    token, argument = error.token, error.argument
    name = "" if argument is None else argument.name
    given = "" if token is None else token.value
    accepted = _choices(error.target_type) or ([] if argument is None else _choices(argument.hint))
    if accepted:
        return f"{name} {given!r}: must be {_either(accepted)}{did_you_mean(given, accepted)}"
    reason = error.msg if error.msg is not None else "must not have a value"
    return f"{name} {given!r}: {reason}"


def _choices(hint: Any) -> list[str]:
    """The values of a ``Literal``, also inside a container type."""
    hint = resolve_optional(hint)
    if get_origin(hint) is Literal:
        return [str(value) for value in get_args(hint)]
    inner: Sequence[Any] = get_args(hint) if get_origin(hint) is tuple else ()
    return _choices(inner[0]) if inner else []


def _either(names: Iterable[str]) -> str:
    """Write "a, b or c"."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def first_example(function: Any) -> str:
    """The first example in a command's docstring: its first indented line."""
    import inspect

    lines = (inspect.getdoc(function) or "").splitlines()
    return next((line.strip() for line in lines if line.startswith("    palm ")), "")
