"""What every executor of oracle calls keeps to.

Each rule takes an idle executor made for ``work(folder)`` and leaves it idle; ``RULES``
names them. ``check_close`` takes a function that makes one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

# Beside this file, which stands on sys.path: workers import it too.
from worker_oracles import OBJECTIVES, Make, asked

from palm_core.run.executors.protocol import (
    Answered,
    Call,
    CallExecutor,
    Ended,
    Event,
    Refused,
    Work,
)


def work(folder: Path) -> Work:
    return Work(Make(folder), OBJECTIVES, folder)


def call(number: int, *troubles: str) -> Call:
    return Call(number, asked(*troubles))


def events_of(executor: CallExecutor, *calls: Call, limit: float = 120.0) -> list[Event]:
    """Submit calls and return everything that happened until all have ended."""
    for one in calls:
        executor.submit(one)
    told: list[Event] = []
    deadline = time.monotonic() + limit
    while sum(isinstance(event, Ended) for event in told) < len(calls):
        assert time.monotonic() < deadline, told
        told += executor.events()
    return told


def kinds(events: Sequence[Event]) -> list[str]:
    """Shown as "answered", or the kind of the failure, or "ended"."""
    return [
        "answered"
        if isinstance(event, Answered)
        else "ended"
        if event.failure is None
        else f"{'refused ' if isinstance(event, Refused) else ''}{event.failure.kind}"
        for event in events
    ]


def answers_come_while_the_next_is_computed(executor: CallExecutor, folder: Path) -> None:
    executor.submit(call(1, "none", "wait", "none"))
    told: list[Event] = []
    while not told:
        told += executor.events()
    assert kinds(told) == ["answered"]
    assert not (folder / "go").exists()
    (folder / "go").touch()
    while not isinstance(told[-1], Ended):
        told += executor.events()
    assert kinds(told) == ["answered", "answered", "answered", "ended"]


def answers_are_whole(executor: CallExecutor, folder: Path) -> None:
    first, second, ended = events_of(executor, call(7, "none", "artifact"))
    assert isinstance(first, Answered)
    assert isinstance(second, Answered)
    weights = asked("none", "artifact")
    for row, event in zip(weights, (first, second), strict=True):
        assert event.call == 7
        assert event.seconds >= 0
        np.testing.assert_array_equal(event.policy.weights, row)
        np.testing.assert_array_equal(event.policy.rewards, row)
        assert event.policy.rewards.dtype == np.float64
    assert first.policy.id == "none-0.000000"
    assert first.artifact is None
    assert second.artifact is not None
    assert second.artifact.bytes == len("weights")
    assert second.policy.artifact == second.artifact.path == "model"
    assert ended == Ended(7, None)


def a_refused_answer_does_not_end_the_call(executor: CallExecutor, folder: Path) -> None:
    told = events_of(executor, call(2, "none", "nan", "none"))
    assert kinds(told) == ["answered", "refused refused", "answered", "ended"]
    refused = told[1]
    assert isinstance(refused, Refused)
    assert "must be finite numbers" in refused.failure.message


def what_the_oracle_raises_ends_the_call(executor: CallExecutor, folder: Path) -> None:
    told = events_of(executor, call(3, "none", "raise", "none"))
    assert kinds(told) == ["answered", "raised"]
    ended = told[-1]
    assert isinstance(ended, Ended)
    assert ended.failure is not None
    assert ended.failure.message == "ValueError: a line and another"
    assert "worker_oracles.py" in ended.failure.detail
    assert not ended.failure.hopeless


def an_oracle_may_not_end_the_run(executor: CallExecutor, folder: Path) -> None:
    told = events_of(executor, call(4, "none", "exit"))
    assert kinds(told) == ["answered", "raised"]


def an_oracle_that_stops_early_is_refused(executor: CallExecutor, folder: Path) -> None:
    told = events_of(executor, call(5, "none", "stop", "none"))
    assert kinds(told) == ["answered", "refused"]
    ended = told[-1]
    assert isinstance(ended, Ended)
    assert ended.failure is not None
    assert "answered 1 of 3 weights" in ended.failure.message


def memory_and_full_disks_are_told_apart(executor: CallExecutor, folder: Path) -> None:
    (memory,) = events_of(executor, call(6, "memory"))
    assert isinstance(memory, Ended)
    assert memory.failure is not None
    assert (memory.failure.kind, memory.failure.hopeless) == ("memory", False)
    (disk,) = events_of(executor, call(7, "disk"))
    assert isinstance(disk, Ended)
    assert disk.failure is not None
    assert (disk.failure.kind, disk.failure.hopeless) == ("raised", True)


def calls_follow_one_another(executor: CallExecutor, folder: Path) -> None:
    left = [call(number, "none", "nan", "about") for number in range(100, 110)]
    running: set[int] = set()
    told: dict[int, list[Event]] = {one.number: [] for one in left}
    while left or running:
        while left and len(running) < executor.slots:
            running.add(left[0].number)
            executor.submit(left.pop(0))
        for event in executor.events():
            assert event.call in running
            told[event.call].append(event)
            if isinstance(event, Ended):
                running.remove(event.call)
    for events in told.values():
        assert kinds(events) == ["answered", "refused refused", "answered", "ended"]


def without_a_call_nothing_happens(executor: CallExecutor, folder: Path) -> None:
    assert not executor.events()


RULES: dict[str, Callable[[CallExecutor, Path], None]] = {
    rule.__name__: rule
    for rule in (
        answers_come_while_the_next_is_computed,
        answers_are_whole,
        a_refused_answer_does_not_end_the_call,
        what_the_oracle_raises_ends_the_call,
        an_oracle_may_not_end_the_run,
        an_oracle_that_stops_early_is_refused,
        memory_and_full_disks_are_told_apart,
        calls_follow_one_another,
        without_a_call_nothing_happens,
    )
}


def check_close(make: Callable[[Work], CallExecutor], folder: Path, limit: float = 10.0) -> None:
    """Closing ends what runs, at once; twice is fine, and before the first call too."""
    make(work(folder)).close()
    executor = make(work(folder))
    executor.submit(call(1, "none", "sleep"))
    told: list[Event] = []
    while not told:
        told += executor.events()
    begun = time.monotonic()
    executor.close()
    executor.close()
    assert time.monotonic() - begun < limit
