"""Comparison of runs of different oracles.

All policies of all runs are candidates, in one space, so that each run is measured against the
best of all: multi-objective decoding against rewarded soups, for example.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from palm_core import InputError, sample_weights
from palm_core.plugin import check_count
from palm_eval.analysis.baselines import Pool
from palm_eval.analysis.evaluation import Figures, measure, plain_figures
from palm_eval.comparison.runs import check_runs, policies_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from palm_core import Run


@dataclass(frozen=True, kw_only=True)
class Rival:
    """A run in a comparison.

    Args:
        portfolio: metrics of the run's portfolio.
        found: metrics of all policies of the run.
    """

    portfolio: Figures
    found: Figures

    def document(self) -> dict[str, Any]:
        """As plain values."""
        return {"portfolio": plain_figures(self.portfolio), "found": plain_figures(self.found)}


@dataclass(frozen=True, kw_only=True)
class Rivals:
    """Runs measured against all their policies together.

    Args:
        runs: by name.
        objectives: d names.
        candidates: number of candidates.
        normalization: "none", or "minmax" and the number of policies.
        samples: |V| of the sampled figures.
        seed: of V.
    """

    runs: Mapping[str, Rival]
    objectives: tuple[str, ...]
    candidates: int
    normalization: str
    samples: int
    seed: int

    def document(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "runs": {name: one.document() for name, one in self.runs.items()},
            "objectives": list(self.objectives),
            "candidates": self.candidates,
            "normalization": self.normalization,
            "samples": self.samples,
            "seed": self.seed,
        }


def compare_oracles(
    runs: Mapping[str, Run], *, normalize: str | None = None, samples: int = 1000, seed: int = 0
) -> Rivals:
    """Measure runs of any oracles for the same objectives against one another.

    All must have the same reward functions and prompts. That cannot be verified from rewards,
    except for the number of prompts: different numbers are refused.

    Args:
        runs: by name, two or more.
        normalize: "minmax" over the policies of all runs, or "none"; by default as the runs.
        samples: |V| of the sampled gaps and of the usage.
        seed: of V.

    Raises:
        InputError: fewer than two runs, other objectives, another number of prompts,
            normalisations that differ, or a count out of range.
        WorkError: a solver failed.
    """
    check_count(samples, name="samples", least=1)
    check_count(seed, name="seed", least=0)
    if len(runs) < 2:
        raise InputError(f"runs: must be at least 2, got {len(runs)}")
    objectives, method = check_runs(runs, normalize, same_oracle=False)
    policies = policies_of(runs)
    _check_prompts(runs)
    pool = Pool.of(
        [policy for several in policies.values() for policy in several],
        objectives,
        normalize or method,
    )
    weights = sample_weights(samples, len(objectives), seed=seed)
    reference = pool.candidates.vertex_values.min(axis=0)
    found = {}
    for name, run in runs.items():
        answered = {
            answer.policy.id: policy
            for answer, policy in zip(run.answers, policies[name], strict=True)
        }
        kept = [answered[policy.id] for policy in run.portfolio.policies]
        calls = (len(run.answers), None)
        both = [
            measure(pool.candidates, pool.places(several), weights, reference, calls)
            for several in (kept, policies[name])
        ]
        found[name] = Rival(portfolio=both[0], found=both[1])
    return Rivals(
        runs=found,
        objectives=objectives,
        candidates=len(pool.candidates),
        normalization=pool.normalization,
        samples=samples,
        seed=seed,
    )


def _check_prompts(runs: Mapping[str, Run]) -> None:
    counts = {
        name: len(run.answers[0].policy.prompt_rewards)
        for name, run in runs.items()
        if run.answers[0].policy.prompt_rewards is not None
    }
    for name, count in counts.items():
        first = next(iter(counts))
        if count != counts[first]:
            raise InputError(
                f"{name}: measured on {count} prompts, must be the {counts[first]} of {first}"
            )
