"""Figure 1 of the paper: the cells of the simplex that weight vectors cover."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from palm_core import InputError, check_weights
from palm_core.plugin import check_number
from palm_eval.figures.style import (
    COLOURS,
    CORNERS,
    INK,
    draw_segments,
    draw_triangle,
    drawing,
    shown,
    upright,
)
from palm_eval.polygons import clip, share

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]
    A = TypeVar("A", bound=Artist)

# Slivers of the simplex below this share are rounding.
_SLIVER = 1e-12
#: (ε', δ') of the paper's figure.
EPSILON, DELTA = 2 / 5, 1 / 80


def cells_figure(
    weight_sets: Mapping[str, ArrayLike],
    *,
    epsilon: float = EPSILON,
    delta: float = DELTA,
    objectives: Sequence[str] = ("objective 1", "objective 2", "objective 3"),
) -> Figure:
    """The cells that weight vectors cover, one panel for each set (paper, Figure 1).

    A weight vector w *covers* v ∈ Δ_d if |w_i − v_i| ≤ ε'·v_i + δ' for i = 1, …, d: then
    the policy asked for at w is near-optimal at v (Lemma 3.3). The cell of w, all that it
    covers, is the convex polygon (for d = 2 the interval) of the v ∈ Δ_d with

        (w_i − δ')/(1 + ε') ≤ v_i   and, if ε' < 1,   v_i ≤ (w_i + δ')/(1 − ε').

    Cells overlap. What no cell covers is drawn hatched in vermilion; each title gives
    the share of the simplex covered, exactly (:func:`covered_share`), rounded down.

    Args:
        weight_sets: rows of weights (k, d) by title, d = 2 or 3; the paper's are 48 random
            ones, a uniform grid of 48, and 48 by PALM, in three objectives.
        epsilon: ε' ≥ 0, in the paper's figure 2/5.
        delta: δ' ≥ 0, in the paper's figure 1/80.
        objectives: d names.

    Raises:
        InputError: no set, weights that are not (k, d) on the simplex, ε' or δ' below 0,
            or not two or three names.
    """
    if not weight_sets:
        raise InputError("weight_sets: empty, must have at least one set of weights")
    d = len(objectives)
    if d not in (2, 3):
        raise InputError(f"objectives: {d} names given, must be 2 or 3")
    sets = {
        title: check_weights(rows, d, name=f"weight_sets[{title!r}]")
        for title, rows in weight_sets.items()
    }
    bare = {title: uncovered(rows, epsilon=epsilon, delta=delta) for title, rows in sets.items()}
    words = {
        title: f"{len(rows)} weights cover {math.floor(1000 * _share(bare[title])) / 10:g} %"
        for title, rows in sets.items()
    }
    reach = {"epsilon": epsilon, "delta": delta}
    with drawing():
        if d == 2:
            figure = Figure(figsize=(7.0, 0.6 + 0.6 * len(sets)), layout="constrained")
            axes = figure.subplots()
            draw_segments(axes, list(sets), list(words.values()), objectives[0])
            for place, (title, rows) in enumerate(sets.items()):
                _draw_intervals(axes, place, rows, bare[title], reach)
            return figure
        figure = Figure(figsize=(3.1 * len(sets), 3.2), layout="constrained")
        for axes, (title, rows) in zip(
            figure.subplots(1, len(sets), squeeze=False)[0], sets.items(), strict=True
        ):
            draw_triangle(axes, objectives, title, words[title])
            _draw_cells(axes, rows, bare[title], reach)
    return figure


def cells_description(
    weight_sets: Mapping[str, ArrayLike], *, epsilon: float = EPSILON, delta: float = DELTA
) -> str:
    """Alternative text of :func:`cells_figure`: the covered share of each set."""
    told = []
    for title, given in weight_sets.items():
        rows = check_weights(given)
        covered = math.floor(1000 * covered_share(rows, epsilon=epsilon, delta=delta)) / 10
        told.append(f"{upright(shown(title))}: {len(rows)} weights cover {covered:g} % of all.")
    return f"With ε' = {epsilon:.4g} and δ' = {delta:.4g}. {' '.join(told)}"


def _draw_cells(axes: Axes, rows: Array, bare: list[Array], reach: dict[str, float]) -> None:
    # Many overlapping cells would be indistinguishable: paler fill, no borders.
    crowd = min(1.0, 60 / len(rows))
    cells = PolyCollection(
        [cell_of(row, **reach) @ CORNERS for row in rows],
        facecolors=[(*_RGB, max(0.02, 0.10 * crowd))],
        edgecolors=[(*_RGB, max(0.08, 0.45 * crowd))],
        linewidths=0.5,
        zorder=1,
    )
    cells.set_label("cells")
    axes.add_collection(cells, autolim=False)
    pieces = PolyCollection([piece @ CORNERS for piece in bare])
    axes.add_collection(_gap(pieces), autolim=False)
    x, y = (rows @ CORNERS).T
    points = axes.scatter(x, y, s=max(2.0, 8 * crowd), color=INK, linewidths=0, zorder=6)
    points.set_label("weights")
    points.set_clip_on(False)


def _draw_intervals(
    axes: Axes, place: int, rows: Array, bare: list[Array], reach: dict[str, float]
) -> None:
    crowd = min(1.0, 20 / len(rows))
    for row in rows:
        low, high = sorted(cell_of(row, **reach)[:, 0])
        cell = Rectangle(
            (low, -place - 0.15),
            high - low,
            0.3,
            facecolor=(*_RGB, max(0.03, 0.15 * crowd)),
            edgecolor=(*_RGB, max(0.1, 0.45 * crowd)),
            linewidth=0.5,
            zorder=2,
        )
        cell.set_label("cell")
        axes.add_patch(cell)
    for piece in bare:
        low, high = sorted(piece[:, 0])
        axes.add_patch(_gap(Rectangle((low, -place - 0.15), high - low, 0.3)))
    strokes = axes.vlines(
        rows[:, 0], -place - 0.15, -place + 0.15, color=INK, linewidth=0.8, zorder=4
    )
    strokes.set_label("weights")


def _gap(drawn: A) -> A:
    drawn.set(facecolor=COLOURS[5], edgecolor="white", hatch="////", linewidth=0, zorder=3)
    drawn.set_label("uncovered")
    return drawn


_RGB = tuple(int(COLOURS[0][place : place + 2], 16) / 255 for place in (1, 3, 5))


def cell_of(weights: Array, *, epsilon: float, delta: float) -> Array:
    """The corners (n, d) of what one weight vector covers, for d = 3 in order around it."""
    cell = np.eye(len(weights))
    for side in _sides(weights, epsilon, delta):
        cell = clip(cell, side)
    return cell


def covered_share(weights: ArrayLike, *, epsilon: float, delta: float) -> float:
    """The share of Δ_d, by area, of which every point is covered by some row of weights.

    "Covered" is that of :func:`cells_figure`. The cells are cut out of the triangle
    polygon by polygon (d = 2: out of the segment), so the share is exact up to rounding.

    Args:
        weights: (k, d) weight vectors, d = 2 or 3.
        epsilon: ε' ≥ 0.
        delta: δ' ≥ 0.

    Raises:
        InputError: weights that are not (k, d) on the simplex, another d, or ε' or δ'
            below 0.

    Example:
        >>> covered_share([[1, 0, 0], [0, 1, 0], [0, 0, 1]], epsilon=0.0, delta=0.5)
        0.75
    """
    rows = check_weights(weights)
    if rows.shape[1] > 3:
        raise InputError(f"weights: {rows.shape[1]} values per row, must be 2 or 3")
    return _share(uncovered(rows, epsilon=epsilon, delta=delta))


def uncovered(weights: Array, *, epsilon: float, delta: float) -> list[Array]:
    """The rest of Δ_d after all cells are cut out, as convex polygons (n, d)."""
    epsilon = check_number(epsilon, name="epsilon", least=0.0)
    delta = check_number(delta, name="delta", least=0.0)
    return list(_uncovered(weights.tobytes(), weights.shape[1], epsilon, delta))


@lru_cache(maxsize=8)  # for the figure and its description
def _uncovered(weights: bytes, d: int, epsilon: float, delta: float) -> tuple[Array, ...]:
    rest = [np.eye(d)]
    for row in np.frombuffer(weights).reshape(-1, d):
        sides = _sides(row, epsilon, delta)
        left: list[Array] = []
        for piece, apart in zip(rest, _apart(rest, np.stack(sides)), strict=True):
            if apart:
                left.append(piece)
                continue
            inside, cut = piece, []
            for side in sides:
                cut.append(clip(inside, -side))
                inside = clip(inside, side)
                if not len(inside):
                    break
            # A piece that the cell only touches is not divided, so that pieces remain few.
            touched = share(inside) > _SLIVER
            left += [part for part in cut if share(part) > _SLIVER] if touched else [piece]
        rest = left
    return tuple(rest)


def _apart(pieces: list[Array], sides: Array) -> NDArray[np.bool_]:
    """Which pieces have all their corners beyond one of the sides: most, for a small cell."""
    if not pieces:
        return np.zeros(0, dtype=bool)
    starts = np.cumsum([0, *map(len, pieces[:-1])])
    nearest = np.minimum.reduceat(np.concatenate(pieces) @ sides.T, starts, axis=0)
    return np.asarray((nearest >= 0).any(axis=1))


def _sides(weights: Array, epsilon: float, delta: float) -> list[Array]:
    """The cell's half-planes as side·v ≤ 0."""
    sides = []
    for index, unit in enumerate(np.eye(len(weights))):
        sides.append(weights[index] - delta - (1 + epsilon) * unit)
        sides.append((1 - epsilon) * unit - (weights[index] + delta))
    return sides


def _share(bare: Sequence[Array]) -> float:
    return 1.0 - sum(share(piece) for piece in bare)
