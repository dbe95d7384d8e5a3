"""Times and memory of pieces of work."""

from __future__ import annotations

import time
import tracemalloc
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def seconds(work: Callable[[], Any]) -> float:
    """How long ``work`` takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def alternating(repeats: int, *works: Callable[[], Any]) -> list[tuple[float, ...]]:
    """Seconds of each work, in turns: what slows the machine for a while slows them all.

    Returns:
        for each work, its ``repeats`` times.
    """
    rounds = [[seconds(work) for work in works] for _ in range(repeats)]
    return list(zip(*rounds, strict=True))


def peak_memory(work: Callable[[], Any]) -> int:
    """Largest bytes held while ``work`` runs, as NumPy reports them."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak
