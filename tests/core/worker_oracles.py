"""Oracles that get into trouble where they are told to, for tests of executors."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from palm_core import Policy

OBJECTIVES = ("first", "second")
#: What may happen at a weight vector: the trouble at place i is at (i/100, 1 − i/100).
TROUBLES = (
    "none",
    "nan",
    "raise",
    "exit",
    "stop",
    "memory",
    "disk",
    "wait",
    "nap",
    "sleep",
    "hold",
    "kill",
    "crash",
    "leave",
    "large",
    "copy",
    "unsendable",
    "unreadable",
    "print",
    "start",
    "about",
    "artifact",
)


def asked(*troubles: str) -> np.ndarray:
    """Weights (n, 2) that get the oracle into these troubles, one after the other."""
    first = np.array([TROUBLES.index(name) / 100 for name in troubles])
    return np.column_stack([first, 1 - first])


class Unreadable(Policy):
    """Can be pickled, and not be unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return (int, ("this is no number",))


@dataclass
class Troubled:
    """An oracle whose rewards are its weights, but for its troubles."""

    folder: Path
    objectives: tuple[str, ...] = OBJECTIVES

    def solve(self, weights: np.ndarray) -> Iterator[Policy]:
        for row in weights:
            name = TROUBLES[round(row[0] * 100)]
            if name == "stop":
                return
            yield self.answer(name, row)

    def answer(self, trouble: str, row: np.ndarray) -> Policy:
        policy = Policy(id=f"{trouble}-{row[0]:.6f}", weights=row, rewards=row.copy())
        values = vars(policy)
        match trouble:
            case "nan":
                values["rewards"] = np.array([np.nan, 1.0])
            case "raise":
                raise ValueError("a line\nand another")
            case "exit":
                sys.exit("enough")
            case "memory":
                raise MemoryError("too much")
            case "disk":
                raise OSError(errno.ENOSPC, "No space left on device")
            case "wait":  # until the test has what came before
                deadline = time.monotonic() + 60
                while not (self.folder / "go").exists():
                    if time.monotonic() > deadline:
                        raise TimeoutError("nobody said go")
                    time.sleep(0.005)
            case "nap":
                time.sleep(0.4)
            case "sleep":
                time.sleep(60)
            case "hold":  # compiled code that lets no other thread run
                ctypes.PyDLL(None).sleep(60)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "crash":
                ctypes.string_at(0)
            case "leave":
                os._exit(3)
            case "large" | "copy":  # by a process that has a copy of itself
                if os.fork() == 0:
                    (self.folder / "copy").write_text(str(os.getpid()))
                    time.sleep(60)
                    os._exit(0)
                if trouble == "copy":
                    time.sleep(60)
                values["prompt_rewards"] = np.ones((500_000, 2))
            case "unsendable":

                class Local(Policy):
                    pass

                return Local(**values)
            case "unreadable":
                return Unreadable(**values)
            case "print":
                print("from Python")
                os.write(1, b"from C\n")
                print("an error", file=sys.stderr)
            case "start":
                started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
                (self.folder / "started").write_text(f"{os.getpid()} {started.pid}")
                time.sleep(60)
            case "about":
                values["info"] = {"pid": os.getpid(), "environment": dict(os.environ)}
            case "artifact":
                (self.folder / "model").write_text("weights")
                values["artifact"] = "model"
        return policy


@dataclass
class Make:
    """Makes an oracle, or fails to."""

    folder: Path
    how: str = "well"

    def __call__(self) -> Troubled:
        if self.how == "raise":
            raise ValueError("no such model")
        if self.how == "sleep":
            time.sleep(60)
        if self.how == "leave":
            os._exit(4)
        if self.how == "others":
            return Troubled(self.folder, ("first", "third"))
        return Troubled(self.folder)
