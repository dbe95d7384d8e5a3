"""Gaps, covers and certificates in exact arithmetic: the truth that claims are held against.

Nothing of palm_core is used here. Every float is the rational number that it is; policies are
rows of Python integers times one power of two, and weight vectors are integer rows that need
not add to one (everything asked of them is homogeneous). Each supremum over the simplex is the
largest of a few linear programs of one form,

    maximise s   subject to   s ≤ a_j·w for all j,   h_k·w ≤ 0 for all k,   g·w ≤ 1,   s, w ≥ 0,

in which s = 0, w = 0 is feasible. :func:`largest_minimum` solves it by the simplex method with
Bland's rule on integers (Edmonds' exact division): there is no tolerance anywhere.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

Row = list[int]
Share = Fraction | float  # a float only for ∞


class Optimum(NamedTuple):
    """The value of a program, ``None`` if unbounded, and an optimal w (or a ray)."""

    value: Fraction | None
    weights: Row


def largest_minimum(rows: Sequence[Row], unit: Row, below: Sequence[Row] = ()) -> Optimum:
    """max s: s ≤ a·w for a in ``rows``, h·w ≤ 0 for h in ``below``, ``unit``·w ≤ 1, s, w ≥ 0."""
    d = len(unit)
    # Columns: w_1 … w_d, s, right-hand side; a row for each inequality, the last the objective's.
    table = [[-x for x in row] + [1, 0] for row in rows]
    table += [[*row, 0, 0] for row in below]
    table += [[*unit, 0, 1], [0] * d + [-1, 0]]
    last = len(table) - 1
    free, basic = list(range(d + 1)), list(range(d + 1, d + 1 + last))
    scale = 1  # every number in the table is to be divided by it
    while True:
        goal = table[last]
        entering = [(name, j) for j, name in enumerate(free) if goal[j] < 0]
        if not entering:
            found = [0] * (d + 1)
            for name, row in zip(basic, table, strict=False):
                if name <= d:
                    found[name] = row[-1]
            return Optimum(Fraction(goal[-1], scale), found[:d])
        column = min(entering)[1]
        leaves = -1
        for i in range(last):
            if table[i][column] > 0:
                if leaves >= 0:
                    a, b = table[i], table[leaves]
                    order = a[-1] * b[column] - b[-1] * a[column]
                    if order > 0 or (order == 0 and basic[i] > basic[leaves]):
                        continue
                leaves = i
        if leaves < 0:  # unbounded: basic variables change along with the one that enters
            ray = [0] * (d + 1)
            for name, row in zip(basic, table, strict=False):
                if name <= d:
                    ray[name] = -row[column]
            if free[column] <= d:
                ray[free[column]] = scale
            return Optimum(None, ray[:d])
        scale = _exchange(table, leaves, column, scale)
        free[column], basic[leaves] = basic[leaves], free[column]


def _exchange(table: list[Row], leaves: int, column: int, scale: int) -> int:
    """One pivot on integers; returns the new common denominator."""
    pivot_row = table[leaves]
    pivot = pivot_row[column]
    for i, row in enumerate(table):
        if i == leaves:
            continue
        factor = row[column]
        if factor:
            new = [(x * pivot - factor * y) // scale for x, y in zip(row, pivot_row, strict=True)]
            new[column] = -factor
            table[i] = new
        elif pivot != scale:
            table[i] = [x * pivot // scale for x in row]
    pivot_row[column] = scale
    return pivot


class Worst(NamedTuple):
    """A supremum over the simplex and weights (that need not add to one) that attain it."""

    value: Share
    weights: Row


class Table:
    """Policies in exact arithmetic, as integers: value = row × ``unit``.

    Args:
        values: (m, d) floats or Fractions.
        regularizer: (m,) f(π), subtracted from every objective; on the simplex that is J.
    """

    def __init__(
        self, values: Iterable[Iterable[float | Fraction]], regularizer: Sequence[float] = ()
    ) -> None:
        exact = [[Fraction(x) for x in row] for row in values]
        for row, f in zip(exact, regularizer, strict=False):
            row[:] = [x - Fraction(f) for x in row]
        whole = math.lcm(*(x.denominator for row in exact for x in row))
        scaled = [[x.numerator * (whole // x.denominator) for x in row] for row in exact]
        common = math.gcd(*(x for row in scaled for x in row)) or 1
        self.unit = Fraction(common, whole)
        self.rows: list[Row] = [[x // common for x in row] for row in scaled]
        self.d = len(self.rows[0])

    def gaps(self, portfolio: Sequence[int], candidates: Sequence[int]) -> tuple[Worst, Worst]:
        """(δ, ε) of the rows ``portfolio`` against ``candidates`` and themselves."""
        chosen = [self.rows[i] for i in portfolio]
        others = [(self.rows[i], 1) for i in {*candidates} - {*portfolio}]
        delta = additive_gap(chosen, others)
        return Worst(delta.value * self.unit, delta.weights), multiplicative_gap(chosen, others)

    def least_delta(
        self, portfolio: Sequence[int], candidates: Sequence[int], epsilon: Fraction
    ) -> Worst:
        """sup_w [opt − ε·max(opt, 0) − L]⁺."""
        found = [self._excess(portfolio, c, epsilon, Fraction(0)) for c in candidates]
        worst = max(found, key=lambda x: x.value)
        return Worst(worst.value * self.unit, worst.weights)

    def violated(
        self,
        portfolio: Sequence[int],
        candidates: Sequence[int],
        epsilon: Fraction,
        delta: Fraction,
    ) -> list[Row]:
        """Weights at which L < opt − ε·max(opt, 0) − δ, of each candidate the worst."""
        found = [self._excess(portfolio, c, epsilon, delta) for c in candidates]
        return [x.weights for x in found if x.value > 0]

    def _excess(
        self, portfolio: Sequence[int], candidate: int, epsilon: Fraction, delta: Fraction
    ) -> Worst:
        """max over w of min(c·w, (1 − ε)·c·w) − δ − L(w) where positive, else 0; ε in [0, 1]."""
        if candidate in portfolio:
            return Worst(Fraction(0), [1] * self.d)
        row, allowed = self.rows[candidate], delta / self.unit
        whole = math.lcm(epsilon.denominator, allowed.denominator)
        off, kept = int(allowed * whole), int((1 - epsilon) * whole)
        shares = [kept] if min(row) >= 0 else [whole] if max(row) <= 0 else [whole, kept]
        rows = [
            [share * x - whole * y - off for x, y in zip(row, self.rows[p], strict=True)]
            for share in shares
            for p in portfolio
        ]
        found = _bounded(largest_minimum(rows, [1] * self.d))
        return Worst(found.value / whole, found.weights if found.value else [1] * self.d)

    def covers(self, weights: Row, epsilon: Fraction, delta: Fraction) -> int:
        """The policies within (ε, δ) of the best at ``weights``, as bits."""
        values = [sum(map(int.__mul__, weights, row)) for row in self.rows]
        opt = max(values)
        least = opt - epsilon * max(opt, 0) - delta / self.unit * sum(weights)
        return sum(1 << i for i, value in enumerate(values) if value >= least)

    def smallest(self, epsilon: Fraction, delta: Fraction) -> list[int]:
        """A smallest set of rows within (ε, δ) of all at every weight: every subset, by size."""
        d, everyone = self.d, range(len(self.rows))
        pool = [[int(i == j) for j in range(d)] for i in range(d)]
        return self._fewest(
            [self.covers(w, epsilon, delta) for w in pool],
            lambda chosen: [
                self.covers(w, epsilon, delta)
                for w in self.violated(chosen, everyone, epsilon, delta)
            ],
        )

    def smallest_at(self, weights: Iterable[Row], epsilon: Fraction, delta: Fraction) -> list[int]:
        """A smallest set of rows within (ε, δ) of all at the given weights."""
        return self._fewest([self.covers(w, epsilon, delta) for w in weights], lambda _: [])

    def _fewest(self, covered_by: list[int], further) -> list[int]:
        """The first set, by size, that has a row in each of ``covered_by`` and in ``further``."""
        for size in range(1, len(self.rows) + 1):
            for chosen in itertools.combinations(range(len(self.rows)), size):
                bits = sum(1 << i for i in chosen)
                if all(bits & mask for mask in covered_by):
                    more = further(chosen)
                    if not more:
                        return list(chosen)
                    covered_by += more
        raise AssertionError("all rows together cover every weight")


def additive_gap(portfolio: Sequence[Row], candidates: Iterable[tuple[Row, int]]) -> Worst:
    """sup_w [max_c c·w − L(w)]⁺; a candidate is a row and what it is to be divided by."""
    d = len(portfolio[0])
    worst = Worst(Fraction(0), [1] * d)
    for row, whole in candidates:
        differences = [[x - whole * y for x, y in zip(row, p, strict=True)] for p in portfolio]
        found = _bounded(largest_minimum(differences, [1] * d))
        if found.value / whole > worst.value:
            worst = Worst(found.value / whole, found.weights)
    return worst


def multiplicative_gap(portfolio: Sequence[Row], candidates: Iterable[tuple[Row, int]]) -> Worst:
    """The least ε ≥ 0 with L ≥ opt − ε·max(opt, 0) everywhere, opt over both; ∞ if there is none.

    For the c that is best at w, scaled so that c·w = 1, the loss 1 − L(w) is to be largest.
    Where c·w ≤ 0 and L(w) < c·w it grows without bound, and no ε is enough. Where L ≥ 0
    throughout, c need not be the best: a lesser one only shows a lesser loss.
    """
    d = len(portfolio[0])
    candidates = list(candidates)
    signed = below_zero(portfolio)
    worst = Worst(Fraction(0), [1] * d)
    for row, whole in candidates:
        differences = [[x - whole * y for x, y in zip(row, p, strict=True)] for p in portfolio]
        better = [
            [whole * x - other * y for x, y in zip(rival, row, strict=True)]
            for rival, other in (candidates if signed else ())
            if rival is not row
        ]
        found = largest_minimum(differences, row, better)
        if found.value is None:
            return Worst(math.inf, found.weights)
        if found.value > worst.value:
            worst = Worst(found.value, found.weights)
    return worst


def below_zero(portfolio: Sequence[Row]) -> bool:
    """Whether L < 0 at some weights."""
    opposite = [[-x for x in row] for row in portfolio]
    return _bounded(largest_minimum(opposite, [1] * len(portfolio[0]))).value > 0


def _bounded(found: Optimum) -> Worst:
    assert found.value is not None
    return Worst(found.value, found.weights)


def certificate(
    portfolio: Table, weights: Sequence[Sequence[Fraction]], bounds: Sequence[Fraction]
) -> tuple[Worst, Worst]:
    """(δ, ε): sup_w of U − L and 1 − L/U, U the lower convex hull of the points (w_k, o_k).

    By duality U(w) = max {v·w : v·w_k ≤ o_k for all k}, attained at a vertex of that polyhedron:
    the certificate is the gap of the portfolio against its vertices, which are enumerated.
    ε is ∞ where L < 0 somewhere and δ > 0: the best may be below zero there too.
    """
    d = portfolio.d
    planes = []
    for w, bound in zip(weights, bounds, strict=True):
        exact = [*map(Fraction, w), Fraction(bound) / portfolio.unit]
        whole = math.lcm(*(x.denominator for x in exact))
        planes.append([int(x * whole) for x in exact])
    planes = [list(x) for x in dict.fromkeys(map(tuple, planes))]
    vertices = {}
    for some in itertools.combinations(planes, d):
        solved = _solve(some)
        if solved is None:
            continue
        point, whole = solved
        if all(sum(map(int.__mul__, point, plane)) <= whole * plane[d] for plane in planes):
            common = math.gcd(whole, *point)
            vertices[tuple(x // common for x in point), whole // common] = True
    pieces = [(list(point), whole) for point, whole in vertices]
    delta = additive_gap(portfolio.rows, pieces)
    scaled = Worst(delta.value * portfolio.unit, delta.weights)
    if delta.value == 0:
        return scaled, Worst(Fraction(0), delta.weights)
    if below_zero(portfolio.rows):
        return scaled, Worst(math.inf, delta.weights)
    return scaled, multiplicative_gap(portfolio.rows, pieces)


def _solve(equations: Sequence[Row]) -> tuple[Row, int] | None:
    """x, q with (x/q)·a = b for each (a, b), q > 0; ``None`` if singular."""
    d = len(equations)
    table, scale = [list(row) for row in equations], 1
    for k in range(d):
        place = next((i for i in range(k, d) if table[i][k]), None)
        if place is None:
            return None
        table[k], table[place] = table[place], table[k]
        pivot_row, pivot = table[k], table[k][k]
        for i in range(d):
            if i != k:
                factor = table[i][k]
                table[i] = [
                    (x * pivot - factor * y) // scale
                    for x, y in zip(table[i], pivot_row, strict=True)
                ]
        scale = pivot
    sign = 1 if scale > 0 else -1
    return [sign * row[d] for row in table], abs(scale)


def value(row: Sequence[float | Fraction], weights: Sequence[float | Fraction | int]) -> Fraction:
    """Σ_i w_i·u_i, exactly."""
    return sum((Fraction(w) * Fraction(u) for w, u in zip(weights, row, strict=True)), Fraction(0))


def decimal(number: float) -> Fraction:
    """The decimal number that is printed for a float: 0.05 is 1/20."""
    return Fraction(repr(float(number)))


def dot(rows: Sequence[Row], weights: Row) -> list[int]:
    """The values of integer rows at integer weights."""
    return [sum(map(int.__mul__, weights, row)) for row in rows]


def whole_weights(weights: np.ndarray) -> list[Row]:
    """Rows of float weights as rows of integers in the same direction, exactly."""
    rows = []
    for w in weights:
        exact = [Fraction(float(x)) for x in w]
        whole = math.lcm(*(x.denominator for x in exact))
        rows.append([int(x * whole) for x in exact])
    return rows
