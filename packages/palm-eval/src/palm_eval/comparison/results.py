"""What was measured of PALM and its baselines, size by size and budget by budget.

:func:`palm_eval.compare_runs` measures it; :mod:`palm_eval.tables` writes it as
Tables 1, 3, 4 and 5/6 of the paper.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

#: The columns of Tables 1 and 3: three of the paper, and one beyond it.
METHODS = ("palm", "uniform", "random", "least")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A portfolio against all candidates, or the mean of several.

    Args:
        policies: ids; empty for a mean.
        epsilon: ε(P); ∞ where opt ≤ 0 somewhere.
        delta: δ(P), in units of the space that weights speak of.
        perplexity: of the usage at V.
    """

    policies: tuple[str, ...]
    epsilon: float
    delta: float
    perplexity: float

    @property
    def quality(self) -> tuple[float, float]:
        """(ε, δ): the less the better, by ε first, as the paper's bold entries."""
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
    """What one μ' keeps of a run."""

    mu: float
    portfolio: Measured

    @property
    def size(self) -> int:
        """How many policies."""
        return len(self.portfolio.policies)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One run, pruned for many μ': a block of Tables 5 and 6.

    Args:
        run: its name.
        mu: the grid's μ; ``None`` for an adaptive run.
        alpha: the grid's α; ``None`` for an adaptive run.
        target_epsilon: what an adaptive run was to certify, else ``None``.
        oracle_calls: weights asked.
        missing: weights besides that have no answer.
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
    """The best of PALM and of Uniform-PALM with equally many calls: a row of Table 4.

    Args:
        oracle_calls: weights asked by each.
        palm: the best over μ' of 0.01 to 0.10, and over the runs with so many calls.
        uniform_palm: the best over the same μ'; ``None`` if the oracle was not asked.
    """

    oracle_calls: int
    palm: Measured
    uniform_palm: Measured | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs of one oracle beside their baselines, all in one pool and one space.

    Args:
        name: of the task, where several stand in one table; may be empty.
        objectives: d names.
        sizes: of portfolios, ascending.
        methods: "palm" (best pruning of that size over all runs and μ'), "uniform",
            "random" (mean of three runs) and "least" (best choice known of so many of the
            runs' policies) → size → what was measured; a size may be missing.
        absent: (method, size) → why it is missing, in words.
        chosen: size → the run and the μ' that "palm" is.
        budgets: by rising number of calls.
        sweeps: one for each run.
        gaps: "exact", or "sampled" at V.
        normalization: "none", or "minmax" over how many policies.
        candidates: how many policies everything is measured against.
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
