"""The event loop that asynchronous reward functions run in, one for each process.

It lasts as long as the process, as TRL's does, so that what a function keeps between calls
(an HTTP client, for instance) still works. It has a thread of its own: a notebook's thread
already runs another loop.
"""

from __future__ import annotations

import asyncio
import atexit
import inspect
import os
import threading
from functools import cache
from typing import Any


def awaited(value: Any) -> Any:
    """The result of ``value`` where it is a coroutine or another awaitable, else ``value``.

    Whatever the coroutine raises is raised; it is cancelled where the caller is interrupted.
    """
    if not inspect.isawaitable(value):
        return value

    async def result() -> Any:
        return await value

    future = asyncio.run_coroutine_threadsafe(result(), _event_loop(os.getpid()))
    try:
        return future.result()
    finally:
        future.cancel()


@cache
def _event_loop(process: int) -> asyncio.AbstractEventLoop:
    """The loop of this process; a forked one has no thread of its parent's."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="palm-rewards", daemon=True)

    def close() -> None:
        if os.getpid() == process:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    atexit.register(close)
    thread.start()
    return loop
