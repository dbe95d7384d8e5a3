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

#: Seconds to wait for the exit of a killed process.
_GONE = 5.0


class ChildProcess:
    """A command in a process group of its own that ends with this process, whatever ends it.

    A small supervising process starts the command in a new session, which the terminal's
    Ctrl-C does not reach (SIGINT is ignored there). It kills the whole group with SIGKILL when
    the command ends, and when this process ends: also compiled code and what the command has
    started. A context manager that kills on exit. Needs a POSIX system.

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
        if self._code is None and self._process.poll() is not None:
            with suppress(OSError):  # the group has ended
                os.killpg(self.pid, signal.SIGKILL)  # it has not if its supervisor was killed
            report = b""
            with suppress(OSError):
                report = self._socket.recv(16)
            self._code = int(report or self._process.returncode)
        return self._code

    def wait(self, seconds: float | None = None) -> int | None:
        """Wait for its end, at most ``seconds``; return :meth:`poll`."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.poll()

    def kill(self) -> None:
        """Kill the process group, unless the command has ended."""
        if self.poll() is None:
            with suppress(OSError):  # it has just ended
                os.killpg(self.pid, signal.SIGKILL)
            self.wait(_GONE)
        self._socket.close()

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
