"""Metric plugins: loading metrics by name, and the metrics that palm-eval installs.

A metric is a function m(P, C, V) of a portfolio P, the candidates C ⊇ P, and weights V (k, d);
both sets are in the space of the weights. Packages register metrics as entry points of the
group ``palm.metrics``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from palm_core import InputError, PalmError, PolicySet, WorkError, gaps
from palm_core.plugin import PluginKind, check_number, error_reason, one_line
from palm_eval import metrics

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Weights = NDArray[np.float64]

#: ``(portfolio, candidates, weights) -> float``
Metric = Callable[[PolicySet, PolicySet, Any], float]
_METRIC = PluginKind(noun="metric", group="palm.metrics")
_SIGNATURE = "(portfolio, candidates, weights) -> number"


def available_metrics() -> tuple[str, ...]:
    """The sorted names of the installed metrics, without importing them."""
    return _METRIC.names()


def load_metric(name: str, folder: str | Path | None = None, /) -> Metric:
    """Load the metric ``name``.

    Args:
        name: an entry point's name ("hypervolume" …), or "module:function".
        folder: searched first for such a module; ``None`` means the current one.

    Raises:
        PluginError: no such metric, or its import fails (see ``__cause__``).
        InputError: what was found is not a function.
    """
    return cast("Metric", _METRIC.load_function(name, folder, _SIGNATURE))


def metric_value(
    name: str,
    metric: Metric,
    portfolio: PolicySet,
    candidates: PolicySet,
    weights: NDArray[np.float64],
) -> float:
    """The validated value of ``metric`` for a portfolio.

    Args:
        name: of the metric, for messages.
        metric: receives ``weights`` as a read-only array.
        portfolio: P.
        candidates: C ⊇ P, in the space of P.
        weights: V (k, d).

    Raises:
        InputError: raised by the metric, with its name added.
        WorkError: the metric failed otherwise, or did not return a finite number.
    """
    shared = weights.view()
    shared.flags.writeable = False
    try:
        value = metric(portfolio, candidates, shared)
    except PalmError as error:
        kind = InputError if isinstance(error, InputError) else WorkError
        raise kind(f"metric {name!r}: {one_line(error)}") from error
    except Exception as error:
        raise WorkError(f"metric {name!r} failed: {one_line(error_reason(error))}") from error
    try:
        return check_number(value, name=f"metric {name!r}")
    except InputError:
        shown = one_line(repr(value), 80)
        raise WorkError(f"metric {name!r} returned {shown}, must return a finite number") from None


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
    found = metrics.sampled_gaps(portfolio, candidates, weights)
    return _defined(found.epsilon, found.epsilon_weights)


def sampled_delta(portfolio: PolicySet, candidates: PolicySet, weights: Weights) -> float:
    """δ(P) over V, as the paper measures it (section 4)."""
    return metrics.sampled_gaps(portfolio, candidates, weights).delta


def perplexity(portfolio: PolicySet, _candidates: PolicySet, weights: Weights) -> float:
    """exp(entropy) of the shares of V that each policy serves (section 4)."""
    return metrics.perplexity(metrics.usage_at(portfolio, weights))


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
    return metrics.perplexity(metrics.exact_usage(portfolio))


def expected_utility(portfolio: PolicySet, _candidates: PolicySet, _weights: Weights) -> float:
    """E_w L(w) over the simplex: exactly for d ≤ 3, else over 100 000 weights."""
    return metrics.expected_utility(portfolio).value


def maximum_utility_loss(portfolio: PolicySet, candidates: PolicySet, _weights: Weights) -> float:
    """sup_w opt(w) − L(w), exactly: δ(P) by its name in multi-objective learning."""
    return metrics.maximum_utility_loss(portfolio, candidates)


def hypervolume(portfolio: PolicySet, candidates: PolicySet, _weights: Weights) -> float:
    """Volume that P dominates above the candidates' worst value in each objective."""
    return metrics.hypervolume(portfolio, candidates.vertex_values.min(axis=0))


def _defined(value: float, weights: Weights | None) -> float:
    if weights is None or np.isfinite(value):
        return value
    shown = ", ".join(f"{entry:.3g}" for entry in weights)
    raise WorkError(
        f"the best value at weights ({shown}) is not positive, so the multiplicative gap is "
        "undefined there; use delta, or normalize = 'minmax'"
    )
