"""Worker processes: worker, guard process, pool; the choice of the executor of a run."""

from __future__ import annotations

import atexit
import math
import multiprocessing
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent import futures
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palm_core.errors import InputError
from palm_core.run.config import THREAD_VARIABLES
from palm_core.run.executors.child import MADE, READY, Channel, serve
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
    from collections.abc import Iterator, Mapping, Sequence

    from palm_core.run.config import Execution
    from palm_core.run.executors.protocol import Call, CallExecutor, Event, Work

#: Minimum seconds for the start of Python and the user's script, whatever the timeout.
_START = 60.0
#: Seconds to wait for the exit of a killed process.
_GONE = 5.0
_starting = threading.Lock()


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
        closed: whether its end of the channel is closed.

    Raises:
        OSError: the process cannot be started.
        RuntimeError: this process is one that ``multiprocessing`` has not finished starting.
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
        self.closed = False
        self._payload, self._log = payload, log
        self._timeout = math.inf if timeout is None else timeout
        self._up = self._made = False
        mine, its = socket.socketpair()
        self.channel = Channel(mine)
        tied = threading.current_thread() is threading.main_thread()
        # Not a daemon: daemons may not start processes of multiprocessing, and oracles do.
        self.process = multiprocessing.get_context("spawn").Process(
            target=serve, args=(its, os.getpid(), tied, log), name="palm worker"
        )
        try:
            with its, _inherited(variables):
                self.process.start()
        except BaseException:
            mine.close()
            raise
        self.deadline = time.monotonic() + max(self._timeout, _START)

    def give(self, call: Call) -> bool:
        """Send its next call; false if it is gone."""
        self.call = call
        self.deadline = time.monotonic() + self._timeout
        return self._send(pickle.dumps(call, pickle.HIGHEST_PROTOCOL))

    def hear(self) -> list[Event] | None:
        """Read its events once, without blocking; ``None`` if there is nothing to read."""
        try:
            messages = self.channel.receive(wait=False)
        except EOFError:
            self.closed = True
            return None
        if messages is None:
            return None
        return [event for message in messages for event in self._take(message)]

    def late(self) -> Failure:
        """The failure after its timeout."""
        what, limit = "no answer", self._timeout
        if not self._up:
            what, limit = "the worker process was not up", max(limit, _START)
        elif not self._made:
            what = "the oracle was not made"
        return Failure("timeout", f"{what} within {limit:g} s")

    def death(self, code: int | None) -> Failure:
        """The failure for an exit code; ``None``: it closed its channel without exiting."""
        log = "" if self._log is None else f"; see {self._log.name}"
        if code is None:
            return Failure("died", f"the worker process closed its channel{log}")
        if code >= 0 and not self._up:
            return Failure(
                "died",
                f"a worker process ended with exit code {code} before it was up: a script that "
                'starts a run must do so under `if __name__ == "__main__":`; see standard error',
                hopeless=True,
            )
        if code >= 0:
            return Failure("died", f"the worker process ended with exit code {code}{log}")
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        memory = " (the system may have run out of memory)" if name == "SIGKILL" else ""
        return Failure("died", f"the worker process was killed by {name}{memory}{log}")

    def kill(self) -> None:
        """Kill the worker and its process group."""
        if self.process.pid is not None:
            with suppress(OSError):  # it is gone, or not yet a group leader
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()

    def end(self) -> None:
        """Kill the worker and close its handles."""
        self.kill()
        self.channel.close()
        self.gone_within(_GONE)
        with suppress(ValueError):  # still running: uninterruptible in the kernel
            self.process.close()

    def gone_within(self, seconds: float) -> bool:
        """Wait for its exit, at most ``seconds``."""
        deadline = time.monotonic() + seconds
        # A forked process may keep its sentinel open.
        while self.process.is_alive() and time.monotonic() < deadline:
            self.process.join(0.02)
        return not self.process.is_alive()

    def _take(self, message: bytes) -> list[Event]:
        assert self.call is not None
        self.deadline = time.monotonic() + self._timeout
        try:
            said = pickle.loads(message)
        except Exception as error:  # noqa: BLE001  user classes may raise anything
            return [unreadable(self.call.number, error)]
        if said == READY:
            self._up = True
            self._send(self._payload)
        elif said == MADE:
            self._made = True
            self.give(self.call)
        elif isinstance(said, Failure):
            self.unmade = said
        else:
            if isinstance(said, Ended):
                self.call = None
            return [said]
        return []

    def _send(self, message: bytes) -> bool:
        try:
            self.channel.send(message)
        except OSError:  # it is gone, which the next read reports
            return False
        return True


class Guard:
    """The guard process: kills the workers when this process exits without doing so."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, workers: Sequence[int]) -> None:
        """Set the process ids to kill; starts the guard if it does not run.

        Raises:
            OSError: it cannot be started.
        """
        line = " ".join(map(str, workers)).encode() + b"\n"
        if self._process is not None:
            try:
                self._tell(line)
            except OSError:  # the guard was killed
                self.close()
            else:
                return
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", Path(__file__).with_name("_guard.py"), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            bufsize=0,
        )
        self._tell(line)

    def close(self) -> None:
        """Stop the guard without killing workers."""
        if self._process is None:
            return
        with suppress(OSError):  # it is gone already
            self._tell(b"\n")
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(_GONE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _tell(self, line: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(line)


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


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Defer SIGINT until the end of the block; processes started within never receive it.

    Blocking the signal is for these processes. It does not prevent ``KeyboardInterrupt``
    here, since another thread may receive the signal.
    """
    resource_tracker.ensure_running()  # as multiprocessing does; its start lifts the block
    came: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    deferred = callable(handler) and threading.current_thread() is threading.main_thread()
    if deferred:
        signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if deferred:
            signal.signal(signal.SIGINT, handler)
    if came:
        signal.raise_signal(signal.SIGINT)


@contextmanager
def _inherited(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for processes started within, from their first import on."""
    with _starting:
        before = {name: os.environ.get(name) for name in variables}
        try:
            os.environ.update(variables)
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


#: Polling interval in seconds for the exit of workers. Their channels and sentinels report
#: it at once, except where a forked process keeps these open.
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
        self._workers: list[Worker | None] = [None] * self.slots
        self._told: list[Event] = []
        self._guard = Guard()
        self._owner = os.getpid()
        # Runs before the exit handler of multiprocessing, which waits for its processes.
        atexit.register(self.close)

    def submit(self, call: Call) -> None:
        """Start a call in an idle worker, or in a new one.

        Raises:
            RuntimeError: all slots are busy, or this process is itself a worker that
                imports an unguarded script.
        """
        slot = self._slot()
        worker = self._workers[slot]
        if worker is not None:
            if worker.process.is_alive() and worker.give(call):
                return
            self._remove(slot)  # it exited while idle
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
        """Wait for events of running calls; empty if none is running."""
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
        """End all workers: idle ones exit by themselves, others are killed. Bounded in time."""
        if os.getpid() != self._owner:  # in a forked copy
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
        """The slot of an idle worker, or one without a worker."""
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
        """The events of a busy worker, with its failure if it has exited."""
        alive = worker.process.is_alive()
        told = worker.hear() or []
        gone = not alive or worker.closed
        late = not gone and time.monotonic() >= worker.deadline
        if not (gone or late or worker.unmade):
            return told
        if gone:  # the channel closes a moment before the exit code is available
            worker.gone_within(_PARTING)
        code = worker.process.exitcode
        worker.kill()
        while (more := worker.hear()) is not None:  # earlier messages
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
            with suppress(OSError):  # without a guard no reused id can be killed
                self._watch()

    def _watch(self) -> None:
        pids = [worker.process.pid for worker in self._workers if worker is not None]
        self._guard.watch([pid for pid in pids if pid is not None])


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
