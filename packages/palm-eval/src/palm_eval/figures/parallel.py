"""Rewards of policies in any number of objectives: parallel coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from palm_eval.figures.style import FAINT, INK, MOST_VECTORS, SOFT, key_columns, policy_key, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from palm_core import PolicySet
    from palm_eval.figures.style import PolicyStyle

    Array = NDArray[np.float64]

# The least distance of two numbers beside the last axis, in heights of the axis.
_APART = 0.055


def draw_parallel(
    portfolio: PolicySet,
    candidates: PolicySet,
    supported: NDArray[np.bool_],
    styles: Mapping[str, PolicyStyle],
    labels: Sequence[str],
) -> Figure:
    """One axis for each objective, from the least to the largest value; a line a policy.

    Parallel coordinates (Inselberg, The Visual Computer 1 (1985)). Lines that cross
    between two axes are policies that trade the one objective for the other.
    """
    everything = np.vstack([candidates.vertex_values, portfolio.vertex_values])
    low, high = everything.min(axis=0), everything.max(axis=0)
    spread = np.where(high > low, high - low, 1.0)
    handles, names = policy_key(portfolio.names, styles, points=True)
    d = candidates.n_objectives
    width = max(6.0, 1.6 * d)
    columns = key_columns(names, width)
    size = (width, 3.8 + 0.2 * -(-len(names) // columns))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.vlines(range(d), 0, 1, color=INK, linewidth=0.8, zorder=3).set_label("axes")
    for place in range(d):
        for y, value, align in ((1.02, high[place], "bottom"), (-0.02, low[place], "top")):
            axes.text(place, y, f"{value:.3g}", ha="center", va=align, size=8)
    scaled = (candidates.vertex_values - low) / spread
    # So that a thousand lines do not become a blot.
    many = len(scaled) > MOST_VECTORS
    alpha = float(np.clip(30 / max(1, len(scaled)), 0.08, 0.7))
    for mask, colour, label in (
        (~supported, FAINT, "best nowhere"),
        (supported, SOFT, "best somewhere"),
    ):
        for row in scaled[mask]:
            axes.plot(
                row,
                color=colour,
                linewidth=0.7,
                alpha=alpha,
                label=label,
                rasterized=many,
                zorder=1,
            )
    mine = (portfolio.vertex_values - low) / spread
    for name, row in zip(portfolio.names, mine, strict=True):
        axes.plot(
            row,
            color=styles[name].colour,
            linewidth=1.8,
            marker=styles[name].marker,
            markersize=7,
            markeredgecolor=INK,
            markeredgewidth=0.7,
            label=name,
            zorder=4,
        )
    _numbers(axes, d - 1, mine[:, -1], [styles[name].number for name in portfolio.names])
    axes.set_xticks(range(d), labels=[shown(label, 24) for label in labels])
    axes.tick_params(axis="x", length=0, pad=14)
    axes.set_yticks([])
    axes.set_xlim(-0.2, d - 1 + 0.3)
    axes.set_ylim(-0.06, 1.06)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    figure.legend(handles, names, loc="outside lower center", ncols=columns)
    return figure


def _numbers(axes: Axes, x: float, heights: Array, numbers: Sequence[int]) -> None:
    for height, place, number in zip(heights, apart(heights, _APART), numbers, strict=True):
        axes.plot([x, x + 0.1], [height, place], color=SOFT, linewidth=0.7, label="_to", zorder=2)
        axes.text(x + 0.12, place, str(number), weight="bold", ha="left", va="center")


def apart(heights: Array, distance: float) -> Array:
    """Heights moved as little as keeps their order and ``distance`` between neighbours.

    Neighbours too close are put around their mean, as the pool-adjacent-violators
    algorithm does for least squares under an order.
    """
    order = np.argsort(heights, kind="stable")
    steps = distance * np.arange(len(heights))
    blocks: list[list[float]] = []  # mean, count of what is pooled
    for value in heights[order] - steps:
        blocks.append([float(value), 1.0])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            mean, count = blocks.pop()
            total = count + blocks[-1][1]
            blocks[-1] = [(blocks[-1][0] * blocks[-1][1] + mean * count) / total, total]
    pooled = np.concatenate([np.full(int(count), mean) for mean, count in blocks])
    moved = np.empty(len(heights))
    moved[order] = pooled + steps
    return moved
