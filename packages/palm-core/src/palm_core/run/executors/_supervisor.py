"""Supervising process of :class:`palm_core.run.executors.process.ChildProcess`.

Run as a script with the driver's process id and a command. Starts the command in its own
process group and kills the group when the command or the driver has ended. Standard input
is a socket to the driver: the exit code is sent there, end of file is the driver's end.
"""

from __future__ import annotations

import _thread
import os
import select
import signal
import sys


def main(driver: int, command: list[str]) -> None:
    """Run ``command`` and report its exit code; never returns."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # for the driver; the command inherits this
    child = os.posix_spawnp(
        command[0],
        command,
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
        setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # which Python ignores
    )
    _thread.start_new_thread(kill_after, (driver,))
    _, status = os.waitpid(child, 0)
    os.write(0, b"%d" % os.waitstatus_to_exitcode(status))
    os.killpg(0, signal.SIGKILL)


def kill_after(driver: int) -> None:
    """Kill this process group after the end of ``driver``."""
    # A forked copy of the driver may keep the socket open, so the parent's id is checked too.
    while os.getppid() == driver and not select.select([0], [], [], 0.5)[0]:
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
