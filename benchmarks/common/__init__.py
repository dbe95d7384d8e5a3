"""What all benchmarks share: what they ask, what they write down, how they are run.

A benchmark is a script in this folder's parent. It says what it asks in a constant ``ABOUT``
and measures in a function that is given its arguments and a :class:`Record`::

    FASTER = Figure("time of NumPy / time of palm_core")
    ABOUT = Benchmark(question=…, baseline=…, why=…, aims=(Aim("…", FASTER, least=40),), …)

    def measure(given, record):
        table = record.table("milliseconds", "d", "  ours", "  NumPy")
        …
        record.value(FASTER, "d = 3", theirs / ours)

    if __name__ == "__main__":
        run(__file__, ABOUT, measure)

What is written down is figures; whether an aim is met is judged when they are read.
"""

from common.declared import Aim, Benchmark, Figure
from common.record import Record
from common.running import run
from common.timing import alternating, peak_memory, seconds

__all__ = [
    "Aim",
    "Benchmark",
    "Figure",
    "Record",
    "alternating",
    "peak_memory",
    "run",
    "seconds",
]
