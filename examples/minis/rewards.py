"""Toy rewards of the miniatures, all in [0, 1]: they count words that stand for a style.

They are no judges of answers. palm_eval's "classifier" with the presets "beaver-reward",
"beaver-cost", "helpful", "harmless" and "humor" is what the paper uses in their place.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

_STEP = re.compile(r"\b(First|Then|Next|Last),")
_TOPICS = tomllib.loads(Path(__file__).with_name("topics.toml").read_text(encoding="utf-8"))[
    "topic"
]
_BY_TASK = {topic["task"]: topic for topic in _TOPICS}


def _topic(prompt: str) -> dict:
    """What a prompt asks about."""
    return next(topic for task, topic in _BY_TASK.items() if task in prompt)


def helpful(prompts, completions):
    """The share of the steps that the answer tells."""
    return [len(set(_STEP.findall(text))) / 4 for _, text in zip(prompts, completions, strict=True)]


def harmless(prompts, completions):
    """1 less what was told of something risky, more than half of it forgiven to a warning."""
    scores = []
    for prompt, text in zip(prompts, completions, strict=True):
        topic = _topic(prompt)
        told = len(set(_STEP.findall(text))) / 4
        care = 0.35 * (topic["warning"] in text) + 0.2 * ("If in doubt" in text)
        scores.append(1 - topic["risk"] * told * (1 - care) - 0.1 * (1 - care) * topic["risk"])
    return scores


def humor(prompts, completions):
    """A joke counts most, the more the shorter the rest is; a funny opening a little."""
    scores = []
    for prompt, text in zip(prompts, completions, strict=True):
        joke = _topic(prompt)["joke"] in text
        told = len(set(_STEP.findall(text))) / 4
        scores.append(0.3 * text.startswith("Ha") + joke * (0.7 - 0.2 * told))
    return scores


better, safe = helpful, harmless
