# /// script
# dependencies = ["matplotlib>=3.10", "scipy", "palm-core"]
# ///
"""Draw the picture of the README from a real run of the embedded oracle: ask, choose, serve.

Usage: python docs/pictures/make_pictures.py [folder]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from scipy.spatial import ConvexHull, HalfspaceIntersection

import palm_core as palm

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OBJECTIVES = ("helpful", "brief", "safe")
CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
# Okabe and Ito's palette: told apart by colour-blind readers, and in grey.
COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999"]
INK, SOFT = "#1a1a1a", "#666666"
MOST = 8  # sizes in the middle picture
KEPT = 5
USER = np.array([0.05, 0.2, 0.75])


def draw_words(ax: Axes, title: str, subtitle: str) -> None:
    """Write what a picture shows under it."""
    ax.text(0.5, -0.2, title, ha="center", fontsize=12, color=INK, weight="bold")
    ax.text(0.5, -0.29, subtitle, ha="center", fontsize=9.5, color=SOFT)
    ax.set_xlim(-0.12, 1.12)
    ax.set_ylim(-0.34, 0.99)
    ax.set_axis_off()


def draw_simplex(ax: Axes) -> None:
    """Draw the triangle of weight vectors with its objectives at the corners."""
    ax.set_aspect("equal")
    ax.add_patch(plt.Polygon(CORNERS, fill=False, edgecolor=INK, linewidth=1.0, zorder=5))
    for name, (x, y) in zip(OBJECTIVES, ((-0.02, -0.06), (1.02, -0.06), (0.5, 0.91)), strict=True):
        ax.text(x, y, name, ha="center", va="center", fontsize=10, color=INK)


def cells(values: np.ndarray) -> list[np.ndarray]:
    """Return the weight vectors (n, 3) at the corners of each policy's cell, in order around it.

    ``values`` (m, 3): the policies' values at the corners of the simplex.
    """
    lattice = palm.uniform_lattice(3, 100)
    served = (lattice @ values.T).argmax(axis=1)
    found = []
    for index, mine in enumerate(values):
        # In (w_1, w_2): no other policy is better, and the weights are not negative.
        ahead = np.delete(values, index, axis=0) - mine
        sides = np.vstack([ahead, -np.eye(3)])
        planes = np.column_stack([sides[:, :2] - sides[:, 2:], sides[:, 2]])
        inside = lattice[served == index].mean(axis=0)[:2]
        corners = HalfspaceIntersection(planes, inside).intersections
        corners = corners[ConvexHull(corners).vertices]
        found.append(np.column_stack([corners, 1 - corners.sum(axis=1)]))
    return found


def draw_asked(ax: Axes, weights: np.ndarray) -> None:
    """Draw the weight vectors at which the oracle is asked."""
    draw_simplex(ax)
    ax.scatter(*(weights @ CORNERS).T, s=9, color=INK, linewidths=0, zorder=6, clip_on=False)
    draw_words(ax, "ask", f"the best policy for each of {len(weights)} weight vectors")


def draw_sizes(ax: Axes, curve: list[palm.SizeGap], chosen: palm.SizeGap) -> None:
    """Draw the least gap that each number of policies can have, and mark the one chosen."""
    top = curve[0].epsilon
    for point in curve:
        x, y = 0.06 + 0.88 * (point.size - 1) / (MOST - 1), 0.8 * point.epsilon / top
        mine = point is chosen
        ax.plot(
            [x, x],
            [0, y],
            color=COLOURS[0] if mine else "#c4c4c4",
            linewidth=11,
            solid_capstyle="butt",
        )
        label = f"{100 * point.epsilon:.1f} %" if mine else f"{100 * point.epsilon:.0f}"
        weight = "bold" if mine else "normal"
        ax.text(x, y + 0.03, label, ha="center", fontsize=10, color=INK, weight=weight)
        ax.text(x, -0.07, str(point.size), ha="center", fontsize=10, color=INK, weight=weight)
    ax.plot([0, 1], [0, 0], color=INK, linewidth=1)
    ax.text(1, 0.88, "% below the best of all,\nat the worst weight vector", **WORDS_RIGHT)
    ax.set_aspect("equal")
    draw_words(
        ax, "choose", f"{chosen.size} policies are never farther than {100 * chosen.epsilon:.1f} %"
    )


WORDS_RIGHT = {"ha": "right", "va": "top", "fontsize": 9.5, "color": SOFT}


def draw_served(ax: Axes, policies: palm.PolicySet) -> None:
    """Draw which of the policies serves which weight vectors, and one user who is served."""
    draw_simplex(ax)
    for index, cell in enumerate(cells(policies.vertex_values)):
        corners = cell @ CORNERS
        ax.add_patch(plt.Polygon(corners, facecolor=COLOURS[index], edgecolor="white"))
        place = {"ha": "center", "va": "center", "fontsize": 13, "weight": "bold"}
        ax.text(*corners.mean(axis=0), str(index + 1), color=INK, zorder=7, **place)
    x, y = USER @ CORNERS
    ax.scatter([x], [y], s=60, color="white", edgecolors=INK, zorder=8)
    wish = f"a user:\n{USER[2]:.0%} safe\n{USER[1]:.0%} brief\n{USER[0]:.0%} helpful"
    arrow = {"arrowstyle": "-", "color": INK, "linewidth": 1, "shrinkB": 4}
    place = {"ha": "left", "va": "center", "fontsize": 9.5, "color": INK, "annotation_clip": False}
    ax.annotate(wish, (x, y), (0.8, 0.78), arrowprops=arrow, zorder=8, **place)
    best = int(policies.objective(USER[None]).argmax())
    draw_words(
        ax, "serve", f"every user gets the best of the {len(policies)}: here policy {best + 1}"
    )


def main() -> None:
    """Ask the oracle on a grid, find the best portfolio of each size, and draw it."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    mpl.rcParams["svg.hashsalt"] = "palm"  # the same file each time
    mpl.rcParams["svg.fonttype"] = "path"
    oracle = palm.load_oracle("tabular", objectives=list(OBJECTIVES), beta=0.05)
    weights = palm.construct_grid(3, 0.5, 0.1)
    found = palm.PolicySet.from_policies(list(oracle.solve(weights)))
    curve = palm.size_gap_curve(found, most=MOST)
    (chosen,) = (point for point in curve if point.size == KEPT)

    fig, (left, middle, right) = plt.subplots(1, 3, figsize=(11.4, 4.05))
    draw_asked(left, weights)
    draw_sizes(middle, curve, chosen)
    draw_served(right, found.subset(chosen.indices))
    fig.subplots_adjust(left=0.005, right=0.995, top=0.99, bottom=0.01, wspace=0.02)
    file = folder / "grid-to-portfolio.svg"
    fig.savefig(file, metadata={"Date": None})
    print(file)


if __name__ == "__main__":
    main()
