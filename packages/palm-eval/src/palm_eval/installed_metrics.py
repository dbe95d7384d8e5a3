"""The metrics that palm-eval installs: entry points of the group ``palm.metrics``.

Each is m(P, C, V) of a portfolio P, the candidates C ⊇ P that it is measured against, and
weights V (k, d), in the space that weights speak of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from palm_core import InputError, WorkError, gaps
from palm_eval import multi_objective, usage
from palm_eval.metrics import sampled_gaps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from palm_core import PolicySet

    Weights = NDArray[np.float64]


def epsilon(portfolio: PolicySet, candidates: PolicySet, _weights: Weights) -> float:
    """ε(P), exactly: sup over the simplex of 1 − L/opt (:func:`palm_core.gaps`).

    Raises:
        WorkError: L < opt ≤ 0 somewhere, where no multiplicative gap is defined.
    """
    found = gaps(portfolio, candidates)
    return _defined(found.epsilon, found.epsilon_weights)


def delta(portfolio: PolicySet, candidates: PolicySet, _weights: Weights) -> float:
    """δ(P), exactly: sup over the simplex of opt − L (:func:`palm_core.gaps`)."""
    return gaps(portfolio, candidates).delta


def sampled_epsilon(portfolio: PolicySet, candidates: PolicySet, weights: Weights) -> float:
    """ε(P) over V, as the paper measures it (section 4).

    Raises:
        WorkError: as of :func:`epsilon`, in V.
    """
    found = sampled_gaps(portfolio, candidates, weights)
    return _defined(found.epsilon, found.epsilon_weights)


def sampled_delta(portfolio: PolicySet, candidates: PolicySet, weights: Weights) -> float:
    """δ(P) over V, as the paper measures it (section 4)."""
    return sampled_gaps(portfolio, candidates, weights).delta


def perplexity(portfolio: PolicySet, _candidates: PolicySet, weights: Weights) -> float:
    """exp(entropy) of the shares of V that each policy serves (section 4)."""
    return usage.perplexity(usage.usage_at(portfolio, weights))


def exact_perplexity(portfolio: PolicySet, _candidates: PolicySet, _weights: Weights) -> float:
    """exp(entropy) of the shares of the simplex, by volume; for d ≤ 3.

    Raises:
        InputError: more than three objectives.
    """
    if portfolio.n_objectives > 3:
        raise InputError(
            f"{portfolio.n_objectives} objectives, volumes are exact for 2 and 3; 'perplexity' "
            "takes any number"
        )
    return usage.perplexity(usage.exact_usage(portfolio))


def expected_utility(portfolio: PolicySet, _candidates: PolicySet, _weights: Weights) -> float:
    """E_w L(w) over the simplex: exactly for d ≤ 3, else over 100 000 weights."""
    return multi_objective.expected_utility(portfolio).value


def maximum_utility_loss(portfolio: PolicySet, candidates: PolicySet, _weights: Weights) -> float:
    """sup_w opt(w) − L(w), exactly: δ(P) by its name in multi-objective learning."""
    return multi_objective.maximum_utility_loss(portfolio, candidates)


def hypervolume(portfolio: PolicySet, candidates: PolicySet, _weights: Weights) -> float:
    """Volume that P dominates above the candidates' worst value in each objective."""
    return multi_objective.hypervolume(portfolio, candidates.vertex_values.min(axis=0))


def _defined(value: float, weights: Weights) -> float:
    if np.isfinite(value):
        return value
    shown = ", ".join(f"{entry:.3g}" for entry in weights)
    raise WorkError(
        f"no policy is worth more than 0 at weights ({shown}), where a multiplicative "
        "gap means nothing; take delta, or normalize = 'minmax'"
    )
