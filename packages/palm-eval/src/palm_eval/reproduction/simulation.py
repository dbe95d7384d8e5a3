"""How often the paper's claims hold: many tasks with an exact oracle, at the paper's scale.

Each task draws its own trade-offs. Responses to a prompt have latent qualities z ∈ R^q; with
a_i random directions that are pushed apart by κ,

    r_i(x, y) = 1/(1 + exp(−s_i·(a_i·z) − t_i)),    π_ref(y|x) ∝ exp(τ·(b·z + noise)),

and κ, s, t, b, τ and the β of f = β·KL are drawn anew for each task. The policies are exact
(:class:`palm_core.TabularOracle`), so what is found is of the method, not of training.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING

import numpy as np

from palm_core import TabularOracle, answers_at
from palm_core.simplex import check_count
from palm_eval.reproduction.claims import Numbers, Verdict, verdicts
from palm_eval.reproduction.experiment import experiment
from palm_eval.reproduction.study import Study, distinct_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: "hundreds of prompts, thousands of responses"
PROMPTS, RESPONSES = 200, 2000
_QUALITIES = 6


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One simulated task.

    Args:
        seed: of the task.
        beta: of its regulariser.
        conflict: κ.
        exact: claim → verdict, with gaps over every weight.
        sampled: the same with gaps at V, as in the paper.
        understated: ε at V as a share of ε over every weight: of PALM's portfolios, the least.
        numbers: what the exact verdicts are of.
    """

    seed: int
    beta: float
    conflict: float
    exact: dict[str, Verdict]
    sampled: dict[str, Verdict]
    understated: float
    numbers: Numbers


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How often something held, with its 95 % interval (Wilson)."""

    held: int
    of: int

    @property
    def share(self) -> float:
        """The share itself."""
        return self.held / self.of

    @property
    def interval(self) -> tuple[float, float]:
        """Of the share."""
        from scipy.stats import binomtest

        found = binomtest(self.held, self.of).proportion_ci(method="wilson")
        return float(found.low), float(found.high)


def draw_oracle(
    seed: int, objectives: Sequence[str], *, prompts: int = PROMPTS, responses: int = RESPONSES
) -> tuple[TabularOracle, float]:
    """An exact oracle on a task of its own, and its κ ∈ [0, 1].

    Args:
        seed: equal ones give equal tasks.
        objectives: d names.
        prompts: how many.
        responses: to each.
    """
    rng = np.random.default_rng(seed)
    d = len(objectives)
    directions = rng.standard_normal((d, _QUALITIES))
    conflict = float(rng.uniform())
    directions -= conflict * directions.mean(axis=0)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    steepness = np.exp(rng.uniform(np.log(0.8), np.log(2.5), d))
    level = 0.8 * rng.standard_normal(d)
    fluent = rng.standard_normal(_QUALITIES)
    fluent /= np.linalg.norm(fluent)
    sharpness = rng.uniform(0.3, 1.2)
    beta = float(np.exp(rng.uniform(np.log(0.01), np.log(0.2))))
    # A prompt makes some qualities easier to have than others.
    latent = rng.standard_normal((prompts, responses, _QUALITIES))
    latent += 0.5 * rng.standard_normal((prompts, 1, _QUALITIES))
    rewards = 1 / (1 + np.exp(-(steepness * (latent @ directions.T) + level)))
    scores = sharpness * (latent @ fluent + 0.7 * rng.standard_normal((prompts, responses)))
    reference = np.exp(scores - scores.max(axis=1, keepdims=True))
    reference /= reference.sum(axis=1, keepdims=True)
    return TabularOracle(rewards, reference, beta=beta, objectives=list(objectives)), conflict


def simulate(
    study: Study,
    objectives: Sequence[str],
    *,
    seeds: int,
    prompts: int = PROMPTS,
    responses: int = RESPONSES,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[Drawn]:
    """Do a study on simulated tasks.

    Args:
        study: which weights are asked, and for what.
        objectives: d names.
        seeds: how many tasks, seeds 0, 1, …
        prompts: of each task.
        responses: to each prompt.
        workers: processes.
        progress: called with how many tasks are done, and of how many.

    Raises:
        InputError: a count below 1.
    """
    for name, value in (("seeds", seeds), ("prompts", prompts), ("workers", workers)):
        check_count(value, name=name, least=1)
    check_count(responses, name="responses", least=2)
    one = partial(
        simulate_once, study=study, objectives=objectives, prompts=prompts, responses=responses
    )
    found = []
    if workers == 1:
        for seed in range(seeds):
            found.append(one(seed))
            if progress is not None:
                progress(len(found), seeds)
        return found
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for drawn in pool.map(one, range(seeds)):
            found.append(drawn)
            if progress is not None:
                progress(len(found), seeds)
    return found


def simulate_once(
    seed: int, *, study: Study, objectives: Sequence[str], prompts: int, responses: int
) -> Drawn:
    """One simulated task, compared as the study says."""
    oracle, conflict = draw_oracle(seed, objectives, prompts=prompts, responses=responses)
    wanted = study.everything(len(objectives))
    answers = answers_at(oracle, distinct_weights(wanted))
    found = experiment(study, oracle.objectives, answers, resamples=None, least=False)
    numbers = Numbers.of(found.exact)
    shares = [
        found.sampled.methods["palm"][size].epsilon / one.epsilon
        for size, one in found.exact.methods["palm"].items()
        if one.epsilon > 0 and found.sampled.chosen.get(size) == found.exact.chosen.get(size)
    ]
    return Drawn(
        seed=seed,
        beta=oracle.beta,
        conflict=conflict,
        exact=verdicts(numbers),
        sampled=verdicts(Numbers.of(found.sampled)),
        understated=min(shares, default=1.0),
        numbers=numbers,
    )


def claim_rates(found: Sequence[Drawn], gaps: str) -> dict[str, tuple[Rate, Rate]]:
    """For each claim: tasks on which all of it held, and single comparisons that did.

    Args:
        found: the simulated tasks.
        gaps: "exact" or "sampled".
    """
    rates = {}
    for key in found[0].exact:
        told = [getattr(one, gaps)[key] for one in found]
        told = [one for one in told if one.checks]
        if told:
            rates[key] = (
                Rate(held=sum(bool(one.holds) for one in told), of=len(told)),
                Rate(held=sum(one.held for one in told), of=sum(len(one.checks) for one in told)),
            )
    return rates
