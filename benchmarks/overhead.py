"""What the loop around an oracle costs: a free oracle, 1000 calls and more, every executor.

The oracle answers at once, with per-prompt rewards as a real one would. Timed is a whole
`build_portfolio` without its arithmetic at the end, and the calls in ten equal parts, so
that a cost which grows with the number of calls made would show. Beside it, in the same
run, before and after each way: one durable write to this disk, which every recorded answer
waits for.

    python benchmarks/overhead.py [--quick] [--calls 1000]
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common import Aim, Benchmark, Figure, run
from palm_core import Execution, Policy, uniform_lattice
from palm_core.run.engine import Collector, Progress
from palm_core.run.executors.protocol import Given, Work
from palm_core.run.executors.workers import call_executor
from palm_core.run.ledger import Ledger

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from common import Record

CALL = Figure("time around a call", "ms")
GROWTH = Figure("time around the last tenth of the calls / around the first")
WRITE = Figure(
    "time of a durable write of 4 KiB / time around a call with a ledger",
    drawn="time, a durable write",
)
ABOUT = Benchmark(
    question="What does the loop around an oracle cost, and does it grow with the run?",
    against="a durable write",
    baseline="A durable write of 4 KiB to the same disk, in the same run.",
    why="Each answer has to be on the disk before the next step, so that no kill can lose it: "
    "one durable write a call is the least that this takes.",
    quick="200 calls of an oracle that answers at once; ten seconds",
    full="1000 calls; half a minute",
    figures=(CALL, GROWTH, WRITE),
    aims=(
        Aim(
            "less than 5 ms around a call",
            CALL,
            most=5,
            remark="With a ledger a call waits for the disk: the last column says what a single "
            "durable write took just before and after. On a machine whose disk was busy a "
            "call took 9 to 26 ms.",
        ),
        Aim(
            "no growth with the number of calls (at most 1.5)",
            GROWTH,
            most=1.5,
            remark="A tenth of a quick run is 20 calls, in which one slow write, or one pause, "
            "shows.",
        ),
    ),
)
NAMES = ("helpful", "brief", "safe")
PROMPTS = 500


class Free:
    """Answers at once."""

    objectives = NAMES

    def solve(self, weights: np.ndarray) -> Iterator[Policy]:
        """Yield a policy per row."""
        for row in weights:
            yield Policy(
                id=repr(row.tolist()),
                weights=row,
                rewards=row,
                prompt_rewards=np.zeros((PROMPTS, len(NAMES))),
            )


def durable_write(folder: Path) -> float:
    """Seconds for 4 KiB to reach the disk, the median of 50."""
    times = []
    with (folder / "probe").open("wb") as stream:
        for _ in range(50):
            begun = time.perf_counter()
            stream.write(bytes(4096))
            stream.flush()
            os.fsync(stream.fileno())
            times.append(time.perf_counter() - begun)
    return statistics.median(times)


def timed(weights: np.ndarray, execution: Execution, folder: Path | None) -> list[float]:
    """Seconds at which each tenth of the calls was done, from the first answer on."""
    executor = call_executor(Work(Given(Free()), NAMES), execution)
    ledger = None
    if folder is not None:
        ledger = Ledger.begin(folder, {"oracle": {"name": "free"}}, NAMES)
    tenth = len(weights) // 10
    marks: list[float] = []

    def progress(now: Progress) -> None:
        while now.done and (now.done - 1) // tenth >= len(marks):
            marks.append(time.perf_counter())

    try:
        batch = None if execution.executor == "here" else 1
        Collector(executor, ledger=ledger, batch=batch, progress=progress).collect(weights)
        marks.append(time.perf_counter())
    finally:
        executor.close()
        if ledger is not None:
            ledger.close()
    return marks


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--calls", type=int, default=1000)


def measure(given: Namespace, record: Record) -> None:
    calls = 200 if given.quick else given.calls
    steps = 1
    while (steps + 1) * (steps + 2) // 2 < calls:
        steps += 1
    weights = uniform_lattice(3, steps)[:calls]
    ways = {
        "here, in memory": (Execution(executor="here"), False),
        "here, with a ledger": (Execution(executor="here"), True),
        "1 worker, with a ledger": (Execution(workers=1), True),
        "2 workers, with a ledger": (Execution(workers=2), True),
    }
    with tempfile.TemporaryDirectory() as place:
        table = record.table(
            f"milliseconds a call, {len(weights)} calls",
            *("way                     ", "ms/call", "first tenth", "last tenth", "last/first"),
            "a durable write",
        )
        for number, (name, (execution, kept)) in enumerate(ways.items()):
            before = durable_write(Path(place))
            marks = timed(weights, execution, Path(place) / str(number) if kept else None)
            probe = 1e3 * statistics.mean((before, durable_write(Path(place))))
            parts = np.diff(marks) * 1e3 / (len(weights) // 10)
            if len(parts) != 10:
                raise SystemExit(f"{name}: {len(parts)} tenths were seen")
            mean = (marks[-1] - marks[0]) * 1e3 / len(weights)
            record.value(CALL, name, mean)
            record.value(GROWTH, name, parts[-1] / parts[0])
            if kept:
                record.value(WRITE, name, probe / mean)
            table.row(
                *(name, f"{mean:.2f}", f"{parts[0]:.2f}", f"{parts[-1]:.2f}"),
                *(f"{parts[-1] / parts[0]:.2f}", f"{probe:.2f}" if kept else "–"),
            )


if __name__ == "__main__":
    run(__file__, ABOUT, measure, arguments)
