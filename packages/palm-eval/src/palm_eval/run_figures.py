"""The figures that a run has data for, with their captions and descriptions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_core.assembling import evaluate
from palm_core.simplex import check_count, check_number
from palm_eval import figures
from palm_eval.drawn_figures import drawn_cells, drawn_front, drawn_grids, drawn_usage
from palm_eval.figures import Drawn
from palm_eval.figures.cells import DELTA, EPSILON
from palm_eval.run_baselines import ask_baselines, baseline_label, check_oracle_of
from palm_eval.run_curve import draw_curve, policies_of
from palm_eval.run_intervals import RESAMPLES

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from palm_core import Oracle
    from palm_core.runs import Run
    from palm_eval.figures import PolicyStyle

    Array = NDArray[np.float64]


def run_figures(
    run: Run,
    *,
    most: int = 8,
    oracle: Oracle | None = None,
    cells: tuple[float, float] = (EPSILON, DELTA),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[dict[str, Drawn], list[str]]:
    """Draw all that a run has data for.

    - ``usage``: which policy of the portfolio serves which weights, beside portfolios of
      uniform and of random weights of the same size where their policies can be had;
    - ``front``: the rewards of all policies;
    - ``curve``: the least gap of each size, with intervals where policies carry rewards per
      prompt, and the baselines' gaps, all measured against the policies of the run;
    - ``weights``: the weights asked for, and those of the portfolio's policies (d ≤ 3);
    - ``cells``: what they cover beside uniform and random weights (Figure 1; d ≤ 3);
    - ``grids``: the run's grid and the two that it combines (Figure 2; grid runs, d ≤ 3).

    Args:
        run: see :class:`palm_core.runs.Run`; its portfolio is chosen as it was built.
        most: the largest size on the curve.
        oracle: asked for the baselines at weights that the run has no policy for, as by
            :func:`palm_eval.evaluate_run`.
        cells: (ε', δ') of ``cells``, by default those of the paper's Figure 1.
        resamples: of the bootstrap over prompts, at least 100.
        seed: of the baselines, the random weights and the bootstrap.

    Returns:
        The figures by name, and what is left out and why, a sentence each.

    Raises:
        InputError: an argument out of range, or an oracle for other objectives.
        WorkError: a solver or the oracle failed.
    """
    check_count(most, name="most", least=1)
    check_count(seed, name="seed", least=0)
    check_count(resamples, name="resamples", least=100)
    for name, value in zip(("cells, epsilon", "cells, delta"), cells, strict=True):
        check_number(value, name=name, least=0.0)
    check_oracle_of(run, oracle)
    portfolio = run.prune(run.settings)
    found = evaluate(run.answers, run.objectives, run.settings)
    asked, missing = ask_baselines(run, oracle, found.policies, size=len(portfolio), seed=seed)
    notes = [f"{baseline_label(name)}: not drawn, {why}" for name, why in missing.items()]
    groups = {"portfolio": portfolio.policy_set}
    for name in ("uniform", "random 0"):
        if name in asked:
            groups[baseline_label(name)] = policies_of(asked[name], found)
    styles = figures.policy_styles(*groups.values())
    drawn = {
        "usage": drawn_usage(groups, styles),
        "front": drawn_front(
            portfolio.policy_set, found.candidates, styles, scaled=found.normalization.method
        ),
    }
    drawn["curve"], told = draw_curve(
        run, portfolio, found, asked, most=most, resamples=resamples, seed=seed
    )
    notes += told
    if len(run.objectives) > 3:
        notes.append(
            f"weights, cells, grids: drawn for 2 and 3 objectives, not {found.weights.shape[1]}"
        )
        return drawn, notes
    kept = {policy.id: _weights_of(run, policy.id) for policy in portfolio.policies}
    drawn["weights"] = _weights(run, found.weights, kept, styles)
    mu, alpha = run.settings.mu, run.settings.alpha
    cells_drawn = drawn_cells(
        "asked by this run", found.weights, run.objectives, reach=cells, seed=seed
    )
    pairs = [("cells", cells_drawn)]
    if mu is not None and alpha is not None:  # an adaptive run has no grid
        pairs.append(("grids", drawn_grids(mu, alpha, run.objectives)))
    for name, one in pairs:
        if isinstance(one, Drawn):
            drawn[name] = one
        else:
            notes.append(f"{name}: not drawn, {one}")
    return drawn, notes


def _weights(
    run: Run, weights: Array, kept: Mapping[str, Array], styles: Mapping[str, PolicyStyle]
) -> Drawn:
    adaptive = run.settings.target_epsilon is not None
    order = "the later the darker" if adaptive else "all of one grid"
    return Drawn(
        figure=figures.weights_figure(
            weights, kept, objectives=run.objectives, ordered=adaptive, styles=styles
        ),
        title="The weights asked for",
        caption=(
            f"Each point is a weighting that the oracle was asked to optimise for, {order}. "
            "Numbers mark those whose policies are in the portfolio."
        ),
        description=figures.weights_description(
            weights, kept, objectives=run.objectives, styles=styles
        ),
    )


def _weights_of(run: Run, policy: str) -> Array:
    return next(answer.weights for answer in run.answers if answer.policy.id == policy)
