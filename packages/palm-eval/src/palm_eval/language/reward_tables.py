"""The rewards of a task: a table by objective, as functions and as what identifies them."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palm_core.errors import InputError
from palm_core.text import one_line
from palm_eval.rewards import load_reward

if TYPE_CHECKING:
    from palm_eval.rewards.base import RewardFunction


def load_rewards(table: object, folder: Path | None) -> dict[str, RewardFunction]:
    """The reward functions of an ``[oracle.rewards]`` table, in its order.

    Args:
        table: by objective the name of a reward function ("gsm", "module:function"), a
            table with ``name`` and its options, or the function itself.
        folder: where modules of one's own are looked for.

    Raises:
        InputError: fewer than two, or an entry that is none of these: named.
        PluginError: there is no such reward function, or it does not import.
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
    """What tells a reward function from another: its fingerprint, else its module's text.

    Its name alone, where it has neither.
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
        # Not known to be the same tomorrow; at least it is not taken for another.
        return name
    return f"{name} {hashlib.sha256(content).hexdigest()}"
