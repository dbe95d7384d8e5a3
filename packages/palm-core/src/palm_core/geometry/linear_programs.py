"""Exact linear programs over the simplex: largest loss and least share of a candidate."""

from __future__ import annotations

import math
from fractions import Fraction
from operator import mul
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from palm_core.errors import WorkError
from palm_core.geometry.envelope import drop_dominated
from palm_core.geometry.exact import TINY, Values, floats, nearest, rounding_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from palm_core.geometry.exact import Reading, Row

    Array = NDArray[np.float64]

# Number of pivots by the largest gain, before Bland's rule, which cannot cycle.
_LARGEST_GAIN = 40
# Number of pivots in float64, for an initial basis.
_MOST_GUESSES = 80
# The smallest positive float64 number.
_SMALLEST = 5e-324
# In float64 a gain below this share of its operands counts as zero.
_NO_GAIN = 1e-11


class Solution(NamedTuple):
    """The optimum, exactly: ``None`` for ∞.

    ``weights`` (d,) are on the simplex and attain it; ``mixture`` maps places in the
    portfolio to λ.
    """

    value: Fraction | None
    weights: Row
    mixture: dict[int, Fraction]


class Program:
    """The linear program of one candidate.

    Args:
        portfolio: P, p policies.
        everyone: U; ``None`` omits μ, as for ε = 0.
        target: index of c in the numbers of ``everyone``, or ``None`` for c = 0.
        source: the values that contain c: ``everyone`` unless that is ``None``.
    """

    def __init__(
        self,
        portfolio: Values,
        everyone: Values | None,
        source: Values,
        target: int | None,
    ) -> None:
        self.portfolio, self.everyone = portfolio, everyone
        self.source, self.target = source, target
        self.p, self.d = portfolio.floats.shape
        self.m = 0 if everyone is None else len(everyone.floats)
        # Columns: v, λ_1 … λ_p, μ_1 … μ_m, slacks of the rows 1 … d, slack of Σμ ≤ ε.
        self.first_mu, self.first_slack = 1 + self.p, 1 + self.p + self.m
        self.cap_slack = self.first_slack + self.d

    def loss(
        self, reading: int, epsilon: Fraction = Fraction(0), basis: list[int] | None = None
    ) -> Solution:
        """max_w [w·c − ε·max(opt, 0) − L]⁺, in one reading of the numbers.

        ``basis``: columns that may be the optimal ones.
        """
        c = self._candidate(reading)
        cap = epsilon if self.everyone is not None and epsilon else None
        single = self._single(c)
        row = self._row(self.portfolio, single, reading)
        differences = [a - b for a, b in zip(c, row, strict=True)]
        worst = max(range(self.d), key=differences.__getitem__)
        if differences[worst] <= 0:
            return Solution(Fraction(0), _vertex(self.d, 0), {single: Fraction(1)})
        slacks = [self.first_slack + i for i in range(self.d) if i != worst]
        start = [0, 1 + single, *slacks, *([] if cap is None else [self.cap_slack])]
        state = self._simplex(c, reading, cap).solve(start, guess=basis)
        return state.solution(state.value)

    def share(self, reading: int, basis: list[int] | None = None) -> Solution:
        """The least ε ≥ 0 with L ≥ w·c − ε·max(opt, 0) at every w; ``basis`` as for a loss."""
        assert self.everyone is not None
        c = self._candidate(reading)
        if all(value <= 0 for value in c) and self._covered(c, reading):
            return Solution(Fraction(0), _vertex(self.d, 0), {})
        simplex = self._simplex(c, reading)
        start = self._nonnegative_start(c, reading)
        if start is None:
            first = self._loss_of_free_shares(c, reading, simplex)
            if isinstance(first, Solution):
                return first
            start = first
        if not start:
            return Solution(Fraction(0), _vertex(self.d, 0), {})
        state = simplex.solve(start, share=True, guess=basis)
        return state.solution(state.value)

    def near(self, factor: float | None) -> tuple[Array, Array] | None:
        """Approximate solution in float64: λ (p,) and weights (d,); or ``None``.

        Args:
            factor: for the loss factor·w·c − L, or ``None`` for the share.
        """
        assert self.target is not None
        target = self.source.floats[self.target] * (1.0 if factor is None else factor)
        return near_mixture(self.portfolio.floats, target, share=factor is None)

    def _simplex(self, c: Row, reading: int, cap: Fraction | None = None) -> _Simplex:
        scale = self._reading(self.portfolio, reading).scale
        right = [int(value * factor) for value, factor in zip(c, scale, strict=True)]
        right += [1, *([] if cap is None else [cap.numerator])]
        near = [*map(nearest, c), 1.0, *([] if cap is None else [float(cap)])]
        return _Simplex(self, np.array(near), right, reading=reading, cap=cap)

    def _loss_of_free_shares(self, c: Row, reading: int, simplex: _Simplex) -> Solution | list[int]:
        """A basis with v = 0 and unbounded μ; or the weights at which no ε suffices."""
        single = self._single(c)
        row = self._row(self.portfolio, single, reading)
        differences = [a - b for a, b in zip(c, row, strict=True)]
        worst = max(range(self.d), key=differences.__getitem__)
        if differences[worst] <= 0:
            return []
        start = [0, 1 + single]
        start += [self.first_slack + i for i in range(self.d) if i != worst]
        state = simplex.solve(start)
        if state.value > 0:
            return state.solution(None)
        return state.without(0)

    def _covered(self, c: Row, reading: int) -> bool:
        single = self._single(c)
        row = self._row(self.portfolio, single, reading)
        return all(a >= b for a, b in zip(row, c, strict=True))

    def _nonnegative_start(self, c: Row, reading: int) -> list[int] | None:
        """Initial basis: λ on a policy without negative values, μ on c; [] if that needs no μ."""
        if self.target is None:
            return None
        single = _least_share(self.portfolio.floats, self.source.floats[self.target])[0]
        if single is None:
            return None
        row = self._row(self.portfolio, single, reading)
        lost = [(1 - a / b, i) for i, (a, b) in enumerate(zip(row, c, strict=True)) if b > 0]
        if not lost or max(lost)[0] <= 0:
            return []
        worst = max(lost)[1]
        slacks = [self.first_slack + i for i in range(self.d) if i != worst]
        return [1 + single, self.first_mu + self.target, *slacks]

    def _candidate(self, reading: int) -> Row:
        zero: Row = (Fraction(0),) * self.d
        return zero if self.target is None else self._row(self.source, self.target, reading)

    def _single(self, c: Row) -> int:
        """The policy of the portfolio with the least loss, in float64."""
        target = floats(c)
        return int(np.argmin((target - self.portfolio.floats).max(axis=1)))

    @staticmethod
    def _reading(values: Values, reading: int) -> Reading:
        return values.readings[reading]

    def _row(self, values: Values, index: int, reading: int) -> Row:
        return self._reading(values, reading)(index)

    def column(self, number: int, reading: int, cap: Fraction | None) -> list[int]:
        """One column, exactly: row i times its denominator, the last times that of ε."""
        d = self.d
        found = [0] * (d + 1 + (cap is not None))
        if number == 0:
            found[:d] = self._reading(self.portfolio, reading).scale
        elif number < self.first_mu:
            found[:d] = self._reading(self.portfolio, reading).integers(number - 1)
            found[d] = 1
        elif number < self.first_slack:
            assert self.everyone is not None
            found[:d] = self._reading(self.everyone, reading).integers(number - self.first_mu)
            if cap is not None:
                found[d + 1] = cap.denominator
        elif number < self.cap_slack:
            found[number - self.first_slack] = -1
        else:
            found[d + 1] = 1
        return found

    def near_column(self, number: int, n_rows: int) -> Array:
        """:meth:`column` in float64."""
        d = self.d
        found = np.zeros(n_rows)
        if number == 0:
            found[:d] = 1.0
        elif number < self.first_mu:
            found[:d], found[d] = self.portfolio.floats[number - 1], 1.0
        elif number < self.first_slack:
            assert self.everyone is not None
            found[:d] = self.everyone.floats[number - self.first_mu]
            found[d + 1 :] = 1.0
        elif number < self.cap_slack:
            found[number - self.first_slack] = -1.0
        else:
            found[d + 1] = 1.0
        return found


def near_mixture(values: Array, target: Array, *, share: bool) -> tuple[Array, Array] | None:
    """Approximate solution in float64: λ (p,) and weights (d,); or ``None``.

    Args:
        values: (p, d) the portfolio.
        target: (d,) c.
        share: for the least share of c, which takes a policy without negative values;
            else for the largest loss.
    """
    d = values.shape[1]
    rival = Values(target[np.newaxis], (), order=None)
    portfolio = Values(values, (), order=None)
    if share:
        single, worst = _least_share(values, target)
        if single is None:
            return None
        alone = Program(portfolio, rival, rival, 0)
        start = [1 + single, alone.first_mu]
    else:
        alone = Program(portfolio, None, rival, 0)
        single = int(np.argmin((target - values).max(axis=1)))
        worst = int(np.argmax(target - values[single]))
        start = [0, 1 + single]
    start += [alone.first_slack + i for i in range(d) if i != worst]
    simplex = _Simplex(alone, np.append(target, 1.0), share=share)
    found = simplex.guess(start)
    if found is None:
        return None
    basis, inverse, prices = found
    shares, weights = np.zeros(len(values)), np.maximum(prices[:d], 0.0)
    with np.errstate(all="ignore"):
        x = inverse @ simplex.near
    for place, number in enumerate(basis):
        if 1 <= number < alone.first_mu:
            shares[number - 1] = max(float(x[place]), 0.0)
    total = weights.sum()
    usable = np.isfinite(shares).all() and shares.any() and np.isfinite(total) and total > 0
    return (shares, weights / total) if usable else None


# Candidates up to which each is compared with mixtures of the others.
_MOST_COMPARED = 1000
_SAMPLE = 1000


def best_somewhere(values: Array) -> NDArray[np.intp]:
    """Indices of the rows of ``values`` (m, d) that are best at some weights, ascending.

    Left out are rows for which a mixture of others is at least as good in every objective by
    more than rounding: max_j w·u_j is unchanged. Of equal rows the first remains; a row that
    ties with a mixture remains. Among more than 1000 rows that none dominates, all remain.

    Args:
        values: (m, d) vertex values.
    """
    rest = drop_dominated(values)
    if len(rest) > _MOST_COMPARED:
        return rest
    # Those that are best at some of these weights need no comparison.
    d = values.shape[1]
    sample = np.vstack([np.eye(d), np.random.default_rng(0).dirichlet(np.ones(d), _SAMPLE)])
    winners = np.unique((sample @ values[rest].T).argmax(axis=1))
    others = np.setdiff1d(np.arange(len(rest)), winners)
    kept = {*winners.tolist(), *others.tolist()}
    for place in others.tolist():
        target = values[rest[place]]
        for rivals in (winners.tolist(), sorted(kept - {place})):
            if _is_below_a_mixture(target, values[rest[rivals]]):
                kept.discard(place)
                break
    return np.asarray(rest[sorted(kept)])


def _is_below_a_mixture(target: Array, values: Array) -> bool:
    """Whether a mixture of ``values`` (p, d) is above ``target`` (d,), rounding included."""
    low, high = values.min(axis=0), values.max(axis=0)
    if (target > high).any():
        return False
    spread = high - low
    spread[spread == 0] = 1.0
    # The program is of losses above 0: the target is raised. Far below all of ``values`` it is
    # met by every mixture, and its loss there must not be the largest.
    wanted = np.maximum((target - low) / spread, -1.0)
    found = near_mixture((values - low) / spread, wanted + 2.0, share=False)
    if found is None:
        return False
    shares = found[0] / found[0].sum()
    margin = rounding_error(len(values)) * (np.abs(values).max(axis=0) + np.abs(target)) + TINY
    return bool((shares @ values >= target + margin).all())


def _least_share(values: Array, target: Array) -> tuple[int | None, int]:
    """The policy without negative values that loses the least share, and where."""
    good = np.flatnonzero((values >= 0).all(axis=1))
    if not len(good):
        return None, 0
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        shares = np.where(target > 0, values[good] / target, np.inf)
    best = int(np.argmax(shares.min(axis=1)))
    return int(good[best]), int(np.argmin(shares[best]))


class _Simplex:
    """The revised simplex method on a program: min v, or (``share``) min Σμ.

    In integers: a basis B is represented by its adjugate det·B⁻¹, integral under pivots (Edmonds,
    1967). Rows are multiplied by the objectives' denominators.
    """

    def __init__(
        self,
        program: Program,
        near: Array,
        right: list[int] | None = None,
        *,
        reading: int = 0,
        cap: Fraction | None = None,
        share: bool = False,
    ) -> None:
        self.program, self.reading, self.cap, self.share = program, reading, cap, share
        #: c, 1 and, if Σμ is capped, ε: in float64, and as integers.
        self.near, self.right, self.n = near, right or [], len(near)
        self.basis: list[int] = []
        self.adjugate: list[list[int]] = []
        self.det = 1
        self._columns: dict[int, list[int]] = {}

    @property
    def x(self) -> list[int]:
        """The basic variables times det."""
        return [sum(map(mul, row, self.right)) for row in self.adjugate]

    @property
    def value(self) -> Fraction:
        """The objective."""
        found = sum(x for x, j in zip(self.x, self.basis, strict=True) if self._cost(j))
        return Fraction(found, self.det)

    def solve(
        self, start: list[int], *, share: bool = False, guess: list[int] | None = None
    ) -> _Simplex:
        """Solve to optimality from ``guess`` if feasible, the float64 basis, or ``start``."""
        self.share = share
        if guess is None or not self._enter(guess):
            found = self.guess(start)
            if (found is None or not self._enter(found[0])) and not self._enter(start):
                raise WorkError("a linear program's first basis is not feasible")
        pivots = 0
        # Terminates: each basis occurs once, as the value improves or Bland's rule does
        # not cycle among bases of equal value; there are finitely many bases.
        while (entering := self._entering(pivots > _LARGEST_GAIN)) is not None:
            self._pivot(entering)
            pivots += 1
        return self

    def without(self, number: int) -> list[int]:
        """The basis, with a variable that is zero replaced by a slack if it is in it."""
        if number in self.basis:
            row = self.basis.index(number)
            slack = next(i for i in range(self.program.d) if self.adjugate[row][i])
            self._replace(row, self.program.first_slack + slack)
        return list(self.basis)

    def solution(self, value: Fraction | None) -> Solution:
        """The optimum with the weights that attain it and the mixture that proves it."""
        d = self.program.d
        scale = self.program._reading(self.program.portfolio, self.reading).scale
        weights = [price * unit for price, unit in zip(self._prices()[:d], scale, strict=True)]
        total = sum(weights)
        if not total:  # no loss at any weight
            weights, total = [1, *([0] * (d - 1))], 1
        mixture = {
            j - 1: Fraction(x, self.det)
            for j, x in zip(self.basis, self.x, strict=True)
            if 1 <= j < self.program.first_mu and x > 0
        }
        return Solution(value, tuple(Fraction(w, total) for w in weights), mixture)

    def _cost(self, number: int) -> int:
        if self.share:
            return int(self.program.first_mu <= number < self.program.first_slack)
        return int(number == 0)

    def _column(self, number: int) -> list[int]:
        if number not in self._columns:
            self._columns[number] = self.program.column(number, self.reading, self.cap)
        return self._columns[number]

    def _enter(self, basis: list[int]) -> bool:
        """Start from ``basis``; false if it is singular or infeasible."""
        n = self.n
        self.basis, self.det = [-1] * n, 1
        self.adjugate = [[int(i == j) for j in range(n)] for i in range(n)]
        for number in basis:
            direction = self._direction(number)
            row = next((i for i in range(n) if self.basis[i] < 0 and direction[i]), None)
            if row is None:
                return False
            self._replace(row, number, direction)
        return min(self.x) >= 0

    def _direction(self, number: int) -> list[int]:
        column = self._column(number)
        return [sum(map(mul, row, column)) for row in self.adjugate]

    def _prices(self) -> list[int]:
        """The dual variables of the rows, times det."""
        rows = [row for row, j in zip(self.adjugate, self.basis, strict=True) if self._cost(j)]
        return [sum(column) for column in zip(*rows, strict=True)] if rows else [0] * self.n

    def _gains(self, prices: Array, one: float = 1.0) -> tuple[Array, Array]:
        """The gain of each column per unit, with its rounding error.

        Args:
            prices: (n,) dual prices of the rows, in a separate unit.
            one: the number 1 in that unit.
        """
        program = self.program
        d = program.d
        weights, values = prices[:d], program.portfolio.floats
        error = rounding_error(d)
        # A weight near the smallest float64 number is rounded by as much as that number.
        size = error * np.abs(weights) + 2 * _SMALLEST
        of_v = np.array([-np.inf if self.share else weights.sum() - one])
        parts = [of_v, values @ weights + prices[d]]
        errors = [np.zeros(1), np.abs(values) @ size + error * abs(prices[d]) + TINY]
        if program.everyone is not None:
            rivals = program.everyone.floats
            level = -one if self.share else (prices[d + 1] if self.n > d + 1 else 0.0)
            parts.append(rivals @ weights + level)
            errors.append(np.abs(rivals) @ size + error * abs(level) + TINY)
        parts.append(-weights)
        errors.append(np.zeros(d))
        if self.n > d + 1:
            parts.append(prices[d + 1 :])
            errors.append(np.zeros(1))
        return np.concatenate(parts), np.concatenate(errors)

    def _entering(self, bland: bool) -> int | None:
        """The entering column: the one with the largest gain, or (``bland``) the first."""
        exact, d = self._prices(), self.program.d
        scale = self.program._reading(self.program.portfolio, self.reading).scale
        prices = [price * unit for price, unit in zip(exact[:d], scale, strict=True)]
        prices.append(exact[d])
        if self.cap is not None:
            prices.append(exact[d + 1] * self.cap.denominator)
        # In a separate unit, to avoid overflow.
        unit = max(map(abs, prices)) or 1
        one = _ratio(self.det, unit)
        gains, errors = self._gains(np.array([_signed(price, unit) for price in prices]), one)
        if not self.share:  # no difference of products: exact
            gains[0] = _signed(sum(prices[:d]) - self.det, unit)
        gains[self.basis] = -np.inf
        places = np.flatnonzero(gains > -errors)
        order = places if bland else places[np.argsort(-gains[places], kind="stable")]
        for place in map(int, order):
            if gains[place] > errors[place]:
                return place
            if errors[place]:
                gain = sum(map(mul, exact, self._column(place))) - self._cost(place) * self.det
                if gain > 0:
                    return place
        return None

    def _pivot(self, entering: int) -> None:
        direction, x = self._direction(entering), self.x
        rows = [i for i in range(self.n) if direction[i] > 0]
        leaving = min(rows, key=lambda i: (Fraction(x[i], direction[i]), self.basis[i]))
        self._replace(leaving, entering, direction)

    def _replace(self, row: int, number: int, direction: list[int] | None = None) -> None:
        direction = self._direction(number) if direction is None else direction
        pivot, pivot_row = direction[row], self.adjugate[row]
        for i, factor in enumerate(direction):
            if i != row:
                self.adjugate[i] = [
                    (own * pivot - factor * other) // self.det
                    for own, other in zip(self.adjugate[i], pivot_row, strict=True)
                ]
        self.basis[row], self.det = number, pivot
        if pivot < 0:
            self.det = -pivot
            self.adjugate = [[-value for value in each] for each in self.adjugate]

    def guess(self, start: list[int]) -> tuple[list[int], Array, Array] | None:
        """The same method in float64: final basis, its inverse and prices; or ``None``."""
        basis, program = list(start), self.program
        right = self.near
        smallest = _NO_GAIN / rounding_error(program.d)
        with np.errstate(all="ignore"):
            for _ in range(_MOST_GUESSES):
                table = np.column_stack([program.near_column(j, self.n) for j in basis])
                try:
                    inverse = np.linalg.inv(table)
                except np.linalg.LinAlgError:  # rational arithmetic starts without a guess
                    return None
                prices = np.array([float(self._cost(j)) for j in basis]) @ inverse
                gains, errors = self._gains(prices)
                gains[basis] = -np.inf
                entering = int(np.argmax(gains))
                if not gains[entering] > smallest * errors[entering]:
                    return basis, np.asarray(inverse), np.asarray(prices)
                direction = inverse @ program.near_column(entering, self.n)
                x = np.maximum(inverse @ right, 0.0)
                rises = direction > _NO_GAIN * np.abs(direction).max()
                steps = np.where(rises, x / direction, np.inf)
                if not np.isfinite(steps).any():
                    return None
                basis[int(np.argmin(steps))] = entering
        return None


def _ratio(top: int, bottom: int) -> float:
    """The nearest float64 number to a quotient, ``bottom`` > 0; ±∞ beyond the largest."""
    try:
        return top / bottom
    except OverflowError:
        return math.inf if top > 0 else -math.inf


def _signed(top: int, bottom: int) -> float:
    """:func:`_ratio` with the sign of the quotient where it is too small for a float64 number."""
    ratio = _ratio(top, bottom)
    return ratio or (_SMALLEST if top > 0 else -_SMALLEST if top < 0 else 0.0)


def inverted(table: Any) -> Any:
    """The inverse (n, n) of a matrix of rationals by Gauss and Jordan; ``None`` if singular."""
    n = len(table)
    both = np.empty((n, 2 * n), dtype=object)
    both[:, :n] = table
    both[:, n:] = [[Fraction(int(i == j)) for j in range(n)] for i in range(n)]
    for column in range(n):
        row = next((i for i in range(column, n) if both[i, column] != 0), None)
        if row is None:
            return None
        if row != column:
            both[[column, row]] = both[[row, column]]
        both[column] = both[column] / both[column, column]
        for i in range(n):
            if i != column and both[i, column] != 0:
                both[i] = both[i] - both[i, column] * both[column]
    return both[:, n:]


def _vertex(d: int, place: int) -> Row:
    return tuple(Fraction(int(i == place)) for i in range(d))
