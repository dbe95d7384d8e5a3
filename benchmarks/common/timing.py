"""Times and memory of pieces of work."""

from __future__ import annotations

import time
import tracemalloc
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


def seconds(work: Callable[[], Any]) -> float:
    """How long ``work`` takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


class Spent(NamedTuple):
    """Seconds on the clock, and of all processors together."""

    wall: float
    cpu: float


def alternating(repeats: int, *works: Callable[[], Any]) -> list[Spent]:
    """Time each work ``repeats`` times, in turns: what slows the machine slows them all.

    Returns:
        for each work the least of its times: other work can only add to them. Processor
        time hardly sees other work, but does not see either that a work uses every core.
    """
    rounds: list[list[Spent]] = [[] for _ in works]
    for _ in range(repeats):
        for work, times in zip(works, rounds, strict=True):
            clock, busy = time.perf_counter(), time.process_time()
            work()
            times.append(Spent(time.perf_counter() - clock, time.process_time() - busy))
    return [Spent(*map(min, zip(*times, strict=True))) for times in rounds]


def peak_memory(work: Callable[[], Any]) -> int:
    """Largest bytes held while ``work`` runs, as NumPy reports them."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak
