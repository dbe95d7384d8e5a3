"""Cover and greedy pruning: palm_core against NumPy, in the same run.

    python benchmarks/cover.py [--quick]

Both sides answer the same question: opt_w over m policies at k weights, which
policy covers which weight, and a greedy cover. The answers are compared.

* NumPy: the matrix product weights @ u.T, a maximum, a comparison, and greedy on
  the boolean matrix with gains updated only by the weights newly covered (each
  weight is counted once). "at once" holds the whole float matrix, "in chunks"
  16 million values at a time. Memory is compared with "at once". Above 2·10^9
  pairs NumPy gets every tenth weight and its time is multiplied by ten.
* ``front``: the weights are the paper's grid, policy i is what an exact oracle
  answers for weight i on a curved front. ``cloud``: random policies and weights.
* All but "at once", which is the slower one, take turns three times, and the fastest of
  each counts, since other work can only slow them.
* "of peak" is the cover kernel where no policy can be skipped (μ' = 1: all are
  covered): 2·d floating-point operations per policy and weight, against the
  machine's multiply-add peak as measured here. The times beside it profit from
  skipping what cannot cover.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from common import Aim, Benchmark, Figure, alternating, peak_memory, run
from palm_core.cover.cover import cover_weights, greedy
from palm_core.geometry import kernels as _kernels
from palm_core.geometry.compilation import n_threads
from palm_core.model.policy import PolicySet, best_policies
from palm_core.weights.grid import construct_grid
from palm_core.weights.simplex import sample_weights

if TYPE_CHECKING:
    from argparse import Namespace

    from numpy.typing import NDArray

    from common import Record

FASTER = Figure("time of the faster NumPy / time of palm_core", drawn="time, NumPy")
CPU = Figure("processor time of NumPy in chunks / of palm_core")
SMALLER = Figure("memory of NumPy at once / memory of palm_core", drawn="memory, NumPy")
SHARE = Figure("share of the machine's multiply-add peak", "%")
ABOUT = Benchmark(
    question="How fast is it to find which policy covers which weight, and a greedy cover?",
    against="NumPy",
    baseline="NumPy: one matrix product, a comparison and a greedy loop on the boolean matrix, "
    "in chunks or at once, whichever is faster; both give the same cover.",
    why="It is what one would write first, and the matrix product in it is as fast as the "
    "machine's BLAS. A slower loop in Python would be easy to beat.",
    quick="10⁴ policies and weights; about a minute",
    full="up to 10⁵ policies and weights, up to half of the free memory; ten minutes",
    figures=(FASTER, CPU, SMALLER, SHARE),
    aims=(
        Aim(
            "40 times faster than NumPy",
            FASTER,
            least=40,
            remark="On two cores with nothing else to do it is 12 to 22 times. On the same machine "
            "it was 41 to 99 times when other work kept it busy, which slowed NumPy down more; why "
            "was not measured. Processor time is the second figure. Fronts in four and five "
            "objectives are lowest.",
        ),
        Aim("64 times less memory than NumPy's matrices", SMALLER, least=64),
        Aim(
            "at least a quarter of the machine's multiply-add peak",
            SHARE,
            least=0.25,
            remark="Missed for a front in two objectives, where a weight is two numbers and "
            "loading it takes longer than what is done with it. The peak is measured once, at the "
            "beginning: what else the machine does then and later moves the share. Multiply and "
            "add are not fused here, so that the answer has the same bits on every machine, which "
            "costs up to half of the peak.",
        ),
    ),
)
MU = 0.01
CHUNK = 1 << 24
# Grids of about 10^4, 3·10^4 and 10^5 weights.
GRIDS = {
    2: [(0.00092, 0.01), (0.00031, 0.01), (0.000092, 0.01)],
    3: [(0.082, 0.01), (0.0467, 0.01), (0.0255, 0.01)],
    4: [(0.48, 0.01), (0.30, 0.01), (0.187, 0.01)],
    5: [(0.95, 0.022), (0.72, 0.02), (0.5, 0.02)],
}


@numba.njit(nogil=True, fastmath={"contract"})
def multiply_adds(x: Any, n: int) -> None:
    """Do n times one multiply-add on each of the 128 values of x."""
    for _ in range(n):
        for j in range(128):
            x[j] = x[j] * 0.999999 + 1e-6


def machine_peak(record: Record) -> float:
    """Multiply-adds a second in GFlop/s (two operations each), all cores."""
    a = np.random.default_rng(0).random((2000, 2000))
    product = 2 * 2000**3 / alternating(5, lambda: a @ a)[0].wall
    rounds = 2_000_000
    threads = n_threads()
    lanes = np.ones((threads, 128))
    multiply_adds(lanes[0], 1)

    def loop() -> None:
        _kernels.in_parallel(
            lambda first, last: [multiply_adds(lanes[i], rounds) for i in range(first, last)],
            threads,
            grain=1,
        )

    fused = threads * rounds * 128 * 2 / alternating(3, loop)[0].wall
    name = "matrix product" if product > fused else "multiply-add loop"
    record.note(
        f"{threads} threads; matrix product {product / 1e9:.0f} GFlop/s, multiply-add loop "
        f"{fused / 1e9:.0f} GFlop/s; the {name} counts as the machine's peak."
    )
    return max(product, fused) / 1e9


def numpy_greedy(cover: NDArray[np.bool_]) -> list[int]:
    """Greedy on a boolean matrix (k, m)."""
    left = np.ones(len(cover), bool)
    gains = cover.sum(axis=0)
    chosen = []
    while left.any():
        best = int(gains.argmax())
        chosen.append(best)
        new = left & cover[:, best]
        gains -= cover[new].sum(axis=0)
        left &= ~new
    return chosen


def numpy_cover(u: NDArray[Any], weights: NDArray[Any], mu: float, rows: int) -> NDArray[np.bool_]:
    """Who covers whom (k, m), ``rows`` weights at a time."""
    cover = np.empty((len(weights), len(u)), bool)
    for first in range(0, len(weights), rows):
        values = weights[first : first + rows] @ u.T
        least = values.max(axis=1) * (1 - mu) - 1e-14
        np.greater_equal(values, least[:, np.newaxis], out=cover[first : first + rows])
    return cover


def instance(kind: str, d: int, size: int) -> tuple[PolicySet, NDArray[np.float64]]:
    grid = construct_grid(d, *GRIDS[d][size])
    if kind == "front":
        return PolicySet(grid / np.linalg.norm(grid, axis=1, keepdims=True)), grid
    cloud = np.random.default_rng(d).random((len(grid), d))
    return PolicySet(cloud), sample_weights(len(grid), d, seed=d)


def free_bytes() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


class Ours:
    """palm_core on one instance, in the steps that are timed apart."""

    def __init__(self, policies: PolicySet, weights: NDArray[np.float64]) -> None:
        self.policies, self.weights = policies, weights

    def optima(self) -> None:
        """Opt at each weight."""
        self.best = best_policies(self.policies, self.weights)

    def covered(self) -> None:
        """Who covers whom."""
        self.cover = cover_weights(self.policies, self.weights, mu=MU, best=self.best)

    def chosen(self) -> None:
        """A greedy cover."""
        self.picked = greedy(self.cover)

    def all(self) -> None:
        """All three, one after the other."""
        self.optima()
        self.covered()
        self.chosen()

    def none_skipped(self) -> None:
        """The cover where no policy can be skipped."""
        cover_weights(self.policies, self.weights, mu=1.0, best=self.best)


class Numpy:
    """The baseline on one instance; every ``part``-th weight of it."""

    def __init__(self, u: NDArray[Any], weights: NDArray[np.float64], part: int) -> None:
        self.u, self.weights, self.part = u, weights[::part], part

    def in_chunks(self) -> None:
        """Sixteen million values at a time."""
        rows = max(CHUNK // len(self.u), 1)
        self.cover = numpy_cover(self.u, self.weights, MU, rows)
        self.picked = numpy_greedy(self.cover)

    def at_once(self) -> None:
        """The whole matrix."""
        numpy_greedy(numpy_cover(self.u, self.weights, MU, len(self.weights)))


def agree(ours: Ours, numpy: Numpy) -> bool:
    """Whether both cover the same, and choose the same."""
    cover = ours.cover
    if numpy.part > 1:
        cover = cover_weights(ours.policies, numpy.weights, mu=MU)
    same: bool = greedy(cover).tolist() == numpy.picked
    for first in range(0, len(numpy.u), 1024):  # in pieces: this check should need no memory
        part = numpy.cover[:, first : first + 1024].T
        packed = np.packbits(part, axis=1, bitorder="little")
        bits = cover.bits[first : first + 1024].view(np.uint8)[:, : packed.shape[1]]
        same &= np.array_equal(packed, bits)
    return same


def compare(record: Record, kind: str, d: int, size: int, peak: float) -> list[Any]:
    policies, weights = instance(kind, d, size)
    u = policies.vertex_values
    m, pairs = len(u), len(u) * len(weights)
    ours = Ours(policies, weights)
    # Beyond this, NumPy takes minutes and 10 GB: every tenth weight, times ten.
    numpy = Numpy(u, weights, 10 if pairs > 2e9 else 1)
    fits = pairs * 10 < free_bytes() * 0.5
    ours.all()  # compile
    works = (ours.optima, ours.covered, ours.chosen, numpy.in_chunks, ours.none_skipped)
    spent = alternating(3 if pairs < 1e9 else 1, *works)
    times, busy = zip(*spent, strict=True)
    ours_s, chunked_s, full_s = sum(times[:3]), times[3] * numpy.part, times[4]
    ours_bytes = peak_memory(ours.all)
    once_s, numpy_bytes = float("inf"), pairs * 9
    if fits:
        begin = time.perf_counter()
        numpy_bytes = peak_memory(numpy.at_once)
        once_s = time.perf_counter() - begin
    faster = min(chunked_s, once_s) / ours_s
    gflops = 2 * d * pairs / full_s / 1e9
    of = f"{kind} d = {d}, {m:,}"
    record.value(FASTER, of, faster)
    record.value(CPU, of, busy[3] * numpy.part / sum(busy[:3]))
    record.value(SMALLER, of, numpy_bytes / ours_bytes)
    record.value(SHARE, of, gflops / peak)
    if not agree(ours, numpy):
        raise SystemExit(f"{of}: the answers differ")
    return [
        *(kind, d, f"{m:,}", len(ours.picked), f"{once_s:.2f}" if fits else "–"),
        *(f"{chunked_s:.2f}", *(f"{each:.3f}" for each in times[:3]), f"{faster:.0f}×"),
        *(f"{numpy_bytes / 2**20:,.0f}{'' if fits else ' (by its shape)'}",),
        *(f"{ours_bytes / 2**20:.0f}", f"{numpy_bytes / ours_bytes:.0f}×", f"{gflops:.0f}"),
        f"{gflops / peak:.0%}",
    ]


def measure(given: Namespace, record: Record) -> None:
    peak = machine_peak(record)
    table = record.table(
        f"μ' = {MU}; seconds; MiB; the cover kernel with nothing skipped in GFlop/s",
        *("input", "d", " policies", "kept", "NumPy at once", "in chunks", "  opt", "cover"),
        *("greedy", "faster", "NumPy MiB", "ours MiB", "less", "GFlop/s", "of peak"),
    )
    for size in [0] if given.quick else [0, 1, 2]:
        for kind in ("front", "cloud"):
            for d in (2, 3, 4, 5) if size < 2 else (4,):
                table.row(*compare(record, kind, d, size, peak))


if __name__ == "__main__":
    run(__file__, ABOUT, measure)
