"""The smallest portfolio within (ε, δ) of all candidates at every weight of the simplex.

The paper's PRUNE (Algorithm 1) covers the grid's weights only. Here the covered weights
grow by what the portfolio found so far violates: a smallest cover of finitely many
weights is a lower bound, and once it violates none it is the answer. For d = 2 the
covered weights are intervals and no iteration is needed. Proofs in
docs/explanation/guarantees.md.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from palm_core._cuts import CutLoop
from palm_core._integer import check_solver
from palm_core._intervals import covered_intervals, fewest_intervals, witnesses
from palm_core._pair import Pair
from palm_core.envelope import drop_dominated
from palm_core.exact_gaps import Gaps, find_violations, gaps_of
from palm_core.policies import PolicySet
from palm_core.simplex import check_number

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from palm_core._exact import Values


@dataclass(frozen=True, kw_only=True, eq=False)
class Minimal:
    """A portfolio within (ε, δ) of all candidates at every weight, and how small it is.

    Args:
        indices: the chosen candidates, ascending.
        status: "optimal" if no smaller one exists (proven), else "feasible".
        lower_bound: no portfolio with fewer policies is within (ε, δ).
        upper_bound: the size of this one.
        epsilon: ε as asked.
        delta: δ as asked.
        gaps: its exact gaps against all candidates.
        rounds: covers of finitely many weights that were solved; 0 for intervals.
        seconds: time taken.
        solver: "intervals", or the integer programming solver's name.
    """

    indices: NDArray[np.intp]
    status: str
    lower_bound: int
    upper_bound: int
    epsilon: float
    delta: float
    gaps: Gaps
    rounds: int
    seconds: float
    solver: str


def minimal_portfolio(
    candidates: PolicySet | ArrayLike, *, epsilon: float = 0.0, delta: float = 0.0
) -> NDArray[np.intp]:
    """The smallest portfolio of candidates within (ε, δ) of all of them at every weight.

    Args:
        candidates: m policies, or their rewards (m, d).
        epsilon: ε in [0, 1], the share of opt(w) that may be lost.
        delta: δ ≥ 0, what may be lost besides, in units of reward.

    Returns:
        Indices into ``candidates``, ascending. Not proven smallest if that takes
        more than a minute: :func:`minimal_report` says.

    Raises:
        InputError: ε or δ out of range, or rewards that are not (m, d).
        WorkError: a solver failed.

    Example:
        >>> minimal_portfolio([[1.0, 0.0], [0.8, 0.7], [0.0, 1.0]], epsilon=0.25)
        array([1, 2])
    """
    return minimal_report(candidates, epsilon=epsilon, delta=delta).indices


def minimal_report(
    candidates: PolicySet | ArrayLike,
    *,
    epsilon: float = 0.0,
    delta: float = 0.0,
    solver: str | None = None,
    time_limit: float = 60.0,
) -> Minimal:
    """:func:`minimal_portfolio` with proof of how small it is.

    A portfolio P is within (ε, δ) if for every w in Δ_d
        max_{π∈P} J_w(π) ≥ opt(w) − ε·max(opt(w), 0) − δ,
    which is Definition 3.2 of the paper where opt(w) ≥ 0; where opt(w) < 0 only δ
    counts. Decided in exact arithmetic; a tolerance that is met exactly counts as met.

    Method: a cover of finitely many weights by the fewest policies, by integer
    program; the weights that it violates are added, all of them; repeated until
    none is. Each round's lower bound holds for the whole simplex. There are
    finitely many portfolios and none is met twice, so it ends. For d = 2 (ε = 0, or
    opt of one sign) exact by intervals in O(m log m).

    Args:
        candidates: m policies, or their rewards (m, d).
        epsilon: ε in [0, 1].
        delta: δ ≥ 0, in units of reward.
        solver: for the integer programs, as in :func:`palm_core.prune`.
        time_limit: seconds for the search and the proof. When it is met, the best
            portfolio at hand is returned, with its exact gaps and the best lower bound.

    Raises:
        InputError: ε or δ out of range, rewards that are not (m, d), or an unknown
            solver.
        WorkError: a solver failed.

    Example:
        >>> report = minimal_report([[1.0, 0.0], [0.8, 0.7], [0.0, 1.0]], epsilon=0.25)
        >>> report.status, report.lower_bound, round(report.gaps.epsilon, 3)
        ('optimal', 2, 0.2)
    """
    found = least_policies(
        candidates, epsilon=epsilon, delta=delta, solver=solver, time_limit=time_limit
    )
    return replace(found, gaps=_within(found.gaps, found.epsilon, found.delta))


def least_policies(
    candidates: PolicySet | ArrayLike,
    *,
    epsilon: float,
    delta: float = 0.0,
    solver: str | None = None,
    time_limit: float = 60.0,
) -> Minimal:
    """:func:`minimal_report` with gaps in every reading of the numbers.

    They may be above a tolerance that is met in one of them, in the last bits.
    """
    begun = time.perf_counter()
    epsilon = check_number(epsilon, name="epsilon", least=0.0, most=1.0)
    delta = check_number(delta, name="delta", least=0.0)
    time_limit = check_number(time_limit, name="time_limit", above=0.0)
    check_solver(solver)
    policies = candidates if isinstance(candidates, PolicySet) else PolicySet(candidates)
    # Whatever a dominated policy covers, its better covers too.
    values = policies.values()
    useful = drop_dominated(values.order)
    values = values.take(useful)
    found = _by_intervals(values, epsilon, delta) if policies.n_objectives == 2 else None
    if found is not None and found.proven:
        chosen, lower, rounds, name = found.chosen, len(found.chosen), 0, "intervals"
    else:
        search = CutLoop(values, epsilon=epsilon, delta=delta, weights=found and found.witnesses)
        search.run(solver=solver, deadline=begun + time_limit)
        chosen, lower, rounds, name = search.valid, search.lower, search.rounds, search.solver
    indices = np.sort(useful[chosen])
    return Minimal(
        indices=indices,
        status="optimal" if lower == len(indices) else "feasible",
        lower_bound=lower,
        upper_bound=len(indices),
        epsilon=epsilon,
        delta=delta,
        gaps=gaps_of(Pair(values, chosen, np.arange(len(useful)))),
        rounds=rounds,
        seconds=time.perf_counter() - begun,
        solver=name,
    )


class _Found(NamedTuple):
    """Policies, weights no two of which one policy covers, and whether both are proven."""

    chosen: NDArray[np.intp]
    witnesses: NDArray[np.float64]
    proven: bool


def _by_intervals(values: Values, epsilon: float, delta: float) -> _Found | None:
    """For d = 2, the fewest intervals; proven unless rounding decides."""
    from palm_core.cover import cover_weights

    intervals = covered_intervals(values.floats, epsilon, delta)
    chosen = None if intervals is None else fewest_intervals(intervals)
    if intervals is None or chosen is None:
        return None
    apart = witnesses(intervals, chosen)
    cover = cover_weights(PolicySet(values.floats), apart, mu=epsilon, alpha=delta)
    pair = Pair(values, chosen, np.arange(len(values.floats)))
    proven = cover.counts_at_most_one() and not len(find_violations(pair, epsilon, delta))
    return _Found(chosen, apart, proven)


def _within(found: Gaps, epsilon: float, delta: float) -> Gaps:
    """Gaps of a portfolio that is within (ε, δ): not above it by rounding up."""
    if not delta and found.epsilon > epsilon:
        found = replace(found, epsilon=epsilon)
    if not epsilon and found.delta > delta:
        found = replace(found, delta=delta)
    return found
