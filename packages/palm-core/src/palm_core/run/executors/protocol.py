"""Protocol of executors: calls, events, failures; the executor in this process.

A call passes weight vectors to an oracle. Its answers arrive one by one, each validated
where the oracle runs, so that the driver receives plain arrays. A failure belongs to one
weight vector: the first of the call that has no answer yet.
"""

from __future__ import annotations

import errno
import time
import traceback
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from palm_core.errors import InputError, OracleAnswerError
from palm_core.oracles.protocol import check_answer, check_oracle
from palm_core.run.artifacts import Artifact, seal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from palm_core.model.policy import Policy
    from palm_core.oracles.protocol import Oracle

#: "lost": the machine of the worker is gone; not counted as an attempt.
FailureKind = Literal["raised", "refused", "timeout", "memory", "died", "lost"]
LONGEST_MESSAGE = 500
LONGEST_DETAIL = 20_000
# After these errors no other call can succeed: the disk is full or read-only.
_HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


@dataclass(frozen=True)
class Failure:
    """The reason why a weight vector has no answer.

    Args:
        kind: "raised", "refused" (invalid answer), "timeout", "memory", "died" (the worker)
            or "lost" (its machine).
        message: one line.
        detail: the traceback, or empty.
        hopeless: other calls would fail too, whatever their weights.
    """

    kind: FailureKind
    message: str
    detail: str = ""
    hopeless: bool = False


class Call(NamedTuple):
    """Weights (n, d) of one call of an oracle; ``number`` identifies the call."""

    number: int
    weights: NDArray[np.float64]


class Answered(NamedTuple):
    """Event: the answer for the next weight vector of a call."""

    call: int
    policy: Policy
    artifact: Artifact | None
    seconds: float


class Refused(NamedTuple):
    """Event: an invalid answer for the next weight vector of a call; the call continues."""

    call: int
    failure: Failure


class Ended(NamedTuple):
    """Event: the end of a call; ``failure`` is for the next weight vector without an answer."""

    call: int
    failure: Failure | None


Event = Answered | Refused | Ended


class CallExecutor(Protocol):
    """Executor of oracle calls.

    Attributes:
        slots: maximum number of concurrent calls.
    """

    slots: int

    def submit(self, call: Call) -> None:
        """Start a call; never more than ``slots``."""
        ...

    def events(self) -> Sequence[Event]:
        """Wait for events of running calls and return them, in order."""
        ...

    def close(self) -> None:
        """Terminate running calls at once; their answers are lost."""
        ...


@dataclass(frozen=True)
class Work:
    """Data for a worker; picklable if ``make`` is.

    Args:
        make: factory of the oracle; called once in every worker.
        objectives: the objectives of the answers.
        artifacts: the run's folder for artifacts, or ``None`` without a run.
    """

    make: Callable[[], Oracle]
    objectives: tuple[str, ...]
    artifacts: Path | None = None

    def oracle(self) -> Oracle:
        """Make the oracle.

        Raises:
            InputError: its objectives are not those of the run.
        """
        oracle = self.make()
        found = check_oracle(oracle)
        if found != self.objectives:
            raise InputError(f"oracle.objectives = {found}: must be {self.objectives}, the run's")
        return oracle


@dataclass(frozen=True)
class Given:
    """A factory that returns an existing oracle; workers get a copy of it."""

    oracle: Oracle

    def __call__(self) -> Oracle:
        """Return the oracle."""
        return self.oracle


def perform(work: Work, oracle: Oracle, call: Call) -> Iterator[Event]:
    """Make a call in this process: yield each answer as it is ready, then the end of the call.

    Raises only exceptions that stop the process (``KeyboardInterrupt``).
    """
    number, weights = call
    try:
        stream = iter(oracle.solve(weights.copy()))
        for row in range(len(weights)):
            begun = time.perf_counter()
            try:
                given = next(stream)
            except StopIteration:
                raise OracleAnswerError(
                    f"the oracle answered {row} of {len(weights)} weights and stopped"
                ) from None
            seconds = time.perf_counter() - begun
            yield _checked(work, number, given, weights[row], seconds)
    except (Exception, SystemExit) as error:  # noqa: BLE001  an oracle may raise anything
        yield Ended(number, failure_of(error))
        return
    yield Ended(number, None)


def _checked(
    work: Work, number: int, given: Any, weights: NDArray[np.float64], seconds: float
) -> Event:
    try:
        policy = check_answer(given, weights, work.objectives)
        artifact = None
        if policy.artifact is not None and work.artifacts is not None:
            artifact = seal(work.artifacts, policy.artifact)
            if artifact is not None:
                policy = replace(policy, artifact=artifact.path)
    except OracleAnswerError as error:
        return Refused(number, failure_of(error))
    return Answered(number, policy, artifact, seconds)


def not_handed_over(work: Work, to: str, error: Exception) -> InputError:
    """The error for ``work`` that cannot be pickled."""
    made = getattr(work.make, "oracle", work.make)
    name = getattr(made, "__qualname__", type(made).__qualname__)
    return InputError(
        f"oracle {name}: cannot be handed to {to} ({failure_of(error).message}); make it from a "
        "class or function of a module, or use executor = 'here'"
    )


def failure_of(error: BaseException) -> Failure:
    """Convert an exception to a :class:`Failure`."""
    text = " ".join(str(error).split()) or "no message"
    kind: FailureKind = "raised"
    if isinstance(error, OracleAnswerError):
        kind, message = "refused", text
    else:
        message = f"{type(error).__name__}: {text}"
        # PyTorch raises other classes than MemoryError.
        if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__:
            kind = "memory"
    full = isinstance(error, OSError) and error.errno in _HOPELESS
    # An invalid request, whatever the weights: no call can succeed.
    hopeless = full or isinstance(error, InputError)
    detail = "" if kind == "refused" else "".join(traceback.format_exception(error))
    return Failure(kind, shortened(message), detail[-LONGEST_DETAIL:], hopeless)


def unreadable(call: int, error: BaseException) -> Event:
    """The event for an answer that cannot be pickled or unpickled."""
    found = failure_of(error)
    message = f"the answer cannot be sent by a worker: {found.message}"
    return Refused(call, Failure("refused", shortened(message), found.detail))


def shortened(text: str) -> str:
    """Truncate ``text`` to one line of bounded length."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_MESSAGE else line[: LONGEST_MESSAGE - 2] + " …"


class Here:
    """Executor in this process; the oracle is made on construction.

    A crash of a call ends the run, and no call can be interrupted.

    Args:
        work: data for the calls.

    Raises:
        InputError: the oracle's objectives are not those of the run.
        Exception: whatever making the oracle raises.
    """

    def __init__(self, work: Work) -> None:
        self.slots = 1
        self._work, self._oracle = work, work.oracle()
        self._running: Iterator[Event] | None = None

    def submit(self, call: Call) -> None:
        """Start a call; the oracle is not asked before :meth:`events`.

        Raises:
            RuntimeError: a call is running.
        """
        if self._running is not None:
            raise RuntimeError("submit: a call is running, and there is one slot")
        self._running = perform(self._work, self._oracle, call)

    def events(self) -> Sequence[Event]:
        """Run the call until its next event and return it; empty if no call is running."""
        if self._running is None:
            return ()
        try:
            event = next(self._running)
        except BaseException:  # Ctrl-C: the call is over
            self._running = None
            raise
        if isinstance(event, Ended):
            self._running = None
        return (event,)

    def close(self) -> None:
        """Discard the running call."""
        self._running = None
