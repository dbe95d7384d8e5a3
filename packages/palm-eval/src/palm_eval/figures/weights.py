"""Figures of weights: the weights of a run, and the grids of Figure 2 of the paper."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from palm_core import InputError, check_weights, construct_grid, uniform_lattice
from palm_core.plugin import check_count, check_number
from palm_eval.figures.style import (
    COLOURS,
    CORNERS,
    INK,
    MOST_VECTORS,
    SOFT,
    PolicyStyle,
    draw_segments,
    draw_triangle,
    drawing,
    key_columns,
    listed,
    policy,
    policy_key,
    policy_styles,
    shown,
)

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
    """The requested weights, later ones darker, and those of the portfolio's policies.

    For d = 2 the first objective's weight runs to the right and the calls, if ``ordered``,
    downwards; for d = 3 the weights are points of the triangle.

    Args:
        weights: (k, d) in the order of the calls, d = 2 or 3.
        kept: the weights (d,) of each policy of the portfolio, by name.
        objectives: d names.
        ordered: whether the order is meaningful: in a grid it is not.
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
    """Alternative text of :func:`weights_figure`: number of weights, the portfolio's weights."""
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
    # The palest greys would be invisible on white.
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


# Maximum distinguishable points in one panel.
MOST_POINTS = 20_000


def grids(
    n_objectives: int, mu: float, alpha: float, *, smallest: float = 1e-3
) -> dict[str, Array]:
    """The weights of the three grids that section 3.2 of the paper compares.

    - ``multiplicative``: CONSTRUCTGRID with 1dgrid = {(1+μ)^−k : k = 0, 1, …}, which has no
      end towards 0: entries below ``smallest`` (before normalization) are left out.
    - ``additive``: all weights whose entries are multiples of 1/⌈1/α⌉, equidistant.
    - ``combined``: CONSTRUCTGRID(μ, α) itself, :func:`palm_core.construct_grid`.

    Returns:
        Arrays (k, d) by name, in this order.

    Raises:
        InputError: μ, α or ``smallest`` not in (0, 1], or a grid of more than 20 000 points.

    Example:
        >>> {name: len(rows) for name, rows in grids(2, 1.0, 0.25, smallest=1 / 16).items()}
        {'multiplicative': 9, 'additive': 5, 'combined': 7}
    """
    smallest = check_number(smallest, name="smallest", above=0.0, most=1.0)
    combined = construct_grid(n_objectives, mu, alpha, limit=MOST_POINTS)
    # grid_values starts at its α and goes up; the powers of 1 + μ come down from 1.
    steps = math.floor(math.log(1 / smallest) / math.log1p(mu) * (1 + 1e-12))
    open_ended = construct_grid(n_objectives, mu, (1 + mu) ** -steps, limit=MOST_POINTS)
    parts = _parts(alpha)
    if math.comb(parts + n_objectives - 1, n_objectives - 1) > MOST_POINTS:
        raise InputError(f"alpha = {alpha!r}: more than {MOST_POINTS} points, must be larger")
    return {
        "multiplicative": open_ended[(open_ended > 0).all(axis=1)],
        "additive": uniform_lattice(n_objectives, parts),
        "combined": combined,
    }


def grids_figure(
    mu: float,
    alpha: float,
    *,
    objectives: Sequence[str] = ("objective 1", "objective 2"),
    smallest: float = 1e-3,
) -> Figure:
    """The three grids side by side (paper, Figure 2; here also for d = 3).

    For d = 2 each grid is a row of strokes along w_1, for d = 3 a triangle of points. The
    multiplicative grid is infinitely dense towards the boundary, the additive one is
    evenly spaced, the combined one is multiplicative down to α of the largest weight.

    Args:
        mu: μ in (0, 1].
        alpha: α in (0, 1].
        objectives: two or three names.
        smallest: where the multiplicative grid is cut off, see :func:`grids`.

    Raises:
        InputError: an argument out of range, or not two or three objectives.
    """
    d = check_count(len(objectives), name="number of objectives", least=2)
    if d > 3:
        raise InputError(f"objectives: {d} given, the figure can show 2 or 3")
    found = grids(d, mu, alpha, smallest=smallest)
    words = {
        "multiplicative": f"ratio {1 + mu:.3g}, cut off at {smallest:.3g}",
        "additive": f"steps of 1/{_parts(alpha)}",
        "combined": f"μ = {mu:.3g}, α = {alpha:.3g}",
    }
    with drawing():
        if d == 2:
            return _segments(found, words, objectives[0])
        figure = Figure(figsize=(9.3, 3.2), layout="constrained")
        for axes, (name, rows) in zip(figure.subplots(1, 3), found.items(), strict=True):
            draw_triangle(axes, objectives, name, f"{len(rows)} weights: {words[name]}")
            points = axes.scatter(*(rows @ CORNERS).T, s=7, color=INK, linewidths=0, zorder=6)
            points.set_label(name)
            points.set_clip_on(False)
    return figure


def grids_description(mu: float, alpha: float, n_objectives: int, *, smallest: float = 1e-3) -> str:
    """Alternative text of :func:`grids_figure`: the number of weights of each grid."""
    found = grids(n_objectives, mu, alpha, smallest=smallest)
    return (
        f"Multiplicative grid of ratio {1 + mu:.3g} down to {smallest:.3g}: "
        f"{len(found['multiplicative'])} weights, crowded towards the boundary. Additive grid "
        f"in steps of 1/{_parts(alpha)}: {len(found['additive'])} weights, evenly spaced. Combined "
        f"grid: {len(found['combined'])} weights."
    )


def _parts(alpha: float) -> int:
    return math.ceil(1 / alpha * (1 - 1e-12))


def _segments(found: dict[str, Array], words: dict[str, str], objective: str) -> Figure:
    figure = Figure(figsize=(7.0, 2.4), layout="constrained")
    axes = figure.subplots()
    told = [f"{len(rows)} weights: {words[name]}" for name, rows in found.items()]
    draw_segments(axes, list(found), told, objective)
    for place, (name, rows) in enumerate(found.items()):
        strokes = axes.vlines(
            rows[:, 0], -place - 0.15, -place + 0.15, color=COLOURS[0], linewidth=1.0, zorder=2
        )
        strokes.set_label(name)
    return figure
