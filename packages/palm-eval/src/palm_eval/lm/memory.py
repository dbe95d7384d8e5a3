"""Memory: free bytes, detection of out-of-memory errors, batches that shrink after one."""

from __future__ import annotations

import gc
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch

from palm_core import WorkError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_log = logging.getLogger("palm_eval")


def free_bytes(device: torch.device) -> int | None:
    """The free bytes on ``device``, or ``None`` if unknown."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + cached)
    if device.type != "cpu":
        return None
    found = [_available(), _left_of_group()]
    return min((bytes_ for bytes_ in found if bytes_ is not None), default=None)


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` is an out-of-memory error."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    if not isinstance(error, RuntimeError) or isinstance(error, WorkError):
        return False
    text = str(error)
    return any(
        said in text
        for said in ("DefaultCPUAllocator", "not enough memory", "out of memory", "ALLOC_FAILED")
    )


def check_memory(what: str, error: BaseException) -> None:
    """Raise :class:`WorkError` naming ``what`` if ``error`` is an out-of-memory error."""
    if out_of_memory(error):
        raise WorkError(f"{what}: out of memory while loading: {_first_line(error)}") from error


def halved(rows: int, error: BaseException) -> int:
    """Half of ``rows``, for a retry after ``error``; logs the reduction.

    Raises:
        WorkError: a single row did not fit.
    """
    reason = _first_line(error)
    if rows <= 1:
        raise WorkError(f"out of memory with a single row: {reason}")
    _log.warning("out of memory with %d rows, retrying with %d: %s", rows, rows // 2, reason)
    return rows // 2


def release() -> None:
    """Release cached memory that no tensor uses."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:200]


def _available() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass  # not Linux; try POSIX
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None  # unknown on this system


def _left_of_group() -> int | None:
    """Remaining memory of this process's control group (containers)."""
    try:
        folder = Path("/sys/fs/cgroup")
        limit = int((folder / "memory.max").read_text(encoding="ascii"))
        return max(0, limit - int((folder / "memory.current").read_text(encoding="ascii")))
    except (OSError, ValueError):  # no such group, or "max"
        return None


_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_batches(
    items: Sequence[_Item],
    rows: int | Callable[[Sequence[_Item]], int],
    work: Callable[[Sequence[_Item]], Sequence[_Result]],
) -> list[_Result]:
    """Apply ``work`` to all items in order, in batches; one result for each.

    Args:
        items: all of them.
        rows: batch size, or a function of the remaining items that returns it.
        work: must return the same result for an item in any batch.

    Raises:
        WorkError: not enough memory for a single item.
    """
    found: list[_Result] = []
    most = len(items)
    while len(found) < len(items):
        left = items[len(found) :]
        size = max(1, min(most, len(left), rows if isinstance(rows, int) else rows(left)))
        short: Exception | None = None
        try:
            found += work(left[:size])
        except Exception as error:
            if not out_of_memory(error):
                raise
            most = halved(size, error)
            short = error.with_traceback(None)
        if short is not None:
            # Outside the except block, where no traceback refers to tensors, they can be freed.
            del short
            release()
    return found
