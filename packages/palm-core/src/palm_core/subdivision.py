"""The largest gap between U and L where corner weights are too many: branch and bound.

On a simplex with vertices v_k, U(Σ λ_k·v_k) ≤ Σ λ_k·U(v_k) by convexity, and for any
mixture ū of policies L ≥ w·ū. So the gap there is at most max_k U(v_k) − v_k·ū, and
one linear program finds the best ū and the weight vector that stands in its way.
The simplex with the highest bound is split there, until bound and gap meet or the
budget of programs is spent: the highest bound left holds everywhere in either case.
"""

from __future__ import annotations

from copy import copy
from heapq import heappop, heappush
from itertools import combinations, count
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from palm_core import _programs
from palm_core._exact import UNIT, Values, rounding_error
from palm_core._pair import Pair
from palm_core.envelope import drop_dominated
from palm_core.sandwich import mixture_bounds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

# Bound and gap have met if they agree to that share.
_MET = 1e-9
# A split closer to a vertex than this leads nowhere: the longest edge is halved.
_CENTRAL = 1e-3
# More than a few roundings.
_UP = 1.0 + 16 * UNIT


class Largest(NamedTuple):
    """sup_w gap ≤ ``bound``; at ``weights`` (d,) it is ``reached``."""

    bound: float
    reached: float
    weights: Array
    rounding: float

    @property
    def exact(self) -> bool:
        """Whether no smaller bound follows from these answers."""
        return bool(self.bound <= self.reached * (1 + 2 * _MET) + self.rounding)


class _Part(NamedTuple):
    vertices: Array  # (d, d)
    upper: Array  # (d,) U at the vertices
    split: Array | None  # (d,) where its program found the largest gap


class Subdivision:
    """U as the least mixture of bounds, L as the largest of the policies.

    Args:
        weights: (k, d), the vertices e_1 … e_d of the simplex first.
        bounds: (k,) opt(w_k) ≤ o_k.
        values: (m, d) vertex values of the policies.
    """

    def __init__(self, weights: Array, bounds: Array, values: Array) -> None:
        self.d = weights.shape[1]
        largest = max(np.abs(bounds).max(), np.abs(values).max())
        self._unit = 2.0 ** np.ceil(np.log2(largest)) if largest > 0 else 1.0
        self._weights = weights
        self._bounds: Array = bounds / self._unit
        # In an order of their own, equal ones once, so that no other order can matter.
        self._values: Array = np.unique(values[drop_dominated(values)], axis=0) / self._unit

    def copy(self) -> Subdivision:
        """An independent copy, to try things out on."""
        return copy(self)

    def add_policy(self, values: Array) -> None:
        """Raise L by a policy with vertex values u (d,)."""
        self._values = np.vstack([self._values, values / self._unit])

    def add_bound(self, weights: Array, bound: float) -> None:
        """Lower U by opt(w) ≤ o at w (d,)."""
        self._weights = np.vstack([self._weights, weights])
        self._bounds = np.append(self._bounds, bound / self._unit)

    def expected(self, weights: Array) -> tuple[float, Array]:
        """U(w), and the vertex values (d,) of a policy halfway from L to U that may answer w."""
        upper, plane = self._least_mixture(weights)
        half = max(upper - float((self._values @ weights).max()), 0.0) / 2
        return upper * self._unit, (plane - half) * self._unit

    def worst(self, *, ratio: bool, budget: int) -> tuple[Array, Array, Array, Array]:
        """Where the gap is largest as far as known: weights (1, d), U, U − L and 1 − L/U (1,)."""
        below = not self._no_negative()
        weights = self.search(ratio=ratio and not below, budget=budget).weights
        upper = self._least_mixture(weights)[0]
        loss = np.array([self._gap(weights, upper, ratio=False)])
        share = np.array([np.inf]) if below else loss / (upper or 1.0)
        return weights[np.newaxis], np.array([upper]) * self._unit, loss * self._unit, share

    def search(self, *, ratio: bool, budget: int) -> Largest:
        """The largest U − L, or (``ratio``) 1 − L/U, where L ≥ 0 throughout.

        Args:
            ratio: the multiplicative gap.
            budget: how many linear programs may be solved.
        """
        serial = count()
        eye = np.eye(self.d)
        first = _Part(eye, self._bounds[: self.d].copy(), None)
        queue: list[tuple[float, int, _Part]] = [(-np.inf, next(serial), first)]
        reached, worst = 0.0, np.full(self.d, 1.0 / self.d)
        for vertex, upper in zip(eye, first.upper, strict=True):
            gap = self._gap(vertex, float(upper), ratio)
            if gap > reached:
                reached, worst = gap, vertex
        while queue and budget > 0:
            bound, _, part = heappop(queue)
            if -bound <= reached * (1 + _MET):
                heappush(queue, (bound, next(serial), part))
                break
            budget -= 1
            if part.split is None:
                limit, split = self._solve(part, ratio)
                heappush(queue, (-min(-bound, limit), next(serial), part._replace(split=split)))
                continue
            point = part.split @ part.vertices
            upper = min(self._least_mixture(point)[0], float(part.split @ part.upper))
            gap = self._gap(point, upper, ratio)
            if gap > reached:
                reached, worst = gap, point
            for child in self._children(part, point, upper):
                heappush(queue, (bound, next(serial), child))
        bound = max(-queue[0][0] if queue else 0.0, reached)
        factor = 1.0 if ratio else self._unit
        rounding = 64 * rounding_error(self.d) * factor
        return Largest(float(bound * factor), float(reached * factor), worst, rounding)

    def _children(self, part: _Part, point: Array, upper: float) -> list[_Part]:
        assert part.split is not None
        children = []
        for side in np.flatnonzero(part.split > 0):
            vertices, values = part.vertices.copy(), part.upper.copy()
            vertices[side], values[side] = point, upper
            children.append(_Part(vertices, values, None))
        return children

    def _solve(self, part: _Part, ratio: bool) -> tuple[float, Array]:
        """A bound on the gap in a simplex, and shares (d,) of its vertices to split at."""
        pieces = self._values @ part.vertices.T
        halves = np.zeros(self.d)
        lengths = [
            (np.abs(part.vertices[i] - part.vertices[j]).max(), i, j)
            for i, j in combinations(range(self.d), 2)
        ]
        _, i, j = max(lengths)
        halves[[i, j]] = 0.5
        if ratio and part.upper.max() <= 0:
            return 0.0, halves  # U ≤ 0 ≤ L here: nothing is lost
        with np.errstate(all="ignore"):
            found = _programs.near_mixture(pieces, part.upper, share=ratio)
        if found is None:
            # Any policy is a mixture: the one that is least behind.
            single = int(np.argmin((part.upper - pieces).max(axis=1)))
            found = np.eye(len(pieces))[single], np.full(self.d, 1.0 / self.d)
        shares = found[0] / found[0].sum()
        mixture, size = shares @ self._values, shares @ np.abs(self._values)
        error = rounding_error(self.d)
        lower = part.vertices @ mixture - error * (part.vertices @ size)
        if ratio:
            kept = np.where(part.upper > 0, lower / np.where(part.upper > 0, part.upper, 1.0), 1.0)
            bound = (1.0 - min(max(float(kept.min()), 0.0), 1.0)) * _UP + 4 * UNIT
        else:
            bound = float((part.upper - lower).max())
            bound += 2 * error * float(np.abs(part.upper).max())
        split = found[1]
        return bound, halves if split.max() > 1 - _CENTRAL else split

    def _no_negative(self) -> bool:
        if (self._values >= 0).all(axis=1).any():
            return True
        numbers = Values.of(self._values)
        return Pair(numbers, np.arange(len(self._values)), np.arange(0)).has_no_negative()

    def _gap(self, weights: Array, upper: float, ratio: bool) -> float:
        lower, rounding = self._lower(weights)
        if upper - lower <= rounding:
            return 0.0
        return (upper - lower) / upper if ratio else upper - lower

    def _lower(self, weights: Array) -> tuple[float, float]:
        """L(w), and how far rounding goes there."""
        heights = self._values @ weights
        best = int(np.argmax(heights))
        size = np.abs(self._values[best]) + np.abs(self._bounds[: self.d])
        return float(heights[best]), 2 * rounding_error(self.d) * float(weights @ size)

    def _least_mixture(self, weights: Array) -> tuple[float, Array]:
        """U(w) and the piece p (d,) of it, by linear programming."""
        from scipy.optimize import linprog

        found = linprog(
            self._bounds, A_eq=self._weights.T, b_eq=weights, bounds=(0, None), method="highs-ds"
        )
        top = self._bounds[: self.d]
        if found.x is None:
            return float(weights @ top), top
        value = mixture_bounds(weights, found.x, self._weights, self._bounds, top)
        return float(value), np.asarray(found.eqlin.marginals)
