"""The linear programs behind exact gaps where corner weights are too many.

Each is solved by HiGHS through SciPy and then checked by weak duality: the
multipliers mix the portfolio into one vector, which bounds the answer from
above without trusting the solver, and bounds other candidates as well.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from palm_core.errors import WorkError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

# HiGHS' tightest tolerance, in units of the largest coefficient.
_FEASIBLE = 1e-10
# Largest distance between an answer and its bound, in the same units.
AGREEMENT = 1e-9
_OPTIMAL, _INFEASIBLE = 0, 2
# A ratio for which that much counts as infinite.
_ENDLESS = 1e12


class Solved(NamedTuple):
    """The optimum of a program, the weights (d,) that attain it, Σ_j λ_j u_j (d,)."""

    value: float
    weights: Array
    mixture: Array


def worst_weight(pieces: Array, rises: Array, *, below_zero: bool = False) -> Solved:
    """Maximise min_k w·rises_k − max_j w·pieces_j over the simplex.

    Args:
        pieces: (p, d) the portfolio.
        rises: (q, d) a candidate; with q = 2 the smaller of two values counts.
        below_zero: only weights at which max_j w·pieces_j ≤ 0; there must be one.

    Raises:
        WorkError: no answer that agrees with its bound within 1e-9 of the scale.
    """
    p, d = pieces.shape
    scale = max(np.abs(pieces).max(), np.abs(rises).max()) or 1.0
    pieces, rises = pieces / scale, rises / scale
    # Unknowns w_1 … w_d, t ≥ w·pieces_j, s ≤ w·rises_k; minimise t − s.
    table = np.zeros((p + len(rises), d + 2))
    table[:p, :d], table[:p, d] = pieces, -1.0
    table[p:, :d], table[p:, d + 1] = -rises, 1.0
    bounds = [(0.0, None)] * d + [(None, 0.0 if below_zero else None), (None, None)]
    gap = np.inf
    for found in _answers(
        [0.0] * d + [1.0, -1.0], table, np.zeros(len(table)), [1.0] * d + [0.0, 0.0], bounds
    ):
        weights = _simplex(found.x[:d])
        shares = np.maximum(-found.ineqlin.marginals, 0.0)
        mixture, rise = shares[:p] @ pieces, shares[p:] @ rises
        # Multipliers that add to one up to rounding are made to; capped ones need not.
        rise = rise / shares[p:].sum()
        mixture = mixture if below_zero else mixture / shares[:p].sum()
        value = float((rises @ weights).min() - (pieces @ weights).max())
        gap = abs((rise - mixture).max() - value)
        if gap <= AGREEMENT:
            return Solved(value * scale, weights, mixture * scale)
    raise WorkError(f"a linear program of {p} policies stays {gap:.1e} of its scale from its bound")


def worst_ratio(pieces: Array, candidate: Array) -> Solved:
    """Maximise 1 − max(max_j w·pieces_j, 0) / (w·candidate) where w·candidate > 0.

    Charnes and Cooper (1962): with y = w / (w·candidate) it is one linear program.
    Nothing in it depends on the objectives' units, so each is scaled to one, and
    the answer is precise even where opt is tiny beside its largest value.

    Args:
        pieces: (p, d) the portfolio.
        candidate: (d,) with a positive entry.

    Raises:
        WorkError: a linear program failed.
    """
    p, d = pieces.shape
    units = np.maximum(np.abs(pieces).max(axis=0), np.abs(candidate))
    units[units == 0] = 1.0
    scaled, target = pieces / units, candidate / units
    table = np.column_stack([scaled, -np.ones(p)])
    cost, equal_one = [0.0] * d + [1.0], [*target.tolist(), 0.0]
    reached, best = -np.inf, np.eye(d)[np.argmax(target)]
    with suppress(WorkError):  # the solver gave up: Dinkelbach goes on from the best so far
        for found in _answers(cost, table, np.zeros(p), equal_one, [(0.0, None)] * (d + 1)):
            weights = np.maximum(found.x[:d], 0.0)
            height = float(weights @ target)
            if height <= 0:
                continue
            value = 1.0 - max(float((scaled @ weights).max()), 0.0) / height
            # Weak duality: mixture ≥ share·candidate makes 1 − share a bound.
            mixture = np.maximum(-found.ineqlin.marginals, 0.0) @ scaled
            share = float(found.eqlin.marginals[0])
            if max(abs(1.0 - share - value), float((share * target - mixture).max())) <= AGREEMENT:
                return Solved(value, _simplex(weights / units), mixture * units)
            if value > reached:
                reached, best = value, weights
    return _by_steps(pieces, candidate, _simplex(best / units))


def _by_steps(pieces: Array, candidate: Array, weights: Array) -> Solved:
    """Dinkelbach (1967): raise ε until (1−ε)·w·candidate exceeds L nowhere.

    For candidates beside which opt almost vanishes and the first program has
    no bound within the solver's tolerance; exact to 1e-9 of the rewards' scale.
    """
    pieces = np.concatenate([pieces, np.zeros((1, len(candidate)))])
    tolerance = AGREEMENT * max(np.abs(pieces).max(), np.abs(candidate).max())
    value = 1.0 - float((pieces @ weights).max()) / float(weights @ candidate)
    while True:
        solved = worst_weight(pieces, (1.0 - value) * candidate[np.newaxis])
        if solved.value > tolerance:
            step = 1.0 - float((pieces @ solved.weights).max()) / float(solved.weights @ candidate)
            if step > value:
                value, weights = step, solved.weights
                continue
        return Solved(value, weights, solved.mixture)


def least_value(pieces: Array, below_zero: Array | None = None) -> tuple[float, Array] | None:
    """Minimise max_j w·pieces_j over the weights with w·below_zero_k ≤ 0 for all k.

    Returns:
        The minimum and the weights (d,) of it, or ``None`` where there are none.
    """
    p, d = pieces.shape
    caps = np.zeros((0, d)) if below_zero is None else below_zero
    scale = max(np.abs(pieces).max(), np.abs(caps).max(initial=0.0)) or 1.0
    table = np.zeros((p + len(caps), d + 1))
    table[:p, :d], table[:p, d] = pieces / scale, -1.0
    table[p:, :d] = caps / scale
    bounds = [(0.0, None)] * d + [(None, None)]
    for found in _answers(
        [0.0] * d + [1.0], table, np.zeros(len(table)), [1.0] * d + [0.0], bounds
    ):
        weights = _simplex(found.x[:d])
        return float((pieces @ weights).max()), weights
    return None


def deepest_loss(pieces: Array, candidates: Array) -> tuple[float, Array]:
    """Maximise −L/M where L < 0, given that this occurs, and M > 0 wherever it does.

    With y = w / M(w): minimise max_j y·pieces_j so that y·candidates_c ≤ 1.

    Returns:
        The maximum and the weights (d,) of it; ∞ from 10^12 on.
    """
    p, d = pieces.shape
    table = np.zeros((p + len(candidates), d + 1))
    table[:p, :d], table[:p, d] = pieces, -1.0
    table[p:, :d] = candidates
    limits = np.concatenate([np.zeros(p), np.ones(len(candidates))])
    # The bound keeps the program finite.
    bounds = [(0.0, None)] * d + [(-_ENDLESS, None)]
    for found in _answers([0.0] * d + [1.0], table, limits, None, bounds):
        depth = -float(found.x[d])
        return (depth if depth < 0.99 * _ENDLESS else np.inf), _simplex(found.x[:d])
    raise WorkError(f"a linear program of {p} policies and {len(candidates)} candidates failed")


def additive_bounds(candidates: Array, mixture: Array, least_factor: float = 1.0) -> Array:
    """Upper bounds (c,) on max_w min(w·u_c, least_factor·w·u_c) − w·mixture."""
    bounds = (candidates - mixture).max(axis=1)
    if least_factor != 1.0:
        bounds = np.minimum(bounds, (least_factor * candidates - mixture).max(axis=1))
    return np.asarray(bounds)


def ratio_bounds(candidates: Array, mixture: Array) -> Array:
    """Upper bounds (c,) on 1 − w·mixture / (w·u_c) where w·u_c > 0: 1 − s if mixture ≥ s·u_c."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        share = mixture / candidates
    highest = np.where(candidates > 0, share, np.inf).min(axis=1)
    # u_ci < 0 asks for s ≥ share_i, u_ci = 0 for mixture_i ≥ 0, up to rounding.
    lowest = np.where(candidates < 0, share, -np.inf).max(axis=1)
    rounding = 1e-12
    room = ((candidates != 0) | (mixture >= -rounding * np.abs(mixture).max())).all(axis=1)
    good = room & (highest >= np.maximum(lowest, 0.0) - rounding)
    return np.where(good, 1.0 - np.maximum(highest, 0.0), 1.0)


def next_best(
    bounds: Array,
    reached: float,
    solve: Callable[[int], Solved],
    tighten: Callable[[Array], Array],
) -> Solved | None:
    """Solve the candidate with the highest bound, if that exceeds ``reached``.

    Args:
        bounds: (c,) upper bounds, one per candidate, tightened in place; that
            of a candidate already solved is −∞.
        reached: the best value known.
        solve: the program of one candidate.
        tighten: the upper bounds (c,) on all candidates that a mixture gives.

    Returns:
        The solution, or ``None`` once no candidate can exceed ``reached``.
    """
    place = int(np.argmax(bounds)) if len(bounds) else -1
    if place < 0 or not bounds[place] > reached:
        return None
    solved = solve(place)
    np.minimum(bounds, tighten(solved.mixture), out=bounds)
    bounds[place] = -np.inf
    return solved


def _answers(
    cost: list[float],
    table: Array,
    limits: Array,
    equal_one: list[float] | None,
    bounds: Sequence[tuple[float | None, float | None]],
) -> Iterator[Any]:
    """Minimise cost·x with table·x ≤ limits, equal_one·x = 1: one answer per algorithm.

    The next is asked only if the last one's answer is not accepted. None where
    the program is infeasible.

    Raises:
        WorkError: no algorithm finds an optimum.
    """
    from scipy.optimize import linprog

    equality = {} if equal_one is None else {"A_eq": np.array([equal_one]), "b_eq": np.ones(1)}
    tolerances = {
        "primal_feasibility_tolerance": _FEASIBLE,
        "dual_feasibility_tolerance": _FEASIBLE,
    }
    answered = False
    for method, presolve in (("highs-ds", True), ("highs-ds", False), ("highs-ipm", True)):
        found = linprog(
            cost,
            A_ub=table,
            b_ub=limits,
            bounds=bounds,
            method=method,
            options={**tolerances, "presolve": presolve},
            **equality,
        )
        if found.status == _INFEASIBLE:
            return
        if found.status == _OPTIMAL:
            answered = True
            yield found
    if not answered:
        raise WorkError(f"HiGHS found no optimum of a linear program: {found.message}")


def _simplex(weights: Array) -> Array:
    weights = np.maximum(weights, 0.0)
    return np.asarray(weights / weights.sum())
