# /// script
# dependencies = ["matplotlib>=3.10", "scipy", "palm-core"]
# ///
"""Draw the pictures of the README from a real run of the embedded oracle.

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
INK, SOFT = "#1a1a1a", "#8a8a8a"


def draw_simplex(ax: Axes, title: str, subtitle: str) -> None:
    """Draw the triangle of weight vectors with its objectives at the corners."""
    ax.set_aspect("equal")
    ax.set_axis_off()
    ax.add_patch(plt.Polygon(CORNERS, fill=False, edgecolor=INK, linewidth=1.0, zorder=5))
    names = ((-0.02, -0.05, "center"), (1.02, -0.05, "center"), (0.5, 0.9, "center"))
    for name, (x, y, align) in zip(OBJECTIVES, names, strict=True):
        ax.text(x, y, name, ha=align, va="center", fontsize=9, color=INK)
    ax.text(0.5, -0.17, title, ha="center", fontsize=10.5, color=INK, weight="bold")
    ax.text(0.5, -0.25, subtitle, ha="center", fontsize=9, color=SOFT)
    ax.set_xlim(-0.12, 1.12)
    ax.set_ylim(-0.30, 0.97)


def cells(portfolio: palm.Portfolio) -> list[np.ndarray]:
    """Return the weightings (n, 3) at the corners of each policy's cell, in order around it."""
    values = portfolio.policy_set.vertex_values
    lattice = palm.uniform_lattice(3, 100)
    served = portfolio.route_indices(lattice)
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


def main() -> None:
    """Build a portfolio and draw what was asked beside what is kept."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    mpl.rcParams["svg.hashsalt"] = "palm"  # the same file each time
    mpl.rcParams["svg.fonttype"] = "path"
    oracle = palm.load_oracle("tabular", objectives=list(OBJECTIVES), beta=0.05)
    mu, alpha = 0.5, 0.1
    portfolio = palm.build_portfolio(oracle, mu=mu, alpha=alpha, prune_mu=0.04, method="minimal")
    grid = palm.construct_grid(3, mu, alpha) @ CORNERS
    fig, (left, right) = plt.subplots(1, 2, figsize=(8.0, 3.9))
    draw_simplex(left, f"ask at {len(grid)} weightings", "every mix of what users want")
    left.scatter(*grid.T, s=9, color=INK, linewidths=0, zorder=6, clip_on=False)

    loss = portfolio.gaps.epsilon if portfolio.gaps and portfolio.gaps.epsilon else 0.0
    draw_simplex(
        right,
        f"keep {len(portfolio)} policies",
        f"never more than {100 * loss:.1f} % below the best of all {portfolio.candidates}",
    )
    for index, cell in enumerate(cells(portfolio)):
        corners = cell @ CORNERS
        right.add_patch(plt.Polygon(corners, facecolor=COLOURS[index], edgecolor="white"))
        x, y = corners.mean(axis=0)
        right.text(
            x,
            y,
            str(index + 1),
            ha="center",
            va="center",
            fontsize=12,
            color="white",
            weight="bold",
            zorder=7,
        )
    fig.subplots_adjust(left=0.01, right=0.99, top=0.99, bottom=0.01, wspace=0.02)
    file = folder / "grid-to-portfolio.svg"
    fig.savefig(file, metadata={"Date": None})
    print(file)


if __name__ == "__main__":
    main()
