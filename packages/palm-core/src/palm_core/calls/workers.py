"""Oracle calls in worker processes of this machine, each with a channel of its own.

The processes are spawned by ``multiprocessing``, one for each slot, when a call first
needs it, and replaced when they die. They share nothing, so that one that is killed
never holds up another. Each leads a session of its own: what the oracle starts
(``torchrun``, a server) ends with it at a timeout, at :meth:`WorkerProcesses.close` and
with the driver, and Ctrl-C in the terminal reaches the driver alone.
"""

from __future__ import annotations

import atexit
import os
import pickle
import time
from contextlib import suppress
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from palm_core.calls._process import Guard, Worker, environment, uninterrupted
from palm_core.calls.protocol import Ended, Failure, failure_of, not_handed_over, shortened
from palm_core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from palm_core.calls.protocol import Call, Event, Work
    from palm_core.execution import Execution

#: Seconds between two looks at whether the workers live. Their channels and sentinels
#: tell at once, but not where something that they forked holds these open.
_LOOK = 1.0
#: Seconds that idle workers get to end by themselves.
_PARTING = 2.0


class WorkerProcesses:
    """Makes the calls in ``execution.workers`` processes of this machine.

    Not for several threads at once. A program that makes one at its top level must do
    so under ``if __name__ == "__main__":``, as with all of ``multiprocessing``.

    Args:
        work: what the calls need; it is pickled, and the oracle is made in each worker.
        execution: how many workers, their threads and devices, and the timeout.
        logs: folder for what the workers print, ``worker-1.log`` and so on; ``None``
            sends it to standard error.

    Raises:
        InputError: ``work`` cannot be pickled, or there are fewer devices than asked for.
    """

    def __init__(self, work: Work, execution: Execution, logs: Path | None = None) -> None:
        if not hasattr(os, "setsid"):
            raise InputError("executor = 'local': needs a POSIX system; use 'here'")
        self.slots = execution.workers
        self._payload = _pickled(work)
        self._timeout = execution.timeout
        self._environments = [environment(execution, slot) for slot in range(self.slots)]
        self._logs = None if logs is None else logs.absolute()
        self._workers: list[Worker | None] = [None] * self.slots
        self._told: list[Event] = []
        self._guard = Guard()
        self._owner = os.getpid()
        # Before multiprocessing's own, which waits for its processes.
        atexit.register(self.close)

    def submit(self, call: Call) -> None:
        """Begin a call in an idle worker, or in a new one.

        Raises:
            RuntimeError: all slots are busy, or this process is itself a worker that
                imports an unguarded script.
        """
        slot = self._slot()
        worker = self._workers[slot]
        if worker is not None:
            if worker.process.is_alive() and worker.give(call):
                return
            self._remove(slot)  # it died while it was idle
        try:
            with uninterrupted():
                self._workers[slot] = Worker(
                    call,
                    self._payload,
                    timeout=self._timeout,
                    variables=self._environments[slot],
                    log=None if self._logs is None else self._logs / f"worker-{slot + 1}.log",
                )
                self._watch()
        except OSError as error:
            self._remove(slot)
            message = f"a worker process cannot be started: {failure_of(error).message}"
            self._told.append(Ended(call.number, Failure("died", shortened(message))))

    def events(self) -> Sequence[Event]:
        """Wait until something happened in a running call; nothing if none is running."""
        told, self._told = self._told, []
        while not told:
            busy = self._busy()
            if not busy:
                break
            ends: list[Any] = [worker.channel for _, worker in busy]
            ends += [worker.process.sentinel for _, worker in busy]
            now = time.monotonic()
            wait(ends, min(_LOOK, *(max(0.0, worker.deadline - now) for _, worker in busy)))
            for slot, worker in busy:
                told += self._hear(slot, worker)
        return told

    def close(self) -> None:
        """End all workers: the idle ones by themselves, the others at once. Never hangs."""
        if os.getpid() != self._owner:  # in a copy that a fork has made
            return
        atexit.unregister(self.close)
        workers = [worker for worker in self._workers if worker is not None]
        for worker in workers:
            worker.channel.close()
            if worker.call is not None:
                worker.kill()
        deadline = time.monotonic() + _PARTING
        for worker in workers:
            worker.gone_within(deadline - time.monotonic())
            worker.end()
        self._workers = [None] * self.slots
        self._told = []
        self._guard.close()

    def _slot(self) -> int:
        """An idle worker's, or one without a worker."""
        order = sorted(range(self.slots), key=lambda slot: self._workers[slot] is None)
        for slot in order:
            worker = self._workers[slot]
            if worker is None or worker.call is None:
                return slot
        raise RuntimeError(f"submit: all {self.slots} slots are busy")

    def _busy(self) -> list[tuple[int, Worker]]:
        return [
            (slot, worker)
            for slot, worker in enumerate(self._workers)
            if worker is not None and worker.call is not None
        ]

    def _hear(self, slot: int, worker: Worker) -> list[Event]:
        """What a busy worker has said, and how it ended if it did."""
        alive = worker.process.is_alive()
        told = worker.hear() or []
        gone = not alive or worker.closed
        late = not gone and time.monotonic() >= worker.deadline
        if not (gone or late or worker.unmade):
            return told
        if gone:  # its end of the channel closes a moment before it has an exit code
            worker.gone_within(_PARTING)
        code = worker.process.exitcode
        worker.kill()
        while (more := worker.hear()) is not None:  # what it had said before
            told += more
        if worker.call is not None:
            failure = worker.unmade or (worker.late() if late else worker.death(code))
            told.append(Ended(worker.call.number, failure))
        self._remove(slot)
        return told

    def _remove(self, slot: int) -> None:
        worker = self._workers[slot]
        if worker is not None:
            self._workers[slot] = None
            worker.end()
            with suppress(OSError):  # then there is no guard that could kill the wrong one
                self._watch()

    def _watch(self) -> None:
        pids = [worker.process.pid for worker in self._workers if worker is not None]
        self._guard.watch([pid for pid in pids if pid is not None])


def _pickled(work: Work) -> bytes:
    try:
        return pickle.dumps(work, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        raise not_handed_over(work, "worker processes", error) from error
