"""Convex polygons in the triangle of weights for d = 3; segments of its edge for d = 2.

Points are weight vectors. On the simplex Σ_i v_i = 1, so every affine condition a·v ≤ b is the
linear one (a − b·1)·v ≤ 0, and polygons are clipped without other coordinates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from palm_core import serving_shares

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

# Heights this close to an edge lie on it: weights are of size 1.
ROUNDING = 1e-14


def heights(polygon: Array, side: Array) -> Array:
    """side·v at the corners (n, d), with rounding errors set to 0."""
    found = polygon @ side
    found[np.abs(found) <= ROUNDING * np.abs(side).max(initial=0.0)] = 0.0
    return found


def clip(polygon: Array, side: Array) -> Array:
    """The part of a convex polygon (n, 3) or a segment (2, 2) where side·v ≤ 0.

    Remaining corners are the same to the last bit. An empty part has no corners.
    """
    height = heights(polygon, side).tolist()
    n, d = polygon.shape
    if max(height, default=0.0) <= 0:
        return polygon
    if d > 2 and min(height) >= 0:
        return np.zeros((0, d))
    parts = []
    # A segment has one side, a polygon as many as corners.
    for here in range(n if d > 2 else n - 1):
        there = (here + 1) % n
        a, b = height[here], height[there]
        if a <= 0:
            parts.append(polygon[here])
        if min(a, b) < 0 < max(a, b):
            point = (polygon[here] * b - polygon[there] * a) / (b - a)
            parts.append(point / point.sum())
    if d == 2 and height[-1] <= 0:
        parts.append(polygon[-1])
    return np.array(parts) if len(parts) >= d else np.zeros((0, d))


def share(polygon: Array) -> float:
    """The share of the simplex in a polygon (n, 3) or a segment (2, 2)."""
    if len(polygon) < polygon.shape[1]:
        return 0.0
    if polygon.shape[1] == 2:
        return float(abs(polygon[0, 0] - polygon[1, 0]))
    # Relative to a corner, so that a small polygon loses no precision.
    x, y = polygon[:, 0] - polygon[0, 0], polygon[:, 1] - polygon[0, 1]
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)))


def sides(polygon: Array) -> Array:
    """Inequalities (n, d), of size 1, with side·v ≤ 0 in the polygon, one for each edge."""
    if polygon.shape[1] == 2:
        low, high = polygon[np.argsort(polygon[:, 0])]
        found = np.array([[-low[1], low[0]], [high[1], -high[0]]])
    else:
        found = np.cross(polygon, np.roll(polygon, -1, axis=0))
    size = np.abs(found).max(axis=1)
    found = found[size > ROUNDING] / size[size > ROUNDING, np.newaxis]
    return np.asarray(found * -np.sign(found @ polygon.mean(axis=0))[:, np.newaxis])


def overlap(first: Array, second: Array) -> Array:
    """The intersection of two convex polygons, or segments; no corners if empty."""
    if not len(second):
        return second
    for side in sides(second):
        if not len(first):
            break
        first = clip(first, side)
    return first


def place(polygons: list[Array], points: Array) -> NDArray[np.intp]:
    """Indices (k,) of the polygons, a tiling of the simplex, that contain ``points`` (k, d)."""
    # On an edge, up to rounding: the polygon in which the point lies deepest.
    outside = np.stack([(points @ sides(one).T).max(axis=1) for one in polygons])
    return np.asarray(outside.argmin(axis=0))


def serving_cells(values: Array) -> dict[int, Array]:
    """For d = 3, the polygon of weights at which each policy is the best of the set.

    Args:
        values: (m, 3) vertex values u(π).

    Returns:
        Polygon (n, 3) by policy, without those whose cell has no area. Of equal policies
        the first serves (:func:`palm_core.serving_shares`). The cells tile the simplex.
    """
    serving = np.flatnonzero(serving_shares(values) > 0)
    cells = {}
    for index in serving:
        cell = np.eye(3)
        for rival in serving[serving != index]:
            cell = clip(cell, values[rival] - values[index])
        if len(cell):
            cells[int(index)] = cell
    return cells
