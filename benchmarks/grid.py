"""Building a grid of a million weights or more, against writing its memory once.

    python benchmarks/grid.py [--quick]

"fill" is ``numpy.empty`` and ``fill`` of an array of the same shape, on one
thread as NumPy does it; "copy" reads and writes it. The arrays are large enough
(40 MiB) to come anew from the operating system each time. All three take turns
within one run; the fastest of each counts, since other work can only slow them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from common import Aim, Benchmark, Figure, alternating, run, seconds
from palm_core.geometry.compilation import n_threads
from palm_core.weights.grid import construct_grid, grid_size

if TYPE_CHECKING:
    from argparse import Namespace

    from common import Record

SPEED = Figure(
    "time to fill an array of that shape / time to build the grid",
    drawn="time, filling memory",
)
CPU = Figure("the same in processor time")
FIVE = Figure("the same for five objectives")
ABOUT = Benchmark(
    question="How long does it take to build the paper's grid of a million weights?",
    against="filling the memory once",
    baseline="Filling an array of the same shape with one number (`numpy.empty`, `fill`).",
    why="No grid can be built without writing its memory once: 1× is as fast as can be "
    "with one thread, and what is missing to it is the price of the arithmetic.",
    quick="twenty repeats; ten seconds",
    full="a hundred repeats; a minute",
    figures=(SPEED, CPU, FIVE),
    aims=(
        Aim(
            "for five objectives, in about the time of writing its memory once (at most 1.5 "
            "times that, so 0.67× or more)",
            FIVE,
            least=1 / 1.5,
            remark="The fewer objectives, the lower the ratio: the work is done for each row, and "
            "a row of two numbers is soon written. Ours uses every core and the baseline one, so "
            "other work on the machine costs ours more; processor time, the second figure, "
            "hardly feels it.",
        ),
    ),
)
GRIDS = [(2, 3.4e-6, 0.01), (3, 0.0058, 0.01), (4, 0.07, 0.01), (5, 0.27, 0.01), (6, 0.43, 0.03)]


def fill(shape: tuple[int, int]) -> None:
    np.empty(shape).fill(1.0)


def measure(given: Namespace, record: Record) -> None:
    repeats = 20 if given.quick else 100
    table = record.table(
        f"{n_threads()} threads; fastest of {repeats}, milliseconds",
        *("d", "  weights", "  MiB", "  build", "   fill", "   copy", "fill / build", "first call"),
    )
    for d, mu, alpha in GRIDS:
        shape = (grid_size(d, mu, alpha), d)
        build = partial(construct_grid, d, mu, alpha)
        first = seconds(build)
        ready = np.ones(shape)
        times = alternating(repeats, build, partial(fill, shape), ready.copy)
        built, filled, copied = (1e3 * each.wall for each in times)
        record.value(CPU, f"d = {d}", times[1].cpu / times[0].cpu)
        ratio = filled / built
        for figure in (SPEED, FIVE) if d == 5 else (SPEED,):
            record.value(figure, f"d = {d}", ratio)
        table.row(
            *(d, f"{shape[0]:,}", f"{ready.nbytes / 2**20:.0f}", f"{built:.1f}", f"{filled:.1f}"),
            *(f"{copied:.1f}", f"{ratio:.2f}", f"{1e3 * first:.0f}"),
        )


if __name__ == "__main__":
    run(__file__, ABOUT, measure)
