"""The size–gap curve: the least gap of every portfolio size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from palm_core import InputError, SizeGap
from palm_core.plugin import bound_text, check_count, check_number
from palm_eval.figures.style import (
    COLOURS,
    INK,
    MARKERS,
    SOFT,
    drawing,
    listed,
    percent,
    shown,
    upright,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes


# Horizontal offset of baselines, so that markers do not overlap.
_BESIDE = 0.11


def curve_figure(
    curve: Sequence[SizeGap],
    *,
    intervals: Mapping[int, tuple[float, float]] | None = None,
    certificate: float | None = None,
    baselines: Mapping[str, Sequence[tuple[int, float]]] | None = None,
) -> Figure:
    """The least multiplicative gap ε_s against the portfolio size s, in per cent.

    A size that :func:`palm_core.size_gap_curve` leaves out does no better than the one
    before, hence the steps. Points that are not proven least are hollow.

    Args:
        curve: from :func:`palm_core.size_gap_curve`.
        intervals: lower and upper end of an interval for the gap, by size of the curve,
            at level 95 % (:func:`palm_eval.analysis.intervals.gap_intervals`).
        certificate: certified ε against the whole policy class, drawn as a
            line; leave it out where the certificate has none (its ε is infinite).
        baselines: (size, ε) of other methods' portfolios by name, drawn as markers beside
            the size.

    Raises:
        InputError: no point, a gap that is not a finite number of at least 0, an interval
            that is upside down or for a size that the curve lacks.
    """
    points = sorted(curve, key=lambda point: point.size)
    if not points:
        raise InputError("curve: empty, must have at least one size")
    gaps = {point.size: _gap(point.epsilon, f"curve size {point.size}") for point in points}
    if len(gaps) != len(points):
        raise InputError("curve: duplicate size, every size must be unique")
    bars = _intervals(intervals or {}, gaps)
    others = {
        name: [(_size(size, name), _gap(gap, f"baselines[{name!r}]")) for size, gap in pairs]
        for name, pairs in (baselines or {}).items()
    }
    if certificate is not None:
        certificate = _gap(certificate, "certificate")
    last = max([*gaps, *(size for pairs in others.values() for size, _ in pairs)])
    with drawing():
        figure = Figure(figsize=(6.0, 3.6), layout="constrained")
        axes = figure.subplots()
        sizes, height = list(gaps), [100 * gap for gap in gaps.values()]
        axes.plot(
            sizes,
            height,
            drawstyle="steps-post",
            color=COLOURS[0],
            linewidth=1.2,
            label="_steps",
            zorder=2,
        )
        _markers(axes, points)
        if bars:
            low, high = zip(*bars.values(), strict=True)
            lines = axes.vlines(list(bars), low, high, color=COLOURS[0], linewidth=5, alpha=0.3)
            lines.set_label("95 % interval over prompts")
            caps = [(size, end) for size, ends in bars.items() for end in ends]
            axes.plot(*zip(*caps, strict=True), "_", color=COLOURS[0], markersize=7, label="_caps")
        for place, (name, pairs) in enumerate(others.items()):
            axes.plot(
                [size + _BESIDE * (place + 1) for size, _ in pairs],
                [100 * gap for _, gap in pairs],
                linestyle="",
                marker=MARKERS[1:][place % (len(MARKERS) - 1)],
                color=COLOURS[1:][place % (len(COLOURS) - 1)],
                markeredgecolor=INK,
                markeredgewidth=0.6,
                label=_label(name),
                zorder=3,
            )
        if certificate is not None:
            axes.axhline(
                100 * certificate,
                color=INK,
                linestyle=(0, (5, 2)),
                linewidth=1.0,
                label=f"certified: at most {bound_text(certificate, percent=True)} %",
                zorder=1,
            )
        axes.set_xlabel("policies in the portfolio")
        axes.set_ylabel("multiplicative gap ε, %")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlim(0.6, last + 0.4 + _BESIDE * len(others))
        axes.set_ylim(bottom=0)
        axes.grid(axis="y", color=SOFT, alpha=0.25, linewidth=0.6)
        axes.legend(loc="best", frameon=True, facecolor="white", edgecolor="none", framealpha=0.9)
    return figure


def curve_description(
    curve: Sequence[SizeGap],
    *,
    intervals: Mapping[int, tuple[float, float]] | None = None,
    certificate: float | None = None,
    baselines: Mapping[str, Sequence[tuple[int, float]]] | None = None,
) -> str:
    """Alternative text of :func:`curve_figure`, from the same arguments."""
    parts = []
    for point in sorted(curve, key=lambda point: point.size):
        ends = (intervals or {}).get(point.size)
        between = f" (between {percent(ends[0])} and {percent(ends[1])})" if ends else ""
        proven = "" if point.proven else ", not proven least"
        parts.append(f"{point.size}: {percent(point.epsilon)}{between}{proven}")
    told = f"Gap by number of policies, {listed(parts, 'sizes')}."
    for name, pairs in (baselines or {}).items():
        gaps = [f"{size}: {percent(gap)}" for size, gap in pairs]
        told += f" {upright(shown(name))}, {listed(gaps, 'sizes')}."
    if certificate is not None:
        most = bound_text(certificate, percent=True)
        told += f" Certified against every policy there could be: at most {most} %."
    return told


def _markers(axes: Axes, points: Sequence[SizeGap]) -> None:
    for proven, label in ((True, "least gap, proven"), (False, "best gap found")):
        kept = [point for point in points if point.proven == proven]
        if kept:
            axes.plot(
                [point.size for point in kept],
                [100 * point.epsilon for point in kept],
                linestyle="",
                marker=MARKERS[0],
                color=COLOURS[0] if proven else "white",
                markeredgecolor=COLOURS[0],
                label=label,
                clip_on=False,
                zorder=4,
            )


def _intervals(
    intervals: Mapping[int, tuple[float, float]], gaps: Mapping[int, float]
) -> dict[int, tuple[float, float]]:
    bars = {}
    for size, ends in sorted(intervals.items()):
        if size not in gaps:
            raise InputError(f"intervals: size {size} is not on the curve")
        low, high = (_gap(end, f"intervals[{size}]") for end in ends)
        if low > high:
            raise InputError(f"intervals[{size}] = ({low:g}, {high:g}): must be low, high")
        bars[size] = (100 * low, 100 * high)
    return bars


def _gap(value: object, name: str) -> float:
    return check_number(value, name=name, least=0.0)


def _size(value: object, name: str) -> int:
    return check_count(value, name=f"baselines[{name!r}] size", least=1)


def _label(name: str) -> str:
    # matplotlib leaves out of the legend what begins with "_".
    return f" {shown(name)}" if name.startswith("_") else shown(name)
