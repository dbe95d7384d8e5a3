"""Messages between the driver and one worker process, each whole or not there.

A connection of ``multiprocessing`` waits for the rest of a message that has begun: for
ever, if its writer was killed in the middle and something that it had started holds
its end open. A channel takes what is there.
"""

from __future__ import annotations

import socket
import struct

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
        """Send a message; waits until the other end takes it.

        Raises:
            OSError: the other end is closed.
        """
        self._end.sendall(_HEADER.pack(len(message)))
        self._end.sendall(message)

    def receive(self, *, wait: bool) -> list[bytes] | None:
        """Read once and return the messages that are whole now; ``None``: nothing was there.

        Raises:
            EOFError: the other end is closed and all it sent has been read.
        """
        try:
            chunk = self._end.recv(_CHUNK, 0 if wait else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None  # nothing has come yet
        except ConnectionError:
            chunk = b""
        if not chunk:
            raise EOFError
        self._received += chunk
        return self._whole()

    def close(self) -> None:
        """Close this end; twice is fine."""
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
