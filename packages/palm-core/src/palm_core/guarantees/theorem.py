"""Theorem 3.4: a-priori guarantees of a grid, and its assumptions r ≥ 0 and opt ≥ 0.

Both assumptions are needed: with signed rewards Lemma 3.3 is false, and where opt(w) < 0 no
policy, not even the best, reaches (1 − μ')·opt(w), so there may be no cover.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from palm_core.geometry.exact import rounding_error
from palm_core.guarantees.losses import Pair
from palm_core.validation import check_count, check_number

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from palm_core.model.policy import PolicySet


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """The assumptions of Theorem 3.4, checked on evaluated policies.

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
        """Whether no evaluated policy violates the assumptions."""
        return not self.violations


def assumptions(policies: PolicySet) -> Assumptions:
    """Check r ≥ 0 and opt ≥ 0 on the policies that were evaluated.

    The best evaluated policy bounds opt from below, so opt ≥ 0 holds on all of
    Δ_d where min_w max_j w·u(π_j) ≥ 0: the value of a matrix game, from one
    linear program. This check can fail although opt ≥ 0; evaluating the reference
    policy (f = 0) proves it where r ≥ 0.
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
    """A line with a weight vector at which every evaluated policy is negative; else empty."""
    values = policies.vertex_values
    # One policy that is nonnegative at every vertex.
    if (values >= 0).all(axis=1).any():
        return []
    depth, weights = Pair(policies.values(), np.arange(len(values)), np.arange(0)).deepest()
    size = float((np.abs(values) @ weights).max())
    # Computed values may be negative by rounding.
    return [] if depth <= rounding_error(len(weights)) * size else [_line(policies, weights)]


def _line(policies: PolicySet, weights: NDArray[np.float64]) -> str:
    value = float((policies.vertex_values @ weights).max())
    pairs = zip(policies.objectives, weights, strict=True)
    where = ", ".join(f"{name} = {weight:.3g}" for name, weight in pairs)
    return f"the best evaluated policy has J = {_signed(value)} at {where}, must be at least 0"


def _signed(value: float) -> str:
    return f"{value:.3g}".replace("-", "−", 1)


class Closeness(NamedTuple):
    """Two weight vectors with |w_i − v_i| ≤ ε'·v_i + δ' in every coordinate."""

    epsilon: float
    delta: float


class Approximation(NamedTuple):
    """A policy with J_v(π) ≥ (1 − ε)·opt(v) − δ (paper, definition 3.1)."""

    epsilon: float
    delta: float


def lemma_a1(n_objectives: int, mu: float, alpha: float) -> Closeness:
    """Distance of every v ∈ Δ_d to its grid weight: |w_i − v_i| ≤ μ·v_i + dα.

    Proof in docs/explanation/guarantees.md: the paper's proof omits the
    multiplicative rounding in one step.

    Raises:
        InputError: fewer than 2 objectives, mu or alpha outside (0, 1].

    Example:
        >>> lemma_a1(2, 0.5, 0.05)
        Closeness(epsilon=0.5, delta=0.1)
    """
    d = check_count(n_objectives, name="n_objectives", least=2)
    mu = check_number(mu, name="mu", above=0.0, most=1.0)
    alpha = check_number(alpha, name="alpha", above=0.0, most=1.0)
    return Closeness(mu, d * alpha)


def lemma_33(
    epsilon_prime: float, delta_prime: float, reward_bound: float, regularizer_bound: float
) -> Approximation:
    """Value of π_w at a close v: ε = 2ε', δ = 2(δ'·R_max + ε'·f_max).

    Holds where r ≥ 0. With signed rewards it is false: the proof replaces
    Σ_i v_i·|r_i| by |Σ_i v_i·r_i|.

    Raises:
        InputError: an argument that is negative or not finite.

    Example:
        >>> lemma_33(0.1, 0.01, 2.0, 0.5)
        Approximation(epsilon=0.2, delta=0.14)
    """
    close, shift = _not_negative(epsilon_prime=epsilon_prime, delta_prime=delta_prime)
    r_max, f_max = _not_negative(reward_bound=reward_bound, regularizer_bound=regularizer_bound)
    return Approximation(2 * close, 2 * (shift * r_max + close * f_max))


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """Theorem 3.4 in numbers: max_{π∈P} J_v(π) ≥ (1 − ε)·opt(v) − δ at every v.

    Args:
        epsilon: the theorem's ε; 4μ in its own setting μ' = μ, α' = 0.
        delta: the theorem's δ; 2(dα·R_max + μ·f_max) in its own setting.
        sharper_epsilon: ε of the sharper pair, never above ``epsilon``.
        sharper_delta: δ of the sharper pair, never above ``delta``.
        size: |W| exactly, so |P| ≤ size and this many oracle calls.
        paper_size: d·(2 + (2/μ)·log(1/α))^(d−1) as the theorem prints it. It
            ignores that log_{1+μ}(1/α) is rounded up, so |W| can exceed it:
            d = 2, μ = 1, α = 0.9 has |W| = 5 > 4.42.
        measured: those of "R_max" and "f_max" that are measured on the evaluated
            policies, not claimed.
    """

    epsilon: float
    delta: float
    sharper_epsilon: float
    sharper_delta: float
    size: int
    paper_size: float
    n_objectives: int
    mu: float
    alpha: float
    prune_mu: float
    prune_alpha: float
    oracle_epsilon: float
    oracle_delta: float
    reward_bound: float
    regularizer_bound: float
    measured: tuple[str, ...] = ()

    #: True here, False on :class:`NotApplicable`.
    applies: ClassVar[bool] = True

    @property
    def vacuous(self) -> bool:
        """Whether it guarantees no more than J ≥ 0, which the reference policy has.

        That is (1 − ε)·opt(v) − δ ≤ 0 at every v, as opt(v) ≤ R_max, for the
        sharper pair; in particular wherever ε ≥ 1.
        """
        return (1 - self.sharper_epsilon) * self.reward_bound <= self.sharper_delta

    def __str__(self) -> str:
        line = (
            f"Theorem 3.4: at most {self.size} policies serve every weight within "
            f"ε = {self.epsilon:.3g}, δ = {self.delta:.3g} "
            f"(sharper: ε = {self.sharper_epsilon:.3g}, δ = {self.sharper_delta:.3g})"
        )
        if self.vacuous:
            line += ", which promises nothing"
        elif self.epsilon >= 1:
            line += "; the first promises nothing: ε is 100 % or more"
        if self.measured:
            known = " and ".join(self.measured)
            line += f"; {known} as measured on the evaluated policies only"
        return line


def theorem_bounds(
    n_objectives: int,
    mu: float,
    alpha: float,
    reward_bound: float,
    regularizer_bound: float,
    *,
    prune_mu: float | None = None,
    prune_alpha: float = 0.0,
    oracle_epsilon: float = 0.0,
    oracle_delta: float = 0.0,
) -> Guarantee:
    """Theorem 3.4 for a grid, before any oracle call (paper, appendix A).

    The theorem's own pair (4μ, 2X), X = dα·R_max + μ·f_max, is continued to
    other μ', α' and oracles as (2μ + 2m, max(2, (2+m)/(1+μ))·X + α' + δ_o) with
    m = μ' + ε_o, never below the sharper pair.

    It assumes r ≥ 0, opt ≥ 0 and (for the sharper pair, where δ_o > 0) answers with
    J ≥ 0, which only data can show: :func:`apply_theorem` checks them and then calls
    this function.

    Args:
        n_objectives: d.
        mu: μ of the grid, in (0, 1].
        alpha: α of the grid, in (0, 1].
        reward_bound: R_max ≥ 0.
        regularizer_bound: f_max ≥ 0, in units of reward, over policies optimal
            at some weight and members of the portfolio.
        prune_mu: μ' in [0, 1]; ``None`` means ``mu``, as in Algorithm 1.
        prune_alpha: α' ≥ 0.
        oracle_epsilon: ε_o in [0, 1], the oracle's slack (footnote 3).
        oracle_delta: δ_o ≥ 0.

    Raises:
        InputError: a parameter outside its interval, by name.

    Example:
        >>> guarantee = theorem_bounds(2, 0.1, 0.01, reward_bound=1.0, regularizer_bound=0.0)
        >>> print(guarantee)  # doctest: +ELLIPSIS
        Theorem 3.4: at most 101 policies serve every weight within ε = 0.4, δ = 0.04 (sharper: ...
    """
    from palm_core.weights.grid import grid_size

    size = grid_size(n_objectives, mu, alpha)
    mu, shift = lemma_a1(n_objectives, mu, alpha)
    m_prune = mu if prune_mu is None else check_number(prune_mu, name="prune_mu", least=0, most=1)
    e_oracle = check_number(oracle_epsilon, name="oracle_epsilon", least=0.0, most=1.0)
    a_prune, d_oracle = _not_negative(prune_alpha=prune_alpha, oracle_delta=oracle_delta)
    r_max, f_max = _not_negative(reward_bound=reward_bound, regularizer_bound=regularizer_bound)
    x = shift * r_max + mu * f_max
    m = m_prune + e_oracle
    kept = (1 - m_prune) * (1 - e_oracle)
    slack = a_prune + (1 - m_prune) * d_oracle
    beyond = (shift - alpha) * (kept * min(f_max, r_max) + min(slack, r_max))
    return Guarantee(
        epsilon=2 * mu + 2 * m,
        delta=max(2.0, (2 + m) / (1 + mu)) * x + a_prune + d_oracle,
        sharper_epsilon=1 - kept / (1 + mu),
        sharper_delta=slack + (alpha * r_max + mu * f_max + beyond) / (1 + mu),
        size=size,
        paper_size=_paper_size(n_objectives, mu, alpha),
        n_objectives=int(n_objectives),
        mu=mu,
        alpha=float(alpha),
        prune_mu=m_prune,
        prune_alpha=a_prune,
        oracle_epsilon=e_oracle,
        oracle_delta=d_oracle,
        reward_bound=r_max,
        regularizer_bound=f_max,
    )


def _not_negative(**values: float) -> list[float]:
    return [check_number(value, name=name, least=0.0) for name, value in values.items()]


def _paper_size(d: int, mu: float, alpha: float) -> float:
    try:
        return float(d * (2 + 2 / mu * math.log(1 / alpha)) ** (d - 1))
    except OverflowError:
        return math.inf


@dataclass(frozen=True, kw_only=True)
class NotApplicable:
    """The reason why Theorem 3.4 does not apply."""

    violations: tuple[str, ...]
    remedy: str = "Normalise, or rely on the certificate"

    #: False here, True on :class:`Guarantee`.
    applies: ClassVar[bool] = False

    def __str__(self) -> str:
        return f"Theorem 3.4 does not apply: {'; '.join(self.violations)}. {self.remedy}"


def apply_theorem(
    policies: PolicySet,
    *,
    mu: float,
    alpha: float,
    prune_mu: float | None = None,
    prune_alpha: float = 0.0,
    oracle_epsilon: float = 0.0,
    oracle_delta: float = 0.0,
    reward_bound: float | None = None,
    regularizer_bound: float | None = None,
) -> Guarantee | NotApplicable:
    """Theorem 3.4 for a finished run: the guarantee, or why it does not apply.

    Args:
        policies: every policy that was evaluated, not the portfolio alone.
        mu: μ; this and what follows as in :func:`theorem_bounds`.
        alpha: α.
        prune_mu: μ'.
        prune_alpha: α'.
        oracle_epsilon: ε_o.
        oracle_delta: δ_o.
        reward_bound: R_max of the whole class, where the oracle claims one.
        regularizer_bound: f_max, where the oracle claims one.

    Returns:
        A :class:`Guarantee`, whose ``measured`` names the bounds taken from the
        evaluated policies for want of a claim (the guarantee is then proven
        with opt over these policies, and conditional beyond them), or
        :class:`NotApplicable`. ``applies`` tells them apart, ``str()`` gives
        either in one line.

    Raises:
        InputError: a parameter outside its interval, by name.
    """
    facts = assumptions(policies)
    r_seen, f_seen = facts.measured_reward_bound, facts.measured_regularizer_bound
    # Members need not be optimal anywhere, so a claim about optimal policies is
    # raised to the measured value, not refuted by it.
    (f_claim,) = _not_negative(regularizer_bound=regularizer_bound or 0.0)
    guarantee = theorem_bounds(
        policies.n_objectives,
        mu,
        alpha,
        r_seen if reward_bound is None else reward_bound,
        max(f_seen, f_claim),
        prune_mu=prune_mu,
        prune_alpha=prune_alpha,
        oracle_epsilon=oracle_epsilon,
        oracle_delta=oracle_delta,
    )
    if not facts.hold:
        return NotApplicable(violations=facts.violations)
    if r_seen > guarantee.reward_bound * (1 + rounding_error(policies.n_objectives)):
        worst = policies.names[int(np.argmax(np.abs(policies.rewards).sum(axis=1)))]
        broken = (
            f"the oracle claims R_max = {guarantee.reward_bound:.4g}, "
            f"but policy {worst!r} has Σ|r_i| = {r_seen:.4g}"
        )
        remedy = "Correct the claim, or rely on the certificate"
        return NotApplicable(violations=(broken,), remedy=remedy)
    claims = {"R_max": reward_bound, "f_max": regularizer_bound}
    return replace(guarantee, measured=tuple(name for name in claims if claims[name] is None))
