"""All ratios in one picture, on a logarithmic scale."""

from __future__ import annotations

import hashlib
import io
import statistics
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from common.page import values_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from common.declared import Benchmark
    from common.documents import Document, Value

# Read on white and on black alike: the site has a dark mode.
INK, DOT, LINE = "#808080", "#0d8ecf", "#d9731a"


def rows(
    about: Mapping[str, Benchmark], found: Mapping[str, Document]
) -> list[tuple[str, str, list[Value]]]:
    """Benchmark, ratio and its values, from the top."""
    return [
        (name, figure.drawn, values)
        for name, one in about.items()
        for figure in one.figures
        if figure.drawn and (values := values_of(found.get(name), figure))
    ]


def digest(about: Mapping[str, Benchmark], found: Mapping[str, Document]) -> str:
    """Of what is drawn: the picture carries it, so that an old one is known."""
    said = [(*row[:2], [(one.value, one.bound) for one in row[2]]) for row in rows(about, found)]
    return hashlib.sha256(repr(said).encode()).hexdigest()[:16]


def draw(about: Mapping[str, Benchmark], found: Mapping[str, Document]) -> bytes:
    """The picture as SVG, without a date, on no ground."""
    shown = rows(about, found)
    settings: Any = {
        "svg.hashsalt": "palm",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 10,
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), INK),
        **dict.fromkeys(("xtick.color", "ytick.color"), INK),
    }
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(settings)
        height = 0.75 + 0.36 * len(shown)
        canvas = Canvas(figsize=(9, height))
        axes = canvas.add_axes((0.33, 0.6 / height, 0.65, 1 - 0.7 / height))
        _fill(axes, shown)
        return _svg(canvas, digest(about, found))


def _fill(axes: Any, shown: list[tuple[str, str, list[Value]]]) -> None:
    everything = [one.value for _, _, values in shown for one in values]
    axes.set_xscale("log")
    axes.set_xlim(min([0.5, *everything]) / 1.6, max([2, *everything]) * 1.6)
    axes.set_ylim(len(shown) - 0.4, -0.5)
    axes.set_yticks([])
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.axvline(1, color=LINE, linewidth=1.2)
    for place, (name, ratio, values) in enumerate(shown):
        axes.axhline(place, color=INK, linewidth=0.4, alpha=0.5)
        for bound, marker in (("", "o"), ("≥", ">"), ("≤", "<")):
            some = [one.value for one in values if one.bound == bound]
            axes.plot(
                *(some, [place] * len(some)),
                *(marker,),
                color=DOT,
                alpha=0.55,
                markersize=6,
                markeredgewidth=0,
            )
        middle = statistics.median(one.value for one in values)
        axes.plot([middle] * 2, [place - 0.22, place + 0.22], color=INK, linewidth=2)
        head = name if not place or shown[place - 1][0] != name else ""
        for edge, text, width in ((-0.5, head, "bold"), (-0.02, ratio, "normal")):
            axes.text(
                *(edge, place, text),
                transform=axes.get_yaxis_transform(),
                fontsize=9,
                fontweight=width,
                horizontalalignment="left" if edge == -0.5 else "right",
                verticalalignment="center",
            )
    axes.xaxis.set_major_formatter(
        lambda value, _: f"{value:g}×" if value < 1e5 else f"{value:.0e}×"
    )
    axes.set_xlabel("times better than the baseline")


def _svg(canvas: Any, digest: str) -> bytes:
    stream = io.BytesIO()
    metadata = {"Date": None, "Creator": None, "Description": f"data {digest}"}
    canvas.savefig(stream, format="svg", transparent=True, metadata=metadata)
    lines = stream.getvalue().decode().splitlines()
    return ("\n".join(line.rstrip() for line in lines) + "\n").encode()
