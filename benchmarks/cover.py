"""Cover and greedy pruning: palm_core against NumPy, in the same run.

    python benchmarks/cover.py            some minutes, up to half of the free memory
    python benchmarks/cover.py --quick    about half a minute

Both sides answer the same question: opt_w over m policies at k weights, which
policy covers which weight, and a greedy cover. The answers are compared.

* NumPy: the matrix product weights @ u.T, a maximum, a comparison, and greedy on
  the boolean matrix with gains updated only by the weights newly covered (each
  weight is counted once). "at once" holds the whole float matrix, "in chunks"
  16 million values at a time. Memory is compared with "at once". Above 2·10^9
  pairs NumPy gets every tenth weight and its time is multiplied by ten.
* ``front``: the weights are the paper's grid, policy i is what an exact oracle
  answers for weight i on a curved front. ``cloud``: random policies and weights.
* "of peak" is the cover kernel where no policy can be skipped (μ' = 1: all are
  covered): 2·d floating-point operations per policy and weight, against the
  machine's multiply-add peak as measured here. The times beside it profit from
  skipping what cannot cover.
"""

from __future__ import annotations

import argparse
import os
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from palm_core import _kernels
from palm_core.cover import best_policies, cover_weights, greedy
from palm_core.grid import construct_grid
from palm_core.policies import PolicySet
from palm_core.simplex import sample_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

MU = 0.01
CHUNK = 1 << 24
# Grids of about 10^4, 3·10^4 and 10^5 weights.
GRIDS = {
    2: [(0.00092, 0.01), (0.00031, 0.01), (0.000092, 0.01)],
    3: [(0.082, 0.01), (0.0467, 0.01), (0.0255, 0.01)],
    4: [(0.48, 0.01), (0.30, 0.01), (0.187, 0.01)],
    5: [(0.95, 0.022), (0.72, 0.02), (0.5, 0.02)],
}


def seconds(work: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    best, result = float("inf"), None
    for _ in range(repeats):
        result = None
        begin = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - begin)
    return best, result


def peak_memory(work: Callable[[], Any]) -> int:
    """Largest bytes held while ``work`` runs, as NumPy reports them."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@numba.njit(nogil=True, fastmath={"contract"})
def multiply_adds(x: Any, n: int) -> None:
    """Do n times one multiply-add on each of the 128 values of x."""
    for _ in range(n):
        for j in range(128):
            x[j] = x[j] * 0.999999 + 1e-6


def machine_peak() -> tuple[float, str]:
    """Multiply-adds a second in GFlop/s (two operations each), all cores."""
    a = np.random.default_rng(0).random((2000, 2000))
    product = 2 * 2000**3 / seconds(lambda: a @ a, 5)[0]
    rounds = 2_000_000
    threads = _kernels.n_threads()
    lanes = np.ones((threads, 128))
    multiply_adds(lanes[0], 1)

    def loop() -> None:
        _kernels.in_parallel(
            lambda first, last: [multiply_adds(lanes[i], rounds) for i in range(first, last)],
            threads,
            grain=1,
        )

    fused = threads * rounds * 128 * 2 / seconds(loop, 3)[0]
    name = "matrix product" if product > fused else "multiply-add loop"
    print(f"machine: {threads} threads; matrix product {product / 1e9:.0f} GFlop/s, ", end="")
    print(f"multiply-add loop {fused / 1e9:.0f} GFlop/s; the {name} counts as its peak")
    return max(product, fused) / 1e9, name


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


def compare(kind: str, d: int, size: int, peak: float) -> None:
    policies, weights = instance(kind, d, size)
    u = policies.vertex_values
    m, k = len(u), len(weights)
    pairs = m * k

    def ours() -> tuple[Any, Any]:
        cover = cover_weights(policies, weights, mu=MU)
        return cover, greedy(cover)

    ours()  # compile
    best_s, best = seconds(lambda: best_policies(policies, weights), 3)
    cover_s, cover = seconds(lambda: cover_weights(policies, weights, mu=MU, best=best), 3)
    greedy_s, chosen = seconds(lambda: greedy(cover), 3)
    our_s = best_s + cover_s + greedy_s
    full_s, _ = seconds(lambda: cover_weights(policies, weights, mu=1.0, best=best), 3)
    our_bytes = peak_memory(ours)
    gflops = 2 * d * pairs / full_s / 1e9

    # Beyond this, NumPy takes minutes and 10 GB: every tenth weight, times ten.
    part = 10 if pairs > 2e9 else 1
    some = weights[::part]
    begin = time.perf_counter()
    matrix = numpy_cover(u, some, MU, max(CHUNK // m, 1))
    picked = numpy_greedy(matrix)
    chunked_s = (time.perf_counter() - begin) * part
    again = cover if part == 1 else cover_weights(policies, some, mu=MU)
    same = greedy(again).tolist() == picked
    for first in range(0, m, 1024):  # in pieces: this check should need no memory
        packed = np.packbits(matrix[:, first : first + 1024].T, axis=1, bitorder="little")
        bits = again.bits[first : first + 1024].view(np.uint8)[:, : packed.shape[1]]
        same &= np.array_equal(packed, bits)
    del matrix

    def at_once() -> list[int]:
        return numpy_greedy(numpy_cover(u, weights, MU, k))

    whole, ratio = "      –", f"{chunked_s / our_s:5.0f}×     –"
    numpy_bytes, memory = pairs * 9, "by its shape"
    if pairs * 10 < free_bytes() * 0.5:
        whole_s, _ = seconds(at_once)
        whole = f"{whole_s:7.2f}"
        ratio = f"{min(whole_s, chunked_s) / our_s:5.0f}× {whole_s / our_s:5.0f}×"
        numpy_bytes, memory = peak_memory(at_once), "measured"
    print(
        f"{kind} {d} {m:7d} {len(chosen):5d}  {whole} {chunked_s:7.2f}  "
        f"{best_s:6.3f} {cover_s:6.3f} {greedy_s:6.3f} {our_s:6.3f}  {ratio}  "
        f"{numpy_bytes / 2**20:8.0f} {our_bytes / 2**20:6.0f} {numpy_bytes / our_bytes:4.0f}× "
        f"{memory:12}  {gflops:4.0f} {gflops / peak:4.0%}  {'same' if same else 'DIFFERENT'}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="10^4 policies and weights only")
    sizes = [0] if parser.parse_args().quick else [0, 1, 2]
    peak, _ = machine_peak()
    print(f"\nμ' = {MU}; m = k policies and weights; seconds; MiB; GFlop/s\n")
    print(
        "                      ── NumPy ──────  ── palm_core ──────────────  ── ratio ────  ",
        end="",
    )
    print("── memory ────────────────────────  ── cover, none skipped")
    print(
        "input d     m=k  kept  at once  chunks     opt  cover greedy    all  best  once  ", end=""
    )
    print("   NumPy   ours                    GF/s peak")
    for size in sizes:
        for kind in ("front", "cloud"):
            for d in (2, 3, 4, 5) if size < 2 else (4,):
                compare(kind, d, size, peak)


if __name__ == "__main__":
    main()
