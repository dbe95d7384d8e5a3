"""Shared style of figures: colours of policies, legends, the triangle, text helpers."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Polygon

from palm_core import InputError, PolicySet
from palm_core.plugin import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

# Okabe and Ito's palette (2008), distinguishable for colour-blind readers.
COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
    "#999999",
)
# Seven hatches and eight markers besides eight colours, to distinguish policies in grey.
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "||||")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
INK, SOFT, FAINT = "#1a1a1a", "#767676", "#c4c4c4"
LONGEST_LABEL = 48
#: More points or lines than this are rasterized in vector files, to keep them small.
MOST_VECTORS = 3000
_RC: Any = {
    "svg.fonttype": "none",  # keep text: searchable, accessible to screen readers
    "svg.hashsalt": "palm",  # reproducible identifiers
    "pdf.fonttype": 42,
    "text.parse_math": False,  # names may contain a dollar sign
    "text.usetex": False,
    "font.size": 9.0,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}


@dataclass(frozen=True, kw_only=True)
class PolicyStyle:
    """Style of a policy, the same in all figures.

    Args:
        number: 1, 2, …, the label of the policy's area or point.
        colour: of Okabe and Ito's palette, as "#rrggbb".
        hatch: matplotlib's pattern, for areas.
        marker: matplotlib's marker, for points.
    """

    number: int
    colour: str
    hatch: str
    marker: str


def policy_styles(*policies: PolicySet | Sequence[str]) -> dict[str, PolicyStyle]:
    """One style for each policy name, in the order in which the names first appear.

    Give the same mapping to all figures, so that a policy looks the same in each of them.
    Colour and hatch together repeat after 56 policies, colour and marker after 64; the
    number never does.

    Raises:
        InputError: a name that is not a string.

    Example:
        >>> styles = policy_styles(["concise", "careful"], ["careful", "mixed"])
        >>> {name: style.number for name, style in styles.items()}
        {'concise': 1, 'careful': 2, 'mixed': 3}
    """
    styles: dict[str, PolicyStyle] = {}
    for group in policies:
        for name in group.names if isinstance(group, PolicySet) else group:
            if not isinstance(name, str):
                raise InputError(f"policies: {name!r} is no name, must be a string")
            place = len(styles)
            again = place // len(COLOURS)
            style = PolicyStyle(
                number=place + 1,
                colour=COLOURS[place % len(COLOURS)],
                hatch=HATCHES[(place + again) % len(HATCHES)],
                marker=MARKERS[(place + again) % len(MARKERS)],
            )
            styles.setdefault(name, style)
    return styles


def styles_for(
    styles: Mapping[str, PolicyStyle] | None, *policies: PolicySet
) -> Mapping[str, PolicyStyle]:
    """``styles`` if it has every policy, or new styles if it is ``None``."""
    if styles is None:
        return policy_styles(*policies)
    for name in (name for group in policies for name in group.names):
        if name not in styles:
            raise InputError(f"styles: none for policy {name!r}; make them with policy_styles")
    return styles


@contextmanager
def drawing() -> Iterator[None]:
    """Context manager: the style of all figures, independent of the user's matplotlibrc."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        yield


def shown(name: object, most: int = LONGEST_LABEL) -> str:
    """``name`` as a label: one line of bounded length."""
    return one_line(name, most)


def policy_key(names: Sequence[str], styles: Mapping[str, PolicyStyle], *, points: bool) -> Any:
    """Handles and labels of a legend "number  name" for these policies."""
    handles: list[Artist] = []
    for name in names:
        style = styles[name]
        if points:
            handles.append(
                Line2D(
                    [], [], linestyle="", marker=style.marker, color=style.colour, mec=INK, mew=0.6
                )
            )
        else:
            handles.append(Patch(facecolor=style.colour, edgecolor="white", hatch=style.hatch))
    # The number first: matplotlib would leave out a label that begins with "_".
    return handles, [f"{styles[name].number}  {shown(name)}" for name in names]


def key_columns(labels: Sequence[str], width: float) -> int:
    """Columns of a legend ``width`` inches wide; the rest becomes rows."""
    column = 0.5 + 0.068 * max(map(len, labels), default=0)
    return max(1, min(len(labels), int(width / column)))


# Limit of lists in texts for screen readers.
_MOST = 10


def listed(parts: Sequence[str], what: str) -> str:
    """Join the parts; of many, the first ten and the number of further ``what``."""
    if len(parts) <= _MOST:
        return "; ".join(parts)
    return f"{'; '.join(parts[:_MOST])}; and {len(parts) - _MOST} more {what}"


def policy(name: str, styles: Mapping[str, PolicyStyle]) -> str:
    """A policy as in the legend: "policy 2 (concise)"."""
    return f"policy {styles[name].number} ({shown(name)})"


def percent(share: float) -> str:
    """0.1234 as "12.3 %"; below a tenth of a per cent with two digits."""
    size = 100 * share
    return f"{size:.1f} %" if size >= 0.1 or size == 0 else f"{size:.2g} %"


def upright(text: str) -> str:
    """The text with its first letter capitalised."""
    return text[:1].upper() + text[1:]


CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
# Maximum characters of a name at a corner.
_CORNER = 16


def draw_triangle(
    axes: Axes, objectives: Sequence[str], title: str = "", subtitle: str = "", *, room: float = 0
) -> None:
    """Draw the simplex with its objectives at the corners and the caption below it.

    ``room`` is left above the top, for marks.
    """
    axes.set_aspect("equal")
    axes.set_axis_off()
    edge = Polygon(CORNERS, fill=False, edgecolor=INK, linewidth=1.0, zorder=5)
    edge.set_label("simplex")
    axes.add_patch(edge)
    places = ((0.0, -0.055, "left"), (1.0, -0.055, "right"), (0.5, 0.91 + room, "center"))
    for name, (x, y, align) in zip(objectives, places, strict=True):
        axes.text(x, y, shown(name, _CORNER), ha=align, va="center")
    axes.text(
        0.5, -0.16, shown(title, 2 * _CORNER), ha="center", va="center", weight="bold", size=10
    )
    axes.text(0.5, -0.25, subtitle, ha="center", va="center", color=INK, size=8.5)
    axes.set_xlim(-0.06, 1.06)
    axes.set_ylim(-0.30 if title or subtitle else -0.1, 0.97 + room)


def draw_segments(
    axes: Axes, titles: Sequence[str], subtitles: Sequence[str], objective: str
) -> None:
    """Draw the simplex of two objectives once for each title, from 0 downwards along y."""
    for place, words in enumerate(subtitles):
        axes.axhline(-place, color=SOFT, linewidth=0.8, zorder=1)
        axes.text(0.5, -place + 0.2, words, ha="center", va="bottom", color=INK, size=8.5)
    axes.set_yticks([-place for place in range(len(titles))], labels=[shown(t) for t in titles])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-len(titles) + 0.7, 0.6)
    axes.set_xlim(-0.01, 1.01)
    axes.set_xlabel(f"weight of {shown(objective)}")
    axes.spines["left"].set_visible(False)
