"""Figures 1 to 3 of the paper with their captions, of any weights and policies."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from palm_core import InputError
from palm_eval import figures
from palm_eval.baselines import random_weights, uniform_weights
from palm_eval.figures import Drawn
from palm_eval.figures.cells import DELTA, EPSILON

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from palm_core import PolicySet
    from palm_eval.figures import PolicyStyle

    Array = NDArray[np.float64]

# More weights than this make cells that nobody can tell apart.
_MOST_CELLS = 1000
# Points of the multiplicative grid that can still be told apart.
_MOST_POINTS = 3000


def drawn_usage(groups: Mapping[str, PolicySet], styles: Mapping[str, PolicyStyle]) -> Drawn:
    """Who serves whom: the first group is the portfolio, others are drawn beside it.

    Args:
        groups: policies by title.
        styles: of all of them.
    """
    d = next(iter(groups.values())).n_objectives
    others = " and ".join(list(groups)[1:])
    beside = f" Beside it the policies of as many {others}." if others else ""
    how = {
        2: "The bar runs over all weights; in each part one policy is the best",
        3: "Each point of the triangle is a weighting, each corner one objective alone; in each "
        "area one policy is the best",
    }.get(d, "The bar holds all weights; each part is the share at which one policy is the best")
    unless = " (estimated from 100 000 weights)" if d > 3 else ""
    return Drawn(
        figure=figures.usage_figure(groups, styles=styles),
        title="Who serves whom",
        caption=f"{how} of the portfolio{unless}.{beside}",
        description=figures.usage_description(groups, styles),
    )


def drawn_front(
    portfolio: PolicySet,
    candidates: PolicySet,
    styles: Mapping[str, PolicyStyle],
    *,
    scaled: str,
) -> Drawn:
    """What policies achieve, and where the portfolio lies among them.

    Args:
        portfolio: the policies to mark.
        candidates: all policies, in the same units.
        styles: of the portfolio's policies.
        scaled: the method of the normalisation that both are in.
    """
    how = "Each point is a policy, placed by"
    if portfolio.n_objectives > 3:
        how = "Each line is a policy, drawn through"
    net = " less the regulariser f" if candidates.regularizer.any() else ""
    unit = ", scaled to [0, 1]" if scaled == "minmax" else ""
    return Drawn(
        figure=figures.front_figure(portfolio, candidates, styles=styles),
        title="What the policies achieve",
        caption=(
            f"{how} its reward in each objective{net}{unit}: dark where it is the best one at "
            "some weights, pale where at none. The numbers mark the portfolio."
        ),
        description=figures.front_description(portfolio, candidates, styles),
    )


def drawn_cells(
    asked: str,
    weights: Array,
    objectives: tuple[str, ...],
    *,
    reach: tuple[float, float] = (EPSILON, DELTA),
    seed: int = 0,
) -> Drawn | str:
    """What weights cover, beside as many uniform and random ones; or why it is not drawn.

    Args:
        asked: what the weights are called.
        weights: (k, d), d = 2 or 3.
        objectives: d names.
        reach: (ε', δ') of a cell.
        seed: of the others.
    """
    n, d = weights.shape
    if n > _MOST_CELLS:
        return f"{n} weights are too many to tell apart, at most {_MOST_CELLS}"
    sets = {asked: weights}
    if n >= d:  # the least that is uniform on a segment are its ends
        sets["uniform"] = uniform_weights(n, d, seed=seed)
    sets["random"] = random_weights(n, d, runs=1, seed=seed)[0]
    epsilon, delta = reach
    return Drawn(
        figure=figures.cells_figure(sets, epsilon=epsilon, delta=delta, objectives=objectives),
        title="What the weights cover",
        caption=(
            "Around each weight lies what it covers: all weights v that differ from it by at "
            f"most {epsilon:.4g}·v + {delta:.4g} in each objective, for which its policy is "
            "nearly the best too. Hatched: covered by none."
        ),
        description=figures.cells_description(sets, epsilon=epsilon, delta=delta),
    )


def drawn_grids(mu: float, alpha: float, objectives: tuple[str, ...]) -> Drawn | str:
    """The grid of a run and the two that it combines; or why it is not drawn.

    Args:
        mu: the grid's μ.
        alpha: the grid's α.
        objectives: d names, d = 2 or 3.
    """
    d = len(objectives)
    smallest = next(
        (one for one in (1e-3, 1e-2) if one < alpha and _size(d, mu, one) <= _MOST_POINTS),
        alpha,
    )
    try:
        return Drawn(
            figure=figures.grids_figure(mu, alpha, objectives=objectives, smallest=smallest),
            title="The grid of this run, and what it combines",
            caption=(
                "Weights with entries of a fixed ratio crowd towards the boundary without end; "
                "evenly spaced ones are coarse where it matters; the run's grid is of a fixed "
                "ratio down to α of the largest weight, and stops there."
            ),
            description=figures.grids_description(mu, alpha, d, smallest=smallest),
        )
    except InputError:
        return "its grids have too many weights to tell apart"


def _size(d: int, mu: float, smallest: float) -> int:
    """Weights of the multiplicative grid down to ``smallest``."""
    steps = math.floor(math.log(1 / smallest) / math.log1p(mu))
    return int((steps + 1) ** d - steps**d)
