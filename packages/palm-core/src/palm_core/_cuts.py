"""Smallest portfolios over the whole simplex: covers of ever more weights.

A cover of finitely many weights by the fewest policies is a lower bound. The weights
that it violates are added, all of them; once there are none, it is the answer.
"""

from __future__ import annotations

import time
from dataclasses import replace
from fractions import Fraction
from math import comb
from typing import TYPE_CHECKING

import numpy as np

from palm_core._exact import TINY, rounding_error, tolerance
from palm_core._pair import Pair
from palm_core.exact_gaps import find_violations
from palm_core.policies import PolicySet
from palm_core.reductions import Core, packed, packing_bound, relaxation
from palm_core.simplex import uniform_lattice

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from palm_core._exact import Values
    from palm_core.cover import Cover

    Array = NDArray[np.float64]
    Indices = NDArray[np.intp]

# The first weights to cover: the finest uniform lattice of at most so many.
_FIRST_WEIGHTS = 3000
# Pairs of policy and weight up to which covers are improved by local search.
_MOST_PAIRS = 1 << 26
# Up to so many candidates each is compared with each when time is up.
_MOST_SINGLES = 5000
# What a lower bound may take when time is up.
_SECONDS_FOR_A_BOUND = 1.0


class CutLoop:
    """Search for the smallest portfolio within (ε, δ) of all policies at every weight.

    Args:
        values: the numbers of m candidates.
        epsilon: ε in [0, 1].
        delta: δ ≥ 0.
        weights: (k, d) weights to cover from the start, besides a lattice.

    Attributes:
        valid: the smallest portfolio found that violates no weight, ascending.
        lower: no portfolio with fewer policies violates none.
        rounds: covers made.
        solver: what the last cover was made by.
    """

    def __init__(
        self, values: Values, *, epsilon: float, delta: float, weights: Array | None = None
    ) -> None:
        self.values = values
        self.policies = PolicySet(values.floats)
        self.epsilon, self.delta = epsilon, delta
        d = values.floats.shape[1]
        self.weights = first_weights(d)
        if weights is not None:
            self.weights = np.concatenate([self.weights, weights])
        # Which policies cover the weights that float64 cannot tell apart, exactly.
        self.decided: NDArray[np.bool_] = np.zeros((len(values.floats), 0), dtype=bool)
        self.valid: Indices = np.arange(len(values.floats))
        self.lower, self.rounds, self.solver = 1, 0, "greedy"

    def run(self, *, solver: str | None, deadline: float) -> None:
        """Until the bounds meet, or ``deadline`` (as ``time.perf_counter``) has passed.

        Any cover shows weights that matter. Greedy covers show most of them, local
        search most of the others; only then is a proof asked for. Ends: each round adds
        a weight at which a portfolio of that round fails, so no portfolio is met twice.
        """
        try:
            self._search(_greedy, deadline)
            while self.lower < len(self.valid) and time.perf_counter() < deadline:
                self._search(_near_smallest, deadline)
                if not self._prove(solver, deadline):
                    break
        except TimeoutError:
            pass  # what is known by now is the answer
        if self.lower < len(self.valid):
            self._settle_for_less()

    def _prove(self, solver: str | None, deadline: float) -> bool:
        """Ask for the smallest cover of the weights so far; false if it ends the search."""
        from palm_core.setcover import solve_set_cover

        left = deadline - time.perf_counter()
        if left <= 0:
            return False
        self.rounds += 1
        cover = self._cover()
        found = solve_set_cover(
            cover.bits,
            cover.n_weights,
            incumbent=self.valid if _covered(cover, self.valid).all() else None,
            solver=solver,
            time_limit=left,
        )
        self.solver = found.solver
        self.lower = max(self.lower, min(found.lower_bound, len(self.valid)))
        if len(found.chosen) >= len(self.valid):
            return False
        self._complete(found.chosen, deadline)
        return True

    def _search(self, make: Callable[[Cover, float], Indices], deadline: float) -> None:
        """Cover and complete until a cover is valid, or no smaller than what is."""
        while self.lower < len(self.valid):
            self.rounds += 1
            chosen = make(self._cover(), deadline)
            before = self._n_columns
            self._complete(chosen, deadline)
            if self._n_columns == before or time.perf_counter() > deadline:
                return

    def _complete(self, chosen: Indices, deadline: float) -> None:
        """Add policies until ``chosen`` is valid, or no smaller than what is.

        What is violated on the way is added to the weights.

        Raises:
            TimeoutError: ``deadline`` has passed.
        """
        while len(chosen) < len(self.valid):
            if not self._add_violated(chosen, deadline):
                self.valid = chosen
                return
            cover = self._cover()
            chosen = np.union1d(chosen, _greedy(_without(cover, _covered(cover, chosen)), deadline))

    @property
    def _n_columns(self) -> int:
        return len(self.weights) + int(self.decided.shape[1])

    def _cover(self) -> Cover:
        """Which policies cover the weights so far: all that do in exact arithmetic."""
        cover = self._near(self.weights)
        if not self.decided.shape[1]:
            return cover
        table = np.column_stack([cover.matrix(), self.decided])
        return replace(cover, bits=packed(table), n_weights=table.shape[1])

    def _near(self, weights: Array) -> Cover:
        from palm_core.cover import cover_weights

        return cover_weights(self.policies, weights, mu=self.epsilon, alpha=self.delta)

    def _add_violated(self, chosen: Indices, deadline: float) -> bool:
        """Add the weights that ``chosen`` violates; false if there are none."""
        from palm_core.cover import covering

        pair = Pair(self.values, chosen, np.arange(len(self.values.floats)))
        violated = find_violations(pair, self.epsilon, self.delta, deadline=deadline)
        if not len(violated):
            return False
        exact = list(violated.exact)
        if len(violated.certain):
            known = _covered(self._near(violated.certain), chosen)
            exact += [tuple(map(Fraction, row)) for row in violated.certain[known].tolist()]
            self.weights = np.concatenate([self.weights, violated.certain[~known]])
        allowed = tolerance(self.epsilon), tolerance(self.delta)
        columns = [covering(self.values, row, *allowed) for row in exact]
        self.decided = np.column_stack([self.decided, *columns])
        return True

    def _settle_for_less(self) -> None:
        """After time is up: the best lower bound at hand, and a portfolio, if there is none yet."""
        cover = self._cover()
        if len(self.valid) == len(self.values.floats):
            chosen = _each_by_one(self.values.floats, self.epsilon, self.delta)
            if len(chosen) < len(self.valid):
                self.valid = chosen
        core = Core.of(cover.bits, cover.n_weights)
        found = packing_bound(cover.bits, cover.n_weights)
        if core.n_columns and len(core.rows) * core.n_columns <= _MOST_PAIRS:
            relaxed = relaxation(core, seconds=_SECONDS_FOR_A_BOUND)
            found = max(found, len(core.forced) + (relaxed.bound if relaxed else 1))
        self.lower = max(self.lower, min(found, len(self.valid)))


def first_weights(n_objectives: int) -> Array:
    """The weights (k, d) that are covered first: a lattice, the vertices among it."""
    d, resolution = n_objectives, 1
    while comb(resolution + d, d - 1) <= _FIRST_WEIGHTS:
        resolution += 1
    return uniform_lattice(d, resolution)


def _covered(cover: Cover, chosen: Indices) -> NDArray[np.bool_]:
    """Which weights (k,) one of the chosen policies covers."""
    covered = np.zeros(cover.n_weights, dtype=bool)
    for index in chosen:
        covered |= cover.row(int(index))
    return covered


def _without(cover: Cover, done: NDArray[np.bool_]) -> Cover:
    """The columns that are not done."""
    table = cover.matrix()[:, ~done]
    return replace(cover, bits=packed(table), n_weights=table.shape[1])


def _each_by_one(values: Array, epsilon: float, delta: float) -> Indices:
    """A portfolio in which one policy is within (ε, δ) of each candidate at every vertex.

    Then it is so at every weight: quickly found, and larger than need be.
    """
    from palm_core.cover import Best, Cover, greedy

    m, d = values.shape
    if m > _MOST_SINGLES:
        return np.arange(m)
    covers = np.eye(m, dtype=bool)
    error = rounding_error(d)
    for place, row in enumerate(values):
        slack = error * (np.abs(values) + np.abs(row)) + TINY
        within = [factor * values + slack - row <= delta for factor in {1.0 - epsilon, 1.0}]
        covers[place] |= np.any([each.all(axis=1) for each in within], axis=0)
    nothing = Best(values=np.zeros(m), indices=np.zeros(m, np.int64), rounding=np.zeros(m))
    cover = Cover(bits=packed(covers), n_weights=m, best=nothing, mu=epsilon, alpha=delta)
    return np.sort(greedy(cover)).astype(np.intp, copy=False)


def _greedy(cover: Cover, deadline: float) -> Indices:  # noqa: ARG001 - as _near_smallest
    from palm_core.cover import greedy

    return np.sort(greedy(cover)).astype(np.intp, copy=False)


def _near_smallest(cover: Cover, deadline: float) -> Indices:
    from palm_core._heuristics import greedy_rows, local_search

    core = Core.of(cover.bits, cover.n_weights)
    if not core.n_columns:
        return core.forced
    rows = greedy_rows(core)
    least = packing_bound(core.bits, core.n_columns)
    if len(rows) > least and len(core.rows) * core.n_columns <= _MOST_PAIRS:
        # Its number of steps is bounded, and the same on every machine that is in time.
        rows = local_search(core.matrix(), rows, target=least, deadline=deadline)
    return np.sort(np.concatenate([core.forced, core.rows[rows]]))
