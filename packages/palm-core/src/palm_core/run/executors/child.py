"""A worker process: run as a script with the file descriptor of its socket to the driver.

Imports nothing of this package before the driver has sent its import path.
"""

from __future__ import annotations

import faulthandler
import io
import multiprocessing
import os
import pickle
import socket
import struct
import sys
from contextlib import suppress
from dataclasses import replace
from multiprocessing import spawn
from typing import IO, Any

#: The length that precedes each message of a worker.
LENGTH = struct.Struct("!Q")
#: Messages of a worker besides events: started; oracle made. A ``Failure`` means that
#: the oracle cannot be made.
READY, MADE = "ready", "made"


def main(descriptor: int) -> None:
    """Serve calls until the driver closes its end of the socket."""
    faulthandler.enable()  # traceback on a crash in compiled code
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout.reconfigure(line_buffering=True)
    os.set_inheritable(descriptor, False)
    with socket.socket(fileno=descriptor) as channel, channel.makefile("rb") as requests:
        _prepare(pickle.load(requests))
        with suppress(EOFError, OSError):  # of the socket: the driver is gone
            _serve(channel, requests)


def _prepare(data: dict[str, Any]) -> None:
    """Set up this process as ``multiprocessing`` does, and import the driver's main module."""
    # Refuses a run, as all processes of multiprocessing, that the main module starts on import.
    state = vars(multiprocessing.current_process())
    state["_inheriting"] = True
    spawn.prepare(data)
    del state["_inheriting"]


def _serve(channel: socket.socket, requests: IO[bytes]) -> None:
    from palm_core.run.executors.protocol import failure_of, perform, shortened

    _send(channel, READY)
    try:
        work = pickle.load(requests)
        oracle = work.oracle()
    except (Exception, SystemExit) as error:  # noqa: BLE001  a factory may raise anything
        failure = failure_of(error)
        message = f"the oracle cannot be made in a worker process: {failure.message}"
        _send(channel, replace(failure, message=shortened(message), hopeless=True))
        return
    _send(channel, MADE)
    while True:
        for event in perform(work, oracle, pickle.load(requests)):
            _send(channel, event)


def _send(channel: socket.socket, message: Any) -> None:
    try:
        pickled = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001  user classes may raise anything
        from palm_core.run.executors.protocol import unreadable

        pickled = pickle.dumps(unreadable(message.call, error))
    channel.sendall(LENGTH.pack(len(pickled)))
    channel.sendall(pickled)


if __name__ == "__main__":
    main(int(sys.argv[1]))
