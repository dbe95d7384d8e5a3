"""A small process that outlives the driver by a moment, to end the workers it left.

Run as a script with the driver's process id. Standard input says which processes to
end, a line of ids each time they change. When the driver is gone, however it ended,
they are killed with everything in their process groups: an oracle deep in compiled
code cannot do that itself, nor for the processes that it has started.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from contextlib import suppress


def main() -> None:
    """Wait for the driver's end, then kill what it left."""
    driver, left, begun = int(sys.argv[1]), b"", b""
    while True:
        # Something the driver forked may hold the pipe open, so its id is looked at too.
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
            with suppress(OSError):  # it has ended, or leads no group
                kill(process, signal.SIGKILL)


if __name__ == "__main__":
    main()
