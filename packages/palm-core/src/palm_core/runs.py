"""A finished run, opened again: other sizes out of the same oracle calls."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from palm_core.assembling import assemble, evaluate
from palm_core.build import grid_of
from palm_core.collecting import in_order
from palm_core.errors import InputError
from palm_core.ledger import Answer, Ledger
from palm_core.settings import Settings
from palm_core.sizes import SizeGap, size_gap_curve

if TYPE_CHECKING:
    from palm_core.ledger import Missing
    from palm_core.oracle import Claims
    from palm_core.portfolio import Portfolio


@dataclass(frozen=True, kw_only=True)
class Run:
    """The answers of a run and the settings they were asked with.

    Args:
        answers: one per weight asked, in the order of asking.
        objectives: d names.
        settings: as the run was built.
        claims: what the oracle claimed of itself.
        task: as it was resolved.
        missing: the weights that the oracle failed at.
    """

    answers: tuple[Answer, ...]
    objectives: tuple[str, ...]
    settings: Settings
    claims: Claims
    task: dict[str, Any]
    missing: tuple[Missing, ...] = ()

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Read a finished run.

        Raises:
            InputError: no run there, a damaged one, or one whose oracle calls
                are not all done.
        """
        with Ledger.read(Path(folder)) as ledger:
            task, objectives, claimed = ledger.task, ledger.objectives, ledger.claims
            rounds, missing = ledger.rounds(), ledger.missing()
            answers = in_order(ledger.answers(), rounds)
        try:
            settings = Settings.from_tables(task)
        except InputError as error:
            raise InputError(f"{folder}: {error}") from error
        if settings.target_epsilon is None:
            wanted = grid_of(settings, len(objectives))
        else:  # an adaptive run may be stopped anywhere, once nothing is without bounds
            wanted = np.eye(len(objectives))
        known = {answer.weights.tobytes() for answer in answers}
        known |= {item.weights.tobytes() for item in missing}
        left = sum(row.tobytes() not in known for row in wanted)
        if left or not answers:
            what = "oracle calls" if settings.target_epsilon is None else "vertices of the simplex"
            raise InputError(
                f"{folder}: {len(wanted) - left} of {len(wanted)} {what} are done; "
                f"finish the run first: palm build TASK --out {folder}"
            )
        return cls(
            answers=tuple(answers),
            objectives=objectives,
            settings=settings,
            claims=claimed,
            task=task,
            missing=tuple(missing),
        )

    def prune(self, settings: Settings) -> Portfolio:
        """Choose a portfolio with other pruning settings; the grid stays."""
        task = {**self.task, **settings.tables()}
        return assemble(
            self.answers,
            self.objectives,
            settings,
            claimed=self.claims,
            task=task,
            missing=self.missing,
        )

    def curve(self, *, most: int | None = None, time_limit: float = 60.0) -> list[SizeGap]:
        """The least gap of each size among the policies of the run, at every weight."""
        found = evaluate(self.answers, self.objectives, self.settings)
        return size_gap_curve(
            found.candidates, most=most, solver=self.settings.solver, time_limit=time_limit
        )
