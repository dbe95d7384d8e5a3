"""A finished run, opened again: other sizes out of the same oracle calls."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from palm_core.assembling import assemble
from palm_core.build import grid_of
from palm_core.errors import InputError
from palm_core.ledger import Answer, Ledger
from palm_core.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from palm_core.oracle import Claims
    from palm_core.portfolio import Portfolio

#: The curve tells μ' apart to this much.
CURVE_RESOLUTION = 1e-4


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """The least μ' (to 1e-4) from which a run needs only so many policies.

    Args:
        mu: μ'.
        size: policies in the portfolio.
        epsilon: exact multiplicative gap against all policies of the run,
            ``None`` where it is not finite.
        delta: exact additive gap.
        status: "optimal" or "feasible" on the grid's weights.
        lower_bound: at least so many are needed on the grid's weights.
    """

    mu: float
    size: int
    epsilon: float | None
    delta: float
    status: str
    lower_bound: int


@dataclass(frozen=True, kw_only=True)
class Run:
    """The answers of a run and the settings they were asked with.

    Args:
        answers: one per weight asked, in the grid's order or as they came.
        objectives: d names.
        settings: as the run was built.
        claims: what the oracle claimed of itself.
        task: as it was resolved.
    """

    answers: tuple[Answer, ...]
    objectives: tuple[str, ...]
    settings: Settings
    claims: Claims
    task: dict[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Read a finished run.

        Raises:
            InputError: no run there, a damaged one, or one whose oracle calls
                are not all done.
        """
        with Ledger.read(Path(folder)) as ledger:
            task, objectives, claimed = ledger.task, ledger.objectives, ledger.claims
            answers = ledger.answers()
        try:
            settings = Settings.from_tables(task)
        except InputError as error:
            raise InputError(f"{folder}: {error}") from error
        if settings.target_epsilon is None:
            answers = _on_grid(answers, grid_of(settings, len(objectives)), folder)
        elif not np.array([answer.weights == 1.0 for answer in answers]).any(axis=0).all():
            raise InputError(
                f"{folder}: the oracle calls at the vertices are not all done; "
                f"finish the run first: palm build TASK --out {folder}"
            )
        return cls(
            answers=tuple(answers),
            objectives=objectives,
            settings=settings,
            claims=claimed,
            task=task,
        )

    def prune(self, settings: Settings) -> Portfolio:
        """Choose a portfolio with other pruning settings; the grid stays."""
        task = {**self.task, **settings.tables()}
        return assemble(self.answers, self.objectives, settings, claimed=self.claims, task=task)

    def curve(self, settings: Settings) -> list[CurvePoint]:
        """The size of the portfolio as μ' grows: a point wherever it changes.

        μ' = 0 comes first; then, for each smaller size, the least μ' that
        bisection finds (to 1e-4). Greedy sizes need not fall monotonically, so
        a size may be met between two points at a μ' that is not listed.
        """
        found: dict[float, Portfolio] = {}

        def at(mu: float) -> Portfolio:
            if mu not in found:
                found[mu] = self.prune(replace(settings, prune_mu=mu))
            return found[mu]

        def split(low: float, high: float) -> None:
            if len(at(low)) <= len(at(high)) or high - low <= CURVE_RESOLUTION:
                return
            middle = (low + high) / 2
            split(low, middle)
            split(middle, high)

        split(0.0, 1.0)
        points: list[CurvePoint] = []
        for mu, portfolio in sorted(found.items()):
            pruning, gaps = portfolio.pruning, portfolio.gaps
            if pruning is None or gaps is None:
                continue
            if not points or len(portfolio) < points[-1].size:
                points.append(
                    CurvePoint(
                        mu=mu,
                        size=len(portfolio),
                        epsilon=gaps.epsilon,
                        delta=gaps.delta,
                        status=pruning.status,
                        lower_bound=pruning.lower_bound,
                    )
                )
        return points


def _on_grid(
    answers: list[Answer], weights: NDArray[np.float64], folder: str | Path
) -> list[Answer]:
    known = {answer.weights.tobytes(): answer for answer in answers}
    missing = sum(row.tobytes() not in known for row in weights)
    if missing:
        raise InputError(
            f"{folder}: {len(weights) - missing} of {len(weights)} oracle calls are done; "
            f"finish the run first: palm build TASK --out {folder}"
        )
    return [known[row.tobytes()] for row in weights]
