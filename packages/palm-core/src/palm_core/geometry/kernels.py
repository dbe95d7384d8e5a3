"""Compiled kernels: best policy, cover, greedy set cover, bit matrices.

All kernels are in this one file, because Numba does not detect an edited helper
in another file and would use stale cached machine code.

*Arithmetic.* J_w(π) is everywhere ((w_1·u_1 + w_2·u_2) + w_3·u_3) + …: every
product and every sum rounded, from the first objective to the last, no fused
multiply-add and no re-association (Numba without ``fastmath`` adds none). So
the best value and the cover agree to the last bit, a policy that is best at a
weight always covers it, and results depend neither on the number of threads nor
on the machine. It costs no time: multiplication and addition have separate
ports. Rounding is monotone, so with w ≥ 0 the bound w·max(u over a group) is never
below any J_w(π) of that group, also in floating point: skipping a group is exact.

*Layout.* Weights come in words of 64, (words, d, 64): the innermost loop runs
over one word of contiguous lanes, and its comparisons fold into one ``uint64``
by an OR, which LLVM vectorises. Policies come sorted into groups of ``GROUP``
neighbours.

*Threads.* Kernels release the global interpreter lock and :func:`in_parallel`
distributes them over Python threads. That is safe in forked workers and when several
threads call at once, which Numba's own layers (GNU OpenMP, workqueue) are not,
and compiles several times faster than ``parallel=True``.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from palm_core.geometry.compilation import compiled, n_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

#: Weights in a word: the bits of a ``uint64``.
WORD = 64
#: Policies per group; the bound of a group is tested before its policies.
GROUP = 32
#: Words of weights that fit into the L2 cache.
TILE = 32


class Groups(NamedTuple):
    """m policies in groups of ``GROUP`` neighbours; u and order have even length.

    Attributes:
        u: (m, d) vertex values, sorted; the last may be duplicated.
        order: (m,) int64, the policy's index before sorting, ascending in a group.
        bounds: (groups, d) the largest of u in each group.
        lowest: (groups,) the lowest of order in each group.
    """

    u: NDArray[np.float64]
    order: NDArray[np.int64]
    bounds: NDArray[np.float64]
    lowest: NDArray[np.int64]


def in_parallel(work: Callable[[int, int], object], count: int, *, grain: int) -> None:
    """Call ``work(first, last)`` in parallel on ranges that partition ``range(count)``.

    Args:
        work: releases the global interpreter lock; ranges must be independent.
        count: number of items.
        grain: ranges begin at multiples of ``grain``.
    """
    threads = n_threads()
    # A few ranges per thread, for load balancing.
    step = -(-count // (4 * threads * grain)) * grain if threads > 1 else count
    starts = range(0, count, max(step, 1))
    if threads == 1 or len(starts) < 2:
        work(0, count)
        return
    with ThreadPoolExecutor(min(threads, len(starts))) as pool:
        for _ in pool.map(lambda first: work(first, min(first + step, count)), starts):
            pass


@cache
def best_words(d: int) -> Any:
    """The kernel of :func:`palm_core.model.policy.best_policies` for d objectives."""

    def kernel(groups: Groups, words: Any, first: int, last: int, best: Any) -> None:
        u, order, bounds, lowest = groups
        values, indices = best
        seed = 0
        for b in range(first, last):
            for j in range(WORD):
                values[b, j] = -np.inf
                indices[b, j] = u.shape[0]
            # The best group of the previous word comes first: then nearly
            # every other group is skipped.
            start = seed
            for step in range(-1, bounds.shape[0]):
                g = start if step < 0 else step
                if step == start:
                    continue
                before = indices[b, 0]
                hope = np.uint64(0)
                for j in range(WORD):
                    v = bounds[g, 0] * words[b, 0, j]
                    for i in range(1, d):
                        v += bounds[g, i] * words[b, i, j]
                    tie = (v == values[b, j]) & (lowest[g] < indices[b, j])
                    hope |= np.uint64((v > values[b, j]) | tie)
                if hope == np.uint64(0):
                    continue
                for p in range(g * GROUP, min(g * GROUP + GROUP, u.shape[0]), 2):
                    o0 = order[p]
                    o1 = order[p + 1]
                    for j in range(WORD):
                        v0 = u[p, 0] * words[b, 0, j]
                        v1 = u[p + 1, 0] * words[b, 0, j]
                        for i in range(1, d):
                            v0 += u[p, i] * words[b, i, j]
                            v1 += u[p + 1, i] * words[b, i, j]
                        o = o0
                        # Within a group the order is ascending: > keeps the lowest.
                        if v1 > v0:
                            v0 = v1
                            o = o1
                        x = values[b, j]
                        y = indices[b, j]
                        better = (v0 > x) | ((v0 == x) & (o < y))
                        values[b, j] = v0 if better else x
                        indices[b, j] = o if better else y
                if indices[b, 0] != before:
                    seed = g

    return compiled(kernel)


@cache
def cover_words(d: int) -> Any:
    """The kernel of :func:`palm_core.cover.cover.cover_weights` for d objectives.

    Its ``words`` are (words, d + 1, 64): the last "objective" is the value that
    a policy must reach.
    """

    def kernel(groups: Groups, words: Any, first: int, last: int, bits: Any) -> None:
        u, order, bounds, _ = groups
        n_words = words.shape[0]
        todo = np.empty(TILE, np.int64)
        for tile in range(0, n_words, TILE):
            for g in range(first, last):
                # Words in which some policy of the group may cover a weight;
                # all others remain zero.
                n_todo = 0
                for b in range(tile, min(tile + TILE, n_words)):
                    hope = np.uint64(0)
                    for j in range(WORD):
                        v = bounds[g, 0] * words[b, 0, j]
                        for i in range(1, d):
                            v += bounds[g, i] * words[b, i, j]
                        hope |= np.uint64(v >= words[b, d, j])
                    if hope != np.uint64(0):
                        todo[n_todo] = b
                        n_todo += 1
                # Two policies use each load of a weight.
                for p in range(g * GROUP, min(g * GROUP + GROUP, u.shape[0]), 2):
                    for t in range(n_todo):
                        b = todo[t]
                        c0 = np.uint64(0)
                        c1 = np.uint64(0)
                        for j in range(WORD):
                            v0 = u[p, 0] * words[b, 0, j]
                            v1 = u[p + 1, 0] * words[b, 0, j]
                            for i in range(1, d):
                                v0 += u[p, i] * words[b, i, j]
                                v1 += u[p + 1, i] * words[b, i, j]
                            c0 |= np.uint64(v0 >= words[b, d, j]) << np.uint64(j)
                            c1 |= np.uint64(v1 >= words[b, d, j]) << np.uint64(j)
                        bits[order[p], b] = c0
                        bits[order[p + 1], b] = c1

    return compiled(kernel)


@compiled
def ones_in(row: Any, mask: Any) -> Any:
    """The number of bits set in ``row & mask``, both uint64 (words,)."""
    total = np.uint64(0)
    for b in range(row.size):
        x = row[b] & mask[b]
        x -= (x >> np.uint64(1)) & np.uint64(0x5555555555555555)
        x = (x & np.uint64(0x3333333333333333)) + (
            (x >> np.uint64(2)) & np.uint64(0x3333333333333333)
        )
        x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
        x += x >> np.uint64(8)
        x += x >> np.uint64(16)
        x += x >> np.uint64(32)
        total += x & np.uint64(0x7F)
    return np.int64(total)


@compiled
def count_rows(bits: Any, mask: Any, first: int, last: int, counts: Any) -> None:
    """Count the weights of ``mask`` that each of the policies ``first`` to ``last`` covers."""
    for p in range(first, last):
        counts[p] = ones_in(bits[p], mask)


@compiled
def greedy_cover(bits: Any, uncovered: Any, gains: Any, chosen: Any) -> int:
    """Choose rows of ``bits`` until no bit of ``uncovered`` is left, or none helps.

    Args:
        bits: uint64 (m, words).
        uncovered: uint64 (words,), the weights to cover; on return those still uncovered.
        gains: int64 (m,), bits of ``uncovered`` in each row; on return upper bounds.
        chosen: int64 (m,), output: the chosen rows in order; their number is returned.
    """
    n_chosen = 0
    while True:
        # Gains only decrease (submodularity): an old gain is an upper bound,
        # and most rows need not be counted again.
        best = int(np.argmax(gains))
        gain = ones_in(bits[best], uncovered)
        gains[best] = gain
        for p in range(gains.size):
            if gains[p] > gain or (gains[p] == gain and p < best):
                gains[p] = ones_in(bits[p], uncovered)
                if gains[p] > gain or (gains[p] == gain and p < best):
                    best = p
                    gain = gains[p]
        if gain == 0:
            return n_chosen
        chosen[n_chosen] = best
        n_chosen += 1
        gains[best] = 0
        for b in range(uncovered.size):
            uncovered[b] &= ~bits[best, b]


@compiled
def count_zeros(counts: Any) -> int:
    """The number of zeros in ``counts``, int64 (n,)."""
    found = 0
    for i in range(counts.size):
        found += counts[i] == 0
    return found


@compiled
def add_row(table: Any, row: int, times: Any, count: int) -> None:
    """Add ``count`` to the entries of ``times`` whose column the row covers."""
    for column in range(times.size):
        times[column] += count * table[row, column]


@compiled
def cheapest_member(table: Any, members: Any, tallies: Any, count: int, barred: int) -> int:
    """The place of the member, not ``barred``, whose columns covered once are worth least.

    Arguments as for :func:`improve_rows`. Of equal ones that moved longest ago, then the first.
    """
    times, worth, moved = tallies
    place, least = 0, -1
    for i in range(count):
        row = members[i]
        if row != barred:
            loss = 0
            for column in range(table.shape[1]):
                if table[row, column] and times[column] == 1:
                    loss += worth[column]
            tied = loss == least and moved[row] < moved[members[place]]
            if least < 0 or loss < least or tied:
                place, least = i, loss
    return place


@compiled
def richest_row(table: Any, tallies: Any, wanted: int, barred: int) -> int:
    """The row, not ``barred``, that covers ``wanted`` and uncovered columns of most worth.

    Of equal ones that moved longest ago, then the first; ``barred`` if there is no other.
    """
    times, worth, moved = tallies
    richest, most = barred, -1
    for row in range(table.shape[0]):
        if row != barred and table[row, wanted]:
            gain = 0
            for column in range(table.shape[1]):
                if table[row, column] and times[column] == 0:
                    gain += worth[column]
            if gain > most or (gain == most and moved[row] < moved[richest]):
                richest, most = row, gain
    return richest


@compiled
def improve_rows(table: Any, rows: Any, tallies: Any, draws: Any, progress: Any) -> bool:
    """Steps of :func:`palm_core.cover.set_cover.local_search`; whether it is over.

    Args:
        table: bool (r, c), row covers column.
        rows: int64 (r,) each, written: the rows chosen, and the smallest cover so far.
        tallies: int64: how many chosen rows cover each column (c,), the worth of each column
            (c,), the step in which each row was moved last (r,).
        draws: float64 (n,) in [0, 1), used in turn.
        progress: int64 (5,): number of rows chosen and of those of the smallest cover, step,
            step of the last improvement, row that entered last or −1; and (3,): size to stop
            at, patience, step to pause at.
    """
    members, best = rows
    times, worth, moved = tallies
    state, limits = progress
    while state[2] <= limits[1] + 2 * state[3]:
        if state[2] >= limits[2]:
            return False
        state[2] += 1
        while count_zeros(times) == 0:  # a cover: keep it, and drop a row
            for i in range(state[0]):
                best[i] = members[i]
            state[1], state[3] = state[0], state[2]
            if state[0] <= limits[0] or state[0] == 1:
                return True
            place = cheapest_member(table, members, tallies, state[0], -1)
            add_row(table, members[place], times, -1)
            state[0] -= 1
            for i in range(place, state[0]):
                members[i] = members[i + 1]
        place = cheapest_member(table, members, tallies, state[0], state[4])
        leaving = members[place]
        add_row(table, leaving, times, -1)
        moved[leaving] = state[2]
        left = int(draws[state[2] % draws.size] * count_zeros(times))
        wanted = -1
        while left >= 0:
            wanted += 1
            left -= times[wanted] == 0
        entering = richest_row(table, tallies, wanted, leaving)
        members[place], moved[entering], state[4] = entering, state[2], entering
        add_row(table, entering, times, 1)
        for column in range(times.size):
            worth[column] += times[column] == 0
    return True


@compiled
def transpose_words(bits: Any, turned: Any, first: int, last: int) -> None:
    """Write columns of ``bits`` (m, words) as rows of ``turned`` (columns, ⌈m/64⌉), uint64.

    A block of 64 × 64 bits is transposed by swapping ever smaller quarters (Warren,
    Hacker's Delight, section 7-3), for the words from ``first`` to before ``last``.
    """
    square = np.empty(WORD, np.uint64)
    for b in range(first, last):
        for block in range(turned.shape[1]):
            n = min(WORD, bits.shape[0] - block * WORD)
            any_set = np.uint64(0)
            for i in range(n):
                square[i] = bits[block * WORD + i, b]
                any_set |= square[i]
            square[n:] = np.uint64(0)
            half = WORD // 2
            mask = np.uint64(0xFFFFFFFF)
            while half > 0 and any_set != np.uint64(0):
                shift = np.uint64(half)
                for i in range(WORD):
                    if i & half == 0:
                        swap = ((square[i] >> shift) ^ square[i + half]) & mask
                        square[i] ^= swap << shift
                        square[i + half] ^= swap
                half //= 2
                mask ^= mask << np.uint64(half)
            for j in range(min(WORD, turned.shape[0] - b * WORD)):
                turned[b * WORD + j, block] = square[j]


@compiled
def is_subset(one: Any, other: Any) -> bool:
    """Whether all bits of ``one`` are set in ``other``, both uint64 (words,)."""
    b = 0
    while b < one.size and one[b] & ~other[b] == np.uint64(0):
        b += 1
    return bool(b == one.size)


@compiled
def rarest_element(one: Any, frequencies: Any) -> int:
    """The element of ``one``, uint64 (words,), in the fewest sets; −1 if it has none."""
    rarest = -1
    for b in range(one.size):
        x = one[b]
        element = b * WORD
        while x != np.uint64(0):
            if x & np.uint64(1) and (rarest < 0 or frequencies[element] < frequencies[rarest]):
                rarest = element
            x >>= np.uint64(1)
            element += 1
    return rarest


@compiled
def inclusions(sets: Any, elements: Any, marks: Any, first: int, last: int) -> None:
    """Mark the sets that are a subset of another, and those that are a superset of another.

    Supersets of a set are searched among those that share its rarest element.

    Args:
        sets: uint64 (m, words), one set per row, and int64 (m,), their sizes.
        elements: uint64 (e, words), the sets with each element, and int64 (e,), their counts.
        marks: bool (2, m), set true: a subset of another, a superset of another. Of
            equal sets the first is neither.
        first: first set whose supersets are searched.
        last: one past the last.
    """
    bits, sizes = sets
    by_element, frequencies = elements
    for a in range(first, last):
        rarest = rarest_element(bits[a], frequencies)
        if rarest < 0:
            marks[0, a] = True
            continue
        for b in range(by_element.shape[1]):
            x = by_element[rarest, b]
            other = b * WORD
            while x != np.uint64(0):
                if x & np.uint64(1) and sizes[other] >= sizes[a] and other != a:
                    larger = sizes[other] > sizes[a]
                    if is_subset(bits[a], bits[other]):
                        marks[0, a] |= larger or other < a
                        if larger or other > a:  # no write that reverts another thread's
                            marks[1, other] = True
                x >>= np.uint64(1)
                other += 1
