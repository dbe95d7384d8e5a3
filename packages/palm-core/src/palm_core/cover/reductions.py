"""Set cover without branching: reductions and lower bounds.

Rows are sets of columns, one bit per pair. Three rules shrink an instance and keep
at least one minimum cover (Garfinkel and Nemhauser, 1972; Beasley, 1987):

* a row whose columns another row covers too is removed;
* a column that is covered whenever another column is, is removed;
* the only row that covers a column is taken.

Two lower bounds on the number of rows: columns no two of which share a row, and the
linear relaxation, through its dual: prices y ≥ 0 of columns such that no row
is worth more than 1. Both are verifiable proofs.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bits = NDArray[np.uint64]
    Indices = NDArray[np.intp]

#: Tolerance: rounding of a sum of a few thousand prices is far smaller.
ROUNDING = 1e-6
# Some milliseconds of work: with less a thread does not pay off.
_BLOCKS_WORTH_A_THREAD = 1 << 14
_SETS_WORTH_A_THREAD = 1 << 10
# Limit on pairs of row and column in a packing; beyond it columns are sampled.
_PACKING_PAIRS = 1 << 25
# Initial columns of the linear program, and columns added at a time.
_FIRST_COLUMNS = 200
# Number of columns up to which HiGHS' simplex method is faster than interior point.
_FEW_COLUMNS = 1000
_WORD = 64


@dataclass(frozen=True, eq=False, kw_only=True)
class Core:
    """The core of an instance of set cover after the reductions.

    Attributes:
        bits: uint64 (r, words), the columns that each row covers.
        rows: (r,) remaining rows, in the original numbering, ascending.
        n_columns: c, number of remaining columns.
        forced: (f,) original rows of every cover, ascending.
    """

    bits: Bits
    rows: Indices
    n_columns: int
    forced: Indices

    @classmethod
    def of(cls, bits: Bits, n_columns: int) -> Core:
        """The smallest equivalent instance; each column must be covered by some row."""
        every = Core(
            bits=bits,
            rows=np.arange(len(bits)),
            n_columns=n_columns,
            forced=np.zeros(0, dtype=np.intp),
        )
        return _reduced(every)

    def parts(self) -> list[Core]:
        """The connected components of the core, smallest first, without forced rows."""
        parts = []
        todo = np.ones(len(self.rows), dtype=bool)
        while todo.any():
            reached = self.bits[np.argmax(todo)]
            while True:
                within = (self.bits & reached).any(axis=1)
                further = np.bitwise_or.reduce(self.bits[within], axis=0)
                if (further == reached).all():
                    break
                reached = further
            todo &= ~within
            columns = unpacked(reached, self.n_columns)
            bits = packed(unpacked(self.bits[within], self.n_columns)[:, columns])
            n_columns = int(np.count_nonzero(columns))
            none = np.zeros(0, dtype=np.intp)
            parts.append(Core(bits=bits, rows=self.rows[within], n_columns=n_columns, forced=none))
        return sorted(parts, key=lambda part: len(part.rows))

    def matrix(self) -> NDArray[np.bool_]:
        """(r, c) booleans, row covers column, a byte per pair."""
        return unpacked(self.bits, self.n_columns)

    def only(self, keep: NDArray[np.bool_]) -> Core | None:
        """The core of the instance with only the rows (r,) of ``keep``; ``None`` if uncovered."""
        left = Core(
            bits=self.bits[keep],
            rows=self.rows[keep],
            n_columns=self.n_columns,
            forced=self.forced,
        )
        return None if len(uncovered(left.bits, left.n_columns)) else _reduced(left)


@dataclass(frozen=True, eq=False, kw_only=True)
class Relaxation:
    """The linear relaxation of a core's cover by the fewest rows.

    Attributes:
        value: Σ_j y_j for prices y ≥ 0 of the columns with Σ_{j∈i} y_j ≤ 1 for each
            row i: no cover is smaller.
        reduced: (r,) reduced costs 1 − Σ_{j∈i} y_j ≥ 0: a cover with row i is larger by that.
        shares: (r,) the primal solution.
    """

    value: float
    reduced: NDArray[np.float64]
    shares: NDArray[np.float64]

    @property
    def bound(self) -> int:
        """The lower bound on the rows of a cover."""
        return ceil(self.value - ROUNDING)


def unpacked(bits: Bits, n_columns: int) -> NDArray[np.bool_]:
    """Bits (…, words) as booleans (…, n_columns)."""
    as_bytes = np.ascontiguousarray(bits).astype("<u8", copy=False).view(np.uint8)
    return np.unpackbits(as_bytes, axis=-1, count=n_columns, bitorder="little").view(np.bool_)


def packed(matrix: NDArray[np.bool_]) -> Bits:
    """Booleans (m, c) as bits (m, ⌈c/64⌉), padded by zeros."""
    m, c = matrix.shape
    whole = np.zeros((m, -(-c // _WORD) * 8), np.uint8)
    some = np.packbits(matrix, axis=1, bitorder="little")
    whole[:, : some.shape[1]] = some
    return whole.view("<u8").astype(np.uint64, copy=False)


def transposed(bits: Bits, n_columns: int) -> Bits:
    """Bits (m, ⌈c/64⌉) of rows as bits (c, ⌈m/64⌉) of columns."""
    from palm_core.geometry import kernels as _kernels

    blocks = -(-len(bits) // _WORD)
    turned = np.empty((n_columns, blocks), np.uint64)
    _kernels.in_parallel(
        lambda first, last: _kernels.transpose_words(bits, turned, first, last),
        -(-n_columns // _WORD),
        grain=1 + _BLOCKS_WORTH_A_THREAD // (blocks + 1),
    )
    return turned


def uncovered(bits: Bits, n_columns: int) -> Indices:
    """The columns that no row covers."""
    together = np.bitwise_or.reduce(bits, axis=0, initial=np.uint64(0))
    return np.flatnonzero(~unpacked(together, n_columns))


def sizes(bits: Bits) -> NDArray[np.int64]:
    """The number of bits set in each row."""
    counts: NDArray[np.int64] = np.bitwise_count(bits).sum(axis=1, dtype=np.int64)
    return counts


def _reduced(core: Core) -> Core:
    """Apply the three rules until none applies."""
    bits, rows, forced = core.bits, core.rows, core.forced
    n_columns = core.n_columns
    while n_columns:
        inside, _ = _inclusions(bits, transposed(bits, n_columns))
        bits, rows = bits[~inside], rows[~inside]
        by_column = transposed(bits, n_columns)
        _, around = _inclusions(by_column, bits)
        by_column = by_column[~around]
        alone = by_column[sizes(by_column) == 1]
        if not around.any() and not len(alone):
            break
        taken = np.bitwise_or.reduce(alone, axis=0, initial=np.uint64(0))
        is_taken = unpacked(taken, len(rows))
        forced = np.concatenate([forced, rows[is_taken]])
        by_column = by_column[~(by_column & taken).any(axis=1)]
        n_columns = len(by_column)
        bits = transposed(by_column, len(rows))[~is_taken]
        rows = rows[~is_taken]
    if not n_columns:
        bits, rows = np.zeros((0, 0), np.uint64), rows[:0]
    return Core(bits=bits, rows=rows, n_columns=n_columns, forced=np.sort(forced))


def _inclusions(bits: Bits, by_element: Bits) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Mark subsets and supersets of other sets; the first of equal sets is neither.

    Args:
        bits: uint64 (m, words), a set per row.
        by_element: uint64 (e, words), the same transposed.
    """
    from palm_core.geometry import kernels as _kernels

    marks = np.zeros((2, len(bits)), dtype=bool)
    sets, elements = (bits, sizes(bits)), (by_element, sizes(by_element))
    _kernels.in_parallel(
        lambda first, last: _kernels.inclusions(sets, elements, marks, first, last),
        len(bits),
        grain=_SETS_WORTH_A_THREAD,
    )
    return marks[0], marks[1]


def packing_bound(bits: Bits, n_columns: int) -> int:
    """The size of a packing: columns no two of which are covered by one row.

    Each of them needs a separate row, so no cover has fewer rows. They are
    chosen greedily, columns with few rows first; m·c/8 bytes are read once.
    """
    if not n_columns:
        return 0
    every = -(-len(bits) * n_columns // _PACKING_PAIRS)
    words = np.arange(0, bits.shape[1], every)
    columns = words.repeat(_WORD) * _WORD + np.tile(np.arange(_WORD), len(words))
    free = columns < n_columns
    sample = np.ascontiguousarray(bits[:, words])
    by_column = transposed(sample, len(free))
    order = np.argsort(sizes(by_column), kind="stable")
    found = 0
    for column in order:
        if free[column]:
            found += 1
            touched = unpacked(by_column[column], len(bits))
            free &= ~unpacked(np.bitwise_or.reduce(sample[touched], axis=0), len(free))
    return found


def relaxation(core: Core, *, seconds: float, enough: int | None = None) -> Relaxation | None:
    """Solve the linear relaxation by HiGHS; ``None`` after the time limit.

    Column generation: first only columns with few rows, then also those that the
    current shares leave uncovered, until there are none or half of all columns are in
    use: then the whole program is solved. The prices are scaled so that they are
    feasible whatever the solver's tolerance.

    Args:
        core: the core after the reductions.
        seconds: time limit.
        enough: stop at a bound of that many rows, before ``value`` is the largest
            possible.
    """
    from scipy.sparse import csr_array

    deadline = time.perf_counter() + seconds
    table = core.matrix()
    sparse = csr_array(table, dtype=np.float64)
    columns = np.argsort(table.sum(axis=0), kind="stable")[:_FIRST_COLUMNS]
    while True:
        whole = len(columns) > core.n_columns // 2
        columns = np.arange(core.n_columns) if whole else columns
        # On these columns alone more rows are subsets of another.
        rows = np.arange(len(table)) if whole else _outermost(table[:, columns])
        left = deadline - time.perf_counter()
        found = _fewest_shares(sparse[rows][:, columns], left) if left > 0 else None
        if found is None:
            return None
        prices, shares = np.zeros(core.n_columns), np.zeros(len(table))
        shares[rows], prices[columns] = found
        worth = sparse @ prices
        scale = max(float(worth.max()), 1.0)
        answer = Relaxation(
            value=float(prices.sum()) / scale, reduced=1.0 - worth / scale, shares=shares
        )
        missing = 1.0 - shares @ sparse
        missed = np.flatnonzero(missing > ROUNDING)
        if whole or not len(missed) or (enough is not None and answer.bound >= enough):
            return answer
        most = missed[np.argsort(-missing[missed], kind="stable")][:_FIRST_COLUMNS]
        columns = np.union1d(columns, most)


def _outermost(table: NDArray[np.bool_]) -> Indices:
    """The rows that are not a subset of another."""
    inside, _ = _inclusions(packed(table), packed(np.ascontiguousarray(table.T)))
    return np.flatnonzero(~inside)


def _fewest_shares(
    table: Any, seconds: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Minimise the sum of shares x ≥ 0 with x·table ≥ 1; return x and the columns' prices."""
    from scipy.optimize import linprog

    r, c = table.shape
    found = linprog(
        np.ones(r),
        A_ub=-table.T.tocsr(),
        b_ub=-np.ones(c),
        bounds=(0.0, None),
        method="highs-ds" if c <= _FEW_COLUMNS else "highs-ipm",
        options={"time_limit": seconds},
    )
    if found.status != 0:
        return None
    return np.asarray(found.x), np.maximum(-found.ineqlin.marginals, 0.0)
