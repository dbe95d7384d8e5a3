"""Evaluation of a run: exact and sampled gaps, usage, intervals, baselines of equal size.

All portfolios are measured against one set of candidates, the policies of the run and of all
baselines, in one space: the run's normalisation, or min–max over those candidates as in the
paper (section 4).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import msgspec
import numpy as np

from palm_core import PolicySet, gaps, sample_weights
from palm_core.plugin import check_count
from palm_eval.analysis.baselines import (
    Pool,
    ask_baselines,
    baseline_label,
    check_oracle_of,
    distinct,
    plain,
)
from palm_eval.analysis.intervals import RESAMPLES, plain_intervals, portfolio_intervals
from palm_eval.baselines import SWEEP_MUS, best_pruning, best_single, prunings, sampled_score
from palm_eval.intervals import Interval  # noqa: TC001  msgspec reads the annotations
from palm_eval.metric_plugins import metric_value
from palm_eval.metrics import (
    ExpectedUtility,
    exact_usage,
    expected_utility,
    hypervolume,
    perplexity,
    sampled_gaps,
    usage_at,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from palm_core import Oracle, Portfolio, Run
    from palm_eval.metric_plugins import Metric


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Metrics of one portfolio, against all candidates.

    Args:
        size: number of policies.
        epsilon: exact ε(P) over the simplex; ∞ where opt ≤ 0 somewhere.
        delta: exact δ(P), in units of the space of the weights.
        sampled_epsilon: ε(P) over V, as the paper measures it.
        sampled_delta: δ(P) over V.
        usage: (size,) shares of V that each policy serves.
        perplexity: of ``usage``.
        exact_perplexity: of the shares by volume; ``None`` for d > 3.
        expected_utility: E_w L(w).
        hypervolume: above the candidates' worst values.
        oracle_calls: as the paper counts them: distinct weights.
        calls_made: calls at weights without a policy of the run; ``None`` without an oracle.
        metrics: values of the requested metrics, by name.
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
        candidates: Π, in the space of the weights.
        indices: of the portfolio.
        weights: V (k, d).
        reference: (d,) of the hypervolume.
        calls: oracle calls as the paper counts them, and those actually made.
        metrics: further metrics, by name (:func:`palm_eval.metric_plugins.load_metric`).

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
    """Mean metrics over independent runs, and the sums of their calls."""

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
    """Metrics as plain values; an infinite ε is null."""
    plain = {name: getattr(found, name) for name in Figures.__dataclass_fields__}
    plain["usage"] = list(found.usage)
    for name in ("epsilon", "sampled_epsilon"):
        plain[name] = plain[name] if np.isfinite(plain[name]) else None
    return plain


#: V of the sampled gaps and N of the usage, as in the paper (appendix B.2).
SAMPLES = 1000


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Metrics of a portfolio and of its baselines.

    Args:
        portfolio: ids, in order.
        objectives: d names.
        figures: metrics of the portfolio.
        expected_utility: with its standard error, if sampled.
        baselines: name → metrics; of "random" the means over its runs.
        not_asked: name → why a baseline is missing.
        intervals: of the portfolio's "epsilon", "delta", "perplexity" and "utility" by
            bootstrap over prompts, see :mod:`palm_eval.analysis.intervals`; ``None`` with
            ``no_intervals`` saying why.
        baseline_intervals: the same of baselines, by name, where available; not of
            "random", whose metrics are means over its runs.
        no_intervals: the reason why there are none, or empty.
        normalization: "none", or "minmax" and the number of policies.
        candidates: number of candidates.
        samples: |V|.
        seed: of V, the baselines and the bootstrap.
    """

    portfolio: tuple[str, ...]
    objectives: tuple[str, ...]
    figures: Figures
    expected_utility: ExpectedUtility
    baselines: dict[str, Figures]
    not_asked: dict[str, str]
    intervals: dict[str, Interval] | None
    baseline_intervals: dict[str, dict[str, Interval]]
    no_intervals: str
    normalization: str
    candidates: int
    samples: int
    seed: int

    @property
    def normalization_text(self) -> str:
        """The normalisation of ε and δ, in words."""
        return "in the oracle's units" if self.normalization == "none" else self.normalization

    def document(self) -> dict[str, Any]:
        """The evaluation as plain values; an infinite ε is null."""
        own = plain_figures(self.figures)
        return {
            **own,
            "portfolio": list(self.portfolio),
            "objectives": list(self.objectives),
            "intervals": None if self.intervals is None else plain_intervals(self.intervals),
            "baseline_intervals": {
                name: plain_intervals(found) for name, found in self.baseline_intervals.items()
            },
            "no_intervals": self.no_intervals or None,
            "baselines": {name: plain_figures(found) for name, found in self.baselines.items()},
            "not_asked": self.not_asked,
            "normalization": self.normalization,
            "candidates": self.candidates,
            "samples": self.samples,
            "seed": self.seed,
        }


def evaluate_run(
    run: Run,
    *,
    oracle: Oracle | None = None,
    chosen: Portfolio | None = None,
    normalize: str | None = None,
    samples: int = SAMPLES,
    resamples: int = RESAMPLES,
    seed: int = 0,
    metrics: Mapping[str, Metric] | None = None,
) -> Evaluation:
    """Evaluate the portfolio of a run; stored there, for oracles with a fingerprint.

    Args:
        run: see :func:`palm_core.open_run`.
        oracle: called for baselines at weights without a policy of the run. ``None`` leaves
            those baselines out, with a note.
        chosen: the portfolio, of policies of the run; by default the run's. For a
            remeasured ``run`` it is the portfolio chosen before.
        normalize: "minmax" over all candidates, or "none"; by default as in the run.
        samples: |V|, the weights of the sampled gaps and of the usage.
        resamples: of the bootstrap over prompts.
        seed: of V, the baselines and the bootstrap.
        metrics: further metrics by name (:func:`palm_eval.metric_plugins.load_metric`).

    Raises:
        InputError: a count out of range, an unknown normalisation, an oracle for other
            objectives than the run's, or a metric that does not apply to this run.
        WorkError: a solver, the oracle or a metric failed.
    """
    check_count(samples, name="samples", least=1)
    check_count(resamples, name="resamples", least=100)
    check_count(seed, name="seed", least=0)
    check_oracle_of(run, oracle)
    chosen = run.portfolio if chosen is None else chosen
    options: dict[str, Any] = {
        "normalize": normalize or run.settings.pruning.normalize,
        "samples": samples,
        "resamples": resamples,
        "seed": seed,
    }
    fingerprint = getattr(oracle, "fingerprint", None)
    if metrics or (oracle is not None and fingerprint is None):
        # Functions and oracles without a fingerprint cannot be part of a key.
        return _evaluate(run, oracle, chosen, metrics=metrics, **options)
    asked = {
        "portfolio": [policy.id for policy in chosen.policies],
        "oracle": None if oracle is None else str(fingerprint),
    }

    def make() -> dict[str, Any]:
        found = _evaluate(run, oracle, chosen, metrics=None, **options)
        return cast("dict[str, Any]", plain(found))

    def read(stored: dict[str, Any]) -> Evaluation:
        found: Evaluation = msgspec.convert(stored, Evaluation)
        return found

    return run.stored("evaluation", asked | options, make, read)


def baselines(run: Run) -> dict[str, Figures]:
    """Metrics of the baselines that need no call (``Run.baselines``), by name."""
    return evaluate_run(run).baselines


def intervals(run: Run) -> dict[str, Interval] | None:
    """Intervals of the portfolio's metrics over prompts (``Run.intervals``), by name."""
    return evaluate_run(run).intervals


def _evaluate(
    run: Run,
    oracle: Oracle | None,
    chosen: Portfolio,
    *,
    normalize: str,
    samples: int,
    resamples: int,
    seed: int,
    metrics: Mapping[str, Metric] | None,
) -> Evaluation:
    known = distinct([answer.policy for answer in run.answers])
    asked, missing = ask_baselines(run, oracle, known, size=len(chosen), seed=seed)
    pool = Pool.of(
        [*known, *(policy for found in asked.values() for policy in found.policies)],
        run.objectives,
        normalize,
    )
    candidates = pool.candidates
    weights = sample_weights(samples, len(run.objectives), seed=seed)
    reference = candidates.vertex_values.min(axis=0)

    def figures(indices: Sequence[int], calls: int, made: int | None) -> Figures:
        return measure(candidates, indices, weights, reference, (calls, made), metrics=metrics)

    def intervals_of(indices: Sequence[int]) -> tuple[dict[str, Interval] | None, str]:
        return portfolio_intervals(
            pool.policies,
            run.objectives,
            indices,
            space=pool.space,
            weights=weights,
            resamples=resamples,
            seed=seed,
        )

    own = pool.places(chosen.policies)
    baselines: dict[str, Figures] = {}
    kept: dict[str, list[int]] = {}
    for name, found in asked.items():
        indices = pool.places(found.policies)
        if name == "uniform_palm":
            rows = found.weights
            tried = prunings(
                candidates.subset(indices),
                rows,
                candidates,
                mus=SWEEP_MUS,
                score=sampled_score(weights),
            )
            small = [one for one in tried if len(one.indices) <= len(own)]
            if not small:
                missing[name] = f"no pruning of it has {len(own)} policies or fewer"
                continue
            indices = [indices[i] for i in best_pruning(small).indices.tolist()]
        baselines[name] = figures(indices, found.calls, found.made)
        if not name.startswith("random "):
            kept[name] = indices
    runs = [baselines.pop(name) for name in list(baselines) if name.startswith("random ")]
    if runs:
        baselines["random"] = mean_figures(runs)
    single = best_single(candidates)
    for name, index in (("best_single", single.delta), ("centre_single", single.centre)):
        baselines[name] = figures([index], len(run.answers), 0)
        kept[name] = [index]
    intervals, why_not = intervals_of(own)
    of_baselines = {name: intervals_of(indices)[0] for name, indices in kept.items()}
    subset = candidates.subset(own)
    return Evaluation(
        portfolio=tuple(policy.id for policy in chosen.policies),
        objectives=run.objectives,
        figures=figures(own, len(run.answers), None),
        expected_utility=expected_utility(subset, seed=seed),
        baselines=baselines,
        not_asked=missing,
        intervals=intervals,
        baseline_intervals={name: found for name, found in of_baselines.items() if found},
        no_intervals=why_not,
        normalization=pool.normalization,
        candidates=len(candidates),
        samples=samples,
        seed=seed,
    )


def figure_rows(found: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Table headers, and rows of the portfolio and its baselines."""
    v = found.samples
    headers = ["", "size", "calls", "ε", "δ", f"ε of {v}", f"δ of {v}", "perplexity", "utility"]
    headers += found.figures.metrics
    rows = [_row("portfolio", found.figures)]
    rows += [_row(baseline_label(name), one) for name, one in found.baselines.items()]
    return headers, rows


def _row(name: str, one: Figures) -> list[str]:
    from palm_core.plugin import number_text, percent_text

    return [
        name,
        str(one.size),
        str(one.oracle_calls),
        percent_text(one.epsilon),
        number_text(one.delta),
        percent_text(one.sampled_epsilon),
        number_text(one.sampled_delta),
        number_text(one.perplexity),
        number_text(one.expected_utility),
        *map(number_text, one.metrics.values()),
    ]
