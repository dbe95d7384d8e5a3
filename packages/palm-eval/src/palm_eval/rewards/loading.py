"""Which reward functions there are, and getting one by its name.

Packages announce factories of reward functions as entry points of the group
``palm.rewards``. A reward function of one's own needs no factory: "module:function"
is used as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from palm_core._entry_points import available, check_name, load_entry, load_function
from palm_core._factories import Kind, check_options, make
from palm_core.errors import InputError, PluginError
from palm_core.text import one_line

if TYPE_CHECKING:
    from pathlib import Path

    from palm_eval.rewards.base import RewardFunction

_REWARD = Kind(noun="reward", group="palm.rewards")
_SIGNATURE = "(prompts, completions, **columns) -> list of numbers"


def available_rewards() -> tuple[str, ...]:
    """The sorted names of the installed reward functions; imports none of them."""
    return available(_REWARD)


def load_reward(name: str, folder: str | Path | None = None, /, **options: Any) -> RewardFunction:
    """Make the reward function called ``name`` with the given options.

    Args:
        name: an entry point's name ("gsm", "classifier" …), or "module:function" for a
            reward function of one's own with the signature of TRL. That one takes no
            options; where it has a text attribute ``fingerprint``, its scores can be
            cached on disk.
        folder: where such a module is looked for first; ``None`` means the current one.
        **options: go to the factory, after their names are checked.

    Raises:
        PluginError: no such reward function, or it does not import; ``__cause__`` says
            why.
        InputError: an option is unknown, missing or refused, or what was found is not a
            function.
    """
    check_name(_REWARD, name)
    if ":" in name:
        if options:
            raise InputError(
                f"reward {name!r}: a function of one's own is used as it is, takes no options, "
                f"got {', '.join(sorted(options))}"
            )
        return cast("RewardFunction", load_function(_REWARD, name, folder, _SIGNATURE))
    factory = load_entry(_REWARD, name)
    if not callable(factory):
        raise PluginError(
            f"reward {name!r} is of type {type(factory).__name__}: must be a class or a function"
        )
    check_options(_REWARD, name, factory, options)
    made = make(_REWARD, name, factory, options)
    if not callable(made):
        raise InputError(
            f"reward {name!r}: its factory returned {one_line(repr(made), 60)}, must return a "
            f"function {_SIGNATURE}"
        )
    return cast("RewardFunction", made)
