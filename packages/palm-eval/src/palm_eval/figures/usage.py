"""Figure 3 of the paper: which policy serves which weight vector, exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

from palm_core import InputError, PolicySet, serving_intervals, serving_shares
from palm_eval.figures.style import (
    CORNERS,
    INK,
    PolicyStyle,
    draw_triangle,
    drawing,
    key_columns,
    listed,
    percent,
    policy,
    policy_key,
    shown,
    styles_for,
    upright,
)
from palm_eval.polygons import serving_cells

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.patches import Patch
    from numpy.typing import NDArray

# Minimum width of a bar, and distance of a cell's centre to its border, for a number.
_LEAST_WIDTH = 0.03
_LEAST_DISTANCE = 0.04
_PER_ROW = 3
_MOST_KEYS = 24


def usage_figure(
    portfolios: Mapping[str, PolicySet], *, styles: Mapping[str, PolicyStyle] | None = None
) -> Figure:
    """Which policy of each portfolio is best at which weights (paper, Figure 3).

    The paper colours sampled weights; here the borders are exact. For d = 2 each portfolio
    is a bar along w_1 whose parts are :func:`palm_core.serving_intervals`; for d = 3 a
    triangle tiled by the cells of the envelope max_π J_w(π). For d ≥ 4 the parts of a bar
    are shares of the simplex, estimated (:func:`palm_core.serving_shares`), in the order of
    the policies. Of equal policies the first serves. Policies that serve no weights are
    named as unused. The key has all policies, or, if there are more than 24, those of the
    first portfolio.

    Args:
        portfolios: policies by title, in the same objectives and units.
        styles: of all policies, from :func:`palm_eval.figures.policy_styles`; ``None``
            makes them from the portfolios.

    Raises:
        InputError: no portfolio, different objectives, or a policy without a style.
    """
    objectives = _objectives(portfolios)
    styles = styles_for(styles, *portfolios.values())
    names = list(dict.fromkeys(name for group in portfolios.values() for name in group.names))
    names.sort(key=lambda name: styles[name].number)
    if len(names) > _MOST_KEYS:
        names = [name for name in names if name in next(iter(portfolios.values())).names]
    with drawing():
        handles, labels = policy_key(names, styles, points=False)
        n = len(portfolios)
        if len(objectives) != 3:
            width = 7.0
            columns = key_columns(labels, width)
            height = 0.55 + 0.62 * n + 0.2 * -(-len(labels) // columns)
            figure = Figure(figsize=(width, height), layout="constrained")
            _bars(figure.subplots(), portfolios, styles)
        else:
            across = min(n, _PER_ROW)
            width = max(3.1 * across, 4.0)
            columns = key_columns(labels, width)
            height = 3.2 * -(-n // _PER_ROW) + 0.2 * -(-len(labels) // columns)
            figure = Figure(figsize=(width, height), layout="constrained")
            panels = figure.subplots(-(-n // _PER_ROW), across, squeeze=False).ravel()
            for axes in panels[n:]:
                axes.set_axis_off()
            for axes, (title, group) in zip(panels, portfolios.items(), strict=False):
                _cells(axes, title, group, styles)
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, handlelength=1.8)
    return figure


def usage_description(
    portfolios: Mapping[str, PolicySet], styles: Mapping[str, PolicyStyle]
) -> str:
    """Alternative text of :func:`usage_figure`: weights (d = 2) or shares of each policy."""
    sentences = []
    for title, group in portfolios.items():
        serving = np.flatnonzero(serving_shares(group) > 0)
        if group.n_objectives == 2:
            ends = serving_intervals(group)
            parts = [
                f"{policy(group.names[i], styles)} from {ends[i, 0]:.2f} to {ends[i, 1]:.2f}"
                for i in serving[np.argsort(ends[serving, 0])]
            ]
            what = f"best policy by weight of {shown(group.objectives[0])}"
        else:
            shares = serving_shares(group)
            parts = [
                f"{policy(group.names[i], styles)} {percent(shares[i])}"
                for i in serving[np.argsort(-shares[serving], kind="stable")]
            ]
            what = "share of all weights at which each policy is best"
        idle = len(group) - len(serving)
        rest = f"; {idle} serve{'s' if idle == 1 else ''} none" if idle else ""
        sentences.append(f"{upright(shown(title))}, {what}: {listed(parts, 'policies')}{rest}.")
    return " ".join(sentences)


def _objectives(portfolios: Mapping[str, PolicySet]) -> Sequence[str]:
    if not portfolios:
        raise InputError("portfolios: empty, must have at least one")
    first: Sequence[str] | None = None
    for title, group in portfolios.items():
        if not isinstance(group, PolicySet):
            raise InputError(
                f"portfolios[{title!r}]: {type(group).__name__} given, must be a PolicySet"
            )
        first = first or group.objectives
        if group.objectives != first:
            raise InputError(
                f"portfolios[{title!r}]: objectives {', '.join(group.objectives)}, "
                f"must be {', '.join(first)} as in the first"
            )
    assert first is not None
    return first


def _bars(
    axes: Axes, portfolios: Mapping[str, PolicySet], styles: Mapping[str, PolicyStyle]
) -> None:
    for place, group in enumerate(portfolios.values()):
        intervals = _parts(group)
        for name, (low, high) in zip(group.names, intervals, strict=True):
            if np.isnan(low):
                continue
            bar = Rectangle((low, -place - 0.3), high - low, 0.6)
            axes.add_patch(_styled(bar, name, styles))
            if high - low >= _LEAST_WIDTH:
                _number(axes, (low + high) / 2, -place, styles[name])
        if words := _unused(group, ~np.isnan(intervals[:, 0]), styles):
            axes.text(1.0, -place - 0.33, words, ha="right", va="top", size=8)
    axes.set_xlim(0, 1)
    axes.set_ylim(-len(portfolios) + 0.45, 0.4)
    axes.set_yticks(-np.arange(len(portfolios)), labels=[shown(title) for title in portfolios])
    axes.tick_params(axis="y", length=0)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    objectives = next(iter(portfolios.values())).objectives
    axes.set_xlabel(
        f"weight of {shown(objectives[0])} (the rest goes to {shown(objectives[1])})"
        if len(objectives) == 2
        else "share of all weights"
    )


def _parts(group: PolicySet) -> NDArray[np.float64]:
    """The ends of each policy's part of the bar, (m, 2); NaN where it serves nothing."""
    if group.n_objectives == 2:
        return serving_intervals(group)
    shares = serving_shares(group)
    last = np.cumsum(shares)
    return np.where(shares[:, np.newaxis] > 0, np.stack([last - shares, last], axis=1), np.nan)


def _cells(axes: Axes, title: str, group: PolicySet, styles: Mapping[str, PolicyStyle]) -> None:
    cells = serving_cells(group.vertex_values)
    used = np.isin(np.arange(len(group.names)), list(cells))
    draw_triangle(axes, group.objectives, title, _unused(group, used, styles))
    for index, cell in cells.items():
        name = group.names[index]
        corners = cell @ CORNERS
        axes.add_patch(_styled(Polygon(corners), name, styles))
        centre, distance = _centre(corners)
        if distance >= _LEAST_DISTANCE:
            _number(axes, float(centre[0]), float(centre[1]), styles[name])


def _styled(patch: Patch, name: str, styles: Mapping[str, PolicyStyle]) -> Patch:
    patch.set(
        facecolor=styles[name].colour,
        edgecolor="white",
        hatch=styles[name].hatch,
        linewidth=1.0,
        label=name,
    )
    return patch


def _number(axes: Axes, x: float, y: float, style: PolicyStyle) -> None:
    box = {"boxstyle": "round,pad=0.18", "facecolor": "white", "edgecolor": "none"}
    axes.text(x, y, str(style.number), ha="center", va="center", color=INK, weight="bold", bbox=box)


def _unused(group: PolicySet, used: NDArray[np.bool_], styles: Mapping[str, PolicyStyle]) -> str:
    idle = [str(styles[group.names[index]].number) for index in np.flatnonzero(~used)]
    if len(idle) > 8:
        return f"{len(idle)} policies serve no weights"
    return f"unused: {', '.join(idle)}" if idle else ""


def _centre(corners: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Centre of gravity of a convex polygon (n, 2), and its distance from the border."""
    following = np.roll(corners, -1, axis=0)
    cross = corners[:, 0] * following[:, 1] - following[:, 0] * corners[:, 1]
    if abs(cross.sum()) < 1e-9:
        return corners.mean(axis=0), 0.0
    centre = ((corners + following) * cross[:, np.newaxis]).sum(axis=0) / (3 * cross.sum())
    along = following - corners
    length = np.hypot(*along.T)
    off = along[:, 0] * (centre - corners)[:, 1] - along[:, 1] * (centre - corners)[:, 0]
    return centre, float(np.abs(off[length > 1e-12] / length[length > 1e-12]).min())
