"""What the system says about processes, for tests that start and kill them; Linux only."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


def children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def below(pid: int) -> list[int]:
    """All descendants of a process."""
    return [one for child in children(pid) for one in (child, *below(child))]


def is_running(pid: int) -> bool:
    """Whether there is such a process that is not just waiting to be collected."""
    return state(pid) not in ("", "Z", "X")


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def marked(mark: str) -> list[int]:
    """The running processes with ``mark`` in their environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue  # it has ended, or is not ours
        if mark.encode() in environment and is_running(int(entry.name)):
            found.append(int(entry.name))
    return found


def wait_until(true: Callable[[], object], limit: float = 10.0) -> float:
    """Seconds until ``true()``; fails after ``limit``."""
    begun = time.monotonic()
    while not true():
        assert time.monotonic() - begun < limit, "waited too long"
        time.sleep(0.01)
    return time.monotonic() - begun
