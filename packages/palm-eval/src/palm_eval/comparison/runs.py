"""Comparison of runs of one oracle with their baselines, at equal sizes and equal budgets.

As in section 4 and appendices B.4 and B.5 of the paper: one pool of all policies, one
space, greedy pruning for a sweep of μ', and for each size the best that the sweep yields.
:mod:`palm_eval.tables` writes the results as Tables 1, 3, 4 and 5/6 of the paper.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from palm_core import InputError, Normalization, PolicySet, sample_weights, size_gap_curve
from palm_core.plugin import Grid, check_choice, check_count
from palm_eval.analysis.baselines import (
    Pool,
    ask_all,
    check_oracle_of,
    distinct,
    each_weight,
    oracle_differences,
)
from palm_eval.baselines import (
    PRUNE_MUS,
    RANDOM_RUNS,
    SWEEP_MUS,
    exact_score,
    prunings,
    random_weights,
    sampled_score,
    uniform_weights,
)
from palm_eval.metrics import perplexity, usage_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from palm_core import Oracle, Policy, Run
    from palm_eval.analysis.baselines import RunBaseline

    Array = NDArray[np.float64]
    Key = tuple[str, int, int]

#: The columns of Tables 1 and 3: three of the paper, and an additional one.
METHODS = ("palm", "uniform", "random", "least")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A portfolio against all candidates, or the mean of several.

    Args:
        policies: ids; empty for a mean.
        epsilon: ε(P); ∞ where opt ≤ 0 somewhere.
        delta: δ(P), in units of the space of the weights.
        perplexity: of the usage at V.
    """

    policies: tuple[str, ...]
    epsilon: float
    delta: float
    perplexity: float

    @property
    def quality(self) -> tuple[float, float]:
        """Sort key (ε, δ): smaller is better, ε first, as for the paper's bold entries."""
        return self.epsilon, self.delta

    def document(self) -> dict[str, Any]:
        """As plain values; an infinite ε is null."""
        return {
            "epsilon": self.epsilon if math.isfinite(self.epsilon) else None,
            "delta": self.delta,
            "perplexity": self.perplexity,
            "policies": list(self.policies),
        }


@dataclass(frozen=True, kw_only=True)
class Swept:
    """The pruned portfolio of a run for one μ'."""

    mu: float
    portfolio: Measured

    @property
    def size(self) -> int:
        """Number of policies."""
        return len(self.portfolio.policies)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One run, pruned for many μ': a block of Tables 5 and 6.

    Args:
        run: its name.
        mu: the grid's μ; ``None`` for an adaptive run.
        alpha: the grid's α; ``None`` for an adaptive run.
        target_epsilon: the target ε of an adaptive run, else ``None``.
        oracle_calls: weights asked.
        missing: further weights, without an answer.
        rows: by rising μ'.
    """

    run: str
    mu: float | None
    alpha: float | None
    target_epsilon: float | None
    oracle_calls: int
    missing: int
    rows: tuple[Swept, ...]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The best of PALM and of Uniform-PALM for a number of calls: a row of Table 4.

    Args:
        oracle_calls: weights asked by each.
        palm: the best over μ' of 0.01 to 0.10, and over the runs with this number of calls.
        uniform_palm: the best over the same μ'; ``None`` if the oracle was not called.
    """

    oracle_calls: int
    palm: Measured
    uniform_palm: Measured | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs of one oracle beside their baselines, all in one pool and one space.

    Args:
        name: of the task, for tables of several tasks; may be empty.
        objectives: d names.
        sizes: of portfolios, ascending.
        methods: "palm" (best pruning of that size over all runs and μ'), "uniform",
            "random" (mean of three runs) and "least" (best known subset of that size of the
            runs' policies) → size → metrics; a size may be missing.
        absent: (method, size) → the reason why it is missing.
        chosen: size → the run and the μ' of "palm".
        budgets: by rising number of calls.
        sweeps: one for each run.
        gaps: "exact", or "sampled" at V.
        normalization: "none", or "minmax" and the number of policies.
        candidates: number of candidates.
        calls_made: oracle calls spent on the baselines.
        samples: |V|.
        seed: of V and of the baselines.
    """

    name: str
    objectives: tuple[str, ...]
    sizes: tuple[int, ...]
    methods: dict[str, dict[int, Measured]]
    absent: dict[tuple[str, int], str]
    chosen: dict[int, tuple[str, float]]
    budgets: tuple[Budget, ...]
    sweeps: tuple[Sweep, ...]
    gaps: str
    normalization: str
    candidates: int
    calls_made: int
    samples: int
    seed: int

    def document(self) -> dict[str, Any]:
        """The comparison as plain values; an infinite ε is null."""
        return {
            "name": self.name,
            "objectives": list(self.objectives),
            "sizes": [
                {
                    "size": size,
                    **{
                        method: self.methods[method][size].document()
                        if size in self.methods[method]
                        else None
                        for method in METHODS
                    },
                    "absent": {
                        method: self.absent[method, size]
                        for method in METHODS
                        if (method, size) in self.absent
                    },
                    "chosen": dict(zip(("run", "prune_mu"), self.chosen[size], strict=True))
                    if size in self.chosen
                    else None,
                }
                for size in self.sizes
            ],
            "budgets": [
                {
                    "oracle_calls": one.oracle_calls,
                    "palm": one.palm.document(),
                    "uniform_palm": one.uniform_palm and one.uniform_palm.document(),
                }
                for one in self.budgets
            ],
            "runs": [
                {
                    "run": sweep.run,
                    "mu": sweep.mu,
                    "alpha": sweep.alpha,
                    "target_epsilon": sweep.target_epsilon,
                    "oracle_calls": sweep.oracle_calls,
                    "missing": sweep.missing,
                    "prunings": [
                        {"prune_mu": row.mu, "size": row.size, **row.portfolio.document()}
                        for row in sweep.rows
                    ],
                }
                for sweep in self.sweeps
            ],
            "gaps": self.gaps,
            "normalization": self.normalization,
            "candidates": self.candidates,
            "calls_made": self.calls_made,
            "samples": self.samples,
            "seed": self.seed,
        }


#: The largest size by default.
LARGEST = 8


def baseline_weights(
    sizes: Sequence[int], calls: Sequence[int], d: int, seed: int, runs: int = RANDOM_RUNS
) -> dict[Key, Array]:
    """(k, d) weights by baseline, size (or calls) and run: appendices B.4 and B.5.1."""
    wanted: dict[Key, Array] = {}
    for size in sizes:
        if size >= 2 or d > 2:
            wanted["uniform", size, 0] = uniform_weights(size, d, seed=seed)
        for number, rows in enumerate(random_weights(size, d, runs=runs, seed=seed)):
            wanted["random", size, number] = rows
    for number in calls:
        wanted["uniform_palm", number, 0] = uniform_weights(number, d, seed=seed)
    return wanted


def check_runs(
    runs: Mapping[str, Run], normalize: str | None, *, same_oracle: bool = True
) -> tuple[tuple[str, ...], str]:
    """The objectives and the normalisation common to all runs.

    Raises:
        InputError: no run, other objectives, runs of several oracles where they must be of
            the same, an unknown normalisation, or runs of several where ``normalize`` does
            not say which.
    """
    if not runs:
        raise InputError("runs: at least one is needed, got none")
    first, *others = runs
    for other in others:
        differences = []
        if same_oracle:
            differences = oracle_differences(runs[first].task, runs[other].task)
        if runs[first].objectives != runs[other].objectives:
            differences.append(
                f"objectives were {', '.join(runs[first].objectives)}, "
                f"are {', '.join(runs[other].objectives)}"
            )
        if differences:
            what = "oracle" if same_oracle else "objectives"
            raise InputError(
                f"{other}: is not of the same {what} as {first}: {'; '.join(differences)}"
            )
    if normalize is not None:
        check_choice(normalize, Normalization.METHODS, name="normalize")
    methods = {run.settings.pruning.normalize for run in runs.values()}
    if len(methods) > 1 and normalize is None:
        raise InputError(
            f"normalize: differs between the runs ({', '.join(sorted(methods))}), must be given"
        )
    return runs[first].objectives, methods.pop() if len(methods) == 1 else str(normalize)


def policies_of(runs: Mapping[str, Run]) -> dict[str, list[Policy]]:
    """The policy of each answer, by run, with unique ids.

    Retraining may give different policies the same id: then the run's name is added.
    """
    first: dict[str, Policy] = {}
    found: dict[str, list[Policy]] = {}
    for name, run in runs.items():
        found[name] = []
        for answer in run.answers:
            policy = answer.policy
            other = first.setdefault(policy.id, policy)
            same = np.array_equal(other.rewards, policy.rewards)
            if not (same and other.regularizer == policy.regularizer):
                policy = replace(policy, id=f"{policy.id} of {name}")
            found[name].append(policy)
    return found


def check_sizes(sizes: Sequence[int], runs: Mapping[str, Run]) -> tuple[int, ...]:
    """Validate the requested sizes; return them in ascending order.

    Raises:
        InputError: none, one below 1, or one above the number of weights of every run.
    """
    most = max(len(run.answers) for run in runs.values())
    for size in sizes:
        if check_count(size, name="sizes", least=1) > most:
            raise InputError(f"sizes = {size}: must be at most {most}, the oracle calls of a run")
    if not sizes:
        raise InputError("sizes: at least one is needed, got none")
    return tuple(sorted(set(sizes)))


def default_sizes(runs: Mapping[str, Run]) -> tuple[int, ...]:
    """From d (at most 3), as in the paper, to one more than the portfolios have; up to 8."""
    found = max(len(run.portfolio) for run in runs.values())
    d = len(next(iter(runs.values())).objectives)
    most = max(len(run.answers) for run in runs.values())
    first = min(d, 3, most)
    return tuple(range(first, max(first, min(found + 1, LARGEST, most)) + 1))


GAPS = ("exact", "sampled")
SAMPLES = 1000
#: The largest size in the search for the least gap with three objectives and more: the cost
#: grows with the size. With two it is fast.
LARGEST_LEAST = 6
# Time limit in seconds for the whole curve of least gaps.
_TIME_LIMIT = 60.0
# Decimals of the search between two μ' for missing sizes.
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
        oracle: called for baselines at weights without a policy of the runs. ``None``
            leaves those baselines out, with a note.
        sizes: of portfolios; by default as in the paper from d (at most 3) to one more
            than the runs' portfolios have, and no more than 8.
        gaps: "exact" over the whole simplex, or "sampled" as in the paper.
        normalize: "minmax" over all policies, or "none"; by default as the runs.
        samples: |V|, the weights of sampled gaps and of the usage.
        seed: of V and of the baselines.
        least: also compute the least gap of each size, the most expensive part.
        name: of the task.
        also: further policies, such as those at V: reused by baselines with their weights,
            and added to the candidates.
        mus: further μ' of pruning.
        random_runs: of the random baseline, whose metrics are averaged.

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
            # Both are subsets of the runs' policies, as on the curve.
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
    """Measures portfolios against the pool, and at the weights V."""

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
        """Prune a run for every μ', and for μ' in between to find the sizes skipped."""
        weights = np.array([answer.weights for answer in run.answers])
        rows = {row.mu: row for row in self.prunings(policies, weights, self.mus)}
        for size in sizes:
            while (mu := _between(sorted(rows.values(), key=lambda row: row.mu), size)) is not None:
                (rows[mu],) = self.prunings(policies, weights, [mu])
        asked = run.settings.asked
        grid = (asked.mu, asked.alpha) if isinstance(asked, Grid) else (None, None)
        return Sweep(
            run=name,
            mu=grid[0],
            alpha=grid[1],
            target_epsilon=None if isinstance(asked, Grid) else asked.target_epsilon,
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
        """The subsets of the runs' policies with the least exact ε."""
        own = self.pool.candidates.subset(self.pool.places(known))
        points = size_gap_curve(own, most=most, time_limit=_TIME_LIMIT)
        found = []
        for point in points:
            subset = own.subset(point.indices)
            quality = self.score(subset, self.pool.candidates)
            found.append((point.size, self.measured(subset, quality)))
        return found


def _between(rows: Sequence[Swept], size: int) -> float | None:
    """An untried μ' between two whose portfolios are larger and smaller than ``size``."""
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
