"""Intervals for the gaps of portfolios of a run, by bootstrap over prompts."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from palm_core import InputError, Normalization, WorkError
from palm_eval.intervals import Interval, bootstrap
from palm_eval.metrics import exact_gap_pairs, tracked_gap_pairs
from palm_eval.prompt_scores import PromptScores

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from palm_core import Policy

    Array = NDArray[np.float64]

RESAMPLES = 1000
#: Weights that gaps are measured at in every resample, for three objectives and more.
SAMPLES = 200
GAPS = ("epsilon", "delta")


def gap_intervals(
    policies: Sequence[Policy],
    objectives: tuple[str, ...],
    portfolios: Sequence[Sequence[int]],
    *,
    space: Normalization,
    weights: ArrayLike,
    gaps: Sequence[str] = GAPS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[list[dict[str, Interval]] | None, str]:
    """Intervals for ε and δ of portfolios that are kept in every resample.

    For d = 2 the gaps are exact (:func:`palm_eval.metrics.exact_gap_pairs`). For d ≥ 3 they
    are maxima over ``weights`` and the corner weights of the portfolio's own envelope, which
    are followed through the resamples (:func:`palm_eval.metrics.tracked_gap_pairs`):
    ``value`` is the exact gap.

    Args:
        policies: Π, all candidates, each once.
        objectives: d names.
        portfolios: indices among the policies, one list for each portfolio.
        space: where weights speak; under "minmax" its limits are taken anew in each resample.
        weights: V (k, d), for d ≥ 3.
        gaps: "epsilon", "delta" or both.
        resamples: of the bootstrap, at least 100.
        seed: of the bootstrap; all portfolios see the same resamples.

    Returns:
        The intervals of each portfolio by gap, and ""; or ``None`` and why there are none:
        policies without per-prompt rewards, or an ε that is not finite in some resample.

    Raises:
        InputError: weights off the simplex, or too few resamples.
    """
    try:
        scores = PromptScores.from_policies(policies, objectives)
    except InputError as error:
        return None, str(error)
    measured = space.apply(scores.policy_set()).vertex_values

    def gap(values: Array, column: int, portfolio: list[int]) -> Array:
        if len(objectives) == 2:
            return exact_gap_pairs(values, portfolio)[..., column]
        return tracked_gap_pairs(values, portfolio, measured, weights)[..., column]

    found: list[dict[str, Interval]] = []
    for portfolio in map(list, portfolios):
        try:
            found.append(
                {
                    name: bootstrap(
                        scores,
                        partial(gap, column=GAPS.index(name), portfolio=portfolio),
                        normalization="minmax" if space.method == "minmax" else "none",
                        n_resamples=resamples,
                        seed=seed,
                        vectorized=True,
                        least=0.0,
                    )
                    for name in gaps
                }
            )
        except WorkError as error:  # opt is not positive everywhere, in some resample
            return None, str(error)
    return found, ""
