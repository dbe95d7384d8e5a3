"""Building a grid of a million weights or more, against writing its memory once.

    python benchmarks/grid.py [--quick]

"fill" is ``numpy.empty`` and ``fill`` of an array of the same shape, on one
thread as NumPy does it; "copy" reads and writes it. The arrays are large enough
(40 MiB) to come anew from the operating system each time. All three alternate
within one run; the median of each counts.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from palm_core import _kernels
from palm_core.grid import construct_grid, grid_size

if TYPE_CHECKING:
    from collections.abc import Callable

GRIDS = [(2, 3.4e-6, 0.01), (3, 0.0058, 0.01), (4, 0.07, 0.01), (5, 0.27, 0.01), (6, 0.43, 0.03)]


def milliseconds(work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) * 1e3


def fill(shape: tuple[int, int]) -> None:
    np.empty(shape).fill(1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="five repeats in place of thirty")
    repeats = 5 if parser.parse_args().quick else 30
    print(f"{_kernels.n_threads()} threads; medians of {repeats}, milliseconds")
    print("d   weights    MiB   build    fill    copy  build/fill  first call")
    for d, mu, alpha in GRIDS:
        shape = (grid_size(d, mu, alpha), d)
        first = milliseconds(lambda d=d, mu=mu, alpha=alpha: construct_grid(d, mu, alpha))
        ready = np.ones(shape)
        rounds = [
            (
                milliseconds(lambda d=d, mu=mu, alpha=alpha: construct_grid(d, mu, alpha)),
                milliseconds(lambda shape=shape: fill(shape)),
                milliseconds(ready.copy),
            )
            for _ in range(repeats)
        ]
        build, filled, copied = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(
            f"{d} {shape[0]:9d} {ready.nbytes / 2**20:6.0f} {build:7.1f} {filled:7.1f} "
            f"{copied:7.1f} {build / filled:11.2f} {first:11.0f}"
        )


if __name__ == "__main__":
    main()
