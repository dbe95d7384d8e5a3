"""Runs of one oracle, compared with their baselines at equal sizes and equal budgets.

As in section 4 and appendices B.4 and B.5 of the paper: one pool of all policies, one
space, greedy pruning for a sweep of μ', and for each size the best that the sweep yields.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from palm_core import PolicySet, sample_weights, size_gap_curve
from palm_core.settings import check_choice
from palm_core.simplex import check_count
from palm_eval.baselines import (
    PRUNE_MUS,
    RANDOM_RUNS,
    SWEEP_MUS,
    exact_score,
    prunings,
    sampled_score,
)
from palm_eval.comparison.comparable import (
    baseline_weights,
    check_runs,
    check_sizes,
    default_sizes,
    policies_of,
)
from palm_eval.comparison.results import Budget, Comparison, Measured, Sweep, Swept
from palm_eval.pool import Pool, distinct, each_weight
from palm_eval.run_baselines import ask_all, check_oracle_of
from palm_eval.usage import perplexity, usage_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from palm_core import Oracle, Policy
    from palm_core.runs import Run
    from palm_eval.comparison.comparable import Key
    from palm_eval.run_baselines import RunBaseline

    Array = NDArray[np.float64]

GAPS = ("exact", "sampled")
SAMPLES = 1000
#: The largest size that the least gap is looked for with three objectives and more: each
#: further one takes longer. With two it is quick.
LARGEST_LEAST = 6
# Seconds for the whole curve of the least gaps.
_TIME_LIMIT = 60.0
# Between two μ' the sizes asked for are looked for to this many decimals.
_DECIMALS = 5
_NO_POLICY = "the runs have no policy for some of its weights; --task asks its oracle"


def compare_runs(
    runs: Mapping[str, Run],
    *,
    oracle: Oracle | None = None,
    sizes: Sequence[int] | None = None,
    gaps: str = "exact",
    normalize: str | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    least: bool = True,
    name: str = "",
    also: Sequence[Policy] = (),
    mus: Sequence[float] = (),
    random_runs: int = RANDOM_RUNS,
) -> Comparison:
    """Compare runs with their baselines: the numbers of Tables 1, 3, 4 and 5/6.

    Args:
        runs: by name; all of one oracle.
        oracle: asked for the baselines at weights that the runs have no policy for.
            ``None`` leaves those baselines out, and says so.
        sizes: of portfolios; by default as in the paper from d (at most 3) to one more
            than the runs' portfolios have, and no more than 8.
        gaps: "exact" over the whole simplex, or "sampled" as in the paper.
        normalize: "minmax" over all policies, or "none"; by default as the runs.
        samples: |V|, the weights of sampled gaps and of the usage.
        seed: of V and of the baselines.
        least: also look for the least gap of each size, which takes longest.
        name: of the task.
        also: further policies: known to baselines that ask for their weights, and
            candidates that everything is measured against, as those found at V.
        mus: further μ' to prune with.
        random_runs: of the random baseline, whose figures are averaged.

    Raises:
        InputError: no run, runs of several oracles, a size or count out of range, an
            unknown kind of gap or normalisation, an oracle for other objectives.
        WorkError: a solver or the oracle failed.
    """
    objectives, method = check_runs(runs, normalize)
    check_choice(gaps, GAPS, name="gaps")
    check_count(samples, name="samples", least=1)
    check_count(seed, name="seed", least=0)
    for run in runs.values():
        check_oracle_of(run, oracle)
    wanted_sizes = default_sizes(runs) if sizes is None else check_sizes(sizes, runs)
    own = policies_of(runs)
    answered = [*(policy for policies in own.values() for policy in policies), *also]
    known = distinct(policy for policies in own.values() for policy in policies)
    calls = sorted({len(run.answers) for run in runs.values()})
    asked, unknown = ask_all(
        baseline_weights(wanted_sizes, calls, len(objectives), seed, random_runs),
        oracle=oracle,
        known=each_weight(answered),
        objectives=objectives,
    )
    everyone = [*known, *(policy for found in asked.values() for policy in found.policies), *also]
    work = _Comparing(
        Pool.of(everyone, objectives, normalize or method),
        sample_weights(samples, len(objectives), seed=seed),
        gaps,
        sorted({*SWEEP_MUS, *mus}),
    )
    sweeps = tuple(work.sweep(key, run, own[key], wanted_sizes) for key, run in runs.items())
    methods: dict[str, dict[int, Measured]] = {"palm": {}, "uniform": {}, "random": {}, "least": {}}
    chosen: dict[int, tuple[str, float]] = {}
    looked_to = 0 if not least else max(wanted_sizes) if len(objectives) == 2 else LARGEST_LEAST
    curve = work.curve(known, min(looked_to, max(wanted_sizes))) if least else []
    for size in wanted_sizes:
        rows = [(one.run, row) for one in sweeps for row in one.rows if row.size == size]
        if rows:  # of equal ones the first, as in Tables 5 and 6
            run_name, best = min(rows, key=lambda row: row[1].portfolio.quality)
            chosen[size] = run_name, best.mu
            methods["palm"][size] = best.portfolio
        if ("uniform", size, 0) in asked:
            methods["uniform"][size] = work.measure(asked["uniform", size, 0].policies)
        keys = [("random", size, number) for number in range(random_runs)]
        if all(key in asked for key in keys):
            methods["random"][size] = _mean([work.measure(asked[key].policies) for key in keys])
        choices = [one for needed, one in curve if needed <= size <= looked_to]
        if choices:
            # Both are choices of the runs' policies; the curve knows of no others.
            palm = methods["palm"].get(size)
            known_best = choices[-1:] + ([palm] if palm else [])
            methods["least"][size] = min(known_best, key=lambda one: one.quality)
    return Comparison(
        name=name,
        objectives=objectives,
        sizes=wanted_sizes,
        methods=methods,
        absent=_absent(methods, wanted_sizes, unknown, looked_to),
        chosen=chosen,
        budgets=work.budgets(sweeps, asked),
        sweeps=sweeps,
        gaps=gaps,
        normalization=work.pool.normalization,
        candidates=len(work.pool.candidates),
        calls_made=sum(found.made for found in asked.values()),
        samples=samples,
        seed=seed,
    )


class _Comparing:
    """How portfolios are measured: against the pool, and at the weights V."""

    def __init__(self, pool: Pool, weights: Array, gaps: str, mus: Sequence[float]) -> None:
        self.pool, self.weights, self.mus = pool, weights, mus
        self.score = exact_score if gaps == "exact" else sampled_score(weights)

    def measure(self, policies: Iterable[Policy]) -> Measured:
        subset = self.pool.candidates.subset(self.pool.places(policies))
        return self.measured(subset, self.score(subset, self.pool.candidates))

    def measured(self, subset: PolicySet, quality: tuple[float, float]) -> Measured:
        return Measured(
            policies=subset.names,
            epsilon=quality[0],
            delta=quality[1],
            perplexity=perplexity(usage_at(subset, self.weights)),
        )

    def prunings(
        self, policies: Sequence[Policy], weights: Array, mus: Iterable[float]
    ) -> list[Swept]:
        subset = self.pool.candidates.subset(self.pool.places(policies))
        return [
            Swept(
                mu=one.mu,
                portfolio=self.measured(subset.subset(one.indices), (one.epsilon, one.delta)),
            )
            for one in prunings(subset, weights, self.pool.candidates, mus=mus, score=self.score)
        ]

    def sweep(self, name: str, run: Run, policies: Sequence[Policy], sizes: Sequence[int]) -> Sweep:
        """Prune a run for every μ', and between them for the sizes that they jump over."""
        weights = np.array([answer.weights for answer in run.answers])
        rows = {row.mu: row for row in self.prunings(policies, weights, self.mus)}
        for size in sizes:
            while (mu := _between(sorted(rows.values(), key=lambda row: row.mu), size)) is not None:
                (rows[mu],) = self.prunings(policies, weights, [mu])
        settings = run.settings
        return Sweep(
            run=name,
            mu=settings.mu,
            alpha=settings.alpha,
            target_epsilon=settings.target_epsilon,
            oracle_calls=len(run.answers),
            missing=len(run.missing),
            rows=tuple(rows[mu] for mu in sorted(rows)),
        )

    def budgets(
        self, sweeps: Sequence[Sweep], asked: Mapping[Key, RunBaseline]
    ) -> tuple[Budget, ...]:
        """The best over the paper's μ' for each number of calls."""
        found = []
        for calls in sorted({sweep.oracle_calls for sweep in sweeps}):
            rows = [
                row
                for sweep in sweeps
                for row in sweep.rows
                if sweep.oracle_calls == calls and row.mu in PRUNE_MUS
            ]
            uniform = asked.get(("uniform_palm", calls, 0))
            found.append(
                Budget(
                    oracle_calls=calls,
                    palm=_best(rows),
                    uniform_palm=None
                    if uniform is None
                    else _best(self.prunings(uniform.policies, uniform.weights, PRUNE_MUS)),
                )
            )
        return tuple(found)

    def curve(self, known: Sequence[Policy], most: int) -> list[tuple[int, Measured]]:
        """The choices of the runs' policies with the least exact ε against one another."""
        own = self.pool.candidates.subset(self.pool.places(known))
        points = size_gap_curve(own, most=most, time_limit=_TIME_LIMIT)
        found = []
        for point in points:
            subset = own.subset(point.indices)
            quality = self.score(subset, self.pool.candidates)
            found.append((point.size, self.measured(subset, quality)))
        return found


def _between(rows: Sequence[Swept], size: int) -> float | None:
    """A μ' not tried yet between two whose portfolios are larger and smaller than ``size``."""
    if any(row.size == size for row in rows):
        return None
    for one, other in pairwise(rows):
        if (one.size - size) * (other.size - size) < 0:
            middle = round((one.mu + other.mu) / 2, _DECIMALS)
            if one.mu < middle < other.mu:
                return middle
    return None


def _best(rows: Sequence[Swept]) -> Measured:
    return min(rows, key=lambda row: (row.portfolio.quality, row.size)).portfolio


def _mean(found: Sequence[Measured]) -> Measured:
    return Measured(
        policies=(),
        epsilon=float(np.mean([one.epsilon for one in found])),
        delta=float(np.mean([one.delta for one in found])),
        perplexity=float(np.mean([one.perplexity for one in found])),
    )


def _absent(
    methods: Mapping[str, Mapping[int, Measured]],
    sizes: Sequence[int],
    unknown: Mapping[Key, int],
    looked_to: int,
) -> dict[tuple[str, int], str]:
    reasons = {
        "palm": "no μ' tried yields so many policies",
        "uniform": "one uniform weight is no grid",
        "random": _NO_POLICY,
        "least": "no choice of so few has a finite gap" if looked_to else "not looked for",
    }
    absent = {
        (method, size): reason
        for method, reason in reasons.items()
        for size in sizes
        if size not in methods[method]
    }
    for method, size in absent:
        if method == "least" and 0 < looked_to < size:
            absent[method, size] = f"not looked for beyond {looked_to}, it takes too long"
    absent.update({(method, size): _NO_POLICY for method, size, _ in unknown})
    return absent
