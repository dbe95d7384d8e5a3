"""Sandwich L ≤ opt ≤ U: L from the policies found, U from bounds at the weights asked.

opt is convex, so at w = Σ_k λ_k·w_k (λ ≥ 0) it is at most Σ_k λ_k·o_k where
opt(w_k) ≤ o_k. The least such mixture is U, the lower convex hull of the points
(w_k, o_k). On a cell of L the difference U − L is convex, so it is largest at a
corner weight of L. Both are updated after each answer.

Rounding cannot make the bounds too low. Every value of U is computed as a mixture
with λ ≥ 0 that adds up to w, whichever simplex it comes from; every value of L at a
corner is that of the lowest of the policies which meet there.
"""

from __future__ import annotations

from copy import copy, deepcopy
from heapq import heappop, heappush
from itertools import combinations, count
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from palm_core.geometry.envelope import drop_dominated
from palm_core.geometry.exact import UNIT, Values, rounding_error
from palm_core.geometry.linear_programs import near_mixture
from palm_core.geometry.polyhedron import Envelope, Hull
from palm_core.guarantees.losses import Pair

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Places = NDArray[np.intp]

# A mixture this far above its piece was computed from the wrong simplex.
_ASTRAY = 1e-12
_TINY = 1e-290


def mixture_bounds(weights: Array, shares: Array, asked: Array, bounds: Array, top: Array) -> Array:
    """Σ_k λ_k·o_k with λ near ``shares``, λ ≥ 0 and Σ_k λ_k·w_k = w: bounds on opt(w).

    Args:
        weights: (…, d) w.
        shares: (…, k) approximate λ; the remainder is assigned to the vertices e_i.
        asked: (…, k, d) w_k.
        bounds: (…, k) o_k.
        top: (d,) bounds at the vertices e_i.

    Returns:
        Array (…), never below U(w) whatever ``shares`` are: rounded up.
    """
    # A weight off a face of the simplex has no share in a weight on it.
    off = ((asked > 0) & (weights == 0)[..., np.newaxis, :]).any(axis=-1)
    shares = np.where(off | ~(shares > 0), 0.0, shares)
    point = np.einsum("...k,...kd->...d", shares, asked)
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(point > 0, weights / point, np.inf).min(axis=-1)
    scale = np.where(np.isfinite(room), np.minimum(room, 1.0), 0.0)
    rest = np.maximum(weights - scale[..., np.newaxis] * point, 0.0)
    found = scale * (shares * bounds).sum(axis=-1) + rest @ top
    size = scale * (shares * np.abs(bounds)).sum(axis=-1) + weights @ np.abs(top)
    return np.asarray(found + rounding_error(shares.shape[-1]) * size)


class Sandwich:
    """L ≤ opt ≤ U at the corner weights of L.

    Args:
        bounds: (d,) upper bounds of opt at the vertices e_1 … e_d of the simplex.
        values: (d,) vertex values u of a first policy.
    """

    def __init__(self, bounds: Array, values: Array) -> None:
        # A power of two: no rounding, and no tolerance depends on the units.
        largest = np.abs(bounds).max() or np.abs(values).max()
        self._unit = 2.0 ** np.ceil(np.log2(largest)) if largest > 0 else 1.0
        self.d = len(bounds)
        self._top: Array = bounds / self._unit
        self._hull = Hull(self._top)
        self._envelope = Envelope(values / self._unit)
        places = len(self._envelope.vertices)
        self._upper: Array = np.full(places, np.inf)
        self._piece: Places = np.full(places, self._hull.places[0])
        self._rounding: Array = np.zeros(places)
        #: The caller's numbers of the bounds and the policies.
        self.asked: list[int] = []
        self.policies: list[int] = []
        self._measure(self._envelope.places)
        self._refresh(self._envelope.places)

    def copy(self) -> Sandwich:
        """An independent copy, for simulated answers."""
        return deepcopy(self)

    @property
    def n_vertices(self) -> int:
        """The number of corner weights and pieces; the cost of a step grows with it."""
        return len(self._envelope.vertices) + len(self._hull.vertices)

    @property
    def corners(self) -> Array:
        """(c, d) the corner weights of L."""
        return np.asarray(self._envelope.vertices[self._envelope.places, : self.d])

    @property
    def lower(self) -> Array:
        """(c,) L at the corner weights."""
        return np.asarray(self._envelope.vertices[self._envelope.places, self.d] * self._unit)

    @property
    def upper(self) -> Array:
        """(c,) U at the corner weights."""
        found = self._upper[self._envelope.places] * self._unit
        # Below the smallest normal number the product is rounded.
        return np.asarray(np.nextafter(found, np.inf) if self._unit < _TINY else found)

    @property
    def least_lower(self) -> Array:
        """(c,) lower bounds on L at the corner weights, rounding included."""
        places = self._envelope.places
        lower = self._envelope.vertices[places, self.d] - self._rounding[places]
        return np.asarray(lower * self._unit)

    def meeting(self, index: int) -> tuple[Array, Array]:
        """Numbers (d,) of a corner's members, and of the bounds of the piece of U above it.

        Policies by their number d + i in the order given, faces w_i = 0 by i.
        """
        place = self._envelope.places[index]
        return self._envelope.members[place], self._hull.members[self._piece[place]]

    @property
    def loss(self) -> Array:
        """(c,) U − L at the corner weights; rounding counts as zero."""
        places = self._envelope.places
        loss = self._upper[places] - self._envelope.vertices[places, self.d]
        return np.asarray(np.where(loss > self._rounding[places], loss, 0.0) * self._unit)

    @property
    def negative(self) -> NDArray[np.bool_]:
        """(c,) whether L < 0 at the corner weights, by more than rounding."""
        places = self._envelope.places
        return np.asarray(self._envelope.vertices[places, self.d] < -self._rounding[places])

    @property
    def shares(self) -> Array:
        """(c,) 1 − L/U at the corner weights where U > L ≥ 0; 0 where U = L, else ∞."""
        loss, upper = self.loss, self.upper
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = np.where(loss > 0, np.minimum(loss / upper, 1.0), 0.0)
        return np.where(self.negative & (loss > 0), np.inf, shares)

    def anchor(self, index: int) -> Array:
        """(d,) of the asked weights around a corner, the one with the largest share in it."""
        place = self._piece[self._envelope.places[index]]
        asked = self._hull.constraints[self._hull.members[place], : self.d]
        shares = np.linalg.lstsq(asked.T, self.corners[index], rcond=None)[0]
        return np.asarray(asked[np.argmax(shares)])

    def expected(self, weights: Array) -> tuple[float, Array]:
        """U(w), and the vertex values (d,) of a policy halfway from L to U that may answer w.

        It is parallel to U there and so consistent with every bound: for a quadratic
        opt and a w amid its simplex it is exact.
        """
        piece = self._climb(weights[np.newaxis], self._hull.places[:1])[0]
        plane = self._hull.vertices[piece, : self.d]
        policies = self._envelope.constraints[self.d :, : self.d]
        upper, lower = float(plane @ weights), float((policies @ weights).max())
        half = max(upper - lower, 0.0) / 2
        return upper * self._unit, (plane - half) * self._unit

    def add_policy(self, values: Array) -> None:
        """Raise L by a policy with vertex values u (d,)."""
        change = self._envelope.add(values / self._unit)
        if change is None:
            return
        removed, made = change
        start = self._piece[removed]
        more = max(len(self._envelope.vertices) - len(self._upper), 0)
        self._upper = np.concatenate([self._upper, np.full(more, np.inf)])
        self._piece = np.concatenate([self._piece, np.zeros(more, dtype=np.intp)])
        self._rounding = np.concatenate([self._rounding, np.zeros(more)])
        # The search for the piece starts at the piece of a removed corner.
        self._piece[made] = np.resize(start, len(made))
        self._upper[made] = np.inf
        self._measure(made)
        self._refresh(made)

    def add_bound(self, weights: Array, bound: float) -> None:
        """Lower U by opt(w) ≤ o at w (d,)."""
        change = self._hull.add(weights, bound / self._unit)
        if change is None:
            return
        removed, made = change
        gone = np.zeros(len(self._hull.vertices), dtype=bool)
        gone[removed] = True
        places = self._envelope.places
        affected = places[gone[self._piece[places]]]
        self._piece[affected] = made[0]
        self._refresh(affected)

    def _measure(self, places: Places) -> None:
        """Rounding error bounds at corners, by the size of their members."""
        corners = self._envelope.vertices[places, : self.d]
        members = self._envelope.constraints[self._envelope.members[places], : self.d]
        sizes = np.einsum("nd,nkd->nk", corners, np.abs(members)).max(axis=1)
        size = sizes + corners @ np.abs(self._top)
        self._rounding[places] = 2 * rounding_error(self.d) * size

    def _refresh(self, places: Places) -> None:
        """Find the pieces of U over corners, and lower ``_upper`` to their bounds."""
        if not len(places):
            return
        corners = self._envelope.vertices[places, : self.d]
        pieces = self._climb(corners, self._piece[places])
        values = self._mixtures(corners, pieces)
        planes = (corners * self._hull.vertices[pieces, : self.d]).sum(axis=1)
        for row in np.flatnonzero(values - planes > _ASTRAY):
            pieces[row], values[row] = self._search(corners[row])
        self._piece[places] = pieces
        # An earlier bound remains valid.
        self._upper[places] = np.minimum(self._upper[places], values)

    def _climb(self, corners: Array, start: Places) -> Places:
        """Hill climbing over neighbouring pieces, until none is higher over its corner."""
        vertices, neighbours = self._hull.vertices[:, : self.d], self._hull.neighbours
        here = start.copy()
        height = (corners * vertices[here]).sum(axis=1)
        moving = np.arange(len(here))
        while len(moving):
            around = neighbours[here[moving]]
            heights = np.einsum("nd,nkd->nk", corners[moving], vertices[around])
            heights[around < self._hull.n_ideal] = -np.inf
            best = np.argmax(heights, axis=1)
            top = heights[np.arange(len(moving)), best]
            higher = top > height[moving]
            moving, around, best = moving[higher], around[higher], best[higher]
            here[moving] = around[np.arange(len(moving)), best]
            height[moving] = top[higher]
        return here

    def _mixtures(self, corners: Array, pieces: Places) -> Array:
        """(n,) upper bounds on opt at each corner, from the weights of its piece."""
        rows = self._hull.constraints[self._hull.members[pieces]]
        weights, bounds = rows[..., : self.d], -rows[..., self.d]
        try:
            shares = np.linalg.solve(np.swapaxes(weights, 1, 2), corners[..., np.newaxis])[..., 0]
        except np.linalg.LinAlgError:
            return np.full(len(corners), np.inf)
        return mixture_bounds(corners, np.asarray(shares), weights, bounds, self._top)

    def _search(self, corner: Array) -> tuple[int, float]:
        """The least mixture, where the first piece of the greatest height misses the corner."""
        places = self._hull.places
        heights = self._hull.vertices[places, : self.d] @ corner
        # Coplanar pieces, of which only one is over the corner.
        level = places[heights >= heights.max() - _ASTRAY]
        values = self._mixtures(np.broadcast_to(corner, (len(level), self.d)), level)
        best = int(np.argmin(values))
        if values[best] - heights.max() <= _ASTRAY:
            return int(level[best]), float(values[best])
        return int(level[best]), min(float(values[best]), self._by_program(corner))

    def _by_program(self, corner: Array) -> float:
        """The least mixture by linear programming, as a fallback after rounding errors."""
        from scipy.optimize import linprog

        rows = self._hull.constraints
        weights, bounds = rows[:, : self.d], -rows[:, self.d]
        found = linprog(bounds, A_eq=weights.T, b_eq=corner, bounds=(0, None), method="highs-ds")
        shares = np.zeros(len(rows)) if found.x is None else found.x
        return float(mixture_bounds(corner, shares, weights, bounds, self._top))


# Relative tolerance at which bound and gap are equal.
_MET = 1e-9
# With a split closer to a vertex than this the longest edge is bisected instead.
_CENTRAL = 1e-3
# More than a few roundings.
_UP = 1.0 + 16 * UNIT


class Largest(NamedTuple):
    """A supremum: sup_w gap ≤ ``bound``; at ``weights`` (d,) the gap is ``reached``."""

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
    split: Array | None  # (d,) weights of the largest gap in its program


class Subdivision:
    """Branch and bound on U − L: U the least mixture of bounds, L the largest policy value.

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
        # In canonical order without duplicates, so that the input order does not matter.
        self._values: Array = np.unique(values[drop_dominated(values)], axis=0) / self._unit

    def copy(self) -> Subdivision:
        """An independent copy, for simulated answers."""
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
        """The largest gap found: weights (1, d), U, U − L and 1 − L/U (1,)."""
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
            budget: maximum number of linear programs.
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
            return 0.0, halves  # U ≤ 0 ≤ L here: no loss
        with np.errstate(all="ignore"):
            found = near_mixture(pieces, part.upper, share=ratio)
        if found is None:
            # Any policy is a mixture: take the one with the least loss.
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
        """L(w) and its rounding error."""
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
