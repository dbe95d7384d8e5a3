"""Guard process: kills the workers after the driver has exited.

Run as a script with the driver's process id. Standard input has the ids of the
processes to kill, a line each time they change. When the driver is gone, for whatever
reason, they are killed with their process groups: an oracle in compiled code cannot
exit by itself, nor end the processes that it has started.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from contextlib import suppress


def main() -> None:
    """Wait for the driver's exit, then kill its workers."""
    driver, left, begun = int(sys.argv[1]), b"", b""
    while True:
        # A forked process may keep the pipe open, so the parent's id is checked too.
        alive = os.getppid() == driver
        if select.select([0], [], [], 0.5 if alive else 0.0)[0]:
            chunk = os.read(0, 1 << 16)
            if not chunk:
                break
            *lines, begun = (begun + chunk).split(b"\n")
            left = lines[-1] if lines else left
        elif not alive:
            break
    for process in map(int, left.split()):
        for kill in (os.killpg, os.kill):
            with suppress(OSError):  # it has exited, or is no group leader
                kill(process, signal.SIGKILL)


if __name__ == "__main__":
    main()
