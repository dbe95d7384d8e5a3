"""Studies: a task's ``[study]`` table, its experiment, and simulations of many tasks.

```toml
[study]
title = "Safety Alignment"
grids = [["14/30", "7/100"], ["16/30", "7/100"]]  # (μ, α) of each run; by default [grid]'s
sizes = [2, 3, 4, 5]                              # of the portfolios in Tables 1 and 3
mus = [0.005]                                     # further μ' than the usual
weights = 100                                     # |V|, drawn from Dirichlet(1)
random = 3                                        # runs of the random baseline
ask = true                                        # find the best policy at each of V, too
published = "safety-alignment"                    # whose numbers are set beside
prompt = 3                                        # whose answers Table 2 shows, from 0
```

A simulation estimates how often the paper's claims hold: many tasks with an exact oracle, at the
paper's scale. Each task has random trade-offs. Responses to a prompt have latent qualities
z ∈ R^q; with a_i random directions that are pushed apart by κ,

    r_i(x, y) = 1/(1 + exp(−s_i·(a_i·z) − t_i)),    π_ref(y|x) ∝ exp(τ·(b·z + noise)),

and κ, s, t, b, τ and the β of f = β·KL are drawn for each task. The policies are exact
(:class:`palm_core.TabularOracle`), so results are about the method, not about training.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import numpy as np

from palm_core import InputError, Run, TabularOracle, answers_at, construct_grid, sample_weights
from palm_core.plugin import (
    Claims,
    Grid,
    PruneSettings,
    Settings,
    check_choice,
    check_count,
    check_number,
    one_line,
    read_number,
)
from palm_eval.analysis.baselines import Pool, distinct
from palm_eval.analysis.intervals import gap_intervals
from palm_eval.baselines import RANDOM_RUNS
from palm_eval.comparison.runs import baseline_weights, compare_runs
from palm_eval.paper.claims import PUBLISHED, Numbers, Verdict, verdicts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from palm_core import Policy
    from palm_core.plugin import Answer, Task
    from palm_eval.comparison import Comparison
    from palm_eval.intervals import Interval

    Array = NDArray[np.float64]

_KEYS = ("title", "grids", "sizes", "mus", "weights", "random", "ask", "published", "prompt")
SIZES = [2, 3, 4, 5]
SAMPLES = 100


@dataclass(frozen=True, kw_only=True)
class Study:
    """Settings of a study.

    Args:
        title: of the task.
        grids: (μ, α) of each run, at least one.
        sizes: of portfolios, ascending.
        mus: further μ' of pruning.
        weights: |V|.
        random: runs of the random baseline.
        ask: whether the oracle is called at V, so that opt is known there.
        published: the paper's task that it reproduces, possibly in miniature; or ``None``.
        prompt: the number of the prompt whose answers are shown; ``None`` takes that with
            the most diverse answers.
        seed: of V and the baselines.
    """

    title: str
    grids: tuple[tuple[float, float], ...]
    sizes: tuple[int, ...] = tuple(SIZES)
    mus: tuple[float, ...] = ()
    weights: int = SAMPLES
    random: int = RANDOM_RUNS
    ask: bool = True
    published: str | None = None
    prompt: int | None = None
    seed: int = 0

    def grid(self, number: int, n_objectives: int) -> Array:
        """The weights (k, d) of a run."""
        return construct_grid(n_objectives, *self.grids[number])

    def sampled(self, n_objectives: int) -> Array:
        """V (k, d)."""
        return sample_weights(self.weights, n_objectives, seed=self.seed)

    def run_names(self) -> tuple[str, ...]:
        """The name of each run in tables."""
        return tuple(f"μ {mu:.4g}, α {alpha:.4g}" for mu, alpha in self.grids)

    def everything(self, n_objectives: int) -> dict[str, Array]:
        """All weights of the study, by purpose.

        Raises:
            InputError: a grid too large, or sizes above the numbers of weights of the runs.
        """
        wanted = {
            name: self.grid(number, n_objectives) for number, name in enumerate(self.run_names())
        }
        calls = sorted({len(rows) for rows in wanted.values()})
        if self.sizes and self.sizes[-1] > calls[-1]:
            raise InputError(
                f"[study] sizes = {self.sizes[-1]}: must be at most {calls[-1]}, the oracle calls "
                "of the largest grid"
            )
        if self.ask:
            wanted["V"] = self.sampled(n_objectives)
        baselines = baseline_weights(self.sizes, calls, n_objectives, self.seed, self.random)
        wanted |= {" ".join(map(str, key)): rows for key, rows in baselines.items()}
        return wanted


def study_of(task: Task, name: str) -> Study:
    """Read the study of a task.

    Args:
        task: as read.
        name: title of a task that has none.

    Raises:
        InputError: an entry of ``[study]`` that is unknown or invalid; a task
            without a grid.
    """
    given = task.study
    for key in given:
        if key not in _KEYS:
            raise InputError(f"[study] {key}: unknown key; must be one of {', '.join(_KEYS)}")
    asked = task.settings.asked
    if "grids" not in given and not isinstance(asked, Grid):
        raise InputError("[study] grids: is missing, must be a list of [mu, alpha]")
    published = given.get("published")
    if published is not None:
        check_choice(published, tuple(PUBLISHED), name="[study] published")
    title = given.get("title", name)
    if not isinstance(title, str) or not title:
        raise InputError(f"[study] title = {title!r}: must be text")
    ask = given.get("ask", True)
    if not isinstance(ask, bool):
        raise InputError(f"[study] ask = {ask!r}: must be true or false")
    prompt = given.get("prompt")
    own = [[asked.mu, asked.alpha]] if isinstance(asked, Grid) else []
    grids = given.get("grids", own)
    sizes = _list(given.get("sizes", SIZES), "sizes")
    return Study(
        title=title,
        grids=tuple(_grid(pair, number) for number, pair in enumerate(_list(grids, "grids"))),
        sizes=tuple(sorted({check_count(size, name="[study] sizes", least=1) for size in sizes})),
        mus=tuple(
            check_number(mu, name="[study] mus", least=0.0, most=1.0)
            for mu in _list(given.get("mus", []), "mus")
        ),
        weights=check_count(given.get("weights", SAMPLES), name="[study] weights", least=1),
        random=check_count(given.get("random", RANDOM_RUNS), name="[study] random", least=1),
        ask=ask,
        published=published,
        prompt=None if prompt is None else check_count(prompt, name="[study] prompt", least=0),
        seed=task.seed,
    )


def _list(value: object, key: str) -> Sequence[Any]:
    if not isinstance(value, list):
        raise InputError(f"[study] {key} = {one_line(repr(value), 80)}: must be a list")
    if key == "grids" and not value:
        raise InputError("[study] grids = []: must have at least one [mu, alpha]")
    return value


def _grid(pair: object, number: int) -> tuple[float, float]:
    where = f"[study] grids[{number}]"
    if not isinstance(pair, list) or len(pair) != 2:
        raise InputError(f"{where} = {one_line(repr(pair), 80)}: must be [mu, alpha]")
    return _share(pair[0], f"{where} mu"), _share(pair[1], f"{where} alpha")


def _share(value: object, name: str) -> float:
    if isinstance(value, str):  # fractions, as in the paper
        try:
            value = read_number(value)
        except (ValueError, ZeroDivisionError):
            raise InputError(f"{name} = {value!r}: must be a number or a fraction") from None
    return check_number(value, name=name, above=0.0, most=1.0)


def distinct_weights(wanted: Mapping[str, Array]) -> Array:
    """All distinct rows, in the order of first use."""
    rows = np.concatenate(list(wanted.values()))
    _, first = np.unique(np.round(rows, 9), axis=0, return_index=True)
    return rows[np.sort(first)]


_Key = tuple[float, ...]

#: |V| of the usage, as in appendix B.2.
USAGE = 1000
#: Resamples of the bootstrap over prompts.
RESAMPLES = 1000


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """The results of a study.

    Args:
        study: its settings.
        objectives: d names.
        runs: by name, one for each grid.
        policies: all policies, each once.
        exact: gaps over every weight.
        sampled: gaps at V, as the paper's.
        intervals: (method, size) → ε and δ with intervals over prompts; empty where
            policies have no rewards per prompt.
        no_intervals: the reason why there are none, or empty.
        missing: weights at which the oracle failed.
    """

    study: Study
    objectives: tuple[str, ...]
    runs: Mapping[str, Run]
    policies: tuple[Policy, ...]
    exact: Comparison
    sampled: Comparison
    intervals: Mapping[tuple[str, int], Mapping[str, Interval]]
    no_intervals: str
    missing: int


def experiment(
    study: Study,
    objectives: tuple[str, ...],
    answers: Sequence[Answer],
    *,
    task: Mapping[str, Any] | None = None,
    resamples: int | None = RESAMPLES,
    least: bool = True,
) -> Experiment:
    """Compare an oracle's answers by the settings of a study.

    Args:
        study: its settings.
        objectives: d names.
        answers: one for each weight of :meth:`Study.everything`, in any order, except where
            the oracle failed.
        task: the resolved task.
        resamples: of the bootstrap; ``None`` leaves intervals out.
        least: also compute the least gap of each size.

    Raises:
        InputError: a grid without any answer.
        WorkError: a solver failed.
    """
    d = len(objectives)
    known = {_key(answer.weights): answer for answer in answers}
    wanted = study.everything(d)
    runs = {}
    for number, name in enumerate(study.run_names()):
        rows = [known[_key(row)] for row in wanted[name] if _key(row) in known]
        if not rows:
            raise InputError(f"{name}: none of its {len(wanted[name])} weights has an answer")
        mu, alpha = study.grids[number]
        runs[name] = Run(
            answers=tuple(rows),
            objectives=objectives,
            settings=Settings(
                asked=Grid(mu=mu, alpha=alpha),
                pruning=PruneSettings(epsilon=mu, normalize="minmax"),
            ),
            claims=Claims(),
            task=dict(task or {}),
        )
    policies = distinct([answer.policy for answer in answers])
    common: dict[str, Any] = {
        "sizes": study.sizes,
        "seed": study.seed,
        "name": study.title,
        "also": [answer.policy for answer in answers],
        "mus": study.mus,
        "random_runs": study.random,
    }
    exact = compare_runs(runs, gaps="exact", samples=USAGE, least=least, **common)
    sampled = compare_runs(runs, gaps="sampled", samples=study.weights, least=False, **common)
    intervals, why = _intervals(exact, policies, resamples, study.seed)
    return Experiment(
        study=study,
        objectives=objectives,
        runs=runs,
        policies=tuple(policies),
        exact=exact,
        sampled=sampled,
        intervals=intervals,
        no_intervals=why,
        missing=sum(_key(row) not in known for rows in wanted.values() for row in rows),
    )


def _intervals(
    found: Comparison, policies: Sequence[Policy], resamples: int | None, seed: int
) -> tuple[dict[tuple[str, int], Mapping[str, Interval]], str]:
    """Intervals for PALM and Uniform; Random may be a mean of several portfolios."""
    if resamples is None:
        return {}, "they were not asked for"
    places = {policy.id: index for index, policy in enumerate(policies)}
    keys, portfolios = [], []
    for method in ("palm", "uniform"):
        for size, one in found.methods[method].items():
            keys.append((method, size))
            portfolios.append([places[name] for name in one.policies])
    pool = Pool.of(policies, found.objectives, "minmax")
    rows = np.random.default_rng(seed).dirichlet(np.ones(len(found.objectives)), 200)
    measured, why = gap_intervals(
        policies,
        found.objectives,
        portfolios,
        space=pool.space,
        weights=rows,
        resamples=resamples,
        seed=seed,
    )
    return ({}, why) if measured is None else (dict(zip(keys, measured, strict=True)), "")


def _key(weights: Array) -> _Key:
    """The key of a weight vector: nine digits, so that renormalised vectors are equal."""
    return tuple(np.round(weights, 9).tolist())


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
        understated: ε at V as a share of ε over every weight: the minimum over PALM's portfolios.
        numbers: the numbers of the exact verdicts.
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
    """A success rate with its 95 % interval (Wilson)."""

    held: int
    of: int

    @property
    def share(self) -> float:
        """The rate."""
        return self.held / self.of

    @property
    def interval(self) -> tuple[float, float]:
        """The interval of the rate."""
        from scipy.stats import binomtest

        found = binomtest(self.held, self.of).proportion_ci(method="wilson")
        return float(found.low), float(found.high)


def draw_oracle(
    seed: int, objectives: Sequence[str], *, prompts: int = PROMPTS, responses: int = RESPONSES
) -> tuple[TabularOracle, float]:
    """An exact oracle on a random task, and its κ ∈ [0, 1].

    Args:
        seed: equal seeds give equal tasks.
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
    # Some qualities are easier to attain on a given prompt.
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
    """Run a study on simulated tasks.

    Args:
        study: its settings.
        objectives: d names.
        seeds: how many tasks, seeds 0, 1, …
        prompts: of each task.
        responses: to each prompt.
        workers: number of processes.
        progress: called with the number of finished tasks and the total.

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
    """Simulate one task and compare it by the study's settings."""
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
    """For each claim: rates of tasks on which it held fully, and of single comparisons.

    Args:
        found: the simulated tasks.
        gaps: "exact" or "sampled".
    """
    rates = {}
    for key in found[0].exact:
        checked = [getattr(one, gaps)[key] for one in found]
        checked = [one for one in checked if one.checks]
        if checked:
            rates[key] = (
                Rate(held=sum(bool(one.holds) for one in checked), of=len(checked)),
                Rate(
                    held=sum(one.held for one in checked),
                    of=sum(len(one.checks) for one in checked),
                ),
            )
    return rates
