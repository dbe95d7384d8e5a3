"""Suprema over the simplex by linear programs, one per candidate that may matter.

Candidates are asked in the order of their upper bounds, and every answer's mixture
lowers the bounds of all: most candidates never need a program.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from palm_core import _programs
from palm_core._pair import TOLERANCE, Pair

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


class Attained(NamedTuple):
    """Weights (d,) that attain ε, and whether it is infinite."""

    weights: Array
    infinite: bool = False


class _Losses:
    """Candidates that lose min(w·u_c, (1−ε)·w·u_c) − L(w) = opt − ε·max(opt, 0) − L."""

    def __init__(self, pair: Pair, epsilon: float = 0.0, *, below_zero: bool = False) -> None:
        # With ε = 0 all may be moved by one vector, which keeps small differences' digits.
        origin = 0.0 if epsilon or below_zero else pair.origin
        self.pieces: Array = pair.portfolio - origin
        self.rivals: Array = pair.rivals - origin
        self.factor = 1.0 - epsilon
        self.below_zero = below_zero
        self.bounds: Array = np.full(len(self.rivals), np.inf)
        for row in self.pieces:
            np.minimum(self.bounds, self._tighten(row), out=self.bounds)

    def next_best(self, reached: float) -> _programs.Solved | None:
        return _programs.next_best(self.bounds, reached, self._solve, self._tighten)

    def _solve(self, place: int) -> _programs.Solved:
        rises = self.rivals[place : place + 1]
        if self.factor != 1.0:
            rises = np.concatenate([rises, self.factor * rises])
        return _programs.worst_weight(self.pieces, rises, below_zero=self.below_zero)

    def _tighten(self, mixture: Array) -> Array:
        return _programs.additive_bounds(self.rivals, mixture, self.factor)


def largest_loss(pair: Pair, epsilon: float = 0.0) -> tuple[float, Array]:
    """sup_w [opt − ε·max(opt, 0) − L]⁺ and weights (d,) that attain it."""

    def excess(weights: Array) -> Array:
        opt, _, loss = pair.at(weights)
        return loss - epsilon * np.maximum(opt, 0.0)

    start = _start(pair)
    values = excess(start)
    reached, worst = max(float(values.max()), 0.0), start[np.argmax(values)]
    losses = _Losses(pair, epsilon)
    least = TOLERANCE * pair.scale
    while (solved := losses.next_best(max(reached * (1 + 1e-12), least))) is not None:
        value = float(excess(solved.weights[np.newaxis])[0])
        if value > reached:
            reached, worst = value, solved.weights
    return reached, worst


def all_losses(pair: Pair, epsilon: float, delta: float) -> Array:
    """Weights (v, d), one for each candidate to which more than δ may be lost somewhere."""
    losses = _Losses(pair, epsilon)
    least = delta + _programs.AGREEMENT * pair.scale
    found: list[Array] = []
    while (solved := losses.next_best(least)) is not None:
        if solved.value > least:
            found.append(solved.weights)
    return np.array(found) if found else np.zeros((0, pair.n_objectives))


def shares(pair: Pair, weights: Array) -> Array:
    """1 − max(L, 0)/opt where opt > 0, else 0: the multiplicative gap, at most 1."""
    opt, _, loss = pair.at(weights)
    return np.where(opt > 0, np.minimum(loss, opt) / np.where(opt > 0, opt, 1.0), 0.0)


def largest_ratio(pair: Pair) -> Attained:
    """Weights that attain the multiplicative gap."""
    negative = below_zero(pair)
    if negative is not None:
        return negative
    start = _start(pair)
    values = shares(pair, start)
    reached = float(values.max())
    worst: Array = start[np.argmax(values)]
    rivals = pair.rivals[(pair.rivals > 0).any(axis=1)]
    bounds = np.full(len(rivals), np.inf)
    for row in pair.portfolio:
        np.minimum(bounds, _programs.ratio_bounds(rivals, row), out=bounds)

    def solve(place: int) -> _programs.Solved:
        return _programs.worst_ratio(pair.portfolio, rivals[place])

    def tighten(mixture: Array) -> Array:
        return _programs.ratio_bounds(rivals, mixture)

    while True:
        solved = _programs.next_best(bounds, reached + TOLERANCE, solve, tighten)
        if solved is None:
            break
        value = float(shares(pair, solved.weights[np.newaxis])[0])
        if value > reached:
            reached, worst = value, solved.weights
    return Attained(worst)


def below_zero(pair: Pair, losing: Array | None = None) -> Attained | None:
    """Weights that attain ε where L < 0 occurs, or ``None`` if nothing is lost there.

    {L < 0} is convex. If opt ≤ 0 somewhere in it and opt > L somewhere in it, then
    opt ≤ 0 and opt > L at once somewhere on the segment between: ε = ∞. If
    opt > 0 all over it, ε = 1 + sup −L/opt, concave over convex: one program.

    Args:
        pair: a portfolio and its candidates.
        losing: (d,) weights with opt > L and L ≤ 0, if known.
    """
    if (pair.portfolio >= 0).all(axis=1).any():
        return None
    # All of this is about signs and ratios: objectives are brought to one unit.
    same = Pair(pair.portfolio / pair.units, pair.rivals / pair.units)
    least = _programs.least_value(same.portfolio)
    if least is None or least[0] >= -TOLERANCE:
        return None
    deep = _programs.least_value(same.portfolio, below_zero=same.rivals)
    if deep is None or deep[0] >= -_programs.AGREEMENT:
        depth, weights = _programs.deepest_loss(same.portfolio, same.rivals)
        return Attained(_rescaled(weights / pair.units), infinite=np.isinf(depth))
    start = _losing_below_zero(same) if losing is None else _rescaled(losing * pair.units)
    if start is None:
        return None
    return Attained(_rescaled(_crossing(same, start, deep[1]) / pair.units), infinite=True)


def _losing_below_zero(pair: Pair) -> Array | None:
    losses = _Losses(pair, below_zero=True)
    while (solved := losses.next_best(_programs.AGREEMENT)) is not None:
        if solved.value > _programs.AGREEMENT:
            return solved.weights
    return None


def _crossing(pair: Pair, losing: Array, deep: Array) -> Array:
    """The last weights with opt ≤ 0 on the way from ``deep`` to ``losing``, by halving."""

    def between(step: float) -> Array:
        return np.asarray(deep + step * (losing - deep))

    def has_value(step: float) -> bool:
        return bool(pair.at(between(step)[np.newaxis])[0][0] > 0)

    if not has_value(1.0):
        return losing
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if has_value(middle) else (middle, high)
    return between(low)


def _start(pair: Pair) -> Array:
    d = pair.n_objectives
    return np.concatenate([np.eye(d), np.full((1, d), 1.0 / d)])


def _rescaled(weights: Array) -> Array:
    return np.asarray(weights / weights.sum())
