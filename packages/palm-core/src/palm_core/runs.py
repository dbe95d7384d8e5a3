"""A finished run, opened again: other sizes out of the same oracle calls."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palm_core.build import assemble, grid_for
from palm_core.errors import InputError
from palm_core.ledger import Answer, Ledger
from palm_core.settings import Settings

if TYPE_CHECKING:
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
        answers: one per grid weight, in the grid's order.
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
            known = {answer.weights.tobytes(): answer for answer in ledger.answers()}
        try:
            settings = Settings.from_tables(task)
        except InputError as error:
            raise InputError(f"{folder}: {error}") from error
        weights = grid_for(len(objectives), settings.mu, settings.alpha)
        missing = sum(row.tobytes() not in known for row in weights)
        if missing:
            raise InputError(
                f"{folder}: {len(weights) - missing} of {len(weights)} oracle calls are done; "
                "finish the run first: palm build TASK --out " + str(folder)
            )
        return cls(
            answers=tuple(known[row.tobytes()] for row in weights),
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
