"""The triangle of weight vectors for three objectives, and polygons in it.

Points are weight vectors (barycentric coordinates). On the simplex Σ_i v_i = 1, so every
affine condition a·v ≤ b is the linear one (a − b·1)·v ≤ 0, and polygons are cut exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.patches import Polygon

from palm_core import serving_shares
from palm_eval.figures.style import INK, SOFT, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
# Characters that a name at a corner has room for.
_CORNER = 16
# Heights this close to an edge lie on it: weights are of size 1.
_ROUNDING = 1e-14


def clip(polygon: Array, side: Array) -> Array:
    """The part of a convex polygon (n, d) where side·v ≤ 0, or no points (0, d).

    For d = 2 the polygon is a segment, two points.
    """
    height = polygon @ side
    height[np.abs(height) <= _ROUNDING * np.abs(side).max(initial=0.0)] = 0.0
    if (height <= 0).all():
        return polygon
    d = polygon.shape[1]
    parts = []
    # A segment has one side, a polygon as many as corners.
    for here in range(len(polygon) if d > 2 else len(polygon) - 1):
        there = (here + 1) % len(polygon)
        a, b = height[here], height[there]
        if a <= 0:
            parts.append(polygon[here])
        if min(a, b) < 0 < max(a, b):
            parts.append((polygon[here] * b - polygon[there] * a) / (b - a))
    if d == 2 and height[-1] <= 0:
        parts.append(polygon[-1])
    return np.array(parts) if len(parts) >= d else np.zeros((0, d))


def area(polygon: Array) -> float:
    """The share of the simplex that a polygon (n, 3) or a segment (2, 2) takes up."""
    if len(polygon) < polygon.shape[1]:
        return 0.0
    if polygon.shape[1] == 2:
        return float(abs(polygon[0, 0] - polygon[1, 0]))
    x, y = polygon[:, 0], polygon[:, 1]
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)))


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


def draw_triangle(
    axes: Axes, objectives: Sequence[str], title: str = "", subtitle: str = "", *, room: float = 0
) -> None:
    """Draw the simplex with its objectives at the corners and the words below it.

    ``room`` is left above the top, for marks.
    """
    axes.set_aspect("equal")
    axes.set_axis_off()
    edge = Polygon(CORNERS, fill=False, edgecolor=INK, linewidth=1.0, zorder=5)
    edge.set_label("simplex")
    axes.add_patch(edge)
    places = ((0.0, -0.055, "left"), (1.0, -0.055, "right"), (0.5, 0.91 + room, "center"))
    for name, (x, y, align) in zip(objectives, places, strict=True):
        axes.text(x, y, shown(name, _CORNER), ha=align, va="center")
    axes.text(
        0.5, -0.16, shown(title, 2 * _CORNER), ha="center", va="center", weight="bold", size=10
    )
    axes.text(0.5, -0.25, subtitle, ha="center", va="center", color=INK, size=8.5)
    axes.set_xlim(-0.06, 1.06)
    axes.set_ylim(-0.30 if title or subtitle else -0.1, 0.97 + room)


def draw_segments(
    axes: Axes, titles: Sequence[str], subtitles: Sequence[str], objective: str
) -> None:
    """Draw the simplex of two objectives once for each title, from 0 downwards along y."""
    for place, words in enumerate(subtitles):
        axes.axhline(-place, color=SOFT, linewidth=0.8, zorder=1)
        axes.text(0.5, -place + 0.2, words, ha="center", va="bottom", color=INK, size=8.5)
    axes.set_yticks([-place for place in range(len(titles))], labels=[shown(t) for t in titles])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-len(titles) + 0.7, 0.6)
    axes.set_xlim(-0.01, 1.01)
    axes.set_xlabel(f"weight of {shown(objective)}")
    axes.spines["left"].set_visible(False)
