"""How figures look, and which colour a policy has in all of them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from palm_core import InputError, PolicySet
from palm_core.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from matplotlib.artist import Artist

# Okabe and Ito's palette (2008): told apart by colour-blind readers.
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
# Seven hatches and eight markers beside eight colours: in grey, hatch, marker and number tell.
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "||||")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
INK, SOFT, FAINT = "#1a1a1a", "#767676", "#c4c4c4"
LONGEST_LABEL = 48
#: More points or lines than this are drawn as pixels in vector files too, which stay small.
MOST_VECTORS = 3000

_RC: Any = {
    "svg.fonttype": "none",  # text stays text: it can be searched, copied and read aloud
    "svg.hashsalt": "palm",  # the same identifiers each time
    "pdf.fonttype": 42,
    "text.parse_math": False,  # names may hold a dollar sign
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
    """How one policy is drawn, in every figure.

    Args:
        number: 1, 2, …, written on the policy's area or point.
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
    """``styles`` if it knows every policy, or new ones where it is ``None``."""
    if styles is None:
        return policy_styles(*policies)
    for name in (name for group in policies for name in group.names):
        if name not in styles:
            raise InputError(f"styles: none for policy {name!r}; make them with policy_styles")
    return styles


@contextmanager
def drawing() -> Iterator[None]:
    """The look of all figures, whatever the user's matplotlibrc says."""
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
