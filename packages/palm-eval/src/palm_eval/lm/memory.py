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
    """The bytes that are free on ``device``, or ``None`` where that cannot be told."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + cached)
    if device.type != "cpu":
        return None
    found = [_available(), _left_of_group()]
    return min((bytes_ for bytes_ in found if bytes_ is not None), default=None)


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that there was not enough memory."""
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
    """Raise :class:`WorkError` if ``error`` says that there was not enough memory for ``what``."""
    if out_of_memory(error):
        raise WorkError(f"{what}: out of memory while loading: {_first_line(error)}") from error


def halved(rows: int, error: BaseException) -> int:
    """Half of ``rows``, to go on with after ``error``; says so in the log.

    Raises:
        WorkError: a single row did not fit.
    """
    told = _first_line(error)
    if rows <= 1:
        raise WorkError(f"out of memory with a single row: {told}")
    _log.warning("out of memory with %d rows, going on with %d: %s", rows, rows // 2, told)
    return rows // 2


def release() -> None:
    """Give back what no tensor uses any more."""
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
        pass  # no Linux; POSIX may tell
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None  # a system that does not tell


def _left_of_group() -> int | None:
    """What the control group that we are in may still use (containers)."""
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
    """``work`` on all items in their order, some at a time; one result for each.

    Args:
        items: all of them.
        rows: how many at a time, or a function that says how many of those that are left.
        work: must give the same for an item whatever else is in its batch.

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
            # Only here, where no traceback holds tensors any more, can they be freed.
            del short
            release()
    return found
