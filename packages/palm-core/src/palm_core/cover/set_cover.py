"""Set cover: reductions, local search (after Gao, Weise and Li, 2015), integer program."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from palm_core.cover.integer_program import check_solver, integer_program
from palm_core.cover.reductions import ROUNDING, Core, packed, packing_bound, relaxation, uncovered
from palm_core.errors import InputError, WorkError
from palm_core.validation import check_count, check_number

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from palm_core.cover.reductions import Bits, Indices, Relaxation

#: Steps of the local search without improvement before it stops.
PATIENCE = 2000


def greedy_rows(core: Core, start: Indices | None = None) -> Indices:
    """Greedy cover of ``core``: ``start``, then repeatedly the row that covers most."""
    if not core.n_columns:
        return np.zeros(0, dtype=np.intp)
    from palm_core.geometry.kernels import greedy_cover

    left = packed(np.ones((1, core.n_columns), dtype=bool))[0]
    start = np.zeros(0, dtype=np.intp) if start is None else start
    left &= ~np.bitwise_or.reduce(core.bits[start], axis=0, initial=np.uint64(0))
    chosen = np.empty(len(core.rows), np.int64)
    count = greedy_cover(
        core.bits, left, np.bitwise_count(core.bits & left).sum(1, np.int64), chosen
    )
    return np.concatenate([start, chosen[:count]])


def local_search(
    table: NDArray[np.bool_],
    start: Indices,
    *,
    target: int,
    deadline: float,
    patience: int = PATIENCE,
) -> Indices:
    """Improve the cover ``start``: drop a row, swap rows until all columns are covered.

    Each step removes the row with the least loss and adds the row with the largest
    gain among those that cover some uncovered column. Weights of columns that stay
    uncovered grow, to escape local minima (Gao, Weise and Li, 2015).

    Args:
        table: (r, c) booleans, row covers column.
        start: rows that cover every column.
        target: stop at that many rows.
        patience: stop after that many steps, and twice the steps to the best cover.
        deadline: stop at that :func:`time.perf_counter`.
    """
    from palm_core.geometry.kernels import improve_rows

    rows = np.zeros(len(table), np.int64), np.zeros(len(table), np.int64)
    for each in rows:
        each[: len(start)] = start
    tallies = (
        table[start].sum(axis=0, dtype=np.int64),
        np.ones(table.shape[1], np.int64),
        np.zeros(len(table), np.int64),
    )
    draws = np.random.default_rng(0).random(4096)
    state = np.array([len(start), len(start), 0, 0, -1])
    pause = 0
    # About a tenth of a second between two looks at the clock.
    steps = 1 + _PAIRS_BETWEEN // max(table.size, 1)
    while time.perf_counter() <= deadline:
        pause += steps
        if improve_rows(table, rows, tallies, draws, (state, np.array([target, patience, pause]))):
            break
    return rows[1][: state[1]].astype(np.intp)


# Pairs of row and column that the local search reads between two looks at the clock.
_PAIRS_BETWEEN = 1 << 26
# Limit on pairs of row and column unpacked for the local search and the solvers.
_MOST_PAIRS = 1 << 28
# Seconds that PuLP takes to write one nonzero of a model.
_SECONDS_PER_NONZERO = 4e-6


@dataclass(frozen=True, eq=False, kw_only=True)
class SetCover:
    """A cover with a lower bound on its size.

    Attributes:
        chosen: the rows of the cover, ascending.
        status: "optimal" if no cover has fewer rows (proven), else "feasible".
        lower_bound: no cover has fewer rows than that.
        solver: the integer programming solver that was needed, else "reduction".
        seconds: time taken.
        n_rows: rows left after the reductions.
        n_columns: columns left after the reductions.
        n_forced: rows that alone cover some column.
    """

    chosen: Indices
    status: str
    lower_bound: int
    solver: str
    seconds: float
    n_rows: int
    n_columns: int
    n_forced: int

    @property
    def upper_bound(self) -> int:
        """The size of this cover."""
        return len(self.chosen)

    @property
    def gap(self) -> float:
        """(upper − lower) / upper, 0 where the bounds meet."""
        return relative_gap(self.lower_bound, self.upper_bound)


def relative_gap(lower: int, upper: int) -> float:
    """(upper − lower) / upper, 0 where the bounds meet."""
    return (upper - lower) / upper if upper else 0.0


def solve_set_cover(
    bits: Bits,
    n_columns: int,
    *,
    incumbent: ArrayLike | None = None,
    solver: str | None = None,
    time_limit: float = 60.0,
) -> SetCover:
    """The fewest rows that cover every column: min Σ_i x_i with Σ_{i covers j} x_i ≥ 1.

    Args:
        bits: uint64 (m, ⌈n_columns/64⌉): bit j of word b of a row says whether the
            row covers column 64·b + j; bits beyond ``n_columns`` are ignored.
        n_columns: the number of columns.
        incumbent: a known cover, returned if no smaller one is found.
        solver: "cbc" (as shipped with PuLP) or "highs" (extra ``palm-core[highs]``)
            for the integer program; ``None`` takes cbc.
        time_limit: seconds for bounds, search and integer program; the reductions
            and one greedy cover are always done.

    Returns:
        :class:`SetCover`. The same input gives the same cover, as long as the time
        limit is not met.

    Raises:
        InputError: a column that no row covers, an incumbent that is not a cover, an
            unknown or missing solver, arrays of the wrong shape.
        WorkError: the solver failed, or its answer is not a cover.

    Example:
        >>> bits = np.array([[0b0011], [0b0110], [0b1100], [0b0001]], dtype=np.uint64)
        >>> found = solve_set_cover(bits, 4)
        >>> found.chosen, found.status
        (array([0, 2]), 'optimal')
    """
    begun = time.perf_counter()
    deadline = begun + check_number(time_limit, name="time_limit", above=0.0)
    check_solver(solver)
    bits = _checked(bits, n_columns)
    known = None if incumbent is None else _checked_incumbent(incumbent, bits, n_columns)
    core = Core.of(bits, n_columns)
    # Connected components: their bounds add up, each rounded up.
    parts = core.parts()
    floor = packing_bound(bits, n_columns)
    best, lower, used = [core.forced], len(core.forced), "reduction"
    for place, part in enumerate(parts):
        left = deadline - time.perf_counter()
        search = _Search(part, solver, deadline - left * (1 - 1 / (len(parts) - place)))
        if len(parts) == 1:
            search.narrow(floor - lower, len(bits) if known is None else len(known) - lower)
        search.run()
        best.append(search.best)
        lower += search.lower
        used = search.used if used == "reduction" else used
    lower = max(lower, floor)
    chosen = np.sort(np.concatenate(best))
    chosen = known if known is not None and len(known) <= len(chosen) else chosen
    if len(chosen) < lower or len(uncovered(bits[chosen], n_columns)):
        raise WorkError(
            f"set cover by {used}: {len(chosen)} rows are not a cover, or fewer than the proven "
            f"lower bound {lower}"
        )
    return SetCover(
        chosen=chosen,
        status="optimal" if len(chosen) == lower else "feasible",
        lower_bound=lower,
        solver=used,
        seconds=time.perf_counter() - begun,
        n_rows=len(core.rows),
        n_columns=core.n_columns,
        n_forced=len(core.forced),
    )


def _checked(bits: Bits, n_columns: int) -> Bits:
    check_count(n_columns, name="n_columns", least=1)
    if bits.dtype != np.uint64 or bits.ndim != 2 or bits.shape[1] != -(-n_columns // 64):
        raise InputError(
            f"bits: must be uint64 (rows, {-(-n_columns // 64)}) for {n_columns} columns, "
            f"is {bits.dtype} {bits.shape}"
        )
    bits = np.ascontiguousarray(bits)
    if n_columns % 64:
        inside = np.uint64((1 << n_columns % 64) - 1)
        if (bits[:, -1] & ~inside).any():
            bits = bits.copy()
            bits[:, -1] &= inside
    missed = uncovered(bits, n_columns)
    if len(missed):
        raise InputError(f"bits: no row covers column {missed[0]}")
    return bits


def _checked_incumbent(incumbent: ArrayLike, bits: Bits, n_columns: int) -> Indices:
    rows = np.unique(np.asarray(incumbent, dtype=np.intp))
    if len(rows) and not 0 <= rows[0] <= rows[-1] < len(bits):
        raise InputError(f"incumbent: rows must be from 0 to {len(bits) - 1}")
    missed = uncovered(bits[rows], n_columns)
    if len(missed):
        raise InputError(f"incumbent: does not cover column {missed[0]}")
    return rows


class _Search:
    """Search with lower and upper bounds on the cover of a core, until they meet or time is up.

    Attributes:
        lower: no cover has fewer rows, the forced ones included.
        best: the smallest cover found, original rows, ascending.
        used: the integer programming solver used.
    """

    def __init__(self, core: Core, solver: str | None, deadline: float) -> None:
        self.core, self.solver, self.deadline = core, solver, deadline
        self.lower = len(core.forced) + packing_bound(core.bits, core.n_columns)
        self.start = greedy_rows(core)
        self.best = np.sort(np.concatenate([core.forced, core.rows[self.start]]))
        self.upper = len(self.best)
        self.used = "reduction"

    def narrow(self, lower: int, upper: int) -> None:
        """Tighten the bounds: no cover has fewer than ``lower`` rows, one has ``upper``."""
        self.lower, self.upper = max(self.lower, lower), min(self.upper, upper)

    def run(self) -> None:
        """Search until the bounds meet."""
        core, start = self.core, self.start
        if self.lower >= self.upper or len(core.rows) * core.n_columns > _MOST_PAIRS:
            return
        start = self._swap(core, start, self.lower, patience=PATIENCE // 10)
        if self.lower >= self.upper or self._left() <= 0:
            return
        enough = self.upper - len(core.forced)
        relaxed = relaxation(core, seconds=self._left() / 3, enough=enough)
        if relaxed is not None:
            self.lower = max(self.lower, len(core.forced) + relaxed.bound)
            # Where the relaxation is integral, rounding finds the cover.
            self._offer(core, greedy_rows(core, np.flatnonzero(relaxed.shares > 0.5)))
        if self.lower < self.upper:
            self._swap(core, start, self.lower)
        target = self.lower
        while self.lower < self.upper and self._left() > 0:
            # An infeasibility proof for fewer rows is often fast, since few rows remain.
            # Where it takes long, search for a better cover.
            last = target >= self.upper - 1
            target = min(target, self.upper - 1)
            answer = self._decide(target, relaxed, self._left() / (1 if last else 2), last=last)
            if answer == "none":
                target = self.lower = target + 1
            elif answer == "open":
                if last:
                    break
                target = self.upper - 1

    def _left(self) -> float:
        return self.deadline - time.perf_counter()

    def _offer(self, core: Core, rows: Indices) -> int:
        """Record the cover of ``core`` if it is the smallest so far; returns its size."""
        size = len(core.forced) + len(rows)
        if size < self.upper:
            self.best = np.sort(np.concatenate([core.forced, core.rows[rows]]))
            self.upper = size
        return size

    def _swap(
        self, core: Core, start: Indices, target: int, *, patience: int = PATIENCE
    ) -> Indices:
        """Run the local search on ``core`` for half the time left."""
        rows = local_search(
            core.matrix(),
            start,
            target=target - len(core.forced),
            patience=patience,
            deadline=self.deadline - self._left() / 2,
        )
        self._offer(core, rows)
        return rows

    def _decide(
        self, target: int, relaxed: Relaxation | None, seconds: float, *, last: bool
    ) -> str:
        """Whether ``target`` rows can cover: "found", "none", or "open" after the time limit."""
        deadline = time.perf_counter() + seconds
        core = _without_costly(self.core, target, relaxed, deadline)
        if core is None:
            return "none"
        start = self._swap(core, greedy_rows(core), target)
        if self.upper <= target:
            return "found"
        table = core.matrix()
        left = deadline - time.perf_counter()
        if left <= np.count_nonzero(table) * _SECONDS_PER_NONZERO:
            return "open"
        self.used, proven, rows = integer_program(
            table,
            solver=self.solver,
            seconds=left,
            start=start if last else None,
            most=None if last else target - len(core.forced),
        )
        if rows is not None and self._offer(core, rows) <= target:
            return "found"
        return "none" if proven else "open"


def _without_costly(
    core: Core, target: int, relaxed: Relaxation | None, deadline: float
) -> Core | None:
    """Drop all rows that no cover by ``target`` rows uses; ``None`` if there is no such cover.

    A cover that uses row i has at least Σ_j y_j + reduced_i rows (reduced-cost fixing).
    """
    while relaxed is not None and core.n_columns:
        least = len(core.forced) + relaxed.value + relaxed.reduced
        smaller = core.only(least <= target + ROUNDING)
        if smaller is None or len(smaller.forced) > target:
            return None
        worth_it = len(smaller.rows) < 0.9 * len(core.rows)
        core, relaxed = smaller, None
        if worth_it and core.n_columns:
            relaxed = relaxation(
                core,
                seconds=deadline - time.perf_counter(),
                enough=target + 1 - len(core.forced),
            )
            if relaxed is not None and len(core.forced) + relaxed.bound > target:
                return None
    return core
