"""Intervals for what is measured of portfolios of a run, by bootstrap over prompts."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from palm_core import InputError, Normalization, WorkError
from palm_eval.intervals import Interval, bootstrap
from palm_eval.metrics import exact_gap_pairs, tracked_gap_pairs
from palm_eval.prompt_scores import PromptScores
from palm_eval.usage import usage_pairs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from palm_core import Policy

    Array = NDArray[np.float64]

RESAMPLES = 1000
#: Weights that gaps are measured at in every resample, for three objectives and more.
SAMPLES = 200
GAPS = ("epsilon", "delta")
USAGE = ("perplexity", "utility")


def portfolio_intervals(
    policies: Sequence[Policy],
    objectives: tuple[str, ...],
    portfolio: Sequence[int],
    *,
    space: Normalization,
    weights: NDArray[np.float64],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[dict[str, Interval] | None, str]:
    """All that there are for one portfolio: "epsilon", "delta", "perplexity", "utility".

    Args:
        policies: as for :func:`gap_intervals`, and so are the others.
        objectives: d names.
        portfolio: indices among the policies.
        space: where weights speak.
        weights: V (k, d); gaps for d ≥ 3 take the first 200.
        resamples: of the bootstrap, at least 100.
        seed: of the bootstrap.

    Returns:
        The intervals by name and ""; or ``None`` and why there are none.

    Raises:
        InputError: weights off the simplex, or too few resamples.
    """
    gaps, why = gap_intervals(
        policies,
        objectives,
        [portfolio],
        space=space,
        weights=weights[:SAMPLES],
        resamples=resamples,
        seed=seed,
    )
    if gaps is None:
        return None, why
    usage, why = usage_intervals(
        policies,
        objectives,
        [portfolio],
        space=space,
        weights=weights,
        resamples=resamples,
        seed=seed,
    )
    return (None, why) if usage is None else (gaps[0] | usage[0], "")


def plain_intervals(found: Mapping[str, Interval]) -> dict[str, dict[str, Any]]:
    """Intervals as plain values, by name."""
    return {
        name: {
            "value": float(one.value),
            "lower": float(one.lower),
            "upper": float(one.upper),
            "level": one.level,
            "method": one.method,
            "prompts": one.n_prompts,
        }
        for name, one in found.items()
    }


def usage_intervals(
    policies: Sequence[Policy],
    objectives: tuple[str, ...],
    portfolios: Sequence[Sequence[int]],
    *,
    space: Normalization,
    weights: ArrayLike,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[list[dict[str, Interval]] | None, str]:
    """Intervals for "perplexity" and "utility" of portfolios: usage and mean of L over V.

    Args:
        policies: as for :func:`gap_intervals`, and so are the others.
        objectives: d names.
        portfolios: indices among the policies, one list for each portfolio.
        space: where weights speak.
        weights: V (k, d).
        resamples: of the bootstrap, at least 100.
        seed: of the bootstrap; the resamples are those of :func:`gap_intervals`.

    Returns:
        The intervals of each portfolio by name, and ""; or ``None`` and why there are none.

    Raises:
        InputError: weights off the simplex, or too few resamples.
    """
    try:
        scores = PromptScores.from_policies(policies, objectives)
    except InputError as error:
        return None, str(error)

    def figure(values: Array, column: int, portfolio: list[int]) -> Array:
        return usage_pairs(values, portfolio, weights)[..., column]

    found = []
    for portfolio in map(list, portfolios):
        own = {
            name: bootstrap(
                scores,
                partial(figure, column=USAGE.index(name), portfolio=portfolio),
                normalization="minmax" if space.method == "minmax" else "none",
                n_resamples=resamples,
                seed=seed,
                vectorized=True,
                least=1.0 if name == "perplexity" else -math.inf,
            )
            for name in USAGE
        }
        # No distribution over so many policies has a larger one.
        spread = own["perplexity"]
        own["perplexity"] = replace(spread, upper=min(float(spread.upper), float(len(portfolio))))
        found.append(own)
    return found, ""


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
