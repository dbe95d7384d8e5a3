"""Baselines of the paper: the weights of each, and the portfolios pruned from them.

Uniform (appendix B.4.1), Random (B.4.2), Uniform-PALM (B.5.1), and the best single policy.

Oracle calls are counted as in the paper: one for every weight vector of the method, whether
or not its policy is known already (``n_weights``). So a uniform or random portfolio of n
policies costs n, PALM and Uniform-PALM cost the size of their initial weight set, before
pruning, and evaluation weights (the paper's V) cost nothing. ``calls`` are the calls actually
made, without the weights whose policies a run had already.

To compare portfolios, pool all of them and PALM's candidates in *one* set of candidates and
normalise over it once: gaps against different sets, or in different units, cannot be compared
(see :mod:`palm_eval.metrics`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import TYPE_CHECKING

import numpy as np

from palm_core import (
    InputError,
    OracleAnswerError,
    PolicySet,
    check_weights,
    gaps,
    prune_curve,
    uniform_lattice,
)
from palm_core import sample_weights as dirichlet
from palm_core.plugin import check_answer, check_count, check_oracle
from palm_eval.metrics import sampled_gaps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from palm_core import Oracle, Policy

    Array = NDArray[np.float64]
    Score = Callable[[PolicySet, PolicySet], tuple[float, float]]

#: μ' of Tables 4 to 6: 0.01 to 0.10 in steps of 0.01 (appendix B.5.1).
PRUNE_MUS = tuple(round(0.01 * step, 2) for step in range(1, 11))
#: μ' of the search for portfolios of given sizes: finer (Tables 5 and 6) and coarser too.
SWEEP_MUS = (0.001, 0.002, 0.005, *PRUNE_MUS, 0.12, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
#: Independent runs of the random baseline that are averaged (appendix B.4.2).
RANDOM_RUNS = 3
# Weights this near in total variation are equal.
_SAME = 1e-9


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """Policies for weights, and their oracle calls.

    Args:
        weights: (k, d) the requested weights.
        policies: k policies, one per weight; equal weights share one.
        n_weights: oracle calls as the paper counts them: distinct weights.
        calls: oracle calls actually made; the other policies were known.
    """

    weights: NDArray[np.float64]
    policies: tuple[Policy, ...]
    n_weights: int
    calls: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Nearest:
    """The known policies whose weights are nearest to given ones.

    Args:
        indices: (k,) indices of the policies.
        distances: (k,) ½·Σ_i |w_i − w'_i|, from 0 (the same weights) to 1.
    """

    indices: NDArray[np.intp]
    distances: NDArray[np.float64]

    @property
    def exact(self) -> NDArray[np.bool_]:
        """(k,) whether the policy is for exactly these weights (within 1e-9)."""
        return self.distances <= _SAME


@dataclass(frozen=True, kw_only=True, eq=False)
class Pruning:
    """The pruned portfolio for one μ', and its gaps.

    Args:
        mu: μ'.
        indices: the policies of the portfolio, in the order of selection.
        epsilon: their multiplicative gap.
        delta: their additive gap, in units of reward.
    """

    mu: float
    indices: NDArray[np.intp]
    epsilon: float
    delta: float


@dataclass(frozen=True, kw_only=True)
class BestSingle:
    """The best portfolios of one policy: indices among the candidates.

    Args:
        centre: best at w = (1/d, …, 1/d), the usual training weights of a single model.
        epsilon: with the smallest exact ε against all candidates.
        delta: with the smallest exact δ.
    """

    centre: int
    epsilon: int
    delta: int


def uniform_weights(
    n: int, n_objectives: int, *, seed: int | np.random.Generator = 0
) -> NDArray[np.float64]:
    """The weights of the uniform baseline (appendix B.4.1).

    d = 2: n evenly spaced points from (0, 1) to (1, 0), both included. d ≥ 3: the
    barycentric grid {i/m : i ∈ ℕ^d, Σ i = m} with the smallest m for which it has at
    least n points, C(m + d − 1, d − 1), and n of them drawn without replacement.

    Returns:
        Array (n, d); for d ≥ 3 in lexicographic order.

    Raises:
        InputError: fewer than 2 objectives; n below 1, or below 2 for d = 2, where both
            ends are asked.

    Example:
        >>> uniform_weights(3, 2)
        array([[0. , 1. ],
               [0.5, 0.5],
               [1. , 0. ]])
    """
    d = check_count(n_objectives, name="n_objectives", least=2)
    n = check_count(n, name="n", least=2 if d == 2 else 1)
    if d == 2:
        return uniform_lattice(2, n - 1)
    m = 1
    while comb(m + d - 1, d - 1) < n:
        m += 1
    grid = uniform_lattice(d, m)
    chosen = np.random.default_rng(seed).choice(len(grid), size=n, replace=False)
    return grid[np.sort(chosen)]


def random_weights(
    n: int, n_objectives: int, *, runs: int = RANDOM_RUNS, seed: int = 0
) -> list[NDArray[np.float64]]:
    """The weights of the random baseline: n from Dirichlet(1), in independent runs (B.4.2).

    Figures are computed for each run and averaged; the paper takes three runs (one for
    RLVR-GSM). Averaging is of figures, not of portfolios.

    Returns:
        ``runs`` arrays (n, d). Run i is the same whatever ``runs`` is.

    Raises:
        InputError: n, runs below 1, a negative seed, or fewer than 2 objectives.
    """
    runs = check_count(runs, name="runs", least=1)
    seed = check_count(seed, name="seed", least=0)
    # [seed, 0] would be the stream of `seed` itself, which is that of V
    streams = [np.random.default_rng([seed, run]) for run in range(1, runs + 1)]
    return [dirichlet(n, n_objectives, seed=stream) for stream in streams]


def nearest_known(known: Sequence[Policy], weights: ArrayLike) -> Nearest:
    """For each weight vector the known policy with the nearest weights.

    A substitute for a baseline without oracle calls; report the distances with it. At
    distance 0 it is the baseline's own policy.

    Args:
        known: policies of a run, with their weights.
        weights: (k, d), in the same space as those.

    Raises:
        InputError: no known policy, or weights off their simplex.
    """
    if not known:
        raise InputError("known: at least one policy is needed, got none")
    asked = np.array([policy.weights for policy in known])
    rows = check_weights(weights, asked.shape[1])
    distances = np.array([np.abs(asked - row).sum(axis=1) / 2 for row in rows])
    indices = distances.argmin(axis=1)
    return Nearest(indices=indices, distances=distances[np.arange(len(rows)), indices])


def policies_at(oracle: Oracle, weights: ArrayLike, *, known: Sequence[Policy] = ()) -> Asked:
    """Policies for each of ``weights``: known ones where they exist, else the oracle's.

    The oracle is called once, with all remaining weights, each distinct one once.

    Args:
        oracle: see :class:`palm_core.Oracle`; its answers are validated.
        weights: (k, d) in the oracle's raw space (``Normalization.raw_weights`` converts
            weights for normalised units).
        known: policies to reuse where their weights are exactly (within 1e-9) among
            ``weights``.

    Raises:
        InputError: ``oracle`` is not an oracle, or weights off the simplex.
        OracleAnswerError: an answer that is no policy for its weights, or too few answers.
    """
    objectives = check_oracle(oracle)
    rows = check_weights(weights, len(objectives))
    policies: list[Policy | None] = [None] * len(rows)
    if known:
        near = nearest_known(known, rows)
        for place in np.flatnonzero(near.exact).tolist():
            policies[place] = known[int(near.indices[place])]
    _, first, group = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    group = group.reshape(-1)
    missing = [int(place) for place in np.sort(first) if policies[place] is None]
    if missing:
        answers = iter(oracle.solve(rows[missing]))
        for place in missing:
            answer = next(answers, None)
            if answer is None:
                raise OracleAnswerError(
                    f"the oracle stopped before weights {place}, must answer each of "
                    f"{len(missing)} weights"
                )
            policies[place] = check_answer(answer, rows[place], objectives)
    found = [policies[int(first[group[place]])] for place in range(len(rows))]
    return Asked(
        weights=rows,
        policies=tuple(policy for policy in found if policy is not None),
        n_weights=len(first),
        calls=len(missing),
    )


def exact_score(portfolio: PolicySet, candidates: PolicySet) -> tuple[float, float]:
    """(ε, δ) over the whole simplex, by :func:`palm_core.gaps`."""
    found = gaps(portfolio, candidates)
    return found.epsilon, found.delta


def sampled_score(weights: ArrayLike) -> Score:
    """(ε, δ) over V (k, d), by :func:`palm_eval.metrics.sampled_gaps`: the paper's."""

    def score(portfolio: PolicySet, candidates: PolicySet) -> tuple[float, float]:
        found = sampled_gaps(portfolio, candidates, weights)
        return found.epsilon, found.delta

    return score


def prunings(
    policies: PolicySet,
    weights: ArrayLike,
    candidates: PolicySet,
    *,
    mus: Iterable[float] = PRUNE_MUS,
    method: str = "greedy",
    score: Score = exact_score,
) -> list[Pruning]:
    """The prunings of one initial weight set, for every μ': rows of Tables 5 and 6.

    Uniform-PALM is this on ``uniform_weights(k, d)``, with k the number of weights that
    PALM's grid has (the same oracle budget), PALM itself on ``construct_grid``. Table 4
    shows :func:`best_pruning` of each.

    Args:
        policies: the oracle's answers at ``weights``.
        weights: (k, d) the initial weight set, to be covered by pruning.
        candidates: the reference set of the gaps, in the units of ``policies``.
        mus: values of μ'; the paper's by default.
        method: "greedy" as in the paper (appendix B.1), or "exact".
        score: (ε, δ) of a portfolio against the candidates. The default is exact; the
            paper's is :func:`sampled_score` at its V.

    Raises:
        InputError: as :func:`palm_core.prune_curve`.
        WorkError: a solver failed.
    """
    scores: dict[frozenset[int], tuple[float, float]] = {}
    found = []
    for pruned in prune_curve(policies, weights, mus, method=method):
        kept = frozenset(pruned.indices.tolist())
        if kept not in scores:
            scores[kept] = score(policies.subset(pruned.indices), candidates)
        epsilon, delta = scores[kept]
        found.append(
            Pruning(mu=pruned.tolerance[0], indices=pruned.indices, epsilon=epsilon, delta=delta)
        )
    return found


def best_pruning(found: Sequence[Pruning]) -> Pruning:
    """The best result of one call budget: smallest ε, then smallest δ, then fewest policies.

    Table 4 of the paper shows this for each budget, for any size; in its
    Tables 5 and 6 the row with the least ε has the least δ too, for every budget.
    Of equal ones the smallest μ' is taken, as the bold rows of these tables are.

    Raises:
        InputError: ``found`` is empty.
    """
    if not found:
        raise InputError("found: at least one pruning is needed, got none")
    return min(found, key=lambda one: (one.epsilon, one.delta, len(one.indices), one.mu))


# Losses this close, in units of the largest value, are compared in exact arithmetic.
_NEAR = 1e-12


def best_single(candidates: PolicySet) -> BestSingle:
    """The best single policy: at the centre of the simplex, and by smallest worst-case gap.

    Both are in use: training for equal weights gives the usual single model, and the smallest
    worst case is the optimum of portfolios of size 1. Of equal policies the first.

    Args:
        candidates: Π, in the units of the weights' space.

    Raises:
        WorkError: a solver failed.

    Example:
        >>> best_single(PolicySet([[1.0, 0.0], [0.6, 0.6], [0.4, 0.9], [0.0, 1.0]]))
        BestSingle(centre=2, epsilon=1, delta=1)
    """
    centre = candidates.objective(np.full(candidates.n_objectives, 1 / candidates.n_objectives))
    values = candidates.vertex_values
    top = values.max(axis=0)
    # One policy loses most at a vertex, and so it does of its share where it has no negative value.
    deltas, epsilons = (top - values).max(axis=1), np.zeros(len(values))
    if (top > 0).all() and (values >= 0).all(axis=1).any():
        epsilons = np.where((values >= 0).all(axis=1), (1 - values / top).max(axis=1), np.inf)
    least: list[int] = []
    for name, lost, unit in (("epsilon", epsilons, 1.0), ("delta", deltas, np.abs(values).max())):
        near = np.flatnonzero(lost <= lost.min() + _NEAR * unit)
        exact = [getattr(gaps(candidates.subset(i), candidates), name) for i in near]
        least.append(int(near[int(np.argmin(exact))]))
    return BestSingle(centre=int(np.argmax(centre[0])), epsilon=least[0], delta=least[1])
