"""Smallest portfolios of two objectives: covered weights are intervals, no solver needed.

Where opt keeps its sign, opt − ε·max(opt, 0) − δ is convex, so the weights at which a
linear J_w(π) is at least that form an interval. The fewest intervals that cover
[0, 1] are found by always taking the one that reaches furthest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from palm_core._exact import TINY, UNIT, rounding_error
from palm_core.envelope import segments

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.float64]


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
        """By how much that is above J at end ``place[i]`` for policy i."""
        return np.asarray(heights[place] - (ends[place] * values).sum(axis=1))

    slopes = factor * (hull[:, 1] - hull[:, 0])
    lowest = np.searchsorted(slopes, values[:, 1] - values[:, 0])
    found = np.full((len(values), 2), np.nan)
    covers = excess(lowest) <= 0
    for side, step in ((0, -1), (1, 1)):
        last = _last(excess, lowest, step, len(ends))
        beyond = np.clip(last + step, 0, len(ends) - 1)
        inside, outside = -excess(last), np.maximum(excess(beyond), 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(beyond == last, 0.0, inside / (inside + outside))[:, np.newaxis]
            edge = ends[last] * (1.0 - share) + ends[beyond] * share
            found[covers, side] = (edge[:, 1] / edge[:, 0])[covers]
    return found


def _last(
    excess: Callable[[NDArray[np.intp]], Array], start: NDArray[np.intp], step: int, n: int
) -> NDArray[np.intp]:
    """The last place from ``start`` on in direction ``step`` whose excess is ≤ 0, by halving."""
    near = start.copy()
    room = start if step < 0 else n - 1 - start
    far = room + 1  # this many steps on, there is no place or it is above
    done = np.zeros_like(start)
    while (far - done > 1).any():
        middle = (far + done) // 2
        good = (excess(np.clip(start + step * middle, 0, n - 1)) <= 0) & (middle <= room)
        done, far = np.where(good, middle, done), np.where(good, far, middle)
        near = start + step * done
    return near


def fewest_intervals(intervals: Array, end: float = np.inf) -> NDArray[np.intp] | None:
    """Indices of the fewest intervals (m, 2) that cover [0, end], in order; NaN rows are none.

    From what is covered always the interval that reaches furthest, of several the one with
    the lowest index. No interval holds two of the places at which a new one had to be taken,
    so no cover is smaller. O(m log m). ``None`` where they leave a hole.
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
    """Weights (k, 2) no two of which one interval holds, one for each of ``chosen``.

    The first is (1, 0); then from what is covered halfway to whatever begins or ends next.
    """
    places = [0.0]
    marks = np.unique(intervals[np.isfinite(intervals)])
    for reached in intervals[chosen[:-1], 1]:
        beyond = marks[np.searchsorted(marks, reached, side="right") :]
        places.append((reached + beyond[0]) / 2 if len(beyond) else 2 * reached + 1)
    ratios = np.array(places)
    return np.asarray(np.column_stack([1.0 / (1.0 + ratios), ratios / (1.0 + ratios)]))
