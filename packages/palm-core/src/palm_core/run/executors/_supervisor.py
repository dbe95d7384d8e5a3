"""Supervising process of :class:`palm_core.run.executors.process.ChildProcess`.

Run as a script with the driver's process id and a command, which it starts in its own process
group. Standard input is a socket to the driver: the exit code of the command is sent there, and
end of file asks to kill the command. When the command has ended, everything that it has started
is killed: on Linux all descendants, elsewhere those that have stayed in the process group.
"""

from __future__ import annotations

import _thread
import ctypes
import os
import select
import signal
import sys
from contextlib import suppress

PR_SET_CHILD_SUBREAPER = 36


def main(driver: int, command: list[str]) -> None:
    """Run ``command`` to its end; never returns."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # is the driver's; the command inherits this
    if sys.platform == "linux":  # descendants whose parents end become children of this process
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = os.posix_spawnp(
        command[0],
        command,
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
        setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # which Python ignores
    )
    os.closerange(3, 1 << 16)  # what the command inherits closes when the command ends
    _thread.start_new_thread(kill_when_asked, (driver, child))
    ended = status = 0
    while ended != child:
        ended, status = os.waitpid(-1, 0)
    with suppress(OSError):  # the driver has ended
        os.write(0, b"%d" % os.waitstatus_to_exitcode(status))
    kill_descendants()
    os.killpg(0, signal.SIGKILL)


def kill_when_asked(driver: int, child: int) -> None:
    """Kill ``child`` at end of file on standard input, or when the driver has ended."""
    # A forked copy of the driver may keep the socket open, so the parent's id is checked too.
    while os.getppid() == driver and not select.select([0], [], [], 0.5)[0]:
        pass
    with suppress(OSError):  # it has just ended
        os.kill(child, signal.SIGKILL)


def kill_descendants() -> None:
    """Kill all processes below this one, in whatever session they are; Linux only."""
    with suppress(OSError):  # not Linux, or no process is left
        while True:
            with open(f"/proc/self/task/{os.getpid()}/children") as children:  # noqa: PTH123
                for pid in children.read().split():
                    os.kill(int(pid), signal.SIGKILL)
            os.waitpid(-1, 0)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
