"""Two versions of palm_core on the same instances of ordinary scale: times and proofs.

    git worktree add ../before COMMIT
    python tests/core/truth_speed.py ../before --instances 60 --table scores.csv:quality,speed

Each version answers in a process of its own, by turns, so that other work on the machine slows
both. The least processor time of the repeats counts (wall time beside it). The exit status is 1
where a function takes more than 1.1 times as long as before, or fewer than 99 % of the minima
that were proven before are proven now.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

FUNCTIONS = (
    *("gaps", "gaps_without", "gap_frontier", "violations", "minimal_portfolio"),
    *("size_gap_curve", "select_models", "prune", "certify"),
)
SLOWER, KEPT = 1.1, 0.99
TIME_LIMIT = 5.0
# What is quickly answered is asked until it has taken so many seconds, or so often.
_ENOUGH, _MOST_REPEATS = 0.2, 20
# A curve asks for dozens of minima.
_LARGEST_CURVE = 40
ROOT = Path(__file__).parents[2]


def instances(n: int) -> list[tuple[str, np.ndarray]]:
    """Tables as people have them: 10 … 100 policies, numbers of one size."""
    from truth_instances import FAMILIES

    found = []
    for seed in range(n):
        rng = np.random.default_rng(seed)
        family = ("uniform", "sphere", "decimals", "uniform", "signed")[seed % 5]
        m, d = int(rng.choice([10, 20, 40, 100])), int(rng.choice([2, 3, 4, 5]))
        m = min(m, {4: 40, 5: 20}.get(d, m))
        found.append((f"{family} {m} × {d}, seed {seed}", FAMILIES[family](rng, m, d)))
    return found


def read_table(named: str) -> tuple[str, np.ndarray]:
    """FILE:column,column: the complete rows of these columns, each from 0 to 1."""
    file, _, columns = named.rpartition(":")
    with Path(file).open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    values = []
    for row in rows:
        try:
            numbers = [float(row[name]) for name in columns.split(",")]
        except (TypeError, ValueError):
            continue
        if all(map(math.isfinite, numbers)):
            values.append(numbers)
    table = np.array(values)
    low, high = table.min(axis=0), table.max(axis=0)
    return f"{Path(file).name} {len(table)} × {table.shape[1]}", (table - low) / (high - low)


def answer(function: str, values: np.ndarray) -> tuple[Any, str]:
    """Ask one function; what it found, and "optimal" where it proves a minimum."""
    import palm_core as palm

    m, d = values.shape
    policies, some = palm.PolicySet(values), list(range(0, m, max(1, m // 6)))
    if function == "gaps":
        found = palm.gaps(values[some], values)
        return [found.epsilon, found.delta], ""
    if function == "gaps_without":
        return [x and x.delta for x in palm.gaps_without(values[some], values)], ""
    if function == "gap_frontier":
        return palm.gap_frontier(values[some], values, [0.0, 0.05, 0.2]).tolist(), ""
    if function == "violations":
        return len(palm.violations(values[some], values, epsilon=0.05)), ""
    if function == "size_gap_curve":
        curve = palm.size_gap_curve(values, most=4, time_limit=TIME_LIMIT)
        proven = all(point.proven for point in curve)
        return [point.size for point in curve], "optimal" if proven else "feasible"
    if function == "certify":
        weights = np.vstack([np.eye(d), palm.uniform_lattice(d, 3)])
        return palm.certify(policies, weights, portfolio=some).delta, ""
    if function == "prune":
        weights = palm.uniform_lattice(d, 12 if d < 4 else 6)
        ask = getattr(palm, "prune_report", palm.prune)  # its name in earlier versions
        pruned = ask(policies, weights, mu=0.05, method="exact", time_limit=TIME_LIMIT)
        return len(pruned.indices), pruned.status
    ask = getattr(palm, function)
    if function == "minimal_portfolio":
        ask = getattr(palm, "minimal_report", ask)
    least = ask(policies, epsilon=0.05, time_limit=TIME_LIMIT)
    return len(least.indices), least.status


def work() -> None:
    """Answer what comes in, a line each, with the times taken."""
    import palm_core

    print(json.dumps({"file": palm_core.__file__}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        values = np.array(asked["values"])
        wall, cpu = time.perf_counter(), _processor_time()
        try:
            found, status = answer(asked["function"], values)
        except Exception as error:  # noqa: BLE001 (it is printed)
            found, status = f"{type(error).__name__}: {error}", "failed"
        times = {"wall": time.perf_counter() - wall, "cpu": _processor_time() - cpu}
        print(json.dumps({"found": found, "status": status, **times}), flush=True)


def _processor_time() -> float:
    """Of this process and of the solvers that it has started."""
    import resource

    return sum(
        use.ru_utime + use.ru_stime
        for use in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


class Version:
    """A checkout's palm_core in a process of its own."""

    def __init__(self, checkout: Path) -> None:
        source = (checkout / "packages" / "palm-core" / "src").resolve()
        if not (source / "palm_core").is_dir():
            sys.exit(f"{checkout}: must be a checkout, with packages/palm-core/src/palm_core")
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"},
        )
        loaded = Path(self._read()["file"])
        if not loaded.is_relative_to(source):
            sys.exit(f"{checkout}: {loaded} was loaded in place of it")

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def ask(self, function: str, values: np.ndarray) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(
            json.dumps({"function": function, "values": values.tolist()}) + "\n"
        )
        self.process.stdin.flush()
        return self._read()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path, help="a checkout of the earlier version")
    parser.add_argument("--after", type=Path, default=ROOT, help="of the later one; default this")
    parser.add_argument("--instances", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3, help="at least")
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after so long")
    parser.add_argument("--table", nargs="*", default=[], metavar="FILE:COLUMN,COLUMN")
    parser.add_argument("--functions", nargs="+", choices=FUNCTIONS, default=FUNCTIONS)
    given = parser.parse_args()
    cases = [*map(read_table, given.table), *instances(given.instances)]
    versions = [Version(given.before), Version(given.after)]
    for version in versions:  # what is compiled or imported on first use
        for function in given.functions:
            for d in (2, 3):
                version.ask(function, np.eye(10, d) + 0.5)
    begun = time.monotonic()
    rows: dict[str, list[tuple[dict, dict]]] = defaultdict(list)
    for name, values in cases:
        for function in given.functions:
            if function == "size_gap_curve" and len(values) > _LARGEST_CURVE:
                continue
            found: tuple[list, list] = ([], [])
            for repeat in range(_MOST_REPEATS):
                if repeat >= given.repeats and sum(x["cpu"] for x in found[0]) > _ENOUGH:
                    break
                for side in (0, 1) if repeat % 2 == 0 else (1, 0):
                    found[side].append(versions[side].ask(function, values))
            best = [min(answers, key=lambda x: x["cpu"]) for answers in found]
            rows[function].append((best[0], best[1]))
            ratio = best[1]["cpu"] / best[0]["cpu"]
            if ratio > 2 and best[1]["cpu"] > 0.05:
                print(f"slower {ratio:.1f}×: {function}, {name}: {best[1]['cpu']:.2f} s")
            if best[0]["status"] != best[1]["status"]:
                print(f"{function}, {name}: {best[0]['status']} before, {best[1]['status']} now")
            if "failed" in (best[0]["status"], best[1]["status"]):
                print(f"{function}, {name}: {best[0]['found']} before, {best[1]['found']} now")
        if time.monotonic() - begun > given.seconds:
            break
    for version in versions:
        version.close()
    good = [summary(function, pairs) for function, pairs in rows.items()]
    return int(not all(good))


def summary(function: str, pairs: list[tuple[dict, dict]]) -> bool:
    """Print a function's line; whether it is as fast and proves as much."""
    ratios = {
        kind: sum(new[kind] for _, new in pairs) / sum(old[kind] for old, _ in pairs)
        for kind in ("cpu", "wall")
    }
    middle = math.exp(sum(math.log(new["cpu"] / old["cpu"]) for old, new in pairs) / len(pairs))
    line = (
        f"{function:<15} {len(pairs):>4} instances   now / before: processor time "
        f"{ratios['cpu']:.2f}, wall {ratios['wall']:.2f}, each {middle:.2f} (geometric mean)"
    )
    proven = [new["status"] == "optimal" for old, new in pairs if old["status"] == "optimal"]
    kept = sum(proven) / len(proven) if proven else 1.0
    if any(old["status"] for old, _ in pairs):
        count = sum(new["status"] == "optimal" for _, new in pairs)
        line += f"   optimal before {len(proven)}, now {count}, kept {kept:.1%}"
    print(line)
    return ratios["cpu"] <= SLOWER and kept >= KEPT


if __name__ == "__main__":
    if sys.argv[1:] == ["--worker"]:
        work()
    else:
        sys.exit(main())
