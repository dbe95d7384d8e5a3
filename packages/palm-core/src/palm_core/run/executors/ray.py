"""Ray: oracle calls in actors on a cluster."""

from __future__ import annotations

import logging
import math
import os
import pickle
import re
import signal
import socket
import sys
import time
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from palm_core.errors import InputError, WorkError
from palm_core.run.config import THREAD_VARIABLES
from palm_core.run.executors.protocol import (
    LONGEST_DETAIL,
    Answered,
    Ended,
    Failure,
    Refused,
    failure_of,
    not_handed_over,
    perform,
    shortened,
    unreadable,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from palm_core.oracles.protocol import Oracle
    from palm_core.run.config import Execution
    from palm_core.run.executors.protocol import Call, Event, Work

#: Seconds for a host to accept a connection. Ray itself would try for two minutes.
_ACCEPT = 10.0
_ACCEPTED = "must be 'auto' or 'host:port' of a running cluster, such as '10.0.0.1:6379'"


class Cluster:
    """The connection of this process to a Ray cluster.

    While the connection is open, messages of Ray about workers and machines go to its logs,
    never to standard output.

    Args:
        address: "auto", "host:port", "local" for a new one on this machine, or ``None``:
            the cluster this process is connected to, else that of ``RAY_ADDRESS``, else a
            new one.

    Attributes:
        ray: the module.
        own: whether this object started the cluster; then :meth:`close` ends it.

    Raises:
        InputError: Ray is not installed, no cluster answers at ``address``, or this
            process is connected to another one.
        WorkError: no cluster can be started on this machine.
    """

    def __init__(self, address: str | None) -> None:
        self.ray = ray = _installed()
        self.own = self._connected_here = False
        if ray.is_initialized():
            _check_same(ray, address)
        else:
            address = address or os.environ.get("RAY_ADDRESS") or "local"
            self.own = address == "local"
            _check_reachable(address)
            self._connect(address)
            self._connected_here = True
        # Ray prints messages on standard output and has no setting for that. A test
        # verifies this workaround.
        self._messages = _module("ray._private.worker")
        self._printed = getattr(self._messages, "_worker_logs_enabled", True)
        self._messages._worker_logs_enabled = False

    def fits(self, num_cpus: float, num_gpus: float) -> bool:
        """Whether a machine of the cluster has the resources for a worker, if idle."""
        return any(cpus >= num_cpus and gpus >= num_gpus for cpus, gpus in self._sizes())

    def offer(self) -> str:
        """Describe the resources of the cluster's machines."""
        sizes = self._sizes()
        shown = " or ".join(f"{cpus:g} CPUs and {gpus:g} GPUs" for cpus, gpus in sorted(set(sizes)))
        return f"the cluster has {len(sizes)} node{'s' * (len(sizes) != 1)} with {shown or 'none'}"

    def alive(self, node: str) -> bool:
        """Whether the machine with that id is alive."""
        return any(item["Alive"] for item in self.ray.nodes() if item["NodeID"] == node)

    def close(self) -> None:
        """Disconnect, if this object has connected; ends a cluster that it started."""
        if self._connected_here and self.ray.is_initialized():
            self.ray.shutdown()
        self._messages._worker_logs_enabled = self._printed

    def _sizes(self) -> list[tuple[float, float]]:
        found = [item["Resources"] for item in self.ray.nodes() if item["Alive"]]
        return [(item.get("CPU", 0.0), item.get("GPU", 0.0)) for item in found]

    def _connect(self, address: str) -> None:
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self.own:
            options["include_dashboard"] = False
        try:
            with _same_sigterm():
                self.ray.init(address=address, **options)
        except (OSError, RuntimeError, ValueError, self.ray.exceptions.RayError) as error:
            reason = failure_of(error).message
            if self.own:
                raise WorkError(
                    f"executor = 'ray': no cluster can be started here: {reason}"
                ) from error
            raise InputError(f"address = {address!r}: {_ACCEPTED} ({reason})") from error


def _module(name: str) -> Any:
    return import_module(name)


def _installed() -> Any:
    try:
        return import_module("ray")
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise InputError(
                f"executor = 'ray': Ray does not import: {failure_of(error).message}"
            ) from error
        raise InputError(
            "executor = 'ray': Ray is not installed; it comes with the extra palm-core[ray] "
            '(pip install "ray>=2.50")'
        ) from error


def _check_same(ray: Any, address: str | None) -> None:
    """Refuse an address other than that of the connected cluster."""
    if import_module("ray.util.client").ray.is_connected():
        _refuse_client("this process's connection to Ray")
    present = ray.get_runtime_context().gcs_address
    if address not in (None, "auto", present):
        raise InputError(f"address = {address!r}: this process is connected to {present!r} already")


def _check_reachable(address: str) -> None:
    if address.startswith("ray://"):
        _refuse_client(f"address = {address!r}")
    if address in ("auto", "local"):
        return
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdecimal() and int(port) < 1 << 16):
        raise InputError(f"address = {address!r}: {_ACCEPTED}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ACCEPT).close()
    except OSError as error:
        raise InputError(f"address = {address!r}: no cluster answers there ({error})") from error


def _refuse_client(what: str) -> None:
    raise InputError(
        f"{what}: goes through Ray Client, which cannot stream answers; run PALM on a machine "
        "of the cluster with address = 'auto' (ray job submit does that)"
    )


@contextmanager
def _same_sigterm() -> Iterator[None]:
    """Restore this program's SIGTERM handler, which Ray replaces."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if callable(before) and signal.getsignal(signal.SIGTERM) is not before:
        signal.signal(signal.SIGTERM, before)


#: Message of a worker that its oracle is made; all other messages are events.
_MADE = b""
#: Polling interval in seconds, also the delay of signals: Ray does not stop for them.
_LOOK = 1.0
#: Seconds for Ray to learn what became of an actor that does not answer; by its defaults a
#: machine counts as gone after 15 to 20.
_LEARN = 30.0


class RayWorkers:
    """Executor of calls in actors on a Ray cluster (a ``CallExecutor``).

    A pending actor does not block calls: they are assigned to running actors, and the
    timeout starts then. A cluster that was started here without the resources for a
    worker is refused at once; one that was joined may have an autoscaler, which Ray does
    not report, so it gets :attr:`patience` seconds.

    Args:
        work: data for the calls; the oracle is made once in each actor.
        execution: number, resources and cluster of the actors; timeout of each answer.
        logs: folder for ``ray.log``: the workers and their Ray logs.

    Attributes:
        slots: maximum number of concurrent calls, if the cluster has the resources.
        patience: seconds to wait for a machine with the resources for a worker.

    Raises:
        InputError: Ray is not installed, no cluster answers, a worker does not fit into
            the cluster, or ``work`` cannot be pickled.
        WorkError: no cluster can be started on this machine.
    """

    def __init__(self, work: Work, execution: Execution, logs: Path | None = None) -> None:
        self.slots = execution.workers
        self.patience = 300.0
        self._timeout = math.inf if execution.timeout is None else execution.timeout
        self._size = (execution.num_cpus, execution.num_gpus)
        if execution.num_gpus > 1 and not float(execution.num_gpus).is_integer():
            raise InputError(
                f"num_gpus = {execution.num_gpus:g}: Ray takes parts of one device or whole ones"
            )
        self._logs = logs
        self._queue: deque[Call] = deque()
        self._workers: list[_Worker] = []
        self._unfit: float | None = None
        self._closed = False
        self._cluster = Cluster(execution.address)
        self._ray = self._cluster.ray
        try:
            if self._cluster.own and not self._cluster.fits(*self._size):
                raise InputError(self._too_large())
            self._work = self._ray.put(_pickled(work))
        except BaseException:
            self._cluster.close()
            raise
        options: dict[str, Any] = {
            "num_cpus": execution.num_cpus,
            "num_gpus": execution.num_gpus,
            # No retries by Ray: the driver retries and records each attempt.
            "max_restarts": 0,
            "max_task_retries": 0,
        }
        if execution.threads is not None:
            variables = dict.fromkeys(THREAD_VARIABLES, str(execution.threads))
            options["runtime_env"] = {"env_vars": variables}
        self._actors = self._ray.remote(_Actor).options(**options)

    def submit(self, call: Call) -> None:
        """Start a call in an idle actor, or as soon as there is one."""
        self._queue.append(call)
        self._assign()

    def events(self) -> Sequence[Event]:
        """Wait for events of running calls; empty if none is running.

        Raises:
            WorkError: the cluster is gone.
        """
        told: list[Event] = []
        try:
            while not told and (self._queue or any(worker.call for worker in self._workers)):
                self._assign()
                told = self._wait()
        except (self._ray.exceptions.RayError, ConnectionError) as error:
            raise WorkError(f"the Ray cluster is gone: {failure_of(error).message}") from error
        except SystemError as error:  # Ray wraps exceptions of signal handlers
            raise error.__cause__ or error from None
        return told

    def close(self) -> None:
        """Kill all actors, and the cluster if it was started here; bounded in time."""
        if self._closed:
            return
        self._closed = True
        if self._ray.is_initialized():
            for worker in self._workers:
                self._kill(worker)
        self._workers, self._queue = [], deque()
        self._cluster.close()

    def _assign(self) -> None:
        """Assign waiting calls to idle actors; start more actors if necessary."""
        for worker in self._workers:
            if self._queue and worker.up is None and worker.call is None:
                worker.call = self._queue.popleft()
                worker.stream = worker.actor.perform.remote(worker.call)
                worker.deadline = time.monotonic() + self._timeout
        starting = sum(worker.up is not None for worker in self._workers)
        room = self.slots - len(self._workers)
        for _ in range(min(room, len(self._queue) - starting)):
            actor = self._actors.remote(self._work, [*sys.path])
            self._workers.append(_Worker(actor, actor.up.remote()))

    def _wait(self) -> list[Event]:
        waiting = {worker.awaited: worker for worker in self._workers if worker.awaited is not None}
        soonest = min((worker.deadline for worker in waiting.values()), default=math.inf)
        limit = min(max(0.0, soonest - time.monotonic()), _LOOK, self.patience)
        ready, _ = self._ray.wait(list(waiting), num_returns=1, timeout=limit)
        if ready:  # and further messages available now
            ready, _ = self._ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
        told: list[Event] = []
        for item in ready:
            told += self._hear(waiting.pop(item))
        return told + self._look(waiting.values())

    def _hear(self, worker: _Worker) -> list[Event]:
        """Receive the messages of a worker, or its failure."""
        try:
            if worker.silence is not None:
                self._ray.get(worker.probe)  # it runs, but what it was computing is lost
                return self._bury(worker, self._unreachable(worker))
            if worker.up is not None:
                worker.place = self._ray.get(worker.up)
                worker.up = None
                self._note(f"{worker.place} started")
                return []
            message = self._ray.get(next(worker.stream))
        except self._ray.exceptions.ActorUnavailableError as error:
            # So Ray calls any actor of which it does not know yet whether the process ended or
            # the machine is gone. Asked again, it says which as soon as it knows.
            if worker.silence is None:
                worker.deadline = time.monotonic() + _LEARN
            worker.silence = error
            worker.probe = worker.actor.up.remote()
            return []
        except (self._ray.exceptions.RayError, StopIteration) as error:
            return self._bury(worker, self._failure(error, worker))
        worker.deadline = time.monotonic() + self._timeout
        if message == _MADE or worker.call is None:
            return []
        event = _read(message, worker.call.number)
        if isinstance(event, Ended):
            worker.call = worker.stream = None
        return [event]

    def _look(self, silent: Iterable[_Worker]) -> list[Event]:
        """End calls after their timeout, and all if no machine becomes available."""
        told: list[Event] = []
        now = time.monotonic()
        for worker in silent:
            if now >= worker.deadline:
                failure = (
                    Failure("timeout", f"no answer in {self._timeout:g} s")
                    if worker.silence is None
                    else self._unreachable(worker)
                )
                told += self._bury(worker, failure)
        if any(worker.up is None for worker in self._workers) or self._cluster.fits(*self._size):
            self._unfit = None
            return told
        self._unfit = self._unfit or now
        if now - self._unfit >= self.patience:
            failure = Failure("lost", shortened(self._too_large()), hopeless=True)
            told += [Ended(call.number, failure) for call in self._queue]
            self._queue.clear()
        return told

    def _bury(self, worker: _Worker, failure: Failure) -> list[Event]:
        """Retire an actor; its call ends, or the next one if it has not started any."""
        self._kill(worker)
        self._workers.remove(worker)
        self._note(f"{failure.kind}: {failure.message}")
        call = worker.call or (self._queue.popleft() if self._queue else None)
        return [] if call is None else [Ended(call.number, failure)]

    def _kill(self, worker: _Worker) -> None:
        with suppress(self._ray.exceptions.RayError):  # already dead
            self._ray.kill(worker.actor)

    def _failure(self, error: Exception, worker: _Worker) -> Failure:
        known = self._ray.exceptions
        text, where = _plain(error), worker.where
        if isinstance(error, known.OutOfMemoryError):
            return Failure(
                "memory", f"{where} was ended by Ray: its machine ran out of memory", text
            )
        if (
            isinstance(error, (known.NodeDiedError, known.ObjectLostError))
            or getattr(error, "preempted", False)
            or "node has died" in text
            or (worker.place is not None and not self._cluster.alive(worker.place.node))
        ):
            return Failure("lost", f"{where}: its machine is gone", text)
        unstarted = (known.RuntimeEnvSetupError, known.ActorUnschedulableError)
        if isinstance(error, unstarted) or getattr(error, "actor_init_failed", False):
            reason = shortened(f"no worker can be started: {text.strip().splitlines()[-1]}")
            return Failure("died", reason, text, hopeless=True)
        return Failure("died", f"{where} died before it answered", text)

    def _unreachable(self, worker: _Worker) -> Failure:
        text = "" if worker.silence is None else _plain(worker.silence)
        return Failure("lost", f"{worker.where}: its machine cannot be reached", text)

    def _too_large(self) -> str:
        cpus, gpus = self._size
        return (
            f"num_cpus = {cpus:g}, num_gpus = {gpus:g}: {self._cluster.offer()}, "
            "and each worker needs all of its share on one node"
        )

    def _note(self, line: str) -> None:
        if self._logs is None:
            return
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        with suppress(OSError):  # the log is optional
            self._logs.mkdir(parents=True, exist_ok=True)
            with (self._logs / "ray.log").open("a", encoding="utf-8") as file:
                file.write(f"{now} {line}\n")


def _plain(error: Exception) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", str(error))[-LONGEST_DETAIL:]


class _Place(NamedTuple):
    """Node and process of a worker."""

    node: str
    host: str
    process: int
    worker: str

    def __str__(self) -> str:
        return f"Ray worker {self.worker} (process {self.process} on {self.host})"


@dataclass(eq=False)
class _Worker:
    """The driver's state of an actor: ``up`` until it runs, ``call`` while it works.

    From ``silence`` on, the error that Ray could not reach it, ``probe`` asks it again.
    """

    actor: Any
    up: Any
    place: _Place | None = None
    call: Call | None = None
    stream: Any = None
    deadline: float = math.inf
    silence: Exception | None = None
    probe: Any = None

    @property
    def where(self) -> str:
        """The actor, as messages name it."""
        return "a Ray worker that was starting" if self.place is None else str(self.place)

    @property
    def awaited(self) -> Any:
        """The object reference to wait for; ``None`` for an idle actor."""
        if self.silence is not None:
            return self.probe
        return self.stream if self.up is None else self.up


class _Actor:
    """The actor on the cluster. It returns bytes, so that Ray stores no arrays."""

    def __init__(self, work: bytes, paths: list[str]) -> None:
        # Append the driver's import path to the installed one.
        installed = tuple({sys.prefix, sys.base_prefix})
        new = [path for path in paths if path not in sys.path and not path.startswith(installed)]
        sys.path += [path for path in new if Path(path).is_dir()]
        # Ray sets this from num_cpus; Numba does not read it.
        threads = os.environ.get("OMP_NUM_THREADS", "")
        if threads.isdecimal():
            for name in THREAD_VARIABLES:
                os.environ.setdefault(name, threads)
        self._pickled = work
        self._made: tuple[Work, Oracle, bool] | None = None

    def up(self) -> _Place:
        """Return the place of this actor."""
        ray = import_module("ray")
        here = ray.get_runtime_context()
        host = ray.util.get_node_ip_address()
        return _Place(here.get_node_id(), host, os.getpid(), here.get_worker_id())

    def perform(self, call: Call) -> Iterator[bytes]:
        """Yield :data:`_MADE` before the first call's events, and each event, pickled."""
        if self._made is None:
            try:
                work = pickle.loads(self._pickled)
                # Before the oracle makes the folder.
                shared = work.artifacts is None or work.artifacts.parent.is_dir()
                self._made = work, work.oracle(), shared
            except (Exception, SystemExit) as error:  # noqa: BLE001  a factory may raise anything
                failure = failure_of(error)
                message = shortened(f"the oracle cannot be made in a worker: {failure.message}")
                yield pickle.dumps(
                    Ended(call.number, replace(failure, message=message, hopeless=True))
                )
                return
            yield _MADE
        work, oracle, shared = self._made
        for event in perform(work, oracle, call):
            yield _written(event if shared else _kept_apart(work, event))


def _kept_apart(work: Work, event: Event) -> Event:
    """Refuse an artifact that exists on this machine only."""
    if not isinstance(event, Answered) or event.artifact is None:
        return event
    message = f"{work.artifacts}: is not on a file system that all nodes share"
    return Refused(event.call, Failure("refused", shortened(message), hopeless=True))


def _written(event: Event) -> bytes:
    try:
        return pickle.dumps(event, pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001  user classes may raise anything
        return pickle.dumps(unreadable(event.call, error))


def _pickled(work: Work) -> bytes:
    """Pickle the work, with definitions of the driver's script by value."""
    try:
        return bytes(import_module("ray.cloudpickle").dumps(work))
    except Exception as error:
        raise not_handed_over(work, "Ray workers", error) from error


def _read(message: bytes, call: int) -> Event:
    try:
        event: Event = pickle.loads(message)
    except Exception as error:  # noqa: BLE001  a user class may be missing here
        return unreadable(call, error)
    return event
