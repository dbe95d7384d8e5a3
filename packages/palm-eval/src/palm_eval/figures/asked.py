"""Which weights a run has asked for, in what order, and which of them it kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from palm_core import InputError, check_weights
from palm_eval.figures.simplex import CORNERS, draw_triangle
from palm_eval.figures.style import (
    INK,
    MOST_VECTORS,
    SOFT,
    PolicyStyle,
    drawing,
    key_columns,
    policy_key,
    policy_styles,
    shown,
)
from palm_eval.figures.words import listed, policy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]


def weights_figure(
    weights: ArrayLike,
    kept: Mapping[str, ArrayLike],
    *,
    objectives: Sequence[str],
    ordered: bool = True,
    styles: Mapping[str, PolicyStyle] | None = None,
) -> Figure:
    """The weights asked for, the later the darker, and those of the portfolio's policies.

    For d = 2 the first objective's weight runs to the right and the calls, if ``ordered``,
    downwards; for d = 3 the weights are points of the triangle.

    Args:
        weights: (k, d) in the order of asking, d = 2 or 3.
        kept: the weights (d,) that a policy of the portfolio was asked for, by its name.
        objectives: d names.
        ordered: whether the order means something: in a grid it does not.
        styles: of the policies; ``None`` makes them.

    Raises:
        InputError: weights that are not (k, d) on the simplex, not two or three
            objectives, or a policy without a style.
    """
    d = len(objectives)
    if d not in (2, 3):
        raise InputError(f"objectives: {d} given, the figure can show 2 or 3")
    rows = check_weights(weights, d)
    if not len(rows):
        raise InputError("weights: empty, must have at least one")
    marked = {name: check_weights(row, d, name=f"kept[{name!r}]")[0] for name, row in kept.items()}
    styles = policy_styles(list(marked)) if styles is None else styles
    for name in marked:
        if name not in styles:
            raise InputError(f"styles: none for policy {name!r}; make them with policy_styles")
    with drawing():
        handles, labels = policy_key(list(marked), styles, points=True)
        width = 7.0 if d == 2 else 5.6
        columns = key_columns(labels, width)
        below = 0.2 * -(-len(labels) // columns)
        tall = 4.0 if d == 3 else (3.0 if ordered else 1.1)
        figure = Figure(figsize=(width, tall + below), layout="constrained")
        axes = figure.subplots()
        if d == 2:
            places = np.column_stack([rows[:, 0], np.arange(1, len(rows) + 1)])
            if not ordered:
                places[:, 1] = 0.0
            _axis(axes, objectives, len(rows), ordered=ordered)
        else:
            places = rows @ CORNERS
            draw_triangle(axes, objectives, room=0.05)
        _points(figure, axes, places, ordered=ordered, bar=d == 3)
        for name, row in marked.items():
            nearest = int(np.abs(rows - row).sum(axis=1).argmin())
            _mark(axes, places[nearest], name, styles[name])
        if labels:
            figure.legend(handles, labels, loc="outside lower center", ncols=columns)
    return figure


def weights_description(
    weights: ArrayLike,
    kept: Mapping[str, ArrayLike],
    *,
    objectives: Sequence[str],
    styles: Mapping[str, PolicyStyle],
) -> str:
    """What :func:`weights_figure` shows: how many weights, and those kept."""
    rows = check_weights(weights, len(objectives))
    parts = []
    for name, row in kept.items():
        named = zip(objectives, check_weights(row, len(objectives))[0], strict=True)
        told = ", ".join(f"{shown(objective)} {weight:.2f}" for objective, weight in named)
        parts.append(f"{policy(name, styles)} {told}")
    count = "1 weight was" if len(rows) == 1 else f"{len(rows)} weights were"
    return f"{count} asked for. The portfolio's policies are those of: {listed(parts, 'policies')}."


def _axis(axes: Axes, objectives: Sequence[str], calls: int, *, ordered: bool) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel(f"weight of {shown(objectives[0])} (the rest goes to {shown(objectives[1])})")
    if ordered:
        axes.set_ylim(calls + 0.6, 0.4)
        axes.set_ylabel("call")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    else:
        axes.axhline(0.0, color=SOFT, linewidth=0.8, zorder=1)
        axes.set_ylim(-1, 1)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)


def _points(figure: Figure, axes: Axes, places: Array, *, ordered: bool, bar: bool) -> None:
    calls = np.arange(1, len(places) + 1)
    # The pale end of the greys would be lost on white.
    map_ = mpl.colormaps["Greys"]
    shades = map_(np.linspace(0.4, 1.0, len(places))) if ordered else [SOFT] * len(places)
    size = max(2.0, 14 * min(1.0, 300 / len(places)))
    points = axes.scatter(places[:, 0], places[:, 1], s=size, c=shades, linewidths=0, zorder=2)
    points.set_label("asked")
    points.set_rasterized(len(places) > MOST_VECTORS)
    points.set_clip_on(False)
    if ordered and bar and len(places) > 1:
        colours = mpl.colors.ListedColormap(map_(np.linspace(0.4, 1.0, 256)))
        scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(1, calls[-1]), colours)
        strip = figure.colorbar(scale, ax=axes, label="call", shrink=0.6, aspect=25)
        strip.ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        strip.outline.set_visible(False)


def _mark(axes: Axes, place: Array, name: str, style: PolicyStyle) -> None:
    axes.plot(
        [place[0]],
        [place[1]],
        linestyle="",
        marker=style.marker,
        markersize=8,
        color=style.colour,
        markeredgecolor=INK,
        markeredgewidth=0.7,
        label=name,
        clip_on=False,
        zorder=7,
    )
    axes.annotate(
        str(style.number),
        (float(place[0]), float(place[1])),
        xytext=(6, 5),
        textcoords="offset points",
        weight="bold",
        bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.75},
        zorder=8,
    )
