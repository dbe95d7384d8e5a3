"""The triangle of weight vectors for three objectives; its points are barycentric."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.patches import Polygon

from palm_eval.figures.style import INK, SOFT, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
# Characters that a name at a corner has room for.
_CORNER = 16


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
