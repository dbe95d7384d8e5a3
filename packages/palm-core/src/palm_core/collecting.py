"""Oracle calls: each weight asked once, each answer checked at the door and kept at once."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from palm_core._shield import shielded
from palm_core.calls.protocol import Answered, Call, Failure, Refused
from palm_core.errors import OracleAnswerError, WorkError
from palm_core.ledger import Answer, Missing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from palm_core.adaptive import AdaptiveGrid
    from palm_core.calls.protocol import CallExecutor, Event
    from palm_core.ledger import Ledger
    from palm_core.policies import Policy

_Asked = TypeVar("_Asked", Answer, Missing)

log = logging.getLogger(__name__)

#: So many weights failing in a row, the fewer the fewer have answers, are not to blame
#: themselves: the run stops.
FAILURES_IN_A_ROW = (3, 10)
#: A worker lost with its machine costs no attempt, but not for ever.
MOST_LOST = 20
#: Weights chosen together: more would be chosen blindly, fewer leave workers idle. That
#: it depends on the answers alone makes a run the same however many workers it has.
LARGEST_ROUND = 64


class Progress(NamedTuple):
    """How far a run is.

    Attributes:
        done: calls done.
        total: calls in all, as far as that is known.
        certified: ε certified so far, if any is.
        running: weights that are being worked on.
        failed: weights given up.
    """

    done: int
    total: int | None
    certified: float | None = None
    running: int = 0
    failed: int = 0


@dataclass(eq=False)
class _Item:
    """A weight vector (d,) on its way, and what it has been through."""

    weights: NDArray[np.float64]
    failures: int = 0
    lost: int = 0
    alone: bool = False


class Collector:
    """The answers of a run, old and new.

    Args:
        executor: who makes the calls.
        ledger: where answers are kept and where earlier ones come from, or ``None``.
        retries: how often a weight vector is asked again after a failure.
        batch: weight vectors per call; ``None`` for all at once.
        progress: called with a :class:`Progress` after each answer.

    Attributes:
        answers: all so far, in the order they came.
        rounds: the weights asked for, (k, d) for each time that some were chosen.
        missing: the weights given up.
    """

    def __init__(
        self,
        executor: CallExecutor,
        *,
        ledger: Ledger | None = None,
        retries: int = 2,
        batch: int | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.answers: list[Answer] = ledger.answers() if ledger else []
        self.rounds: list[NDArray[np.float64]] = ledger.rounds() if ledger else []
        self.missing: list[Missing] = []
        self._executor, self._ledger = executor, ledger
        self._retries, self._batch = retries, batch
        self._progress = progress
        self._total: int | None = None
        self._certified: float | None = None
        self._reported: Progress | None = None
        self._known = {answer.weights.tobytes(): answer for answer in self.answers}
        self._by_id: dict[str, Policy] = {}
        for answer in self.answers:
            same_or_new(answer.policy, self._by_id)
        self._queue: deque[_Item] = deque()
        self._running: dict[int, deque[_Item]] = {}
        self._calls = 0
        self._in_a_row = 0

    def collect(self, weights: NDArray[np.float64]) -> None:
        """Ask at each row of ``weights`` (k, d) that has no answer yet.

        Raises:
            WorkError: the oracle fails at every weight; the answers that came before are
                kept. A weight that fails alone is given up instead.
        """
        self._total = len(weights)
        self._ask(weights)

    def collect_adaptively(self, grid: AdaptiveGrid, *, most: int | None) -> str:
        """Ask where ``grid`` says, round by round, until it has nothing to ask.

        Rounds that were begun earlier come first. The weights of a round are told
        together and in order, so that the next depend on the answers alone, not on who
        was quicker.

        Returns:
            Why it stopped: "target", "slack" (what is left is the oracle's), "calls"
            (``most`` weights were asked), "negative" (the best is below 0 somewhere, so that no
            ε can be certified), or "failures" (what is left to ask was given up).

        Raises:
            WorkError: as :meth:`collect`.
        """
        asked = 0
        for weights in list(self.rounds):
            asked += len(weights)
            self._ask(weights)
            self._tell(grid, weights)
        while True:
            self._estimate(grid, most)
            if grid.stopped == "failures" and grid.certificate is None:
                raise self._stopped(
                    self.missing[-1].kind,
                    "the oracle failed at a vertex of the simplex, without which nothing is "
                    f"certified; last: {self.missing[-1].message}",
                )
            if grid.stopped is not None:
                return grid.stopped
            room = round_size(asked, grid.d)
            if most is not None:
                room = min(room, most - asked)
            if room <= 0:
                return "calls"
            weights = grid.ask(room)
            asked += len(weights)
            self._ask(weights)
            self._tell(grid, weights)

    def _tell(self, grid: AdaptiveGrid, weights: NDArray[np.float64]) -> None:
        found = [self._known.get(row.tobytes()) for row in weights]
        told = [answer for answer in found if answer is not None]
        if told:
            grid.tell(
                np.array([answer.weights for answer in told]),
                np.array([answer.policy.rewards for answer in told]),
                np.array([answer.policy.regularizer for answer in told]),
            )
        for row, answer in zip(weights, found, strict=True):
            if answer is None:
                grid.give_up(row)

    def _estimate(self, grid: AdaptiveGrid, most: int | None) -> None:
        if self._progress is None:
            return
        done, more = len(self.answers), grid.expected_calls
        self._total = most if more is None else done + more
        if self._total is not None and most is not None:
            self._total = min(self._total, most)
        found = grid.certificate
        self._certified = None if found is None else found.epsilon
        self._report()

    def _report(self) -> None:
        if self._progress is None:
            return
        running = sum(map(len, self._running.values()))
        done, failed = len(self.answers), len(self.missing)
        now = Progress(done, self._total, self._certified, running, failed)
        if now != self._reported:
            self._reported = now
            self._progress(now)

    def _ask(self, weights: NDArray[np.float64]) -> None:
        """Ask at the rows without an answer, until each has one or is given up."""
        requested = {row.tobytes() for rows in self.rounds for row in rows}
        fresh = [row for row in weights if row.tobytes() not in requested]
        if fresh:
            self.rounds.append(np.array(fresh))
            if self._ledger is not None:
                self._ledger.request(self.rounds[-1])
        self._queue.extend(_Item(row.copy()) for row in weights if row.tobytes() not in self._known)
        self._report()
        while self._queue or self._running:
            while self._queue and len(self._running) < self._executor.slots:
                self._submit()
            self._report()
            events = self._executor.events()
            with shielded():  # what has arrived is kept
                for event in events:
                    self._take(event)
        self._report()

    def _submit(self) -> None:
        items = deque([self._queue.popleft()])
        while self._queue and (self._batch is None or len(items) < self._batch):
            if items[0].alone or self._queue[0].alone:
                break
            items.append(self._queue.popleft())
        rows = np.array([item.weights for item in items])
        if self._ledger is not None:
            self._ledger.started(rows)
        self._running[self._calls] = items
        self._executor.submit(Call(self._calls, rows))
        self._calls += 1

    def _take(self, event: Event) -> None:
        items = self._running[event.call]
        if isinstance(event, Answered):
            item = items[0]
            try:
                same_or_new(event.policy, self._by_id)
                answer = Answer(item.weights, event.policy, event.seconds, event.artifact)
                if self._ledger is not None:
                    self._ledger.record(
                        answer.weights, answer.policy, answer.seconds, answer.artifact
                    )
            except OracleAnswerError as error:
                items.popleft()
                self._fail(item, Failure("refused", str(error)))
                return
            items.popleft()
            self.answers.append(answer)
            self._known[answer.weights.tobytes()] = answer
            self._in_a_row = 0
            log.info("answered %s in %.3g s", answer.policy.id, answer.seconds)
        elif isinstance(event, Refused):
            self._fail(items.popleft(), event.failure)
        else:
            del self._running[event.call]
            if not items:
                return
            first = items.popleft()
            if items and self._ledger is not None:
                self._ledger.set_aside(np.array([item.weights for item in items]))
            for item in items:  # whichever of them breaks a call, breaks no other's again
                item.alone = True
                self._queue.append(item)
            self._fail(first, event.failure or Failure("refused", "the call ended without it"))

    def _fail(self, item: _Item, failure: Failure) -> None:
        """Ask again later, or give up; stop the run where other weights would fail alike."""
        if failure.kind == "lost":
            item.lost += 1
        if failure.kind != "lost" or item.lost > MOST_LOST:
            item.failures += 1
        item.alone = True
        final = item.failures > self._retries
        if self._ledger is not None:
            self._ledger.failed(item.weights, failure, final=final and not failure.hopeless)
        log.warning(
            "failed at %s (%s, attempt %d): %s",
            np.array2string(item.weights, precision=6),
            failure.kind,
            item.failures + item.lost,
            failure.message,
        )
        if failure.detail:
            log.info("%s", failure.detail)
        if failure.hopeless:
            raise self._stopped(failure.kind, f"the oracle failed: {failure.message}")
        if not final:
            self._queue.append(item)
            return
        self.missing.append(
            Missing(
                weights=item.weights,
                attempts=item.failures + item.lost,
                kind=failure.kind,
                message=failure.message,
            )
        )
        self._in_a_row += 1
        least, most = FAILURES_IN_A_ROW
        limit = min(most, max(least, len(self.answers)))
        nothing_left = not (self.answers or self._queue or any(self._running.values()))
        if self._in_a_row >= limit or nothing_left:
            at = f"{self._in_a_row} weights in a row" if self._in_a_row > 1 else "the only weight"
            raise self._stopped(failure.kind, f"the oracle failed at {at}; last: {failure.message}")

    def _stopped(self, failure: str, message: str) -> WorkError:
        kept = len(self.answers)
        safe = f"; the {kept} calls finished before are kept" if self._ledger and kept else ""
        kind = OracleAnswerError if failure == "refused" else WorkError
        return kind(message + safe)


def in_order(items: Sequence[_Asked], rounds: Sequence[NDArray[np.float64]]) -> list[_Asked]:
    """Answers, or weights without one, in the order of asking, whoever was quicker."""
    known = {item.weights.tobytes(): item for item in items}
    keys = (row.tobytes() for rows in rounds for row in rows)
    return [known[key] for key in keys if key in known]


def round_size(asked: int, d: int) -> int:
    """How many weights to choose next: the d vertices, then a quarter of those asked.

    Measured (benchmarks/certified_calls.py): such rounds need as many calls as single
    steps, in a fraction of the steps.
    """
    return d if asked < d else min(LARGEST_ROUND, max(2, asked // 4))


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
