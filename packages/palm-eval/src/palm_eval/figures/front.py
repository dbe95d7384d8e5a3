"""The front: rewards of all policies, as points or as parallel coordinates."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from palm_core import InputError, PolicySet, serving_intervals, serving_shares
from palm_eval.figures.style import (
    FAINT,
    INK,
    MOST_VECTORS,
    SOFT,
    PolicyStyle,
    drawing,
    key_columns,
    listed,
    policy,
    policy_key,
    shown,
    styles_for,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

# The least distance of two labels at the last axis, in heights of the axis.
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
    # Keep a thousand lines distinguishable.
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
    """Move heights as little as possible, keeping order and ``distance`` between neighbours.

    Neighbours too close are put around their mean, as the pool-adjacent-violators
    algorithm does for least squares under an order.
    """
    order = np.argsort(heights, kind="stable")
    steps = distance * np.arange(len(heights))
    blocks: list[list[float]] = []  # mean and size of each block
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


def front_figure(
    portfolio: PolicySet,
    candidates: PolicySet,
    *,
    styles: Mapping[str, PolicyStyle] | None = None,
) -> Figure:
    """The vertex values u(π) = r(π) − f(π)·1 of all candidates and of the portfolio.

    J_w(π) = w·u(π), so weights depend on u alone. Candidates that are best at
    some weights (on a cell of positive volume) are dark, others pale. For d = 2 a line joins
    the dark ones in the order in which they serve: it is the supported part of the front,
    the upper right boundary of the convex hull. For d = 3 each pair of objectives is one
    projection, in which a supported policy may lie inside. For d ≥ 4 each objective is an
    axis and each policy a line across them (parallel coordinates), and what is supported is
    found at 100 000 sampled weights (:func:`palm_core.serving_shares`).

    Args:
        portfolio: the policies to mark, each with its number, colour and marker.
        candidates: all policies, in the same objectives and units.
        styles: of the portfolio's policies; ``None`` makes them.

    Raises:
        InputError: different objectives, or a policy without a style.
    """
    for name, group in (("portfolio", portfolio), ("candidates", candidates)):
        if not isinstance(group, PolicySet):
            raise InputError(f"{name}: {type(group).__name__} given, must be a PolicySet")
    if portfolio.objectives != candidates.objectives:
        raise InputError(
            f"portfolio: objectives {', '.join(portfolio.objectives)}, "
            f"must be {', '.join(candidates.objectives)} as those of the candidates"
        )
    d = len(candidates.objectives)
    styles = styles_for(styles, portfolio)
    supported = serving_shares(candidates) > 0
    pairs = list(combinations(range(d), 2))
    net = bool(candidates.regularizer.any() or portfolio.regularizer.any())
    labels_of = [shown(name, 30) + (" − f" if net else "") for name in candidates.objectives]
    if d > 3:
        with drawing():
            return draw_parallel(portfolio, candidates, supported, styles, labels_of)
    with drawing():
        handles, labels = policy_key(portfolio.names, styles, points=True)
        width = 5.0 if d == 2 else 9.3
        columns = key_columns(labels, width)
        height = (3.8 if d == 2 else 3.1) + 0.2 * -(-len(labels) // columns)
        figure = Figure(figsize=(width, height), layout="constrained")
        panels = figure.subplots(1, len(pairs), squeeze=False)[0]
        for axes, pair in zip(panels, pairs, strict=True):
            _points(axes, candidates.vertex_values[:, pair], supported)
            if d == 2:
                order = np.argsort(serving_intervals(candidates)[:, 0])[: supported.sum()]
                axes.plot(
                    *candidates.vertex_values[order].T,
                    color=INK,
                    linewidth=1.0,
                    label="supported front",
                    zorder=2,
                )
            _portfolio(axes, portfolio, pair, styles)
            axes.margins(0.09)
            axes.set_xlabel(labels_of[pair[0]])
            axes.set_ylabel(labels_of[pair[1]])
        figure.legend(handles, labels, loc="outside lower center", ncols=columns)
    return figure


def front_description(
    portfolio: PolicySet, candidates: PolicySet, styles: Mapping[str, PolicyStyle]
) -> str:
    """Alternative text of :func:`front_figure`: numbers of policies, the portfolio's values."""
    supported = int((serving_shares(candidates) > 0).sum())
    parts = []
    for name, values in zip(portfolio.names, portfolio.vertex_values, strict=True):
        named = zip(portfolio.objectives, values, strict=True)
        told = ", ".join(f"{shown(objective)} {value:.3g}" for objective, value in named)
        parts.append(f"{policy(name, styles)} {told}")
    count = "1 policy" if len(candidates) == 1 else f"{len(candidates)} policies"
    return (
        f"{count}, {supported} of them best at some weights. "
        f"The portfolio: {listed(parts, 'policies')}."
    )


def _points(axes: Axes, values: Array, supported: NDArray[np.bool_]) -> None:
    for mask, colour, label in (
        (~supported, FAINT, "best nowhere"),
        (supported, SOFT, "best somewhere"),
    ):
        if mask.any():
            axes.plot(
                *values[mask].T,
                linestyle="",
                marker="o",
                markersize=3,
                markeredgewidth=0,
                color=colour,
                label=label,
                rasterized=len(values) > MOST_VECTORS,
                zorder=1,
            )


def _portfolio(
    axes: Axes,
    portfolio: PolicySet,
    pair: tuple[int, int],
    styles: Mapping[str, PolicyStyle],
) -> None:
    for name, values in zip(portfolio.names, portfolio.vertex_values, strict=True):
        style = styles[name]
        x, y = values[list(pair)]
        axes.plot(
            [x],
            [y],
            linestyle="",
            marker=style.marker,
            markersize=7,
            color=style.colour,
            markeredgecolor=INK,
            markeredgewidth=0.7,
            label=name,
            zorder=3,
        )
        axes.annotate(
            str(style.number),
            (x, y),
            xytext=(6, 5),
            textcoords="offset points",
            weight="bold",
            zorder=4,
        )
