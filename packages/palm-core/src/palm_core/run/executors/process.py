"""Child processes that end with this process: of worker processes and of oracles."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

#: Seconds to wait for the end of killed processes.
_GONE = 5.0


class ChildProcess:
    """A command in a process group of its own that ends with this process, whatever ends it.

    A small supervising process starts the command in a new session, which the terminal's
    Ctrl-C does not reach (SIGINT is ignored there). When this process ends, it kills the
    command, with SIGKILL, and when the command ends, everything that it has started: on
    Linux all descendants, elsewhere the process group. A context manager that kills on exit.
    Needs a POSIX system.

    Args:
        command: the program and its arguments.
        environment: its environment variables; by default those of this process.
        output: file for standard output and error, or ``subprocess.PIPE``; ``None`` is
            this process's standard error. Standard input is empty.
        pass_fds: file descriptors that the command inherits, with the same numbers.

    Attributes:
        pid: process id of the supervising process, and id of the process group.
        output: the stream to read if ``output`` is ``subprocess.PIPE``, else ``None``.

    Raises:
        OSError: no process can be started. If only ``command`` cannot be run, it ends
            with exit code 1, and the reason is in its output.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        output: IO[bytes] | int | None = None,
        pass_fds: Collection[int] = (),
    ) -> None:
        self._code: int | None = None
        self._socket, its = socket.socketpair()
        self._socket.setblocking(False)
        script = Path(__file__).with_name("_supervisor.py")
        try:
            with its:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", script, str(os.getpid()), *command],
                    stdin=its.fileno(),
                    stdout=2 if output is None else output,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    pass_fds=pass_fds,
                    start_new_session=True,
                )
        except BaseException:  # Ctrl-C: what was started ends with the socket
            self._socket.close()
            raise
        self.pid = self._process.pid
        self.output: IO[bytes] | None = self._process.stdout

    def fileno(self) -> int:
        """A file descriptor that is readable once the command has ended, for ``select``."""
        return self._socket.fileno()

    def poll(self) -> int | None:
        """The exit code, ``-n`` for signal ``n``; ``None`` while the command runs."""
        if self._code is None:
            ended, report = self._process.poll(), b""
            with suppress(OSError):  # nothing to read
                report = self._socket.recv(16)
            if report:
                self._code = int(report)
            elif ended is not None:  # the supervising process was killed
                self._kill_group()
                self._code = ended
        return self._code

    def wait(self, seconds: float | None = None) -> int | None:
        """Wait for the end of all processes, at most ``seconds``; return :meth:`poll`."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.poll()

    def kill(self) -> None:
        """Kill the command and all it has started, and wait for their end; idempotent."""
        with suppress(OSError):  # it has ended
            self._socket.shutdown(socket.SHUT_WR)
        self.wait(_GONE)
        if self._process.poll() is None:  # the supervising process is stuck
            self._kill_group()
            self.wait(_GONE)
        self._socket.close()

    def _kill_group(self) -> None:
        with suppress(OSError):  # it has ended
            os.killpg(self.pid, signal.SIGKILL)

    def describe_end(self) -> str:
        """How it ended: "ended with exit code 3", "was killed by SIGSEGV"."""
        code = self.poll()
        if code is None or code >= 0:
            return "has not ended" if code is None else f"ended with exit code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        memory = " (the system may have run out of memory)" if name == "SIGKILL" else ""
        return f"was killed by {name}{memory}"

    def __enter__(self) -> ChildProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
