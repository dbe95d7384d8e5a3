"""Small covers without a proof: greedy, and a local search after Gao, Weise and Li (2015)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from palm_core.reductions import packed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from palm_core.reductions import Core, Indices

#: Steps of the local search that lead nowhere before it is given up.
PATIENCE = 2000


def greedy_rows(core: Core, start: Indices | None = None) -> Indices:
    """Rows of ``core`` that cover it: ``start``, then always the row that covers most."""
    if not core.n_columns:
        return np.zeros(0, dtype=np.intp)
    from palm_core._kernels import greedy_cover

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
    """A cover at most as large as ``start``: drop a row, swap rows until all is covered.

    Each step takes out the row that costs least, and puts in the one that is worth
    most among those that cover some open column. Columns that stay open grow in
    worth, which leads out of dead ends (Gao, Weise and Li, 2015).

    Args:
        table: (r, c) which row covers which column.
        start: rows that cover every column.
        target: stop at so many rows.
        patience: stop after so many steps, and twice as many as led to the best cover.
        deadline: stop at that :func:`time.perf_counter`.
    """
    random = np.random.default_rng(0)
    members = np.array(start, dtype=np.intp)
    times = table[members].sum(axis=0)
    worth = np.ones(table.shape[1])
    moved = np.zeros(len(table), np.int64)
    best, entered = members, -1

    def cheapest(barred: int) -> int:
        once = np.flatnonzero(times == 1)
        loss = table[np.ix_(members, once)] @ worth[once]
        loss[members == barred] = np.inf
        return int(np.lexsort((moved[members], loss))[0])

    step, improved = 0, 0
    while step <= patience + 2 * improved:
        step += 1
        while (times > 0).all():
            best, improved = members, step
            if len(best) <= target or len(best) == 1:
                return best
            place = cheapest(-1)
            times = times - table[members[place]]
            members = np.delete(members, place)
        if time.perf_counter() > deadline:
            break
        place = cheapest(entered)
        leaving = members[place]
        times = times - table[leaving]
        moved[leaving] = step
        open_columns = np.flatnonzero(times == 0)
        able = np.flatnonzero(table[:, open_columns[random.integers(len(open_columns))]])
        able = able[able != leaving] if len(able) > 1 else able
        gain = table[np.ix_(able, open_columns)] @ worth[open_columns]
        entered = able[np.lexsort((moved[able], -gain))[0]]
        members = members.copy()
        members[place] = entered
        times = times + table[entered]
        moved[entered] = step
        worth[times == 0] += 1
    return best
