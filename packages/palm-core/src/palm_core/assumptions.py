"""What Theorem 3.4 assumes, r ≥ 0 and opt ≥ 0, checked on evaluated policies.

Both are needed: with signed rewards Lemma 3.3 is false, and where opt(w) < 0 no
policy, not even the best, reaches (1 − μ')·opt(w), so there may be no cover.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from palm_core.policies import PolicySet

# Rewards and optima below zero by no more than rounding count as zero.
ROUNDING = 1e-12
# HiGHS solves to 1e-7; what it found is then evaluated exactly.
SOLVER_ROUNDING = 1e-9


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
        for i in np.flatnonzero(least < -ROUNDING * np.abs(rewards).max(axis=0))
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
    # One policy that is good enough at every vertex, or one vertex where none is.
    if (values >= 0).all(axis=1).any():
        return []
    # Positive factors per objective keep the sign of the game's value.
    scale = np.abs(values).max(axis=0)
    scale[scale == 0] = 1.0
    scaled = values / scale
    best = scaled.max(axis=0)
    if best.min() < -SOLVER_ROUNDING:
        return [_line(policies, np.eye(len(best))[int(best.argmin())])]
    m, d = scaled.shape
    from scipy.optimize import linprog

    answer = linprog(
        np.append(np.zeros(d), 1.0),
        A_ub=np.column_stack([scaled, -np.ones(m)]),
        b_ub=np.zeros(m),
        A_eq=np.append(np.ones(d), 0.0)[np.newaxis, :],
        b_eq=[1.0],
        bounds=[(0, None)] * d + [(None, None)],
        method="highs",
    )
    if answer.status != 0:
        return [f"opt ≥ 0 could not be checked ({answer.message})"]
    # The dual values are a mixture p of policies: max_j w·u_j ≥ min_i (p·u)_i.
    mixture = np.maximum(-answer.ineqlin.marginals, 0.0)
    if (mixture @ scaled).min() >= -SOLVER_ROUNDING * mixture.sum():
        return []
    weights = np.maximum(answer.x[:d], 0.0) / scale
    return [_line(policies, weights / weights.sum())]


def _line(policies: PolicySet, weights: NDArray[np.float64]) -> str:
    value = float((policies.vertex_values @ weights).max())
    pairs = zip(policies.objectives, weights, strict=True)
    where = ", ".join(f"{name} = {weight:.3g}" for name, weight in pairs)
    return f"the best evaluated policy has J = {_signed(value)} at {where}, must be at least 0"


def _signed(value: float) -> str:
    return f"{value:.3g}".replace("-", "−", 1)
