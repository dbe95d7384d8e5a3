"""The registry of reward functions: entry points, loading by name, the rewards of a task.

Packages register factories of reward functions as entry points of the group ``palm.rewards``.
A custom reward function needs no factory: "module:function" is used directly.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from palm_core import InputError, PluginError
from palm_core.plugin import PluginKind, one_line

if TYPE_CHECKING:
    from palm_eval.rewards.base import RewardFunction

_REWARD = PluginKind(noun="reward", group="palm.rewards")
_SIGNATURE = "(prompts, completions, **columns) -> list of numbers"


def available_rewards() -> tuple[str, ...]:
    """The sorted names of the installed reward functions, without importing them."""
    return _REWARD.names()


def load_reward(name: str, folder: str | Path | None = None, /, **options: Any) -> RewardFunction:
    """Create the reward function ``name`` with the given options.

    Args:
        name: an entry point's name ("gsm", "classifier" …), or "module:function" for a
            custom reward function with the signature of TRL, which takes no options; if it
            has a string attribute ``fingerprint``, its scores can be cached on disk.
        folder: searched first for such a module; ``None`` means the current one.
        **options: for the factory; their names are validated.

    Raises:
        PluginError: no such reward function, or its import fails (see ``__cause__``).
        InputError: an option is unknown, missing or refused, or what was found is not a
            function.
    """
    _REWARD.check_name(name)
    if ":" in name:
        if options:
            raise InputError(
                f"reward {name!r}: a function takes no options, got {', '.join(sorted(options))}"
            )
        return cast("RewardFunction", _REWARD.load_function(name, folder, _SIGNATURE))
    factory = _REWARD.load(name)
    if not callable(factory):
        raise PluginError(
            f"reward {name!r} is of type {type(factory).__name__}: must be a class or a function"
        )
    _REWARD.check_options(name, factory, options)
    made = _REWARD.make(name, factory, options)
    if not callable(made):
        raise InputError(
            f"reward {name!r}: its factory returned {one_line(repr(made), 60)}, must return a "
            f"function {_SIGNATURE}"
        )
    return cast("RewardFunction", made)


def load_rewards(table: object, folder: Path | None) -> dict[str, RewardFunction]:
    """The reward functions of an ``[oracle.rewards]`` table, in its order.

    Args:
        table: by objective the name of a reward function ("gsm", "module:function"), a
            table with ``name`` and its options, or the function itself.
        folder: searched for modules of custom functions.

    Raises:
        InputError: fewer than two, or an invalid entry; it is named.
        PluginError: there is no such reward function, or its import fails.
    """
    if not isinstance(table, Mapping) or len(table) < 2:
        raise InputError(
            f"rewards = {one_line(repr(table), 80)}: must be a table with a reward for each of at "
            "least two objectives"
        )
    return {
        str(objective): _load(str(objective), given, folder) for objective, given in table.items()
    }


def _load(objective: str, given: object, folder: Path | None) -> RewardFunction:
    if callable(given):
        return given
    if isinstance(given, str):
        given = {"name": given}
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
        raise InputError(
            f"rewards.{objective} = {one_line(repr(given), 80)}: must be the name of a reward "
            "function, or a table with its name and options"
        )
    options = {str(key): value for key, value in given.items() if key != "name"}
    try:
        return load_reward(given["name"], folder, **options)
    except InputError as error:
        raise InputError(f"rewards.{objective}: {error}") from error


def identity(function: Any) -> str:
    """The identity of a reward function: its fingerprint, else a hash of its module's source.

    Its name alone if it has neither.
    """
    said = getattr(function, "fingerprint", None)
    if isinstance(said, str) and said:
        return said
    plain = function if inspect.isroutine(function) else type(function)
    name = f"{plain.__module__}:{plain.__qualname__}"
    try:
        source = inspect.getsourcefile(plain)
        content = None if source is None else Path(source).read_bytes()
    except (TypeError, OSError):
        content = None
    if content is None:
        # Not reproducible across sessions, but distinct from other functions.
        return name
    return f"{name} {hashlib.sha256(content).hexdigest()}"
