"""Oracle calls until a certified gap over all weights: adaptive, grids, random, a priori.

On exact tabular tasks (20 prompts × 200 responses, β = 0.05), so the certificate is
unconditional. "paper" is the smallest of many grids CONSTRUCTGRID(μ, α) whose answers
certify the target; "lattice" the coarsest uniform lattice that does; "random" the
vertices and uniform weights, median of three seeds (d < 5); "theorem" |W| of the cheapest grid
for which Theorem 3.4 promises 4μ ≤ ε and an additive term within the δ that the
adaptive run certified ("sharper": the same with the sharper pair).

    python benchmarks/certified_calls.py [--quick]
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

import numpy as np

from common import Aim, Benchmark, Figure, run
from palm_core import PolicySet, sample_weights, uniform_lattice
from palm_core.guarantees.adaptive import AdaptiveGrid
from palm_core.guarantees.certificate import certify
from palm_core.guarantees.theorem import theorem_bounds
from palm_core.oracles.tabular import TabularOracle
from palm_core.oracles.task_table import make_task
from palm_core.run.engine import round_size
from palm_core.weights.grid import construct_grid, grid_size

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from common import Record
    from palm_core.model.results import Certificate

PAPER = Figure("calls of the paper's smallest grid that certifies as much / adaptive calls")
EQUAL = Figure(
    "calls of each of the paper's grids / adaptive calls, same certified ε",
    drawn="calls, the paper's grids",
)
LATTICE = Figure(
    "calls of the coarsest lattice that certifies as much / adaptive calls",
    drawn="calls, the best lattice",
)
THEOREM = Figure("calls that Theorem 3.4 asks for / adaptive calls")
TWO = Figure("adaptive calls to a certified 1 %, d = 2", "")
THREE = Figure("adaptive calls to a certified 1 %, d = 3", "")
ABOUT = Benchmark(
    question="How many oracle calls does it take to prove a gap over all weights?",
    against="the paper's grids",
    baseline="The paper's grids with the same certificate; also uniform lattices, random "
    "weights, and the calls that Theorem 3.4 asks for in advance.",
    why="A call is a training run: calls are the cost. The paper's own grids, judged by what "
    "they certify and not by the theorem, are the fair comparison; the lattice is chosen with "
    "hindsight, which nobody has.",
    quick="d = 2 and 3, at most 300 calls; a minute",
    full="d = 2 to 5, at most 600 to 1500 calls; an hour",
    figures=(EQUAL, PAPER, LATTICE, THEOREM, TWO, THREE),
    aims=(
        Aim("a certified 1 % for d = 2 in 9 calls at most", TWO, most=9),
        Aim("a certified 1 % for d = 3 in 100 calls at most", THREE, most=100),
        Aim("fewer calls than each of the paper's grids, for the same ε", EQUAL, least=1.0001),
    ),
)
NAMES = ("helpful", "brief", "safe", "humour", "other")
TARGETS = (0.05, 0.02, 0.01)
MOST = {2: 600, 3: 1500, 4: 1500, 5: 600}
MUS = (1.0, 0.8, 0.65, 0.5, 0.4, 0.3, 0.22, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02)
ALPHAS = (0.9, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12, 0.08, 0.05, 0.03, 0.02, 0.01)


def oracles(d: int) -> Iterator[tuple[str, TabularOracle]]:
    task = make_task(NAMES[:d], n_prompts=20, n_responses=200)
    yield "task", TabularOracle(task.rewards, task.reference, beta=0.05)
    rewards = np.random.default_rng(0).random((20, 200, d))
    yield "uniform", TabularOracle(rewards, beta=0.05)


def certified(oracle: TabularOracle, weights: np.ndarray) -> Certificate:
    policies = PolicySet.from_policies(list(oracle.solve(weights)))
    return certify(policies, weights)


def adaptive(oracle: TabularOracle, d: int, target: float, most: int) -> AdaptiveGrid:
    grid = AdaptiveGrid(d, target_epsilon=target)
    while grid.stopped is None and grid.n_answers < most:
        for weights in grid.ask():
            policy = next(oracle.solve([weights]))
            grid.tell(weights, policy.rewards, policy.regularizer)
    return grid


def in_rounds(oracle: TabularOracle, d: int, target: float, most: int) -> tuple[int | None, int]:
    """Calls, and how often some were chosen together, as `palm build` does for its workers."""
    grid, rounds = AdaptiveGrid(d, target_epsilon=target), 0
    while grid.stopped is None and grid.n_answers < most:
        weights = grid.ask(min(round_size(grid.n_answers, d), most - grid.n_answers))
        policies = PolicySet.from_policies(list(oracle.solve(weights)))
        grid.tell(weights, policies.rewards, policies.regularizer)
        rounds += 1
    return (grid.n_answers if grid.stopped == "target" else None), rounds


def paper_grids(d: int, most: int) -> list[tuple[int, float, float]]:
    """(|W|, μ, α) by size; of nearly equal sizes at most three."""
    everyone = sorted((grid_size(d, mu, alpha), mu, alpha) for mu in MUS for alpha in ALPHAS)
    kept: dict[int, list[tuple[int, float, float]]] = {}
    for size, mu, alpha in everyone:
        if size <= most:
            kept.setdefault(round(np.log(size) / np.log(1.15)), []).append((size, mu, alpha))
    return [item for bucket in kept.values() for item in bucket[:: max(1, len(bucket) // 3)][:3]]


def smallest(oracle: TabularOracle, grids: list[tuple[int, np.ndarray]]) -> dict[float, int]:
    """The size of the first of ``grids``, by size, that certifies each target."""
    found: dict[float, int] = {}
    for size, weights in grids:
        if len(found) == len(TARGETS):
            break
        epsilon = certified(oracle, weights).epsilon
        for target in TARGETS:
            if epsilon <= target:
                found.setdefault(target, size)
    return found


def random_calls(oracle: TabularOracle, d: int, target: float, most: int) -> float:
    """Median over three seeds of the calls that random weights take; ∞ if too many."""
    counts = []
    for seed in range(3):
        weights = np.vstack([np.eye(d), sample_weights(most, d, seed=seed)])
        low, high = d, most + 1
        while high - low > max(1, low // 50):
            middle = (low + high) // 2
            reached = certified(oracle, weights[:middle]).epsilon <= target
            low, high = (low, middle) if reached else (middle, high)
        counts.append(high if high <= most else float("inf"))
    return statistics.median(counts)


def a_priori(oracle: TabularOracle, d: int, target: float, delta: float, *, sharper: bool) -> int:
    """The least |W| for which Theorem 3.4 promises (target, delta); μ' = μ."""
    best = 0
    for share in np.geomspace(0.01, 1.0, 60):
        mu = min(1.0, share * target / (3 if sharper else 4))
        for alpha in np.geomspace(1e-6, 1.0, 200):
            bounds = theorem_bounds(
                d, mu, float(alpha), oracle.reward_bound, oracle.regularizer_bound
            )
            pair = (bounds.sharper_epsilon, bounds.sharper_delta)
            epsilon, additive = pair if sharper else (bounds.epsilon, bounds.delta)
            if epsilon > target or additive > delta:
                break
            best = min(best or bounds.size, bounds.size)
    return best


def shown(count: Any, most: int) -> str:
    if isinstance(count, str):
        return count
    if count is None or count == float("inf"):
        return f"> {most}"
    return f"{int(count):,}" if count < 1e6 else f"{count:.1e}"


def targets(record: Record, table: Any, d: int, name: str, oracle: Any, most: int) -> None:
    """Calls to each target, of every way."""
    sizes = paper_grids(d, most)
    paper = smallest(oracle, [(n, construct_grid(d, m, a)) for n, m, a in sizes])
    lattices: list[tuple[int, np.ndarray]] = []
    resolution = 1
    while len(rows := uniform_lattice(d, resolution)) <= most:
        lattices.append((len(rows), rows))
        resolution += 1 if resolution < 40 else resolution // 10
    lattice = smallest(oracle, lattices)
    for target in TARGETS:
        grid = adaptive(oracle, d, target, most)
        certificate, of = grid.certificate, f"d = {d}, {name}, {target:.0%}"
        random = "-" if d > 4 else random_calls(oracle, d, target, most)
        promised: list[Any] = ["-", "-"]
        reached = grid.stopped == "target"
        if reached and certificate is not None:
            delta = certificate.delta
            promised = [
                a_priori(oracle, d, target, delta, sharper=sharper) for sharper in (True, False)
            ]
            record.value(THEOREM, of, promised[1] / grid.n_answers)
            for figure, found in ((PAPER, paper), (LATTICE, lattice)):
                calls, bound = (found[target], "") if target in found else (most, "≥")
                record.value(figure, of, calls / grid.n_answers, bound)
        if target == TARGETS[-1] and d in (2, 3):
            figure = TWO if d == 2 else THREE
            record.value(figure, name, grid.n_answers, "" if reached else "≥")
        calls_in_rounds, rounds = in_rounds(oracle, d, target, most)
        table.row(
            *(d, name, f"{target:.0%}", shown(grid.n_answers if reached else None, most)),
            f"{shown(calls_in_rounds, most)} in {rounds}",
            *(shown(found.get(target), most) for found in (paper, lattice)),
            *(shown(count, most) for count in (random, *promised)),
        )


def equal_certificates(
    record: Record, table: Any, d: int, name: str, oracle: Any, most: int, step: int
) -> None:
    """Adaptive calls to what each of the paper's grids certifies."""
    for size, mu, alpha in paper_grids(d, most)[::step]:
        epsilon = certified(oracle, construct_grid(d, mu, alpha)).epsilon
        grid = adaptive(oracle, d, epsilon, size)
        reached = grid.stopped == "target"
        record.value(
            EQUAL, f"d = {d}, {name}, {size}", size / grid.n_answers, "" if reached else "≤"
        )
        calls = f"{'' if reached else '> '}{grid.n_answers}"
        table.row(d, name, f"{mu:g}", f"{alpha:g}", f"{epsilon:.2%}", size, calls)


def measure(given: Namespace, record: Record) -> None:
    dimensions = (2, 3) if given.quick else (2, 3, 4, 5)
    most = {d: min(MOST[d], 300) if given.quick else MOST[d] for d in dimensions}
    table = record.table(
        "oracle calls to a certified ε",
        *("d", "instance", "target", "adaptive", "    rounds", "paper", "lattice", "random"),
        *("   sharper", "   theorem"),
    )
    for d in dimensions:
        for name, oracle in oracles(d):
            targets(record, table, d, name, oracle, most[d])
    table = record.table(
        "oracle calls to what each of the paper's grids certifies",
        *("d", "instance", "  μ ", "  α ", "certified ε", "its calls", "adaptive"),
    )
    for d in dimensions:
        for name, oracle in oracles(d):
            step = 6 if given.quick else 4
            equal_certificates(record, table, d, name, oracle, most[d], step)


if __name__ == "__main__":
    run(__file__, ABOUT, measure)
