"""What Theorem 3.4 assumes, r ≥ 0 and opt ≥ 0, checked on evaluated policies.

Both are needed: with signed rewards Lemma 3.3 is false, and where opt(w) < 0 no
policy, not even the best, reaches (1 − μ')·opt(w), so there may be no cover.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from palm_core._exact import rounding_error
from palm_core._pair import Pair

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from palm_core.policies import PolicySet


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """What Theorem 3.4 assumes, as far as evaluated policies show it.

    Args:
        violations: one line each, naming what is negative; empty if none.
        measured_reward_bound: max Σ_i |r_i(π)| over the evaluated policies.
        measured_regularizer_bound: max f(π) over the evaluated policies.
    """

    violations: tuple[str, ...]
    measured_reward_bound: float
    measured_regularizer_bound: float

    @property
    def hold(self) -> bool:
        """Whether nothing evaluated speaks against the theorem."""
        return not self.violations


def assumptions(policies: PolicySet) -> Assumptions:
    """Check r ≥ 0 and opt ≥ 0 on the policies that were evaluated.

    The best evaluated policy bounds opt from below, so opt ≥ 0 holds on all of
    Δ_d where min_w max_j w·u(π_j) ≥ 0: the value of a matrix game, from one
    linear program. That can fail although opt ≥ 0; evaluating the reference
    policy (f = 0) settles it where r ≥ 0.
    """
    rewards = policies.rewards
    least = rewards.min(axis=0)
    violations = [
        f"reward {policies.objectives[i]!r} has negative means (least {_signed(least[i])})"
        for i in np.flatnonzero(least < -rounding_error(1) * np.abs(rewards).max(axis=0))
    ]
    violations += _negative_optimum(policies)
    return Assumptions(
        violations=tuple(violations),
        measured_reward_bound=float(np.abs(rewards).sum(axis=1).max()),
        measured_regularizer_bound=float(policies.regularizer.max()),
    )


def _negative_optimum(policies: PolicySet) -> list[str]:
    """A weight vector at which every evaluated policy is negative, as a line; or nothing."""
    values = policies.vertex_values
    # One policy that is good enough at every vertex.
    if (values >= 0).all(axis=1).any():
        return []
    depth, weights = Pair(policies.values(), np.arange(len(values)), np.arange(0)).deepest()
    size = float((np.abs(values) @ weights).max())
    # Values that were computed may be below zero by rounding.
    return [] if depth <= rounding_error(len(weights)) * size else [_line(policies, weights)]


def _line(policies: PolicySet, weights: NDArray[np.float64]) -> str:
    value = float((policies.vertex_values @ weights).max())
    pairs = zip(policies.objectives, weights, strict=True)
    where = ", ".join(f"{name} = {weight:.3g}" for name, weight in pairs)
    return f"the best evaluated policy has J = {_signed(value)} at {where}, must be at least 0"


def _signed(value: float) -> str:
    return f"{value:.3g}".replace("-", "−", 1)
