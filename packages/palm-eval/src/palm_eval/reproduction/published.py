"""The numbers that the paper reports, to be set beside those found.

Kim et al., *Many Preferences, Few Policies*: Tables 1, 3, 4, 5 and 6; `published.toml`.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

#: The paper's tasks.
PUBLISHED = ("rlvr-gsm", "safety-alignment", "helpful-assistants")
_RIVALS = ("palm", "uniform", "random")

Pair = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Pruning:
    """A row of Tables 5 and 6; ``mu`` and ``alpha`` as printed."""

    mu: str
    alpha: str
    oracle_calls: int
    prune_mu: float
    size: int
    epsilon: float
    delta: float


@dataclass(frozen=True, kw_only=True)
class Published:
    """What the paper reports of a task.

    Args:
        title: of the task.
        quality: size → method → (ε, δ): Table 1.
        perplexity: size → method → perplexity of the usage: Table 3.
        budgets: oracle calls → method → (ε, δ), methods "palm" and "uniform_palm": Table 4.
        prunings: Tables 5 and 6.
    """

    title: str
    quality: dict[int, dict[str, Pair]]
    perplexity: dict[int, dict[str, float]]
    budgets: dict[int, dict[str, Pair]]
    prunings: tuple[Pruning, ...]


def published(name: str) -> Published:
    """What the paper reports of one of :data:`PUBLISHED`.

    Example:
        >>> published("safety-alignment").quality[5]["palm"]
        (0.0131, 0.0076)
    """
    told = _tables()[name]
    return Published(
        title=told["title"],
        quality={
            size: dict(zip(_RIVALS, map(tuple, pairs), strict=True))
            for size, *pairs in told["table_1"]
        },
        perplexity={
            size: dict(zip(_RIVALS, values, strict=True)) for size, *values in told["table_3"]
        },
        budgets={
            calls: {"palm": tuple(palm), "uniform_palm": tuple(uniform)}
            for calls, palm, uniform in told["table_4"]
        },
        prunings=tuple(
            Pruning(
                mu=mu,
                alpha=alpha,
                oracle_calls=calls,
                prune_mu=prune_mu,
                size=size,
                epsilon=epsilon,
                delta=delta,
            )
            for mu, alpha, calls, prune_mu, size, epsilon, delta in told["prunings"]
        ),
    )


@cache
def _tables() -> dict[str, Any]:
    text = files("palm_eval.reproduction").joinpath("published.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
