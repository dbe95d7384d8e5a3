"""What all tests on a real Ray need: the oracles of tests/core, and an end to waiting."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CORE = str(Path(__file__).parents[1] / "core")
if CORE not in sys.path:  # at the end; the actors get the paths of the driver
    sys.path.append(CORE)


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    """No test waits for ever."""

    def stop(*_: object) -> None:
        raise TimeoutError("the test takes more than 300 s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 300)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
