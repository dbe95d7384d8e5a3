"""Time to choose the next weight: the adaptive grid against morl-baselines' linear support.

Both are given the same answers of an exact tabular oracle (the first n of an adaptive
run). Timed is one turn: take in the n-th answer, then choose a weight. The adaptive
grid updates two polyhedra; linear support enumerates all corner weights again and
solves a linear program (cvxpy) at each.

    python benchmarks/next_weight.py [--quick] [--limit SECONDS]

morl-baselines is not needed: without it only our times are printed. Its module needs
cvxpy and pycddlib 2.1.6; the parts of the package that train agents (and need torch)
are not loaded.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import multiprocessing
import statistics
import sys
import time
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common import Aim, Benchmark, Figure, run
from palm_core.guarantees.adaptive import AdaptiveGrid
from palm_core.oracles.tabular import TabularOracle

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from common import Record

FASTER = Figure("time of linear support / time of the adaptive grid", drawn="time, linear support")
ABOUT = Benchmark(
    question="How long does it take to choose the next weight to ask?",
    against="linear support of morl-baselines",
    baseline="Linear support of morl-baselines, given the same answers.",
    why="It is the published implementation of the method that the adaptive grid carries on "
    "(Roijers et al. 2015), in the library that multi-objective reinforcement learning uses.",
    quick="100 policies, d = 3 and 4; two minutes at most",
    full="up to 500 policies, d = 3 to 5; a quarter of an hour",
    figures=(FASTER,),
    aims=(Aim("100 times faster than linear support", FASTER, least=100),),
)
TURNS = 15


def load_linear_support() -> Any:
    """LinearSupport from the installed morl-baselines, or the reason why not."""
    package = importlib.util.find_spec("morl_baselines")
    if package is None or not package.submodule_search_locations:
        return "morl-baselines is not installed"
    # Its imports for evaluating agents, which linear support does not use.
    unused = {
        "evaluation": "policy_evaluation_mo",
        "morl_algorithm": "MOPolicy",
        "performance_indicators": "hypervolume",
    }
    for module, name in unused.items():
        stand_in = types.ModuleType(f"morl_baselines.common.{module}")
        setattr(stand_in, name, None)
        sys.modules[stand_in.__name__] = stand_in
    folder = Path(next(iter(package.submodule_search_locations)))
    file = folder / "multi_policy" / "linear_support" / "linear_support.py"
    spec = importlib.util.spec_from_file_location("linear_support_alone", file)
    if spec is None or spec.loader is None:
        return f"{file.name} cannot be loaded"
    loaded = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(loaded)
    except ImportError as error:
        return f"morl-baselines does not import: {error}"
    return loaded.LinearSupport


def answers(d: int, n: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Weights (n, d), vertex values (n, d), and our median seconds for the last turns."""
    oracle = TabularOracle(np.random.default_rng(0).random((20, 200, d)), beta=0.05)
    grid = AdaptiveGrid(d, target_epsilon=1e-9)
    weights, values, times = [], [], []
    asked = list(grid.ask(d))
    while asked:
        row = asked.pop(0)
        policy = next(oracle.solve([row]))
        weights.append(row)
        values.append(policy.rewards - policy.regularizer)
        start = time.perf_counter()
        grid.tell(row, policy.rewards, policy.regularizer)
        if len(weights) == n:
            break
        if not asked:
            asked = list(grid.ask())
            times.append(time.perf_counter() - start)
    return np.array(weights), np.array(values), statistics.median(times[-TURNS:])


def one_turn(weights: np.ndarray, values: np.ndarray, channel: Any) -> None:
    """Seconds that linear support takes for its n-th turn, and its number of corners."""
    support = load_linear_support()(weights.shape[1], epsilon=0.0, verbose=False)
    with contextlib.redirect_stdout(io.StringIO()):
        support.ccs = list(values[:-1])
        support.visited_weights = list(weights[:-1])
        support.weight_support = list(weights[:-1])
        start = time.perf_counter()
        support.add_solution(values[-1], weights[-1])
        support.next_weight()
        seconds = time.perf_counter() - start
    channel.send((seconds, len(support.compute_corner_weights())))


def timed(weights: np.ndarray, values: np.ndarray, limit: float) -> tuple[float, int] | None:
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.Process(target=one_turn, args=(weights, values, theirs))
    process.start()
    found = ours.recv() if ours.poll(limit) else None
    process.terminate()
    process.join()
    return found


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for a turn of theirs")


def measure(given: Namespace, record: Record) -> None:
    support = load_linear_support()
    if isinstance(support, str):
        record.note(f"Not installed here ({support}): only the adaptive grid is timed.")
    table = record.table(
        f"the n-th turn; ours the median of {TURNS}; theirs once, {given.limit:g} s at most",
        *("d", "policies", "adaptive grid", "linear support", "corners", "   ratio"),
    )
    for d in (3, 4) if given.quick else (3, 4, 5):
        for n in [100] if given.quick else [100, 200, 500]:
            weights, values, seconds = answers(d, n)
            cells = ["–", "–", "–"]
            if not isinstance(support, str):
                found = timed(weights, values, given.limit)
                taken, corners = found or (given.limit, None)
                bound = "" if found else "≥"
                record.value(FASTER, f"d = {d}, {n} policies", taken / seconds, bound)
                cells = [f"{'' if found else 'over '}{taken:.2f} s", str(corners or "–")]
                cells.append(FASTER.shown(taken / seconds, bound))
            table.row(d, n, f"{seconds * 1e3:.2f} ms", *cells)


if __name__ == "__main__":
    run(__file__, ABOUT, measure, arguments)
