"""Smallest portfolios over the whole simplex: covers of ever more weights.

A cover of finitely many weights by the fewest policies is a lower bound. The weights
that it violates are added, all of them; once there are none, it is the answer.
"""

from __future__ import annotations

import time
from dataclasses import replace
from math import comb
from typing import TYPE_CHECKING

import numpy as np

from palm_core._pair import TOLERANCE, Pair
from palm_core._programs import AGREEMENT
from palm_core.exact_gaps import find_violations
from palm_core.policies import PolicySet
from palm_core.simplex import uniform_lattice

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from palm_core.cover import Cover

    Array = NDArray[np.float64]
    Indices = NDArray[np.intp]

# The first weights to cover: the finest uniform lattice of at most so many.
_FIRST_WEIGHTS = 3000
# Pairs of policy and weight up to which covers are improved by local search.
_MOST_PAIRS = 1 << 26


class CutLoop:
    """Search for the smallest portfolio within (ε, δ) of all policies at every weight.

    Args:
        values: (m, d) vertex values of the candidates.
        epsilon: ε in [0, 1].
        delta: δ ≥ 0.

    Attributes:
        valid: the smallest portfolio found that violates no weight, ascending.
        lower: no portfolio with fewer policies violates none.
        rounds: covers made.
        solver: what the last cover was made by.
    """

    def __init__(self, values: Array, *, epsilon: float, delta: float) -> None:
        self.values = values
        self.policies = PolicySet(values)
        self.epsilon, self.delta = epsilon, delta
        self.everyone = Pair(values, values[:1])
        self.keeps_sign = epsilon == 0 or self.everyone.opt_keeps_sign()
        # One tolerance for covers and violations, or the two would never agree.
        exact = self.everyone.n_objectives <= 4 and self.keeps_sign
        self.relative = TOLERANCE if exact else AGREEMENT
        self.weights = first_weights(values.shape[1])
        self.valid: Indices = np.arange(len(values))
        self.lower, self.rounds, self.solver = 1, 0, "greedy"

    def run(self, *, solver: str | None, deadline: float) -> None:
        """Until the bounds meet, or ``deadline`` (as ``time.perf_counter``) has passed.

        Any cover shows weights that matter. Greedy covers show most of them, local
        search most of the others; only then is a proof asked for.
        """
        from palm_core.setcover import solve_set_cover

        self._search(_greedy, deadline)
        while self.lower < len(self.valid):
            self._search(_near_smallest, deadline)
            left = deadline - time.perf_counter()
            if left <= 0:
                return
            self.rounds += 1
            cover = self._cover(self.weights)
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
                return
            self._complete(found.chosen)

    def _search(self, make: Callable[[Cover], Indices], deadline: float) -> None:
        """Cover and complete until a cover is valid, or no smaller than what is."""
        while self.lower < len(self.valid):
            self.rounds += 1
            chosen = make(self._cover(self.weights))
            n_weights = len(self.weights)
            self._complete(chosen)
            if len(self.weights) == n_weights or time.perf_counter() > deadline:
                return

    def _complete(self, chosen: Indices) -> None:
        """Add policies until ``chosen`` is valid, or no smaller than what is.

        What is violated on the way is added to the weights.
        """
        while len(chosen) < len(self.valid):
            if not self._add_violated(chosen):
                self.valid = chosen
                return
            open_weights = self.weights[~_covered(self._cover(self.weights), chosen)]
            chosen = np.union1d(chosen, _greedy(self._cover(open_weights)))

    def _cover(self, weights: Array) -> Cover:
        from palm_core.cover import best_policies, cover_weights

        best = best_policies(self.policies, weights)
        slack = best.rounding + self.everyone.slack(weights, self.relative)
        best = replace(best, rounding=slack)
        return cover_weights(self.policies, weights, mu=self.epsilon, alpha=self.delta, best=best)

    def _add_violated(self, chosen: Indices) -> bool:
        """Add the weights that ``chosen`` violates; false if there are none."""
        pair = Pair(self.values[chosen], self.values, opt_keeps_sign=self.keeps_sign)
        violated = find_violations(pair, self.epsilon, self.delta, relative=self.relative)
        if not len(violated):
            return False
        # Rounding may let a cover hold what is violated by a last bit: no progress.
        violated = violated[~_covered(self._cover(violated), chosen)]
        self.weights = np.concatenate([self.weights, violated])
        return len(violated) > 0


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


def _greedy(cover: Cover) -> Indices:
    from palm_core.cover import greedy

    return np.sort(greedy(cover)).astype(np.intp, copy=False)


def _near_smallest(cover: Cover) -> Indices:
    from palm_core._heuristics import greedy_rows, local_search
    from palm_core.reductions import Core

    core = Core.of(cover.bits, cover.n_weights)
    if not core.n_columns:
        return core.forced
    rows = greedy_rows(core)
    if len(core.rows) * core.n_columns <= _MOST_PAIRS:
        # No deadline: its number of steps is bounded, and the same on every machine.
        rows = local_search(core.matrix(), rows, target=0, deadline=np.inf)
    return np.sort(np.concatenate([core.forced, core.rows[rows]]))
