"""Memory: what models and caches take, how many rows fit, what to do when there is none left."""

from __future__ import annotations

import gc
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import torch

from palm_core.errors import WorkError
from palm_core.simplex import check_count

_log = logging.getLogger("palm_mod")

# Of what is free, so much is used: allocators cannot use every gap.
_SHARE = 0.8
# Log-probabilities, scores of two weight vectors, and what is made on the way to them.
_COPIES = 6


@dataclass(frozen=True)
class Memory:
    """What decoding takes, in bytes, of all experts and the reference together.

    Args:
        weights: parameters and buffers, as loaded.
        cache: keys and values of one token in one row; layers with a sliding window take
            less once it is full.
        predictions: next-token predictions of one row.
    """

    weights: int
    cache: int
    predictions: int

    def of_rows(self, rows: int, length: int) -> int:
        """Bytes that ``rows`` prefixes of ``length`` tokens take, weights not counted."""
        return rows * (length * self.cache + _COPIES * self.predictions)

    def rows_that_fit(self, free: int, length: int) -> int:
        """How many prefixes of ``length`` tokens can be held in ``free`` bytes; at least 1.

        The longest prompts' first pass needs more for a moment; where that is too much the
        rows are halved (see :func:`palm_mod.forest.grow`).
        """
        length = check_count(length, name="length", least=1)
        return max(1, int(_SHARE * free) // max(1, self.of_rows(1, length)))


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
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _left_of_group() -> int | None:
    """What the control group that we are in may still use (containers)."""
    try:
        folder = Path("/sys/fs/cgroup")
        limit = int((folder / "memory.max").read_text(encoding="ascii"))
        return max(0, limit - int((folder / "memory.current").read_text(encoding="ascii")))
    except (OSError, ValueError):  # no such group, or "max"
        return None
