"""Choice of the executor by name, and the adapter for ``concurrent.futures``."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import replace
from typing import TYPE_CHECKING

from palm_core.run.executors.protocol import Call, Ended, Event, Work, failure_of, perform

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from palm_core.run.config import Execution
    from palm_core.run.executors.protocol import CallExecutor


def call_executor(
    work: Work,
    execution: Execution,
    executor: Executor | None = None,
    logs: Path | None = None,
) -> CallExecutor:
    """Return the executor of the calls.

    Args:
        work: data for the workers.
        execution: settings of the calls.
        executor: an executor of ``concurrent.futures`` to use instead.
        logs: the folder for the workers' output, or ``None``.

    Raises:
        InputError: what is asked for is not installed, or cannot be reached.
    """
    if executor is not None:
        return Futures(work, executor)
    if execution.executor == "here":
        from palm_core.run.executors.protocol import Here

        return Here(work)
    if execution.executor == "ray":
        from palm_core.run.executors.ray import RayWorkers

        return RayWorkers(work, execution, logs)
    from palm_core.run.executors.workers import WorkerProcesses

    return WorkerProcesses(work, execution, logs)


class Futures:
    """A :class:`palm_core.run.executors.protocol.CallExecutor` on top of an ``Executor``.

    Such an executor returns all answers of a call together and has no timeout; if one of
    its processes dies, it is broken and the run stops.
    :class:`palm_core.run.executors.workers.WorkerProcesses` has neither limitation.
    """

    def __init__(self, work: Work, executor: Executor) -> None:
        self.slots = max(1, getattr(executor, "_max_workers", 64))
        self._work, self._executor = work, executor
        self._waiting: dict[Future[list[Event]], int] = {}

    def submit(self, call: Call) -> None:
        """Submit a call to the executor."""
        self._waiting[self._executor.submit(_all, self._work, call)] = call.number

    def events(self) -> Sequence[Event]:
        """Wait until a call ends and return its events."""
        done, _ = wait(self._waiting, return_when=FIRST_COMPLETED)
        events: list[Event] = []
        for future in sorted(done, key=self._waiting.__getitem__):
            number = self._waiting.pop(future)
            error = future.exception()
            if error is None:
                events += future.result()
            else:  # an error of the executor: exceptions of an oracle are events
                failure = failure_of(error)
                events.append(Ended(number, replace(failure, kind="died", hopeless=True)))
        return events

    def close(self) -> None:
        """Cancel pending calls; the owner shuts down the executor."""
        for future in self._waiting:
            future.cancel()
        self._waiting.clear()


def _all(work: Work, call: Call) -> list[Event]:
    return list(perform(work, work.oracle(), call))
