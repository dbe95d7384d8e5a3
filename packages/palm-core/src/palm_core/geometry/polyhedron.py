"""Polyhedra by the double description method: upper envelopes and lower hulls."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Places = NDArray[np.intp]

# Cuts of less than this, relative to the size of the terms, are ignored.
TOLERANCE = 2.0**-46
# Beyond all values; a vertex that far out is never cut and never best.
_FAR = 1e200
_NOBODY = -1


class Change(NamedTuple):
    """The result of a cut: places of the vertices removed, and of the vertices added."""

    removed: Places
    made: Places


class Polyhedron:
    """A polyhedron by its vertices, members and neighbours; places of removed vertices are reused.

    Args:
        ideal: (n, d+1) vertices at infinity; they take the first places.
        vertices: (v, d+1) the vertices to begin with.
        members: (v, d) the constraints that hold with equality at each.
        neighbours: (v, d) the place of the adjacent vertex on dropping each member.
        constraints: (c, d+1) the constraints to begin with.
        nowhere: (d+1,) placeholder of unused places.
    """

    def __init__(
        self,
        *,
        ideal: Array,
        vertices: Array,
        members: Places,
        neighbours: Places,
        constraints: Array,
        nowhere: Array,
    ) -> None:
        self.n_ideal, width = ideal.shape
        self.d = width - 1
        self._nowhere = nowhere
        self._free: list[int] = []
        self._end = len(ideal) + len(vertices)
        unknown = np.full((len(ideal), self.d), _NOBODY)
        self._vertices: Array = np.concatenate([ideal, vertices])
        self._members: Places = np.concatenate([unknown, members])
        self._neighbours: Places = np.concatenate([unknown, neighbours])
        self._constraints: Array = constraints.copy()
        self.n_constraints = len(constraints)
        random = np.random.default_rng(0)
        self._random = random
        self._keys = random.integers(0, 2**63, size=len(constraints), dtype=np.uint64)

    @property
    def vertices(self) -> Array:
        """(places, d+1), ideal and unused places included."""
        return self._vertices[: self._end]

    @property
    def members(self) -> Places:
        """(places, d); −1 at ideal and unused places."""
        return self._members[: self._end]

    @property
    def neighbours(self) -> Places:
        """(places, d) places; below ``n_ideal`` they are at infinity."""
        return self._neighbours[: self._end]

    @property
    def constraints(self) -> Array:
        """(c, d+1) all constraints so far, in order."""
        return self._constraints[: self.n_constraints]

    @property
    def places(self) -> Places:
        """The places in use, vertices at infinity left out."""
        return np.flatnonzero(self.members[:, 0] != _NOBODY)

    def cut(self, constraint: Array) -> Change | None:
        """Cut by {z : constraint·z ≤ 0}; ``None`` if no vertex is beyond it.

        The constraint gets the next number in either case.
        """
        number = self._remember(constraint)
        height = self.vertices @ constraint
        beyond = height > TOLERANCE * (np.abs(self.vertices) @ np.abs(constraint))
        beyond[: self.n_ideal] = False
        removed = np.flatnonzero(beyond)
        if not len(removed):
            return None
        around = self._neighbours[removed]
        row, side = np.nonzero(~beyond[around])
        inner, outer = removed[row], around[row, side]
        # A vertex at infinity on the cut: the edge to it does not cross the cut.
        crossing = (outer >= self.n_ideal) | (height[outer] < 0)
        inner, outer, side = inner[crossing], outer[crossing], side[crossing]
        members = self._members[inner].copy()
        members[np.arange(len(inner)), side] = number
        partner = self._match(members, side)
        if partner is None:
            return None
        vertices = self._on_edges(height, inner, outer)
        made = self._allot(removed, len(inner))
        # Update the neighbours of the outer ends of the crossed edges.
        real = outer >= self.n_ideal
        back = self._neighbours[outer[real]] == inner[real, np.newaxis]
        self._neighbours[outer[real], np.argmax(back, axis=1)] = made[real]
        neighbours = np.where(partner >= 0, made[np.maximum(partner, 0)], -2 - partner)
        neighbours[np.arange(len(made)), side] = outer
        self._vertices[made] = vertices
        self._members[made] = members
        self._neighbours[made] = neighbours
        self._settle(made)
        return Change(removed, made)

    def _remember(self, constraint: Array) -> int:
        number = self.n_constraints
        if number == len(self._constraints):
            self._constraints = np.concatenate([self._constraints, self._constraints])
            more = self._random.integers(0, 2**63, size=number, dtype=np.uint64)
            self._keys = np.concatenate([self._keys, more])
        self._constraints[number] = constraint
        self.n_constraints += 1
        return number

    def _on_edges(self, height: Array, inner: Places, outer: Places) -> Array:
        """Intersections of the cut with the edges from ``inner`` (beyond it) to ``outer``."""
        above, below = height[inner], np.minimum(height[outer], 0.0)
        total = np.where(outer >= self.n_ideal, above, 0.0) - below
        share = (above / total)[:, np.newaxis]
        rest = (-below / total)[:, np.newaxis]
        return np.asarray(self._vertices[inner] * rest + self._vertices[outer] * share)

    def _match(self, members: Places, side: Places) -> Places | None:
        """Adjacency of new vertices: those that share all members but one.

        Returns:
            (n, d) rows of ``members``; −2 − i for the i-th vertex at infinity;
            −1 across the member at ``side``. ``None`` if they do not match,
            which only rounding can cause.
        """
        n, d = members.shape
        keys = self._keys[members]
        shared = keys.sum(axis=1, dtype=np.uint64)[:, np.newaxis] - keys
        rows, columns = np.nonzero(np.arange(d) != side[:, np.newaxis])
        flat = shared[rows, columns]
        order = np.argsort(flat, kind="stable")
        flat, rows, columns = flat[order], rows[order], columns[order]
        same = flat[1:] == flat[:-1]
        if (same[1:] & same[:-1]).any():
            return None
        partner = np.full((n, d), _NOBODY)
        first = np.flatnonzero(same)
        partner[rows[first], columns[first]] = rows[first + 1]
        partner[rows[first + 1], columns[first + 1]] = rows[first]
        alone = np.ones(len(flat), dtype=bool)
        alone[first] = alone[first + 1] = False
        rows, columns = rows[alone], columns[alone]
        if len(rows):
            end = self._infinite(members, rows, columns)
            if end is None:
                return None
            partner[rows, columns] = -2 - end
        return partner

    def _infinite(self, members: Places, rows: Places, columns: Places) -> Places | None:
        """The vertices at infinity of unbounded edges."""
        # Along such an edge every member but the dropped one holds with equality.
        ideal = self._vertices[: self.n_ideal]
        along = self._constraints[members[rows]] @ ideal.T == 0
        along[np.arange(len(rows)), columns] = True
        ends = along.all(axis=1)
        return np.argmax(ends, axis=1) if ends.any(axis=1).all() else None

    def _settle(self, made: Places) -> None:
        """Hook: refine the coordinates of new vertices."""

    def _allot(self, removed: Places, count: int) -> Places:
        """Allocate ``count`` places for vertices: of removed vertices, free ones, new ones."""
        if count <= len(removed):
            rest = removed[count:]
            self._vertices[rest] = self._nowhere
            self._members[rest] = _NOBODY
            self._free.extend(rest.tolist())
            return removed[:count]
        wanted = count - len(removed)
        reused = self._free[max(0, len(self._free) - wanted) :]
        del self._free[len(self._free) - len(reused) :]
        fresh = wanted - len(reused)
        while self._end + fresh > len(self._vertices):
            self._vertices = np.concatenate([self._vertices, self._vertices])
            self._members = np.concatenate([self._members, self._members])
            self._neighbours = np.concatenate([self._neighbours, self._neighbours])
        places = np.arange(self._end, self._end + fresh)
        self._end += fresh
        return np.concatenate([removed, np.array(reused, dtype=np.intp), places])


class Envelope(Polyhedron):
    """Corner weights of L(w) = max_j w·u_j: vertices (w, t), members policies or zeros.

    Constraints 0 … d−1 are w_i ≥ 0, those from d on the policies in order.
    """

    def __init__(self, values: Array) -> None:
        d = len(values)
        eye = np.eye(d)
        others = np.array([[i for i in range(d) if i != k] for k in range(d)], dtype=np.intp)
        lid = np.append(np.zeros(d), 1.0)
        super().__init__(
            ideal=lid[np.newaxis],
            vertices=np.column_stack([eye, values]),
            members=np.column_stack([others, np.full(d, d)]),
            neighbours=np.column_stack([others + 1, np.zeros(d, dtype=np.intp)]),
            constraints=np.vstack(
                [np.column_stack([-eye, np.zeros(d)]), np.append(values, -1.0)[np.newaxis]]
            ),
            nowhere=lid * _FAR,
        )

    def add(self, values: Array) -> Change | None:
        """Add a policy u (d,)."""
        return self.cut(np.append(values, -1.0))

    def _settle(self, made: Places) -> None:
        # The lowest member: by convexity a bound from these corners is then a bound
        # on each cell, however the corners were rounded.
        weights = self._vertices[made, : self.d]
        members = self._members[made]
        heights = np.einsum("nk,nmk->nm", weights, self._constraints[members, : self.d])
        self._vertices[made, self.d] = np.where(members < self.d, np.inf, heights).min(axis=1)


class Hull(Polyhedron):
    """Pieces of the lower convex hull of (w_k, o_k): vertices (p, 1), members weights.

    Constraints 0 … d−1 belong to the vertices e_i of the simplex, those from d on
    to the further weights in order. The members of a piece span its simplex.
    """

    def __init__(self, bounds: Array) -> None:
        d = len(bounds)
        eye = np.eye(d)
        super().__init__(
            ideal=np.column_stack([-eye, np.zeros(d)]),
            vertices=np.append(bounds, 1.0)[np.newaxis],
            members=np.arange(d)[np.newaxis],
            neighbours=np.arange(d)[np.newaxis],
            constraints=np.column_stack([eye, -bounds]),
            nowhere=np.append(np.full(d, -_FAR), 1.0),
        )

    def add(self, weights: Array, bound: float) -> Change | None:
        """Add the bound opt(w) ≤ o at w (d,)."""
        return self.cut(np.append(weights, -bound))
