"""A finished run, opened again: other sizes out of the same oracle calls."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from palm_core.assembling import assemble, evaluate, prune_evaluated
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
        status: "optimal" if fewer will not do (proven), else "feasible".
        lower_bound: at least so many are needed.
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

    def curve(self, settings: Settings, *, most: int = 8) -> list[CurvePoint]:
        """The size of the portfolio as μ' falls: a point wherever it changes.

        For each size up to ``most`` the least μ' that bisection finds (to 1e-4).
        Greedy sizes need not grow monotonically as μ' falls, so a size may be met
        at a μ' that is not listed.

        Args:
            settings: the pruning; its μ' is not used.
            most: sizes beyond it are not looked for, being slow to prove.
        """
        evaluated = evaluate(self.answers, self.objectives, settings)
        found: dict[float, CurvePoint] = {}

        def at(mu: float) -> CurvePoint:
            if mu not in found:
                pruning, indices, gaps = prune_evaluated(evaluated, settings, mu)
                found[mu] = CurvePoint(
                    mu=mu,
                    size=len(indices),
                    epsilon=gaps.epsilon if np.isfinite(gaps.epsilon) else None,
                    delta=gaps.delta,
                    status=pruning.status,
                    lower_bound=pruning.lower_bound,
                )
            return found[mu]

        def split(low: float, high: float) -> None:
            if at(high).size > most or at(low).size <= at(high).size:
                return
            if high - low > CURVE_RESOLUTION:
                middle = (low + high) / 2
                split(middle, high)
                split(low, middle)

        # Halving first, because many policies are needed only where μ' is small.
        high = 1.0
        while high > CURVE_RESOLUTION and at(high).size <= most:
            split(high / 2, high)
            high /= 2
        if at(high).size <= most:
            split(0.0, high)
        points: list[CurvePoint] = []
        for mu in sorted(found, reverse=True):
            point = found[mu]
            if points and point.size == points[-1].size:
                points[-1] = point
            elif point.size <= most and (not points or point.size > points[-1].size):
                points.append(point)
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
