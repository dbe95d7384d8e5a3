"""Losses of a portfolio to candidates: values at weights, bounds from mixtures.

Everything here is float64 with error bounds. Losses at weights are bounded
from below, losses over the whole simplex from above: a mixture λ of the portfolio with
ΣλP ≥ c − v proves that c is nowhere better by more than v, however λ was found.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cached_property
from math import comb, lcm
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from palm_core.errors import InputError, WorkError
from palm_core.geometry.envelope import corners_and_members, segments
from palm_core.geometry.exact import (
    TINY,
    UNIT,
    Reading,
    Values,
    dot,
    floats,
    rounded_up,
    rounding_error,
)
from palm_core.geometry.linear_programs import Program
from palm_core.model.policy import PolicySet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

    from palm_core.geometry.exact import Row

    Array = NDArray[np.float64]
    Indices = NDArray[np.intp]

# Corners are enumerated up to this many in the worst case.
_MOST_CORNERS = 100_000
# Entries of the largest matrix (weights × policies) in memory.
_BLOCK = 4_000_000


class Heights(NamedTuple):
    """At weights (k, d): the best rival, its value and size w·|u|, and an upper bound on L."""

    place: Indices
    best: Array
    size: Array
    upper: Array


class Mixtures(NamedTuple):
    """Mixtures of the portfolio, Σλu and Σλ|u|: (d,), or (c, d) with one for each rival."""

    values: Array
    sizes: Array


class Pair:
    """A portfolio, L = max over it, and its rivals: the candidates that may be above L.

    Args:
        values: the numbers of all policies.
        portfolio: (p,) places of the portfolio in ``values``.
        candidates: (c,) places of the candidates; need not contain the portfolio.
    """

    def __init__(self, values: Values, portfolio: Indices, candidates: Indices) -> None:
        self.portfolio = values.take(portfolio)
        order = values.order[candidates]
        left = np.flatnonzero(_undominated(order, values.order[portfolio]))
        _, first = np.unique(order[left], axis=0, return_index=True)
        self.rivals = values.take(candidates[left[np.sort(first)]])
        self.error = rounding_error(self.n_objectives)
        # Members of each rival's worst corner (c, d), by factor.
        self._meeting: dict[float | None, Indices] = {}

    @classmethod
    def of(cls, portfolio: PolicySet | ArrayLike, candidates: PolicySet | ArrayLike) -> Pair:
        """Validate and pair two sets of policies.

        Raises:
            InputError: different numbers of objectives, or rewards that are none.
        """
        sets = cls.checked(portfolio, candidates)
        p, c = map(len, sets)
        return cls(joined(sets), np.arange(p), np.arange(p, p + c))

    @staticmethod
    def checked(
        portfolio: PolicySet | ArrayLike, candidates: PolicySet | ArrayLike
    ) -> list[PolicySet]:
        """Validate both arguments as sets of policies.

        Raises:
            InputError: as :meth:`of`.
        """
        sets = [
            given if isinstance(given, PolicySet) else PolicySet(given)
            for given in (portfolio, candidates)
        ]
        if sets[0].n_objectives != sets[1].n_objectives:
            raise InputError(
                f"portfolio: has {sets[0].n_objectives} objectives, must have the candidates' "
                f"{sets[1].n_objectives}"
            )
        return sets

    @property
    def n_objectives(self) -> int:
        """d, the number of objectives."""
        return int(self.portfolio.floats.shape[1])

    @property
    def n_readings(self) -> int:
        """The number of exact readings."""
        return len(self.portfolio.readings)

    def has_no_negative(self) -> bool:
        """Whether L ≥ 0 at every weight, in every reading."""
        return self.below_zero() is None

    def below_zero(self) -> Array | None:
        """Weights (d,) at which L < 0, or ``None`` if there are none, in any reading."""
        values = self.portfolio.floats
        if (values >= 0).all(axis=1).any():
            return None
        best = values.max(axis=0)
        if best.min() < 0:
            return np.asarray(np.eye(len(best))[int(best.argmin())])
        depth, weights = self.deepest()
        return weights if depth > 0 else None

    def deepest(self) -> tuple[float, Array]:
        """max_w −L(w), 0 if that is negative, rounded up; and weights (d,) that attain it."""
        program = Program(self.portfolio, None, self.portfolio, None)
        found = [program.loss(reading) for reading in range(self.n_readings)]
        worst = max(found, key=lambda each: each.value or Fraction(0))
        return rounded_up(worst.value or Fraction(0)), floats(worst.weights)

    def loses(self, weights: Row) -> bool:
        """Whether a rival is above the whole portfolio at ``weights`` (d,), in some reading."""
        for reading in range(self.n_readings):
            best, own = (
                max(
                    dot(weights, values.readings[reading](each))
                    for each in range(len(values.floats))
                )
                for values in (self.rivals, self.portfolio)
            )
            if best > own:
                return True
        return False

    @cached_property
    def corners(self) -> tuple[Array, Indices] | None:
        """The corner weights of L and their members; ``None`` where they are too many.

        Where qhull fails they are the vertices of the simplex alone.
        """
        values = self.portfolio.floats
        if not self._few_corners():
            return None
        try:
            with np.errstate(all="ignore"):  # heuristic weights only: results are validated
                found = corners_and_members(values)
        except WorkError:  # linear programs find the bounds instead
            return None
        return found if np.isfinite(found[0]).all() else None

    def _few_corners(self) -> bool:
        """Whether enumerating corners is cheap: d ≤ 4, or few of them in the worst case.

        At most as many as a cyclic polytope with one vertex per policy, face of
        the simplex, lid and zero policy has facets (McMullen 1970).
        """
        d = self.n_objectives
        n = len(self.portfolio.floats) + d + 2
        most = comb(n - (d + 1) // 2, n - d) + comb(n - d // 2 - 1, n - d)
        return d <= 4 or most <= _MOST_CORNERS

    def program(self, place: int | None, *, shared: bool) -> Program:
        """The program of a rival, or (``None``) of c = 0; ``shared`` lets ε > 0."""
        return Program(self.portfolio, self.rivals if shared else None, self.rivals, place)

    def basis(self, place: int, factor: float | None, program: Program) -> list[int] | None:
        """The program's basis at a rival's worst corner, if computed."""
        members = self._meeting.get(factor)
        if members is None:
            return None
        p = len(self.portfolio.floats)
        basis = [
            1 + member if member < p else program.first_slack + member - p
            for member in members[place].tolist()
        ]
        if factor is None or factor < 1:
            basis.append(program.first_mu + place)
        return basis if factor is None else [0, *basis]

    def heights(self, weights: Array) -> Heights:
        """The best rival at each of ``weights`` (k, d), and an upper bound on L there."""
        rivals = self.rivals.floats
        place = _best(rivals, weights)
        chosen = rivals[place]
        best = (weights * chosen).sum(axis=1)
        size = (weights * np.abs(chosen)).sum(axis=1)
        return Heights(place, best, size, self._upper(weights))

    def _upper(self, weights: Array) -> Array:
        """Upper bounds on L at ``weights`` (k, d), rounding included."""
        values = self.portfolio.floats
        if self.n_objectives == 2 and len(values) * len(weights) > _BLOCK:
            hull = values[segments(values)[0]]
            near = hull[_best(hull, weights)]
            # Up to rounding a policy off the hull may be the best: no higher than that.
            return np.asarray(
                (weights * near).sum(axis=1)
                + 4 * self.error * (weights * np.abs(near)).sum(axis=1)
                + TINY
            )
        found = np.empty(len(weights))
        for rows in _blocks(len(weights), len(values)):
            part = weights[rows] @ values.T
            part += self.error * (weights[rows] @ np.abs(values).T)
            found[rows] = part.max(axis=1)
        return found + TINY

    def excess(self, weights: Array, epsilon: float, delta: float) -> Array:
        """(k,) lower bounds on opt − ε·max(opt, 0) − δ − L at ``weights``."""
        at = self.heights(weights)
        factor = np.where(at.best > 0, 1.0 - epsilon, 1.0)
        rounding = 2 * self.error * at.size + 4 * UNIT * abs(delta) + TINY
        return np.asarray(factor * at.best - rounding - delta - at.upper)

    def bounds(self, mixtures: Mixtures, *, factor: float) -> Array:
        """(c,) upper bounds of max_w factor·w·c − L, outward rounded."""
        rivals = self.rivals.floats
        lost = factor * rivals - mixtures.values
        lost += self.error * (np.abs(rivals) + mixtures.sizes) + TINY
        return np.asarray(lost.max(axis=1))

    def share_bounds(self, mixtures: Mixtures) -> Array:
        """(c,) upper bounds of the least ε for each rival where L ≥ 0 throughout; at most 1.

        λP ≥ s·c makes 1 − s such a bound, for 0 ≤ s ≤ 1.
        """
        rivals = self.rivals.floats
        low = mixtures.values - self.error * mixtures.sizes - TINY
        low = np.where(mixtures.values == mixtures.sizes, np.maximum(low, 0.0), low)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            shares = np.where(rivals > 0, low / rivals, np.inf).min(axis=1) * (1.0 - 4 * UNIT)
        shares = np.clip(shares, 0.0, 1.0)
        kept = (low >= np.minimum(shares[:, np.newaxis] * rivals * (1.0 - 4 * UNIT), 0.0)).all(1)
        return np.where(kept, np.nextafter(1.0 - shares, 2.0), 1.0)

    def mixture(self, shares: Array) -> Mixtures:
        """One mixture from an approximate λ (p,), normalised to add to one."""
        shares = np.maximum(shares, 0.0)
        shares = shares / shares.sum()
        used = np.flatnonzero(shares)
        values = self.portfolio.floats[used]
        return Mixtures(shares[used] @ values, shares[used] @ np.abs(values))

    def singles(self) -> Iterator[Mixtures]:
        """Each policy of the portfolio as a mixture."""
        for row in self.portfolio.floats:
            yield Mixtures(row, np.abs(row))

    def at_corners(self, factor: float | None) -> Mixtures | None:
        """For each rival the mixture of the policies at its worst corner; ``None`` without corners.

        Args:
            factor: for the loss factor·w·c − L, or ``None`` for the ratio L/(w·c).
        """
        if self.corners is None:
            return None
        places = self._worst_corners(factor)
        members = self.corners[1][places]
        self._meeting[factor] = members
        p, d = self.portfolio.floats.shape
        rivals, count = self.rivals.floats, len(places)
        # Rows scaled by separate powers of two, so that units of objectives do not matter.
        largest = np.abs(np.concatenate([self.portfolio.floats, rivals])).max(axis=0)
        exponents = np.frexp(np.where(largest > 0, largest, 1.0))[1]
        units = np.ldexp(1.0, np.minimum(-exponents, 1000))
        policy = members < p
        table = np.zeros((count, d + 1, d + 1))
        columns = self.portfolio.floats[np.where(policy, members, 0)] * units
        faces = -np.eye(d)[np.where(policy, 0, members - p)]
        table[:, :d, :d] = np.where(policy[..., np.newaxis], columns, faces).transpose(0, 2, 1)
        table[:, d, :d] = policy
        right = np.zeros((count, d + 1))
        right[:, d] = 1.0
        if factor is None:
            table[:, :d, d] = -rivals * units
        else:
            table[:, :d, d] = units
            right[:, :d] = factor * rivals * units
        with np.errstate(all="ignore"):
            regular = np.linalg.slogdet(table)[0] != 0
            shares = np.zeros((count, d))
            solved = np.linalg.solve(table[regular], right[regular][..., np.newaxis])
            shares[regular] = solved[:, :d, 0]
            shares = np.where(policy & (shares > 0), shares, 0.0)
            total = shares.sum(axis=1, keepdims=True)
            good = np.isfinite(total) & (total > 0)
            # Fallback: any single policy is a mixture.
            anyone = policy / policy.sum(axis=1, keepdims=True)
            shares = np.where(good, shares / np.where(good, total, 1.0), anyone)
        parts = self.portfolio.floats[np.where(policy, members, 0)]
        return Mixtures(
            np.einsum("ca,cad->cd", shares, parts), np.einsum("ca,cad->cd", shares, np.abs(parts))
        )

    def _worst_corners(self, factor: float | None) -> Indices:
        """For each rival the corner at which it is furthest above L, in float64."""
        with np.errstate(all="ignore"):
            return self._furthest(factor)

    def _furthest(self, factor: float | None) -> Indices:
        assert self.corners is not None
        corners = self.corners[0]
        rivals, values = self.rivals.floats, self.portfolio.floats
        if self.n_objectives == 2 and len(corners) > 8:
            hull = values[segments(values)[0]]
            if factor is None and (hull > 0).all():
                keys = hull[:, 1] / hull[:, 0]
                with np.errstate(divide="ignore", invalid="ignore"):
                    return np.searchsorted(keys, np.nan_to_num(rivals[:, 1] / rivals[:, 0]))
            keys = hull[:, 1] - hull[:, 0]
            return np.searchsorted(keys, (factor or 1.0) * (rivals[:, 1] - rivals[:, 0]))
        lower = (corners @ values.T).max(axis=1)
        relative = factor is None and bool((lower > 0).all())
        places = np.zeros(len(rivals), dtype=np.intp)
        worst = np.full(len(rivals), -np.inf)
        for rows in _blocks(len(corners), len(rivals)):
            height, low = corners[rows] @ rivals.T, lower[rows, np.newaxis]
            if relative:
                gap = height / low
            elif factor is None:
                gap = np.where(height > 0, 1.0 - low / height, -np.inf)
            else:
                gap = factor * height - low
            place = gap.argmax(axis=0)
            value = gap[place, np.arange(len(rivals))]
            places = np.where(value > worst, place + rows.start, places)
            worst = np.maximum(worst, value)
        return places


def joined(sets: list[PolicySet]) -> Values:
    """The numbers of several sets of policies, one after another."""
    if any(policies.exact is not None for policies in sets):
        return _side_by_side([policies.values() for policies in sets])
    return Values.of(
        np.concatenate([policies.rewards for policies in sets]),
        np.concatenate([policies.regularizer for policies in sets]),
    )


def _side_by_side(parts: list[Values]) -> Values:
    """Concatenate numbers with different denominators over common ones."""
    firsts = [part.readings[0] for part in parts]
    scale = [lcm(*each) for each in zip(*(reading.scale for reading in firsts), strict=True)]
    starts = np.cumsum([0, *(len(part.floats) for part in parts)])

    def integers(index: int) -> tuple[int, ...]:
        place = int(np.searchsorted(starts, index, side="right")) - 1
        reading = firsts[place]
        row = reading.integers(index - int(starts[place]))
        return tuple(n * (s // own) for n, s, own in zip(row, scale, reading.scale, strict=True))

    near = np.concatenate([part.floats for part in parts])
    return Values(near, [Reading(scale, integers)], order=None)


def _undominated(candidates: Array, portfolio: Array) -> NDArray[np.bool_]:
    """Whether each candidate (c, d) exceeds every policy of the portfolio in some objective."""
    if candidates.shape[1] == 2:
        order = np.argsort(portfolio[:, 0], kind="stable")
        best = np.maximum.accumulate(portfolio[order[::-1], 1])[::-1]
        place = np.searchsorted(portfolio[order, 0], candidates[:, 0])
        return np.asarray(candidates[:, 1] > np.append(best, -np.inf)[place])
    left = np.arange(len(candidates))
    for row in portfolio:
        left = left[(candidates[left] > row).any(axis=1)]
    found = np.zeros(len(candidates), dtype=bool)
    found[left] = True
    return found


def _best(values: Array, weights: Array) -> Indices:
    """(k,) a best of ``values`` (m, d) at each of ``weights`` (k, d), in float64."""
    if values.shape[1] == 2 and len(values) > 8:
        best, ends = segments(values)
        with np.errstate(divide="ignore", over="ignore"):
            place = np.searchsorted(ends[1:-1, 1] / ends[1:-1, 0], weights[:, 1] / weights[:, 0])
        # The neighbours too: next to a corner, rounding may select the adjacent segment.
        near = np.clip(place[:, np.newaxis] + np.array([-1, 0, 1]), 0, len(best) - 1)
        at = (values[best[near]] * weights[:, np.newaxis, :]).sum(axis=2).argmax(axis=1)
        return np.asarray(best[near[np.arange(len(near)), at]])
    found = np.empty(len(weights), dtype=np.intp)
    for rows in _blocks(len(weights), len(values)):
        found[rows] = (weights[rows] @ values.T).argmax(axis=1)
    return found


def _blocks(n_rows: int, n_columns: int) -> Iterator[slice]:
    step = max(1, _BLOCK // max(n_columns, 1))
    for start in range(0, n_rows, step):
        yield slice(start, start + step)
