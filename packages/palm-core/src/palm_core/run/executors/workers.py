"""Worker processes: worker, pool; the choice of the executor of a run."""

from __future__ import annotations

import errno
import math
import os
import pickle
import socket
import subprocess
import sys
import time
from concurrent import futures
from contextlib import nullcontext
from dataclasses import replace
from multiprocessing import spawn
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

from palm_core.errors import InputError
from palm_core.run.config import THREAD_VARIABLES
from palm_core.run.executors import child
from palm_core.run.executors.process import ChildProcess
from palm_core.run.executors.protocol import (
    Ended,
    Failure,
    Here,
    failure_of,
    not_handed_over,
    perform,
    shortened,
    unreadable,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from palm_core.run.config import Execution
    from palm_core.run.executors.protocol import Call, CallExecutor, Event, Work

#: Minimum seconds for the start of Python and the user's script, whatever the timeout.
_START = 60.0
_UP = "the worker process was not up"
#: Bytes that are read from a worker at once.
_CHUNK = 1 << 20
#: Errors after which a process may start later; others are the same for every call.
_TEMPORARY = {errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM}


class Worker:
    """A worker process; started with its first call.

    Args:
        call: the first call.
        payload: the pickled work.
        timeout: seconds for each answer, and for making the oracle; ``None`` waits.
        variables: environment variables that differ from this process's.
        log: file for its output, or ``None``.

    Attributes:
        call: its current call, or ``None``.
        deadline: when (``time.monotonic``) its next message times out.
        unmade: why its oracle cannot be made, once reported.

    Raises:
        OSError: the process cannot be started, or its log not be opened.
        RuntimeError: this process is a worker that still imports its main module.
    """

    def __init__(
        self,
        call: Call,
        payload: bytes,
        *,
        timeout: float | None,
        variables: Mapping[str, str],
        log: Path | None,
    ) -> None:
        self.call: Call | None = call
        self.unmade: Failure | None = None
        self._payload, self._log = payload, log
        self._timeout = math.inf if timeout is None else timeout
        self._received = bytearray()
        # The import path, the main module and so on, as multiprocessing sends them.
        preparation = spawn.get_preparation_data("palm worker")
        preparation["authkey"] = bytes(preparation["authkey"])  # the class cannot be pickled
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
        self.channel, its = socket.socketpair()
        try:
            with its, nullcontext() if log is None else log.open("ab") as output:
                descriptor = its.fileno()
                self.process = ChildProcess(
                    [sys.executable, *_flags(), child.__file__, str(descriptor)],
                    environment={**os.environ, **variables},
                    output=output,
                    pass_fds=[descriptor],
                )
        except BaseException:
            self.channel.close()
            raise
        self._await(_UP, max(self._timeout, _START))
        self._send(pickle.dumps(preparation))

    def give(self, call: Call) -> bool:
        """Send its next call; false if it is gone."""
        self.call = call
        self._await("no answer", self._timeout)
        return self._send(pickle.dumps(call, pickle.HIGHEST_PROTOCOL))

    def hear(self) -> list[Event] | None:
        """Read its events once, without blocking; ``None`` if there is nothing to read."""
        try:
            chunk = self.channel.recv(_CHUNK, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except ConnectionError:
            chunk = b""
        if not chunk:  # it has ended
            return None
        self._received += chunk
        events = []
        while len(self._received) >= child.LENGTH.size:
            end = child.LENGTH.size + child.LENGTH.unpack_from(self._received)[0]
            if len(self._received) < end:
                break
            events += self._take(bytes(self._received[child.LENGTH.size : end]))
            del self._received[:end]
        return events

    def late(self) -> Failure:
        """The failure after its timeout."""
        return Failure("timeout", f"{self._awaited} within {self._limit:g} s")

    def death(self) -> Failure:
        """The failure after its end."""
        end = self.process.describe_end()
        log = "standard error" if self._log is None else self._log.name
        if self._awaited == _UP and (self.process.poll() or 0) >= 0:
            return Failure(
                "died",
                f"a worker process {end} before it was up: a script that starts a run must do "
                f'so under `if __name__ == "__main__":`; see {log}',
                hopeless=True,
            )
        return Failure("died", f"the worker process {end}; see {log}")

    def end(self) -> None:
        """Kill the worker and close its handles."""
        self.process.kill()
        self.channel.close()

    def _take(self, message: bytes) -> list[Event]:
        assert self.call is not None
        self._await(self._awaited, self._timeout)
        try:
            said = pickle.loads(message)
        except Exception as error:  # noqa: BLE001  user classes may raise anything
            return [unreadable(self.call.number, error)]
        if said == child.READY:
            self._await("the oracle was not made", self._timeout)
            self._send(self._payload)
        elif said == child.MADE:
            self.give(self.call)
        elif isinstance(said, Failure):
            self.unmade = said
        else:
            if isinstance(said, Ended):
                self.call = None
            return [said]
        return []

    def _await(self, message: str, limit: float) -> None:
        self._awaited, self._limit = message, limit
        self.deadline = time.monotonic() + limit

    def _send(self, message: bytes) -> bool:
        try:
            self.channel.sendall(message)
        except OSError:  # it is gone, which the next read reports
            return False
        return True


def _flags() -> list[str]:
    """Options of this interpreter, such as -W, for another one; as multiprocessing does."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return flags


def environment(execution: Execution, slot: int) -> dict[str, str]:
    """Environment variables of the worker in ``slot`` (from 0) that differ from this process's.

    A lower number of threads in the environment is not raised, unless the task sets one.

    Raises:
        InputError: more devices are asked for than are listed.
    """
    each = execution.threads_each
    variables = {}
    for name in THREAD_VARIABLES:
        own = os.environ.get(name, "").partition(",")[0].strip()
        if execution.threads is None and own.isdecimal() and 0 < int(own) < each:
            continue
        variables[name] = str(each)
    devices = execution.devices(slot, os.environ.get("CUDA_VISIBLE_DEVICES"))
    if devices is not None:
        variables["CUDA_VISIBLE_DEVICES"] = devices
    return variables


#: Polling interval in seconds for the exit of workers. Their sockets report it at once,
#: except where a forked copy of this process keeps the other ends open.
_LOOK = 1.0
#: Seconds for idle workers to exit by themselves.
_PARTING = 2.0


class WorkerProcesses:
    """Executor of calls in ``execution.workers`` processes on this machine.

    Not thread-safe. A program that makes one at its top level must do so under
    ``if __name__ == "__main__":``, as with all of ``multiprocessing``.

    Args:
        work: data for the calls; it is pickled, and the oracle is made in each worker.
        execution: number, threads and devices of workers, and the timeout.
        logs: folder for the output of workers, ``worker-1.log`` and so on; ``None``
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
        self._workers: dict[int, Worker] = {}
        self._told: list[Event] = []
        self._owner = os.getpid()

    def submit(self, call: Call) -> None:
        """Start a call in an idle worker, or in a new one.

        Raises:
            RuntimeError: all slots are busy, or this process is itself a worker that
                imports an unguarded script.
        """
        slot = self._slot()
        if slot in self._workers:
            worker = self._workers[slot]
            if worker.process.poll() is None and worker.give(call):
                return
            self._remove(slot)  # it exited while idle
        try:
            self._workers[slot] = Worker(
                call,
                self._payload,
                timeout=self._timeout,
                variables=self._environments[slot],
                log=None if self._logs is None else self._logs / f"worker-{slot + 1}.log",
            )
        except OSError as error:
            message = f"a worker process cannot be started: {failure_of(error).message}"
            hopeless = error.errno not in _TEMPORARY
            failure = Failure("died", shortened(message), hopeless=hopeless)
            self._told.append(Ended(call.number, failure))

    def events(self) -> Sequence[Event]:
        """Wait for events of running calls; empty if none is running."""
        told, self._told = self._told, []
        while not told:
            busy = self._busy()
            if not busy:
                break
            ends = [end.fileno() for _, worker in busy for end in (worker.channel, worker.process)]
            now = time.monotonic()
            wait(ends, min(_LOOK, *(max(0.0, worker.deadline - now) for _, worker in busy)))
            for slot, worker in busy:
                told += self._hear(slot, worker)
        return told

    def close(self) -> None:
        """End all workers: idle ones exit by themselves, others are killed. Bounded in time."""
        if os.getpid() != self._owner:  # in a forked copy
            return
        for worker in self._workers.values():
            worker.channel.close()
        deadline = time.monotonic() + _PARTING
        for slot, worker in list(self._workers.items()):
            if worker.call is None:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            self._remove(slot)
        self._told = []

    def _slot(self) -> int:
        """The slot of an idle worker, or one without a worker."""
        for slot in sorted(range(self.slots), key=lambda slot: slot not in self._workers):
            if slot not in self._workers or self._workers[slot].call is None:
                return slot
        raise RuntimeError(f"submit: all {self.slots} slots are busy")

    def _busy(self) -> list[tuple[int, Worker]]:
        return [(slot, worker) for slot, worker in self._workers.items() if worker.call is not None]

    def _hear(self, slot: int, worker: Worker) -> list[Event]:
        """The events of a busy worker, with its failure if it has exited."""
        ended = worker.process.poll() is not None
        told = worker.hear() or []
        late = not ended and time.monotonic() >= worker.deadline
        if not (ended or late or worker.unmade):
            return told
        worker.process.kill()
        while (more := worker.hear()) is not None:  # earlier messages
            told += more
        if worker.call is not None:
            failure = worker.unmade or (worker.late() if late else worker.death())
            told.append(Ended(worker.call.number, failure))
        self._remove(slot)
        return told

    def _remove(self, slot: int) -> None:
        self._workers.pop(slot).end()


def _pickled(work: Work) -> bytes:
    try:
        return pickle.dumps(work, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        raise not_handed_over(work, "worker processes", error) from error


def call_executor(
    work: Work,
    execution: Execution,
    executor: futures.Executor | None = None,
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
        return Here(work)
    if execution.executor == "ray":
        from palm_core.run.executors.ray import RayWorkers

        return RayWorkers(work, execution, logs)
    return WorkerProcesses(work, execution, logs)


class Futures:
    """A :class:`palm_core.run.executors.protocol.CallExecutor` on top of an ``Executor``.

    Such an executor returns all answers of a call together and has no timeout; if one of
    its processes dies, it is broken and the run stops.
    :class:`palm_core.run.executors.workers.WorkerProcesses` has neither limitation.
    """

    def __init__(self, work: Work, executor: futures.Executor) -> None:
        self.slots = max(1, getattr(executor, "_max_workers", 64))
        self._work, self._executor = work, executor
        self._waiting: dict[futures.Future[list[Event]], int] = {}

    def submit(self, call: Call) -> None:
        """Submit a call to the executor."""
        self._waiting[self._executor.submit(_all, self._work, call)] = call.number

    def events(self) -> Sequence[Event]:
        """Wait until a call ends and return its events."""
        done, _ = futures.wait(self._waiting, return_when=futures.FIRST_COMPLETED)
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
