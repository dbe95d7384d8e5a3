"""A study done: every answer it needs, the comparisons of section 4, and their intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from palm_core import InputError
from palm_core.oracle import Claims
from palm_core.runs import Run
from palm_core.settings import Settings
from palm_eval.comparison.comparing import compare_runs
from palm_eval.pool import Pool, distinct
from palm_eval.run_intervals import gap_intervals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from palm_core import Policy
    from palm_core.ledger import Answer
    from palm_eval.comparison import Comparison
    from palm_eval.intervals import Interval
    from palm_eval.reproduction.study import Study

    Array = NDArray[np.float64]

_Key = tuple[float, ...]

#: |V| of the usage, as in appendix B.2.
USAGE = 1000
#: Of the bootstrap over prompts.
RESAMPLES = 1000


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What a study found.

    Args:
        study: what was asked.
        objectives: d names.
        runs: by name, one for each grid.
        policies: all that were found, each once.
        exact: gaps over every weight.
        sampled: gaps at V, as the paper's.
        intervals: (method, size) → ε and δ with intervals over prompts; empty where
            policies have no rewards per prompt.
        no_intervals: why there are none, or empty.
        missing: weights that the oracle failed at.
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
    """Compare what an oracle answered, as the study says.

    Args:
        study: which weights are for what.
        objectives: d names.
        answers: one for each weight of :meth:`Study.everything`, in any order; those that
            the oracle failed at have none.
        task: as it was resolved.
        resamples: of the bootstrap; ``None`` leaves intervals out.
        least: also find the least gap of each size.

    Raises:
        InputError: a grid of which nothing was answered.
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
            settings=Settings(mu=mu, alpha=alpha, prune_mu=mu, normalize="minmax"),
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
    """For PALM and Uniform; Random may be a mean of several portfolios."""
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
    """A weight vector as it is told from others: to nine digits, whoever has normalised it."""
    return tuple(np.round(weights, 9).tolist())
