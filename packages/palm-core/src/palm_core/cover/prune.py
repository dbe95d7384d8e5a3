"""PRUNE of Algorithm 1, steps 3 and 4: small covers of given weights.

π covers w if J_w(π) ≥ opt_w − μ'·max(opt_w, 0) − α' (:func:`palm_core.cover_weights`).
A minimal cover is a minimum set cover. The greedy algorithm comes within a factor
ln k + 1 of it; "exact" proves the minimum, or returns the bounds reached.

With two objectives the weights that a policy covers are an interval of w_1 wherever
opt ≥ 0, since there J is affine and the threshold is convex: then the policy that
reaches furthest from the first uncovered weight is always an optimal choice, and
no integer program is needed. Where opt changes sign the threshold is not convex, and
rounding could break an interval too: so the intervals are read off the cover's bits,
and where one has a hole the integer program decides.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from palm_core.cover.integer_program import check_solver
from palm_core.cover.minimal import fewest_intervals
from palm_core.cover.reductions import packing_bound, uncovered, unpacked
from palm_core.cover.set_cover import solve_set_cover
from palm_core.errors import InputError
from palm_core.model.results import Cover
from palm_core.validation import check_choice, check_number, check_weights

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

    from palm_core.cover.cover import CoverMatrix
    from palm_core.model.policy import Best, PolicySet

    Indices = NDArray[np.intp]

#: Methods: covers of the weights asked, and of all weights.
COVERS = ("greedy", "exact")

# Bits unpacked at a time when intervals are read.
_BLOCK = 1 << 25


def prune(
    policies: PolicySet,
    weights: ArrayLike,
    *,
    mu: float,
    alpha: float = 0.0,
    method: str = "greedy",
    solver: str | None = None,
    time_limit: float = 60.0,
) -> Cover:
    """Choose policies that together cover all weights (paper, Algorithm 1, PRUNE, step 4).

    For each weight w one of them has J_w(π) ≥ opt_w − μ'·max(opt_w, 0) − α', where
    opt_w is the best value over all of ``policies``.

    Args:
        policies: m policies in d objectives.
        weights: (d,) or (k, d) on the simplex.
        mu: μ' in [0, 1].
        alpha: α' ≥ 0, in units of reward.
        method: "greedy", or "exact" for the fewest.
        solver: "cbc" (as shipped with PuLP) or "highs" (extra ``palm-core[highs]``)
            for the integer program of "exact", for d = 2 too; ``None`` takes
            intervals for d = 2, and cbc.
        time_limit: seconds for the search of "exact", see
            :func:`palm_core.cover.set_cover.solve_set_cover`.

    Returns:
        :class:`palm_core.Cover`: the array of indices into ``policies``, "greedy" in the
        order of choice (ties: lowest index), "exact" ascending, with a proven lower bound on
        their number. "exact" never has more policies than "greedy".

    Raises:
        InputError: μ' or α' out of range, an unknown method or solver, a solver that is not
            installed, weights that are not on the simplex of d objectives.
        WorkError: the solver failed.

    Example:
        >>> from palm_core import PolicySet, uniform_lattice
        >>> four = PolicySet([[1.0, 0.0], [0.9, 0.5], [0.5, 0.9], [0.0, 1.0]])
        >>> found = prune(four, uniform_lattice(2, 10), mu=0.1, method="exact")
        >>> list(found), found.status, found.solver
        ([1, 2], 'optimal', 'intervals')
    """
    request = _Request(
        policies, weights, alpha=alpha, method=method, solver=solver, time_limit=time_limit
    )
    return request.at(mu)


def prune_curve(
    policies: PolicySet,
    weights: ArrayLike,
    mus: Iterable[float],
    *,
    alpha: float = 0.0,
    method: str = "greedy",
    solver: str | None = None,
    time_limit: float = 60.0,
) -> list[Cover]:
    """:func:`prune` for each μ' of ``mus``; the optima opt_w are computed once.

    With method "exact" a cover for a smaller μ' is the incumbent for the next larger,
    so that sizes never grow with μ', whatever the time limit.

    Args:
        policies: m policies in d objectives.
        weights: (d,) or (k, d) on the simplex.
        mus: values of μ' in [0, 1], in any order.
        alpha: α' ≥ 0, in units of reward.
        method: "greedy" or "exact".
        solver: as for :func:`prune`.
        time_limit: seconds for each μ'.

    Returns:
        One :class:`palm_core.Cover` for each μ', in the order of ``mus``.

    Raises:
        InputError: as for :func:`prune`.
        WorkError: the solver failed.
    """
    from palm_core.model.policy import best_policies

    request = _Request(
        policies, weights, alpha=alpha, method=method, solver=solver, time_limit=time_limit
    )
    values = [check_number(mu, name="mus", least=0.0, most=1.0) for mu in mus]
    best = best_policies(policies, request.weights)
    found: dict[float, Cover] = {}
    known = None
    for mu in sorted(set(values)):
        found[mu] = request.at(mu, best=best, known=known)
        known = found[mu].indices
    return [found[mu] for mu in values]


class _Request:
    """A validated pruning request, without μ'."""

    def __init__(
        self,
        policies: PolicySet,
        weights: ArrayLike,
        *,
        alpha: float,
        method: str,
        solver: str | None,
        time_limit: float,
    ) -> None:
        check_choice(method, COVERS, name="method")
        check_solver(solver)
        self.policies, self.method, self.solver = policies, method, solver
        self.alpha = check_number(alpha, name="alpha", least=0.0)
        self.time_limit = check_number(time_limit, name="time_limit", above=0.0)
        self.weights = check_weights(weights, policies.n_objectives)
        if not len(self.weights):
            raise InputError("weights: at least one is needed, got none")

    def at(self, mu: float, *, best: Best | None = None, known: Indices | None = None) -> Cover:
        """The cover for μ'; ``known`` covers all weights for a smaller one."""
        from palm_core.cover.cover import cover_weights, proven

        begun = time.perf_counter()
        cover = cover_weights(self.policies, self.weights, mu=mu, alpha=self.alpha, best=best)
        better: CoverMatrix | None = cover
        # Terminates: each round clears at least one of finitely many bits.
        while better is not None:
            cover = better
            chosen, lower, used = (
                self._greedy(cover) if self.method == "greedy" else self._exact(cover, known)
            )
            better = proven(cover, self.policies, self.weights, chosen)
        return Cover(
            indices=chosen,
            status="optimal" if lower == len(chosen) else "feasible",
            lower_bound=lower,
            method=self.method,
            solver=used,
            seconds=time.perf_counter() - begun,
            mu=cover.mu,
            alpha=cover.alpha,
            n_weights=cover.n_weights,
            n_negative=cover.n_negative,
        )

    @staticmethod
    def _greedy(cover: CoverMatrix) -> tuple[Indices, int, str]:
        from palm_core.cover.cover import greedy

        return greedy(cover), packing_bound(cover.bits, cover.n_weights), "greedy"

    def _exact(self, cover: CoverMatrix, known: Indices | None) -> tuple[Indices, int, str]:
        from palm_core.cover.cover import greedy

        if self.weights.shape[1] == 2 and self.solver is None:
            intervals = covered_intervals(cover, np.argsort(self.weights[:, 0], kind="stable"))
            if intervals is not None:
                first, last = intervals
                reaches = np.column_stack([first, last + 1])
                fewest = fewest_intervals(reaches, cover.n_weights)
                if fewest is not None and not len(uncovered(cover.bits[fewest], cover.n_weights)):
                    return np.sort(fewest), len(fewest), "intervals"
        start = greedy(cover)
        found = solve_set_cover(
            cover.bits,
            cover.n_weights,
            incumbent=start if known is None or len(start) < len(known) else known,
            solver=self.solver,
            time_limit=self.time_limit,
        )
        return found.chosen, found.lower_bound, found.solver


def covered_intervals(
    cover: CoverMatrix, order: Indices
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """The first and the last weight, in ``order`` (k,), that each policy covers.

    Returns:
        Two arrays (m,), first > last where a policy covers nothing, or ``None`` if
        some policy covers a set with a hole.
    """
    m, k = cover.n_policies, cover.n_weights
    first, last = np.full(m, k), np.full(m, -1)
    step = max(1, _BLOCK // k)
    for begin in range(0, m, step):
        table = unpacked(cover.bits[begin : begin + step], k)[:, order]
        count = table.sum(axis=1)
        some = np.flatnonzero(count)
        first[begin + some] = table[some].argmax(axis=1)
        last[begin + some] = k - 1 - table[some, ::-1].argmax(axis=1)
        if (last[begin + some] - first[begin + some] + 1 != count[some]).any():
            return None
    return first, last
