"""Smallest portfolios: intervals for two objectives, cut loop, size curve.

For d = 2, where opt keeps its sign, opt − ε·max(opt, 0) − δ is convex, so the weights at which a
linear J_w(π) is at least that form an interval. The fewest intervals that cover
[0, 1] are found by repeatedly taking the one that reaches furthest; no solver is needed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from fractions import Fraction
from math import comb
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from palm_core.cover.integer_program import check_solver
from palm_core.cover.reductions import Core, packed, packing_bound, relaxation
from palm_core.geometry.envelope import drop_dominated, segments
from palm_core.geometry.exact import TINY, UNIT, rounding_error, tolerance
from palm_core.guarantees.gaps import find_violations, gaps_of
from palm_core.guarantees.losses import Pair
from palm_core.model.policy import PolicySet
from palm_core.model.results import Cover
from palm_core.validation import check_count, check_number
from palm_core.weights.simplex import uniform_lattice

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from palm_core.cover.cover import CoverMatrix
    from palm_core.geometry.exact import Values
    from palm_core.model.results import Gaps

    Array = NDArray[np.float64]
    Indices = NDArray[np.intp]


def covered_intervals(values: Array, epsilon: float, delta: float) -> Array | None:
    """For d = 2, the weights at which each policy is within (ε, δ) of the best of all.

    Args:
        values: (m, 2) vertex values of the policies.
        epsilon: ε in [0, 1].
        delta: δ ≥ 0.

    Returns:
        Array (m, 2): w_2 / w_1 in [0, ∞] at both ends, NaN where nothing is
        covered; ``None`` where opt changes its sign and ε > 0, for then they are no
        intervals. Ends are up to rounding. O(m log m).
    """
    best, ends = segments(values)
    hull = values[best]
    last = np.append(np.arange(len(hull)), len(hull) - 1)
    heights = (ends * hull[last]).sum(axis=1)
    if epsilon and heights.min() < 0 < heights.max():
        return None
    factor = 1.0 if (hull <= 0).all() else 1.0 - epsilon
    # opt − ε·max(opt, 0) − δ at each end, less rounding: best policies end to end.
    rounding = 4 * rounding_error(2) * (ends * np.abs(hull[last])).sum(axis=1)
    heights = factor * heights - delta * (1.0 - 4 * UNIT) - rounding - TINY

    def excess(place: NDArray[np.intp]) -> Array:
        """The threshold minus J at end ``place[i]`` for policy i."""
        return np.asarray(heights[place] - (ends[place] * values).sum(axis=1))

    slopes = factor * (hull[:, 1] - hull[:, 0])
    lowest = np.searchsorted(slopes, values[:, 1] - values[:, 0])
    found = np.full((len(values), 2), np.nan)
    covers = excess(lowest) <= 0
    for side, step in ((0, -1), (1, 1)):
        last = _last(excess, lowest, step, len(ends))
        beyond = np.clip(last + step, 0, len(ends) - 1)
        inside, outside = -excess(last), np.maximum(excess(beyond), 0.0)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            share = np.where(beyond == last, 0.0, inside / (inside + outside))[:, np.newaxis]
            edge = ends[last] * (1.0 - share) + ends[beyond] * share
            found[covers, side] = (edge[:, 1] / edge[:, 0])[covers]
    return found


def _last(
    excess: Callable[[NDArray[np.intp]], Array], start: NDArray[np.intp], step: int, n: int
) -> NDArray[np.intp]:
    """The last place from ``start`` in direction ``step`` whose excess is ≤ 0, by bisection."""
    near = start.copy()
    room = start if step < 0 else n - 1 - start
    far = room + 1  # at this distance there is no place, or its excess is > 0
    done = np.zeros_like(start)
    while (far - done > 1).any():
        middle = (far + done) // 2
        good = (excess(np.clip(start + step * middle, 0, n - 1)) <= 0) & (middle <= room)
        done, far = np.where(good, middle, done), np.where(good, far, middle)
        near = start + step * done
    return near


def fewest_intervals(intervals: Array, end: float = np.inf) -> NDArray[np.intp] | None:
    """Indices of the fewest intervals (m, 2) that cover [0, end], in order; NaN rows are none.

    Repeatedly takes the interval that reaches furthest from what is covered; ties: lowest
    index. No interval holds two of the places at which a new one had to be taken,
    so no cover is smaller. O(m log m). ``None`` where the intervals leave a hole.
    """
    order = np.argsort(intervals[:, 0], kind="stable")
    order = order[~np.isnan(intervals[order, 0])]
    begins, reaches = intervals[order, 0], intervals[order, 1]
    chosen: list[int] = []
    reached, place = 0.0, 0
    furthest, candidate = -np.inf, -1
    while not chosen or reached < end:
        while place < len(order) and begins[place] <= reached:
            reach, index = float(reaches[place]), int(order[place])
            if reach > furthest or (reach == furthest and index < candidate):
                furthest, candidate = reach, index
            place += 1
        if not furthest > reached:
            return None
        chosen.append(candidate)
        reached = furthest
    return np.array(chosen, dtype=np.intp)


def witnesses(intervals: Array, chosen: NDArray[np.intp]) -> Array:
    """Weights (k, 2), one for each of ``chosen``, no two of which lie in one interval.

    The first is (1, 0); each next one is halfway from what is covered to the next end point.
    """
    places = [0.0]
    marks = np.unique(intervals[np.isfinite(intervals)])
    for reached in intervals[chosen[:-1], 1]:
        beyond = marks[np.searchsorted(marks, reached, side="right") :]
        places.append((reached + beyond[0]) / 2 if len(beyond) else 2 * reached + 1)
    ratios = np.array(places)
    return np.asarray(np.column_stack([1.0 / (1.0 + ratios), ratios / (1.0 + ratios)]))


# Size limit of the uniform lattice of first weights.
_FIRST_WEIGHTS = 3000
# Pairs of policy and weight up to which local search improves covers.
_MOST_PAIRS = 1 << 26
# Number of candidates up to which all pairs are compared after the time limit.
_MOST_SINGLES = 5000
# Seconds for a lower bound after the time limit.
_SECONDS_FOR_A_BOUND = 1.0


class CutLoop:
    """Cut loop: search the smallest portfolio within (ε, δ) of all policies at every weight.

    Args:
        values: the numbers of m candidates.
        epsilon: ε in [0, 1].
        delta: δ ≥ 0.
        weights: (k, d) initial weights to cover, besides a lattice.

    Attributes:
        valid: the smallest portfolio found that violates no weight, ascending.
        lower: lower bound on the size of a valid portfolio.
        rounds: number of covers computed.
        solver: solver of the last cover.
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
        # Exact covers of the weights that float64 cannot decide.
        self.decided: NDArray[np.bool_] = np.zeros((len(values.floats), 0), dtype=bool)
        self.valid: Indices = np.arange(len(values.floats))
        self.lower, self.rounds, self.solver = 1, 0, "greedy"

    def run(self, *, solver: str | None, deadline: float) -> None:
        """Search until the bounds meet or ``deadline`` (as ``time.perf_counter``) has passed.

        Violated weights come from any cover: most from greedy covers, most others from
        local search; only then is a proof computed. Terminates: each round adds a column that
        a portfolio of that round does not cover, so no portfolio occurs twice.
        """
        try:
            self._search(_greedy, deadline)
            while self.lower < len(self.valid) and time.perf_counter() < deadline:
                self._search(_near_smallest, deadline)
                if not self._prove(solver, deadline):
                    break
        except TimeoutError:
            pass  # return the bounds found so far
        if self.lower < len(self.valid):
            self._settle_for_less()

    def _prove(self, solver: str | None, deadline: float) -> bool:
        """Compute the smallest cover of the weights so far; false if it ends the search."""
        from palm_core.cover.set_cover import solve_set_cover

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

    def _search(self, make: Callable[[CoverMatrix, float], Indices], deadline: float) -> None:
        """Cover and complete until a cover is valid, or not smaller than the best valid one."""
        while self.lower < len(self.valid):
            self.rounds += 1
            chosen = make(self._cover(), deadline)
            before = self._n_columns
            self._complete(chosen, deadline)
            if self._n_columns == before or time.perf_counter() > deadline:
                return

    def _complete(self, chosen: Indices, deadline: float) -> None:
        """Add policies until ``chosen`` is valid, or not smaller than the best valid one.

        Violated weights are added to the weights to cover.

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

    def _cover(self) -> CoverMatrix:
        """The cover of the weights so far: a superset of the one in exact arithmetic."""
        cover = self._near(self.weights)
        if not self.decided.shape[1]:
            return cover
        table = np.column_stack([cover.matrix(), self.decided])
        return replace(cover, bits=packed(table), n_weights=table.shape[1])

    def _near(self, weights: Array) -> CoverMatrix:
        from palm_core.cover.cover import cover_weights

        return cover_weights(self.policies, weights, mu=self.epsilon, alpha=self.delta)

    def _add_violated(self, chosen: Indices, deadline: float) -> bool:
        """Add the weights that ``chosen`` violates; false if there are none."""
        from palm_core.cover.cover import covering

        pair = Pair(self.values, chosen, np.arange(len(self.values.floats)))
        violated = find_violations(pair, self.epsilon, self.delta, deadline=deadline)
        if not len(violated):
            return False
        exact, seen = list(violated.exact), False
        if len(violated.certain):
            known = _covered(self._near(violated.certain), chosen)
            exact += [tuple(map(Fraction, row)) for row in violated.certain[known].tolist()]
            self.weights = np.concatenate([self.weights, violated.certain[~known]])
            seen = not known.all()
        allowed = tolerance(self.epsilon), tolerance(self.delta)
        columns = [covering(self.values, row, *allowed) for row in exact]
        if not seen and all(column[chosen].any() for column in columns):
            # Violated in each reading of the numbers, but not at the same weights: no subset of
            # these policies is valid, so one of the others is needed.
            columns.append(~np.isin(np.arange(len(self.values.floats)), chosen))
        self.decided = np.column_stack([self.decided, *columns])
        return True

    def _settle_for_less(self) -> None:
        """After the time limit: compute a lower bound, and a portfolio if there is none."""
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
    """The initial weights (k, d): a lattice that contains the vertices."""
    d, resolution = n_objectives, 1
    while comb(resolution + d, d - 1) <= _FIRST_WEIGHTS:
        resolution += 1
    return uniform_lattice(d, resolution)


def _covered(cover: CoverMatrix, chosen: Indices) -> NDArray[np.bool_]:
    """(k,) whether one of the chosen policies covers each weight."""
    covered = np.zeros(cover.n_weights, dtype=bool)
    for index in chosen:
        covered |= cover.row(int(index))
    return covered


def _without(cover: CoverMatrix, done: NDArray[np.bool_]) -> CoverMatrix:
    """The cover of the columns that are not in ``done``."""
    table = cover.matrix()[:, ~done]
    return replace(cover, bits=packed(table), n_weights=table.shape[1])


def _each_by_one(values: Array, epsilon: float, delta: float) -> Indices:
    """A portfolio in which one policy is within (ε, δ) of each candidate at every vertex.

    Then this holds at every weight: fast to compute, but larger than necessary.
    """
    from palm_core.cover.cover import CoverMatrix, greedy
    from palm_core.model.policy import Best

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
    cover = CoverMatrix(bits=packed(covers), n_weights=m, best=nothing, mu=epsilon, alpha=delta)
    return np.sort(greedy(cover)).astype(np.intp, copy=False)


def _greedy(cover: CoverMatrix, deadline: float) -> Indices:  # noqa: ARG001 - as _near_smallest
    from palm_core.cover.cover import greedy

    return np.sort(greedy(cover)).astype(np.intp, copy=False)


def _near_smallest(cover: CoverMatrix, deadline: float) -> Indices:
    from palm_core.cover.set_cover import greedy_rows, local_search

    core = Core.of(cover.bits, cover.n_weights)
    if not core.n_columns:
        return core.forced
    rows = greedy_rows(core)
    least = packing_bound(core.bits, core.n_columns)
    if len(rows) > least and len(core.rows) * core.n_columns <= _MOST_PAIRS:
        # The number of steps is bounded and, within the time limit, the same on every machine.
        rows = local_search(core.matrix(), rows, target=least, deadline=deadline)
    return np.sort(np.concatenate([core.forced, core.rows[rows]]))


def minimal_portfolio(
    candidates: PolicySet | ArrayLike,
    *,
    epsilon: float = 0.0,
    delta: float = 0.0,
    solver: str | None = None,
    time_limit: float = 60.0,
) -> Cover:
    """The smallest portfolio of candidates within (ε, δ) of all of them at every weight.

    A portfolio P is within (ε, δ) if for every w in Δ_d
        max_{π∈P} J_w(π) ≥ opt(w) − ε·max(opt(w), 0) − δ,
    which is Definition 3.2 of the paper where opt(w) ≥ 0; where opt(w) < 0 only δ
    counts. Decided in exact arithmetic; a tolerance that is met exactly counts as met.

    Method: a smallest cover of finitely many weights, by integer program; all
    weights that it violates are added; repeated until there are none. Each round's
    lower bound holds for the whole simplex. There are finitely many portfolios and
    none occurs twice, so the loop terminates. For d = 2 (ε = 0, or
    opt of one sign) exact by intervals in O(m log m).

    Args:
        candidates: m policies, or their rewards (m, d).
        epsilon: ε in [0, 1], the share of opt(w) that may be lost.
        delta: δ ≥ 0, the additive loss allowed, in units of reward.
        solver: for the integer programs, as in :func:`palm_core.prune`.
        time_limit: seconds for the search and the proof. After it, the best portfolio
            found is returned, with its exact gaps and the best lower bound.

    Returns:
        :class:`palm_core.Cover`: the array of indices into ``candidates``, ascending, with
        the proof, and exact ``gaps`` to all candidates.

    Raises:
        InputError: ε or δ out of range, rewards that are not (m, d), or an unknown
            solver.
        WorkError: a solver failed.

    Example:
        >>> found = minimal_portfolio([[1.0, 0.0], [0.8, 0.7], [0.0, 1.0]], epsilon=0.25)
        >>> list(found), found.status, found.lower_bound, round(found.gaps.epsilon, 3)
        ([1, 2], 'optimal', 2, 0.2)
    """
    found = least_policies(
        candidates, epsilon=epsilon, delta=delta, solver=solver, time_limit=time_limit
    )
    assert found.gaps is not None
    return replace(found, gaps=_within(found.gaps, *found.tolerance))


def least_policies(
    candidates: PolicySet | ArrayLike,
    *,
    epsilon: float,
    delta: float = 0.0,
    solver: str | None = None,
    time_limit: float = 60.0,
) -> Cover:
    """:func:`minimal_portfolio` with gaps valid in every reading of the numbers.

    In the last bits they may exceed a tolerance that is met in one reading.
    """
    begun = time.perf_counter()
    epsilon = check_number(epsilon, name="epsilon", least=0.0, most=1.0)
    delta = check_number(delta, name="delta", least=0.0)
    time_limit = check_number(time_limit, name="time_limit", above=0.0)
    check_solver(solver)
    policies = candidates if isinstance(candidates, PolicySet) else PolicySet(candidates)
    # Whatever a dominated policy covers, its dominating policy covers too.
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
    return Cover(
        indices=indices,
        method="minimal",
        status="optimal" if lower == len(indices) else "feasible",
        lower_bound=lower,
        epsilon=epsilon,
        delta=delta,
        gaps=gaps_of(Pair(values, chosen, np.arange(len(useful)))),
        rounds=rounds,
        seconds=time.perf_counter() - begun,
        solver=name,
    )


class _Found(NamedTuple):
    """Policies, weights no two of which are covered by one policy, and whether proven."""

    chosen: NDArray[np.intp]
    witnesses: NDArray[np.float64]
    proven: bool


def _by_intervals(values: Values, epsilon: float, delta: float) -> _Found | None:
    """For d = 2, the fewest intervals; proven unless rounding decides."""
    from palm_core.cover.cover import cover_weights

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
    """Cap the gaps of a portfolio within (ε, δ), which rounding up may have exceeded."""
    if not delta and found.epsilon > epsilon:
        found = replace(found, epsilon=epsilon)
    if not epsilon and found.delta > delta:
        found = replace(found, delta=delta)
    return found


# Below this share of the current gap, probe just under it instead of halfway.
_NEAR = 1e-2
# Seconds for a portfolio without a proof after the time limit.
_LEAST_SECONDS = 1e-3
# Gaps that differ by less than this share count as equal.
_SAME = 2.0**-30


@dataclass(frozen=True, kw_only=True, eq=False)
class SizeGap:
    """The best portfolio of one size.

    Args:
        size: number of policies.
        epsilon: its exact multiplicative gap ε_s.
        delta: its exact additive gap, in units of reward.
        indices: the policies, ascending.
        proven: no portfolio of that size has a gap smaller by more than a share of 1e-9.
    """

    size: int
    epsilon: float
    delta: float
    indices: NDArray[np.intp]
    proven: bool


def size_gap_curve(
    candidates: PolicySet | ArrayLike,
    *,
    most: int | None = None,
    solver: str | None = None,
    time_limit: float = 60.0,
) -> list[SizeGap]:
    """The least gap of each portfolio size over the whole simplex, with proof.

    A size is omitted where a smaller portfolio has the same gap. The curve ends at gap 0,
    or where a smaller gap needs more than ``most`` policies.

    Args:
        candidates: m policies, or their rewards (m, d).
        most: the largest size of interest; ``None`` means all.
        solver: for the integer programs, as in :func:`palm_core.prune`.
        time_limit: seconds for the whole curve. After them the curve ends with the current
            size, unproven.

    Raises:
        InputError: rewards that are not (m, d), or an argument out of range.
        WorkError: a solver failed.

    Example:
        >>> curve = size_gap_curve([[1.0, 0.0], [0.8, 0.7], [0.0, 1.0]])
        >>> [(point.size, round(point.epsilon, 3)) for point in curve]
        [(1, 0.3), (2, 0.2), (3, 0.0)]
    """
    if most is not None:
        most = check_count(most, name="most", least=1)

    deadline = time.perf_counter() + check_number(time_limit, name="time_limit", above=0.0)

    def left() -> float:
        return deadline - time.perf_counter()

    def ask(epsilon: float) -> tuple[Cover, Gaps]:
        seconds = max(left(), _LEAST_SECONDS)
        found = least_policies(candidates, epsilon=epsilon, solver=solver, time_limit=seconds)
        assert found.gaps is not None
        return found, found.gaps

    curve: list[SizeGap] = []
    current = ask(1.0)
    while most is None or len(current[0]) <= most:
        size, (best, gaps), more = len(current[0]), current, None
        low, proven, just_below, step = 0.0, True, True, _SAME
        # Probe just below the current gap or, after that found a better portfolio, halfway.
        # Terminates: each portfolio found has a smaller gap, of finitely many, or the step
        # grows; where none is found just below the gap, there is none.
        while gaps.epsilon > 0 and left() > 0:
            gap = gaps.epsilon
            just_below = just_below or gap - low <= _NEAR * gap
            asked = max(gap * (1.0 - step), 0.0) if just_below else (low + gap) / 2
            found, its_gaps = ask(asked)
            if len(found) > size:
                low, more = asked, (found, its_gaps)
                proven = found.lower_bound > size and step == _SAME
                if just_below:
                    break
                just_below = True
            elif its_gaps.epsilon < gap:
                best, gaps, just_below = found, its_gaps, False
            else:  # near the smallest float64 number
                just_below, step = True, 16 * step
        else:
            proven = gaps.epsilon == 0
        curve.append(
            SizeGap(
                size=size,
                epsilon=gaps.epsilon,
                delta=gaps.delta,
                indices=best.indices,
                proven=proven,
            )
        )
        if more is None or gaps.epsilon == 0 or left() <= 0:
            break
        current = more
    return curve
