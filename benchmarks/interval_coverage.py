"""How often bootstrap intervals over prompts hold the truth, at nominal 95 %.

    python benchmarks/interval_coverage.py            about an hour
    python benchmarks/interval_coverage.py --quick    some minutes

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
  :func:`palm_eval.run_intervals.gap_intervals`, as ``palm evaluate`` and the size–gap curve
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

import argparse
import time

import numpy as np

from palm_core import (
    Normalization,
    Policy,
    PolicySet,
    TabularOracle,
    gaps,
    sample_weights,
    uniform_lattice,
)
from palm_core.tasks import make_task
from palm_eval.intervals import METHODS, bootstrap, delta_band
from palm_eval.metrics import exact_gap_pairs, sampled_gap_pairs
from palm_eval.prompt_scores import PromptScores
from palm_eval.run_intervals import SAMPLES, gap_intervals

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


def simulate(population: Population, kind: str, n: int, repetitions: int, resamples: int) -> None:
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
    print(f"\n{kind}, n = {n}, {repetitions} repetitions of {resamples} resamples, {seconds:.0f} s")
    print(
        f"{'':16}{'truth':>8}{'bias':>8}{'spread':>8}  method      covers  too high  too low  width"
    )
    for place, label in enumerate(LABELS):
        head = f"{label:16}{truth[place]:8.4f}{bias[place]:+8.4f}{spread[place]:8.4f}"
        for method in METHODS:
            high, low = above[method][place] / repetitions, below[method][place] / repetitions
            wide = width[method][place] / repetitions / spread[place]
            print(f"{head:40}  {method:11}{1 - high - low:7.1%}{high:10.1%}{low:9.1%}{wide:7.2f}")
            head = ""


def simulate_three(n: int, repetitions: int, resamples: int) -> None:
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
    print(f"\nthree, n = {n}, {repetitions} repetitions of {resamples} resamples, {seconds:.0f} s")
    print(f"{'':16}{'truth':>8}  covers  too high  too low")
    for (name, gap), exact in zip(labels, np.repeat(np.array(truth), 2), strict=True):
        high, low = above[name, gap] / repetitions, below[name, gap] / repetitions
        label = f"{'ε' if gap == 'epsilon' else 'δ'} {name}"
        print(f"{label:16}{getattr(exact, gap):8.4f}{1 - high - low:8.1%}{high:10.1%}{low:9.1%}")


def simulate_ties(n: int, repetitions: int, resamples: int) -> None:
    print(f"\nties, n = {n}, {repetitions} repetitions of {resamples} resamples")
    print("  k  method         covers  too high")
    for k in (1, 3, 10, 30):
        rng = np.random.default_rng(k)
        above = {"union": 0, "percentile": 0, "simultaneous": 0}
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
            print(f"{k:3}  {method:13}{1 - high:8.1%}{high:10.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="100 repetitions")
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--kind", choices=[*KINDS, "three", "ties"])
    parser.add_argument("--prompts", type=int)
    asked = parser.parse_args()
    repetitions, resamples = (100, 400) if asked.quick else (asked.repetitions, 1000)
    sizes = [asked.prompts] if asked.prompts else [100, 400]
    if asked.kind in (None, "ties"):
        simulate_ties(sizes[0], repetitions, resamples)
    if asked.kind in (None, "three"):
        for n in sizes:
            simulate_three(n, repetitions, resamples)
    if asked.kind in ("three", "ties"):
        return
    population = Population()
    for kind in [asked.kind] if asked.kind else KINDS:
        for n in sizes:
            simulate(population, kind, n, repetitions, resamples)


if __name__ == "__main__":
    main()
