"""Oracle calls: each weight asked once, each answer checked at the door and kept at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from palm_core.errors import OracleAnswerError, PalmError, WorkError
from palm_core.executors import answers as oracle_answers
from palm_core.ledger import Answer, Ledger
from palm_core.oracle import Oracle, check_answer, check_oracle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from palm_core.adaptive import AdaptiveGrid
    from palm_core.policies import Policy


class Progress(NamedTuple):
    """How far a run is: calls done, calls in all (if known), certified ε so far (if any)."""

    done: int
    total: int | None
    certified: float | None = None


class Collector:
    """The answers of a run, old and new.

    Args:
        oracle: who is asked.
        ledger: where answers are kept and where earlier ones come from, or ``None``.
        executor: who makes the calls, or ``None`` for this process.
        progress: called with a :class:`Progress` after each answer.

    Attributes:
        answers: all so far, in the order they came.
    """

    def __init__(
        self,
        oracle: Oracle,
        *,
        ledger: Ledger | None = None,
        executor: Executor | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.oracle, self.ledger, self.executor = oracle, ledger, executor
        self.objectives = check_oracle(oracle)
        self.answers: list[Answer] = ledger.answers() if ledger else []
        self._progress = progress
        self._by_id: dict[str, Policy] = {}
        for answer in self.answers:
            same_or_new(answer.policy, self._by_id)

    def collect(self, weights: NDArray[np.float64]) -> list[Answer]:
        """Return one answer per row of ``weights``, asking only for those that are missing.

        Raises:
            WorkError: a call failed; the answers that came before it are kept.
        """
        known = {answer.weights.tobytes(): answer for answer in self.answers}
        missing = np.array([row.tobytes() not in known for row in weights], dtype=bool)
        done, total = int(len(weights) - missing.sum()), len(weights)
        self.report(Progress(done, total))
        for answer in self._ask(weights[missing]):
            known[answer.weights.tobytes()] = answer
            done += 1
            self.report(Progress(done, total))
        return [known[row.tobytes()] for row in weights]

    def collect_adaptively(self, grid: AdaptiveGrid, *, most: int | None, batch: int = 1) -> str:
        """Ask where ``grid`` says, ``batch`` weights at a time, until it has nothing to ask.

        Answers that are there already are told first.

        Returns:
            Why it stopped: "target", "slack" (what is left is the oracle's), or
            "calls" (``most`` answers are there).

        Raises:
            WorkError: as :meth:`collect`.
        """
        for answer in self.answers:
            grid.tell(answer.weights, answer.policy.rewards, answer.policy.regularizer)
        while True:
            self._report_on(grid, most)
            if grid.stopped is not None:
                return grid.stopped
            room = batch if most is None else min(batch, most - len(self.answers))
            if room <= 0:
                return "calls"
            for answer in self._ask(grid.ask(room)):
                grid.tell(answer.weights, answer.policy.rewards, answer.policy.regularizer)
                self._report_on(grid, most)

    def report(self, progress: Progress) -> None:
        """Tell whoever wants to know."""
        if self._progress is not None:
            self._progress(progress)

    def _report_on(self, grid: AdaptiveGrid, most: int | None) -> None:
        if self._progress is None:
            return
        done, more = len(self.answers), grid.expected_calls
        total = most if more is None else done + more
        if total is not None and most is not None:
            total = min(total, most)
        found = grid.certificate
        self.report(Progress(done, total, None if found is None else found.epsilon))

    def _ask(self, weights: NDArray[np.float64]) -> Iterator[Answer]:
        for row, given, seconds in self._calls(weights):
            policy = check_answer(given, weights[row], self.objectives)
            same_or_new(policy, self._by_id)
            answer = Answer(weights[row].copy(), policy, seconds)
            if self.ledger is not None:
                self.ledger.record(answer.weights, policy, seconds)
            self.answers.append(answer)
            yield answer

    def _calls(self, weights: NDArray[np.float64]) -> Iterator[tuple[int, Any, float]]:
        """Yield from the oracle; what it raises becomes one line."""
        if not len(weights):
            return
        try:
            yield from oracle_answers(self.oracle, weights, self.executor)
        except PalmError:
            raise
        except Exception as error:
            kept = len(self.answers)
            safe = f"; the {kept} calls finished before it are kept" if self.ledger else ""
            reason = " ".join(str(error).split()) or "no message"
            raise WorkError(
                f"the oracle failed at call {kept + 1}: {type(error).__name__}: {reason}{safe}"
            ) from error


def same_or_new(policy: Policy, by_id: dict[str, Policy]) -> None:
    """Take ``policy`` into ``by_id``; the same id must mean the same values.

    Raises:
        OracleAnswerError: another policy of that id has other rewards.
    """
    other = by_id.setdefault(policy.id, policy)
    if not np.array_equal(other.rewards, policy.rewards) or other.regularizer != policy.regularizer:
        raise OracleAnswerError(
            f"policy id {policy.id!r} was answered twice with different rewards; "
            "ids must be unique in a run"
        )
