"""Reward functions with the signature of TRL: (prompts, completions, **columns) -> list[float].

Each of ours is made by a factory that takes options by keyword; the factories are
the entry points of the group ``palm.rewards``, and :func:`load_reward` finds them.
The names below are loaded when first used: only :func:`classifier` needs PyTorch,
and only when it scores.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from palm_eval.rewards.base import Reward, RewardFunction
    from palm_eval.rewards.classifiers import classifier
    from palm_eval.rewards.correctness import gsm, math
    from palm_eval.rewards.lengths import brevity, length
    from palm_eval.rewards.loading import available_rewards, load_reward
    from palm_eval.rewards.patterns import regex
    from palm_eval.rewards.presets import PRESETS
    from palm_eval.rewards.verifiable import rlvr

_MODULE = {
    "PRESETS": "presets",
    "Reward": "base",
    "RewardFunction": "base",
    "available_rewards": "loading",
    "brevity": "lengths",
    "classifier": "classifiers",
    "gsm": "correctness",
    "length": "lengths",
    "load_reward": "loading",
    "math": "correctness",
    "regex": "patterns",
    "rlvr": "verifiable",
}

__all__ = [
    "PRESETS",
    "Reward",
    "RewardFunction",
    "available_rewards",
    "brevity",
    "classifier",
    "gsm",
    "length",
    "load_reward",
    "math",
    "regex",
    "rlvr",
]


def __getattr__(name: str) -> Any:
    module = _MODULE.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE})
