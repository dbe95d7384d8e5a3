"""Reward functions with TRL's signature, (prompts, completions, **columns) -> list[float | None].

Each of ours is made by a factory that takes options by keyword; the factories are
the entry points of the group ``palm.rewards``, and :func:`load_reward` finds them.
The names below are loaded when first used: only :func:`classifier` needs PyTorch,
and only when it scores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_core._on_demand import on_demand

if TYPE_CHECKING:
    from palm_eval.rewards.base import Reward, RewardFunction
    from palm_eval.rewards.classifiers import classifier
    from palm_eval.rewards.correctness import gsm, math
    from palm_eval.rewards.lengths import brevity, length
    from palm_eval.rewards.loading import available_rewards, load_reward
    from palm_eval.rewards.patterns import regex
    from palm_eval.rewards.presets import PRESETS
    from palm_eval.rewards.verifiable import rlvr

_HOME = {
    "base": ("Reward", "RewardFunction"),
    "classifiers": ("classifier",),
    "correctness": ("gsm", "math"),
    "lengths": ("brevity", "length"),
    "loading": ("available_rewards", "load_reward"),
    "patterns": ("regex",),
    "presets": ("PRESETS",),
    "verifiable": ("rlvr",),
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

if not TYPE_CHECKING:  # to whom it would say that there is every name
    __getattr__, __dir__ = on_demand(__name__, _HOME)
