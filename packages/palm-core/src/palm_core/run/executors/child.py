"""The worker process and its channel to the parent."""

from __future__ import annotations

import faulthandler
import io
import os
import pickle
import signal
import socket
import struct
import sys
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from palm_core.run.executors.protocol import Event, Failure

_HEADER = struct.Struct("!Q")
_CHUNK = 1 << 20


class Channel:
    """One end of a pair of connected sockets.

    Args:
        end: the socket; :meth:`close` closes it.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._received = bytearray()

    def fileno(self) -> int:
        """The socket's file descriptor, for waiting."""
        return self._end.fileno()

    def send(self, message: bytes) -> None:
        """Send a message; blocks until the other end receives it.

        Raises:
            OSError: the other end is closed.
        """
        self._end.sendall(_HEADER.pack(len(message)))
        self._end.sendall(message)

    def receive(self, *, wait: bool) -> list[bytes] | None:
        """Read once and return the complete messages; ``None`` if there was nothing to read.

        Raises:
            EOFError: the other end is closed and all it sent has been read.
        """
        try:
            chunk = self._end.recv(_CHUNK, 0 if wait else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None  # nothing to read
        except ConnectionError:
            chunk = b""
        if not chunk:
            raise EOFError
        self._received += chunk
        return self._whole()

    def close(self) -> None:
        """Close this end; idempotent."""
        self._end.close()

    def _whole(self) -> list[bytes]:
        messages = []
        while len(self._received) >= _HEADER.size:
            (length,) = _HEADER.unpack_from(self._received)
            end = _HEADER.size + length
            if len(self._received) < end:
                break
            messages.append(bytes(self._received[_HEADER.size : end]))
            del self._received[:end]
        return messages


#: Messages of a worker besides events: started; oracle made. A ``Failure`` means that
#: the oracle cannot be made.
READY, MADE = "ready", "made"


def serve(end: socket.socket, driver: int, tied: bool, log: Path | None) -> None:
    """Serve calls until the driver closes its end.

    Args:
        end: connection to the driver.
        driver: its process id.
        tied: whether the thread that started this process lives as long as the driver's process.
        log: file for standard output and error, or ``None``: both to standard error.
    """
    _detach(driver, tied)
    end.set_inheritable(False)
    failure = _redirect(log)
    channel = Channel(end)
    with end, suppress(EOFError, OSError):  # from the channel: the driver is gone
        _serve(channel, failure)


def _detach(driver: int, tied: bool) -> None:
    """Detach from the terminal, and exit when the driver exits.

    In a separate session, Ctrl-C does not reach the worker, and the driver can end it
    together with all processes of the oracle. The driver blocked SIGINT while it
    started this process, so a pending one is dropped here.
    """
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    # Beside the guard, which also ends processes of the oracle. The signal is sent
    # when the *thread* that started this process exits, hence `tied`.
    if tied and sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != driver:  # it exited before prctl
        os._exit(1)


def _redirect(log: Path | None) -> Failure | None:
    """Redirect file descriptors 1 and 2 to the log: compiled code writes there too."""
    try:
        if log is None:
            os.dup2(2, 1)
        else:
            log.parent.mkdir(parents=True, exist_ok=True)
            opened = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(opened, 1)
            os.dup2(opened, 2)
            os.close(opened)
    except OSError as error:
        return _hopeless(error, "the log of a worker process cannot be written")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)
    if sys.stderr is not None:
        faulthandler.enable()  # traceback on a crash in compiled code
    return None


def _serve(channel: Channel, failure: Failure | None) -> None:
    from palm_core.run.executors.protocol import perform

    channel.send(pickle.dumps(READY))
    payload = _next(channel)
    if failure is None:
        try:
            work = pickle.loads(payload)
            oracle = work.oracle()
        except (Exception, SystemExit) as error:  # noqa: BLE001  a factory may raise anything
            failure = _hopeless(error, "the oracle cannot be made in a worker process")
    if failure is not None:
        channel.send(pickle.dumps(failure))
        return
    channel.send(pickle.dumps(MADE))
    while True:
        for event in perform(work, oracle, pickle.loads(_next(channel))):
            channel.send(_pickled(event))


def _next(channel: Channel) -> bytes:
    """Receive the next message; the driver sends none before the last one is answered."""
    while True:
        for message in channel.receive(wait=True) or ():
            return message


def _pickled(event: Event) -> bytes:
    try:
        return pickle.dumps(event, pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001  user classes may raise anything
        from palm_core.run.executors.protocol import unreadable

        return pickle.dumps(unreadable(event.call, error))


def _hopeless(error: BaseException, what: str) -> Failure:
    from palm_core.run.executors.protocol import failure_of, shortened

    failure = failure_of(error)
    return replace(failure, message=shortened(f"{what}: {failure.message}"), hopeless=True)
