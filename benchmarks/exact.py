"""The fewest policies that cover all weights: palm_core against plain PuLP, in the same run.

    python benchmarks/exact.py [--quick]

Both get the same instance and the same time limit. "plain" is what one would write down:
one binary variable a policy, one constraint a weight, from the whole matrix, handed to
CBC or HiGHS with their defaults. "reduced" is ``solve_set_cover``, whose sizes after the
reductions stand behind the arrow.

* ``grid``: policies that are optimal at the weights of a grid like the paper's, cover
  asked for at the same weights; ``random``: other, and more, weights are to be covered.
  The policies are those of a tabular task with the value β·E_x log E_y exp(w·r(x, y)/β).
* A size stands with its lower bound, "10" where they meet and "12 ≥ 9" where not; plain
  PuLP tells no bound when it is stopped, that is "≥ 1".
* Ratios are plain / reduced: wall time, and the processor time of all processes, which
  says more on a busy machine. "≥": plain PuLP was stopped by the limit. "–": both were.
"""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pulp

from common import Aim, Benchmark, Figure, run
from palm_core.cover.cover import cover_weights, greedy
from palm_core.cover.reductions import packed
from palm_core.cover.set_cover import solve_set_cover
from palm_core.model.policy import PolicySet

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

    from common import Record
    from palm_core.cover.cover import CoverMatrix

WALL = Figure("wall time of plain PuLP / of the reduced program", drawn="time, plain PuLP")
CPU = Figure("processor time of plain PuLP / of the reduced program")
WORSE = Figure("policies more than in plain PuLP's best cover", "")
ABOUT = Benchmark(
    question="How fast is the smallest set of policies that covers all weights found and proven?",
    against="plain PuLP",
    baseline="The same integer program as PuLP's tutorial would write it, from the whole matrix, "
    "with the same solver (CBC, and HiGHS where it is installed) and time limit.",
    why="It has the same answer and the same solver: what is measured is what comes before the "
    "solver, and nothing else.",
    quick="small instances, 10 s limit; two minutes",
    full="larger ones, 60 s limit; up to an hour, for CBC heeds no limit while it presolves",
    figures=(WALL, CPU, WORSE),
    aims=(
        Aim(
            "10 times faster than plain PuLP, on average (the geometric mean)",
            CPU,
            least=10,
            over="geometric mean",
        ),
        Aim("never a larger cover than plain PuLP's", WORSE, most=0),
    ),
)
SOLVERS = ("cbc", "highs") if find_spec("highspy") else ("cbc",)
# Grids: objectives, values per entry, values of μ'. Random: policies, weights too.
GRIDS = [
    (3, 14, (0.02, 0.05)),
    (3, 22, (0.02, 0.05)),
    (3, 30, (0.02, 0.05)),
    (4, 6, (0.02, 0.05)),
    (4, 8, (0.03, 0.05, 0.1)),
    (5, 6, (0.1, 0.15)),
]
RANDOM = [(3, 1000, 3000, (0.02, 0.05)), (4, 1000, 3000, (0.05,)), (4, 2000, 10000, (0.05,))]
QUICK_GRIDS = [(3, 14, (0.02, 0.05)), (3, 22, (0.05,)), (4, 6, (0.05,)), (4, 8, (0.1,))]
QUICK_RANDOM = [(3, 1000, 3000, (0.05,))]


@dataclass(frozen=True)
class Outcome:
    """What was found, what is proven, and what it took."""

    size: int | None
    lower: int
    wall: float
    cpu: float
    note: str = ""

    @property
    def proven(self) -> bool:
        """Whether no smaller cover exists."""
        return self.size == self.lower

    def __str__(self) -> str:
        shown = "none" if self.size is None else str(self.size)
        return shown if self.proven else f"{shown} ≥ {self.lower}"


def grid(d: int, n: int) -> np.ndarray:
    """Weights whose entries are, before normalising, 0 or 0.05 … 1 in equal ratios."""
    values = np.concatenate([[0.0], np.geomspace(0.05, 1.0, n - 1)])
    digits = np.stack(np.meshgrid(*[np.arange(n)] * d, indexing="ij"), axis=-1).reshape(-1, d)
    rows = values[digits[digits.max(axis=1) == n - 1]]
    weights: np.ndarray = rows / rows.sum(axis=1, keepdims=True)
    return weights


def tabular(weights: np.ndarray, *, beta: float = 0.05, seed: int = 0) -> PolicySet:
    """The policy that is optimal at each weight, for 20 prompts × 200 responses."""
    random = np.random.default_rng(seed)
    d = weights.shape[1]
    rewards = random.beta(2.0, 2.0, size=(20, 200, d))
    # What is good for one objective is bad for the others, more or less.
    rewards /= rewards.sum(axis=2, keepdims=True) ** 0.7
    rewards /= rewards.max()
    means, penalties = np.empty((len(weights), d)), np.empty(len(weights))
    for i, w in enumerate(weights):
        scores = rewards @ w / beta
        highest = scores.max(axis=1, keepdims=True)
        raw = np.exp(scores - highest)
        total = raw.sum(axis=1, keepdims=True)
        means[i] = ((raw / total)[..., np.newaxis] * rewards).sum(axis=1).mean(axis=0)
        optimum = beta * (highest + np.log(total / 200)).mean()
        penalties[i] = max(float(w @ means[i] - optimum), 0.0)
    return PolicySet(means, penalties)


def timed(work: Callable[[], tuple[int | None, int, str]]) -> Outcome:
    def spent() -> float:
        who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        return sum(sum(resource.getrusage(each)[:2]) for each in who)

    wall, cpu = time.perf_counter(), spent()
    size, lower, note = work()
    return Outcome(size, lower, time.perf_counter() - wall, spent() - cpu, note)


def plain(table: np.ndarray, solver: str, limit: float) -> tuple[int | None, int, str]:
    """Set cover as PuLP's tutorial would have it."""
    model = pulp.LpProblem("cover", pulp.LpMinimize)
    rows = [model.add_variable(f"x{i}", cat=pulp.LpBinary) for i in range(len(table))]
    model += pulp.lpSum(rows)
    for column in table.T:
        model += pulp.lpSum([rows[i] for i in np.flatnonzero(column)]) >= 1
    if solver == "highs":
        model.solve(pulp.HiGHS(msg=False, timeLimit=limit))
    else:
        path = pulp.PULP_CBC_CMD.pulp_cbc_path
        model.solve(pulp.COIN_CMD(path=path, msg=False, timeLimit=limit))
    chosen = [i for i, row in enumerate(rows) if (row.varValue or 0.0) > 0.5]
    if not table[chosen].any(axis=0).all():
        return None, 1, ""
    proven = model.sol_status == pulp.LpSolutionOptimal
    return len(chosen), len(chosen) if proven else 1, ""


def reduced(cover: CoverMatrix, solver: str, limit: float) -> tuple[int | None, int, str]:
    found = solve_set_cover(
        cover.bits,
        cover.n_weights,
        incumbent=greedy(cover),
        solver=solver,
        time_limit=limit,
    )
    left = f"{found.n_rows} × {found.n_columns}, {found.n_forced} forced, by {found.solver}"
    return found.upper_bound, found.lower_bound, left


def ratio(slow: Outcome, quick: Outcome, of: str) -> tuple[float, str] | None:
    """Theirs by ours, and whether it is only a bound; ``None`` where neither has proven it."""
    if not slow.proven and not quick.proven:
        return None
    bound = "≥" if not slow.proven else "≤" if not quick.proven else ""
    return getattr(slow, of) / getattr(quick, of), bound


def compare(
    record: Record,
    table: Any,
    name: str,
    policies: PolicySet,
    weights: np.ndarray,
    mu: float,
    limit: float,
) -> list[tuple[Outcome, Outcome]]:
    """One instance by each solver: the outcomes of ours and of plain PuLP."""
    outcomes = []
    cover = cover_weights(policies, weights, mu=mu)
    matrix = cover.matrix()
    sizes = f"{len(policies)} × {len(weights)}"
    d = weights.shape[1]
    for solver in SOLVERS:
        ours = timed(partial(reduced, cover, solver, limit))
        theirs = timed(partial(plain, matrix, solver, limit))
        if ours.proven and theirs.proven and ours.size != theirs.size:
            raise SystemExit(f"the answers differ: {ours.size} and {theirs.size}")
        cells = []
        for figure, of in ((WALL, "wall"), (CPU, "cpu")):
            found = ratio(theirs, ours, of)
            if found is not None:
                record.value(figure, f"{name} d = {d}, {sizes}, μ' = {mu:g}, {solver}", *found)
            cells.append("–" if found is None else figure.shown(*found))
        if ours.size is not None and theirs.size is not None:
            record.value(
                WORSE,
                f"{name} d = {d}, {sizes}, μ' = {mu:g}, {solver}",
                max(0, ours.size - theirs.size),
            )
        table.row(
            *(name, d, f"{mu:g}", sizes, len(greedy(cover)), solver, theirs, ours),
            *(f"{theirs.wall:.2f}", f"{ours.wall:.2f}", *cells, ours.note),
        )
        outcomes.append((ours, theirs))
    return outcomes


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--limit", type=float, help="seconds for each solve (default 60)")


def measure(given: Namespace, record: Record) -> None:
    limit = given.limit or (10.0 if given.quick else 60.0)
    # Compiling and importing is nobody's time.
    ring = (np.arange(40)[:, np.newaxis] - np.arange(40)) % 40 < 3
    for solver in SOLVERS:
        solve_set_cover(packed(ring), 40, solver=solver, time_limit=5.0)
        plain(ring, solver, 5.0)
    table = record.table(
        f"the fewest policies; limit {limit:g} s; seconds of wall time",
        *("input ", "d", "  μ'", "       size", "greedy", "solver", "  plain", "reduced"),
        *("plain s", "ours s", "   wall", "    CPU", "after the reductions "),
    )
    outcomes = []
    for d, n, mus in QUICK_GRIDS if given.quick else GRIDS:
        weights = grid(d, n)
        policies = tabular(weights)
        for mu in mus:
            outcomes += compare(record, table, "grid", policies, weights, mu, limit)
    for d, m, k, mus in QUICK_RANDOM if given.quick else RANDOM:
        random = np.random.default_rng(1)
        policies = tabular(random.dirichlet(np.ones(d), size=m))
        weights = random.dirichlet(np.ones(d), size=k)
        for mu in mus:
            outcomes += compare(record, table, "random", policies, weights, mu, limit)
    ours, theirs = (sum(one.proven for one in side) for side in zip(*outcomes, strict=True))
    record.note(
        f"Proven within {limit:g} s: {ours} reduced programs and {theirs} plain ones, "
        f"of {len(outcomes)}."
    )


if __name__ == "__main__":
    run(__file__, ABOUT, measure, arguments)
