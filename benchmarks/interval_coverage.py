"""How often bootstrap intervals over prompts hold the truth, at nominal 95 %.

    python benchmarks/interval_coverage.py [--quick] [--kind KIND] [--prompts N]

A tabular task of 4000 prompts is the population, whose J_w, ε(P) and δ(P) are known
exactly. Thirteen exact policies on evenly spaced weights are the candidates, four
portfolios among them are fixed. Each repetition draws n prompts, scores the policies on
them, and asks whether the interval holds the population's value.

* ``expected``: a prompt's score is the policy's expected reward on it (greedy decoding, or
  many responses per prompt): only prompts vary, and neighbouring policies alike.
* ``one response``: each policy answers each prompt once, by its own draw: noise that no
  two policies share. The maximum over candidates is then biased upwards.
* ``raster``: as "expected", but gaps sampled at 101 evenly spaced weights.
* ``three``: as "expected", but for three objectives and fifteen candidates, by
  :func:`palm_eval.analysis.intervals.gap_intervals`, as ``palm evaluate`` and the size–gap curve
  have them: at 200 weights and the portfolio's corner weights, followed through resamples.
* ``ties``: not the task, but policies with independent normal noise: k candidates exactly
  as good as one another and as the portfolio of one, so that δ = 0. The worst case for
  intervals of a maximum; here "simultaneous" is
  :func:`palm_eval.intervals.delta_band`.

"too high" and "too low" are the shares of intervals that lie above and below the truth;
the standard error of a coverage of 95 % is 0.7 % for 1000 repetitions. "bias" and
"spread" are those of the estimate itself; "width" is the mean width in spreads (3.92
for a normal estimate).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from common import Aim, Benchmark, Figure, run
from palm_core import (
    Normalization,
    Policy,
    PolicySet,
    TabularOracle,
    gaps,
    sample_weights,
    uniform_lattice,
)
from palm_core.oracles.task_table import make_task
from palm_eval.analysis.intervals import SAMPLES, gap_intervals
from palm_eval.intervals import METHODS, PromptScores, bootstrap, delta_band
from palm_eval.metrics import exact_gap_pairs, sampled_gap_pairs

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from common import Record

COVERED = Figure("intervals that hold the truth, all figures of a kind together", "%")
LOWEST = Figure("the same, of the figure that they hold least often", "%")
OTHERS = Figure("the same, by other methods", "%")
TIES = Figure("intervals of δ = 0 that hold it, k candidates exactly alike", "%")
ABOUT = Benchmark(
    question="How often do bootstrap intervals at nominal 95 % hold the truth?",
    against="the nominal 95 %",
    baseline="The nominal 95 %; beside it, the other bootstrap methods on the same samples.",
    why="The truth is known exactly here, because the population is a table. Percentile, basic "
    "and BCa intervals are what one would take otherwise.",
    quick="100 repetitions of 200 resamples at 100 prompts, so a standard error of up to two "
    "points; two minutes",
    full="1000 repetitions of 1000 resamples at 100 and 400 prompts; more than an hour",
    figures=(COVERED, LOWEST, OTHERS, TIES),
    aims=(
        Aim(
            "between 93 % and 97 % hold the truth",
            COVERED,
            least=0.93,
            most=0.97,
            remark="The default method unites the percentile and the basic interval, because each "
            "alone misses the truth more often (third figure). More than 97 % is wider than "
            "needed, not wrong. In a quick run two points more or less are chance.",
        ),
        Aim(
            "at least 93 % also where many candidates are exactly alike",
            TIES,
            least=0.93,
            remark="The maximum over k tied candidates is biased upwards, and no resample knows "
            "that δ is 0: the default's lower end is then too high, the more often the larger k. "
            'The upper end holds. `palm_eval.intervals.delta_band` ("simultaneous") is made '
            "for that case.",
        ),
    ),
)
POPULATION, RESPONSES, CANDIDATES = 4000, 40, 13
PORTFOLIOS = {"ends": [0, 12], "middle": [6], "three": [1, 6, 10], "four": [0, 4, 8, 12]}
KINDS = ["expected", "one response", "raster"]
LABELS = ["J at the centre", *(f"{gap} {name}" for name in PORTFOLIOS for gap in ("ε", "δ"))]
WEIGHTS = uniform_lattice(2, CANDIDATES - 1)
RASTER = uniform_lattice(2, 100)


class Population:
    """What the samples are drawn from."""

    def __init__(self) -> None:
        self.task = make_task(n_prompts=POPULATION, n_responses=RESPONSES, seed=3)
        oracle = TabularOracle(self.task.rewards, self.task.reference, 0.05, self.task.objectives)
        self.policies = list(oracle.solve(WEIGHTS))
        self.expected = PromptScores.from_policies(self.policies).values
        self.cumulative = np.cumsum([oracle.probabilities(w) for w in WEIGHTS], axis=-1)
        self.penalty = np.array([policy.prompt_regularizer for policy in self.policies])

    def sample(self, n: int, rng: np.random.Generator, *, responses: bool) -> PromptScores:
        """Scores on n prompts: expected ones, or those of one response each."""
        prompts = rng.integers(0, POPULATION, size=n)
        if not responses:
            return PromptScores(self.expected[:, prompts])
        draws = rng.random((CANDIDATES, n, 1))
        answers = (draws > self.cumulative[:, prompts]).sum(axis=-1).clip(max=RESPONSES - 1)
        rewards = self.task.rewards[prompts][np.arange(n), answers]
        return PromptScores(rewards - self.penalty[:, prompts, np.newaxis])


def statistic(values: np.ndarray, raster: bool = False) -> np.ndarray:
    served = values[..., 6, :].mean(axis=-1)[..., np.newaxis]
    pairs = [
        sampled_gap_pairs(values, portfolio, RASTER)
        if raster
        else exact_gap_pairs(values, portfolio)
        for portfolio in PORTFOLIOS.values()
    ]
    return np.concatenate([served, *pairs], axis=-1)


def simulate(
    record: Record, population: Population, kind: str, n: int, repetitions: int, resamples: int
) -> None:
    def figures(values: np.ndarray) -> np.ndarray:
        return statistic(values, raster=kind == "raster")

    truth = figures(population.expected.mean(axis=1))
    rng = np.random.default_rng(0)
    estimates = []
    above = {method: np.zeros(len(LABELS)) for method in METHODS}
    below = {method: np.zeros(len(LABELS)) for method in METHODS}
    width = {method: np.zeros(len(LABELS)) for method in METHODS}
    begun = time.perf_counter()
    for seed in range(repetitions):
        scores = population.sample(n, rng, responses=kind == "one response")
        for method in METHODS:
            found = bootstrap(
                scores,
                figures,
                vectorized=True,
                method=method,
                n_resamples=resamples,
                seed=seed,
                least=0.0,
            )
            above[method] += found.lower > truth
            below[method] += found.upper < truth
            width[method] += found.upper - found.lower
        estimates.append(found.value)
    bias, spread = np.mean(estimates, axis=0) - truth, np.std(estimates, axis=0)
    seconds = time.perf_counter() - begun
    table = record.table(
        f"{kind}, n = {n}, {repetitions} repetitions of {resamples} resamples, {seconds:.0f} s",
        *("figure         ", " truth", "   bias", "spread", "method    ", "covers", "too high"),
        *("too low", "width"),
    )
    for place, label in enumerate(LABELS):
        for method in METHODS:
            high, low = above[method][place] / repetitions, below[method][place] / repetitions
            wide = width[method][place] / repetitions / spread[place]
            table.row(
                *(label, f"{truth[place]:.4f}", f"{bias[place]:+.4f}", f"{spread[place]:.4f}"),
                *(method, f"{1 - high - low:.1%}", f"{high:.1%}", f"{low:.1%}", f"{wide:.2f}"),
            )
    for method in METHODS:
        covers = 1 - (above[method] + below[method]) / repetitions
        if method == METHODS[0]:
            record.value(COVERED, f"{kind}, n = {n}", covers.mean())
            record.value(LOWEST, f"{kind}, n = {n}, {LABELS[covers.argmin()]}", covers.min())
        else:
            record.value(OTHERS, f"{kind}, n = {n}, {method}", covers.mean())


def simulate_three(record: Record, n: int, repetitions: int, resamples: int) -> None:
    task = make_task(("a", "b", "c"), n_prompts=POPULATION, n_responses=RESPONSES, seed=3)
    oracle = TabularOracle(task.rewards, task.reference, 0.05, task.objectives)
    weights = uniform_lattice(3, 4)
    policies = list(oracle.solve(weights))
    values = PromptScores.from_policies(policies).values
    everyone = PolicySet(values.mean(axis=1))
    portfolios = {"middle": [6], "corners": [0, 4, 14], "six": [1, 3, 5, 8, 12, 13]}
    rng, begun = np.random.default_rng(0), time.perf_counter()
    truth = [gaps(everyone.subset(one), everyone) for one in portfolios.values()]
    labels = [(name, gap) for name in portfolios for gap in ("epsilon", "delta")]
    above = dict.fromkeys(labels, 0)
    below = dict.fromkeys(labels, 0)
    for seed in range(repetitions):
        drawn = values[:, rng.integers(0, POPULATION, size=n)]
        measured = [
            Policy(id=policy.id, weights=w, rewards=rows.mean(axis=0), prompt_rewards=rows)
            for policy, w, rows in zip(policies, weights, drawn, strict=True)
        ]
        each, why = gap_intervals(
            measured,
            task.objectives,
            list(portfolios.values()),
            space=Normalization.none(3),
            weights=sample_weights(SAMPLES, 3, seed=seed),
            resamples=resamples,
            seed=seed,
        )
        assert each is not None, why
        for name, one, exact in zip(portfolios, each, truth, strict=True):
            for gap, found in one.items():
                above[name, gap] += found.lower > getattr(exact, gap)
                below[name, gap] += found.upper < getattr(exact, gap)
    seconds = time.perf_counter() - begun
    table = record.table(
        f"three, n = {n}, {repetitions} repetitions of {resamples} resamples, {seconds:.0f} s",
        *("figure    ", " truth", "covers", "too high", "too low"),
    )
    covers = []
    for (name, gap), exact in zip(labels, np.repeat(np.array(truth), 2), strict=True):
        high, low = above[name, gap] / repetitions, below[name, gap] / repetitions
        label = f"{'ε' if gap == 'epsilon' else 'δ'} {name}"
        covers.append((1 - high - low, label))
        table.row(
            *(label, f"{getattr(exact, gap):.4f}", f"{1 - high - low:.1%}"),
            *(f"{high:.1%}", f"{low:.1%}"),
        )
    record.value(COVERED, f"three, n = {n}", float(np.mean([share for share, _ in covers])))
    record.value(LOWEST, f"three, n = {n}, {min(covers)[1]}", min(covers)[0])


def simulate_ties(record: Record, n: int, repetitions: int, resamples: int) -> None:
    table = record.table(
        f"ties, n = {n}, {repetitions} repetitions of {resamples} resamples",
        *(" k", "method       ", "covers", "too high"),
    )
    for k in (1, 3, 10, 30):
        rng = np.random.default_rng(k)
        above: dict[Any, int] = {"union": 0, "percentile": 0, "simultaneous": 0}
        for seed in range(repetitions):
            scores = PromptScores(rng.normal(size=(k + 1, n, 2)) + 5)
            for method in above:
                if method == "simultaneous":
                    found = delta_band(scores, [0], n_resamples=resamples, seed=seed)
                else:
                    found = bootstrap(
                        scores,
                        lambda v: exact_gap_pairs(v, [0])[..., 1],
                        vectorized=True,
                        method=method,
                        n_resamples=resamples,
                        seed=seed,
                        least=0.0,
                    )
                above[method] += found.lower > 0
        for method, count in above.items():
            high = count / repetitions
            if method != "percentile":
                record.value(TIES, f"k = {k}, {method}", 1 - high)
            table.row(k, method, f"{1 - high:.1%}", f"{high:.1%}")


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--kind", choices=[*KINDS, "three", "ties"])
    parser.add_argument("--prompts", type=int)


def measure(given: Namespace, record: Record) -> None:
    repetitions, resamples = (100, 200) if given.quick else (given.repetitions, 1000)
    sizes = [given.prompts] if given.prompts else [100] if given.quick else [100, 400]
    if given.kind in (None, "ties"):
        simulate_ties(record, sizes[0], repetitions, resamples)
    if given.kind in (None, "three"):
        for n in sizes:
            simulate_three(record, n, repetitions, resamples)
    if given.kind in ("three", "ties"):
        return
    population = Population()
    for kind in [given.kind] if given.kind else KINDS:
        for n in sizes:
            simulate(record, population, kind, n, repetitions, resamples)


if __name__ == "__main__":
    run(__file__, ABOUT, measure, arguments)
