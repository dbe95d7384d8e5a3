"""Reward functions with TRL's signature, (prompts, completions, **columns) -> list[float | None].

PALM's reward functions are made by factories with keyword options, which are the entry points
of the group ``palm.rewards``; see :func:`load_reward`. The names below are loaded when first
used: only :func:`classifier` needs PyTorch, and only when it scores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_core.plugin import on_demand

if TYPE_CHECKING:
    from palm_eval.rewards.base import Reward, RewardFunction
    from palm_eval.rewards.classifiers import PRESETS, classifier
    from palm_eval.rewards.correctness import gsm, math, rlvr
    from palm_eval.rewards.lengths import brevity, length
    from palm_eval.rewards.patterns import regex
    from palm_eval.rewards.registry import available_rewards, load_reward


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

if not TYPE_CHECKING:  # a type checker would treat every attribute as defined
    __getattr__, __dir__ = on_demand(__name__)
