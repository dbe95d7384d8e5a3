"""Figure 2 of the paper: a multiplicative, an additive and the combined grid of weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from palm_core import InputError, construct_grid, uniform_lattice
from palm_core.simplex import check_count, check_number
from palm_eval.figures.simplex import CORNERS, draw_segments, draw_triangle
from palm_eval.figures.style import COLOURS, INK, drawing

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

# More points than this on one picture are a blot.
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
    """The three grids one beside another (paper, Figure 2; here also for d = 3).

    For d = 2 each grid is a row of strokes along w_1, for d = 3 a triangle of points. The
    multiplicative grid crowds towards the boundary without end, the additive one is
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
    """What :func:`grids_figure` shows: how many weights each of the grids has."""
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
