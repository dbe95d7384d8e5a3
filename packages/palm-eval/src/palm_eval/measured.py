"""What is measured of one portfolio against all candidates, in one record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from palm_core import PolicySet, gaps
from palm_eval.metric_plugins import metric_value
from palm_eval.metrics import sampled_gaps
from palm_eval.multi_objective import expected_utility, hypervolume
from palm_eval.usage import exact_usage, perplexity, usage_at

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from palm_eval.metric_plugins import Metric


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What is measured of one portfolio, against all candidates.

    Args:
        size: how many policies.
        epsilon: exact ε(P) over the simplex; ∞ where opt ≤ 0 somewhere.
        delta: exact δ(P), in units of the space that weights speak of.
        sampled_epsilon: ε(P) over V, as the paper measures it.
        sampled_delta: δ(P) over V.
        usage: (size,) shares of V that each policy serves.
        perplexity: of ``usage``.
        exact_perplexity: of the shares by volume; ``None`` for d > 3.
        expected_utility: E_w L(w).
        hypervolume: above the candidates' worst values.
        oracle_calls: as the paper counts them: weights asked.
        calls_made: those that the run had no policy for; ``None`` where none was asked.
        metrics: what metrics that were asked for say, by name.
    """

    size: int
    epsilon: float
    delta: float
    sampled_epsilon: float
    sampled_delta: float
    usage: tuple[float, ...]
    perplexity: float
    exact_perplexity: float | None
    expected_utility: float
    hypervolume: float
    oracle_calls: int
    calls_made: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)


def measure(
    candidates: PolicySet,
    indices: Sequence[int],
    weights: NDArray[np.float64],
    reference: NDArray[np.float64],
    calls: tuple[int, int | None],
    *,
    metrics: Mapping[str, Metric] | None = None,
) -> Figures:
    """Measure the portfolio of ``indices`` among the candidates.

    Args:
        candidates: Π, in the space that weights speak of.
        indices: of the portfolio.
        weights: V (k, d).
        reference: (d,) of the hypervolume.
        calls: oracle calls as the paper counts them, and those really made.
        metrics: more of them, by name (:func:`palm_eval.metric_plugins.load_metric`).

    Raises:
        InputError: a metric refused the portfolio.
        WorkError: a solver or a metric failed.
    """
    subset = candidates.subset(indices)
    exact = gaps(subset, candidates)
    sampled = sampled_gaps(subset, candidates, weights)
    shares = usage_at(subset, weights)
    few = candidates.n_objectives <= 3
    return Figures(
        size=len(subset),
        epsilon=exact.epsilon,
        delta=exact.delta,
        sampled_epsilon=sampled.epsilon,
        sampled_delta=sampled.delta,
        usage=tuple(shares.tolist()),
        perplexity=perplexity(shares),
        exact_perplexity=perplexity(exact_usage(subset)) if few else None,
        expected_utility=expected_utility(subset).value,
        hypervolume=hypervolume(subset, reference),
        oracle_calls=calls[0],
        calls_made=calls[1],
        metrics={
            name: metric_value(name, metric, subset, candidates, weights)
            for name, metric in (metrics or {}).items()
        },
    )


def mean_figures(runs: Sequence[Figures]) -> Figures:
    """The means of figures over independent runs, and the sums of their calls."""

    def mean(name: str) -> float:
        return float(np.mean([getattr(found, name) for found in runs]))

    names = ("epsilon", "delta", "sampled_epsilon", "sampled_delta", "perplexity")
    exact = None if runs[0].exact_perplexity is None else mean("exact_perplexity")
    return Figures(
        size=round(mean("size")),
        **{name: mean(name) for name in (*names, "expected_utility", "hypervolume")},
        usage=(),
        exact_perplexity=exact,
        oracle_calls=sum(found.oracle_calls for found in runs),
        calls_made=sum(found.calls_made or 0 for found in runs),
        metrics={
            name: float(np.mean([found.metrics[name] for found in runs]))
            for name in runs[0].metrics
        },
    )


def plain_figures(found: Figures) -> dict[str, Any]:
    """Figures as plain values; an infinite ε is null."""
    plain = {name: getattr(found, name) for name in Figures.__dataclass_fields__}
    plain["usage"] = list(found.usage)
    for name in ("epsilon", "sampled_epsilon"):
        plain[name] = plain[name] if np.isfinite(plain[name]) else None
    return plain
