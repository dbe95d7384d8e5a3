"""The rewards of all policies, and where the portfolio lies among them."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from palm_core import InputError, PolicySet, serving_intervals, serving_shares
from palm_eval.figures.parallel import draw_parallel
from palm_eval.figures.style import (
    FAINT,
    INK,
    MOST_VECTORS,
    SOFT,
    PolicyStyle,
    drawing,
    key_columns,
    policy_key,
    shown,
    styles_for,
)
from palm_eval.figures.words import listed, policy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


def front_figure(
    portfolio: PolicySet,
    candidates: PolicySet,
    *,
    styles: Mapping[str, PolicyStyle] | None = None,
) -> Figure:
    """The vertex values u(π) = r(π) − f(π)·1 of all candidates and of the portfolio.

    J_w(π) = w·u(π), so u is what preference weights see. Candidates that are best at
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
    """What :func:`front_figure` shows: how many policies, and the values of the portfolio's."""
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
