"""Kill runs at random instants, again and again, and count what is lost, repeated or changed.

Each run is `palm build` with worker processes. Its driver, one of its workers or a process
that supervises one is killed with SIGKILL at a random instant (starting, calling, writing),
then the same command is run again, until the run is finished; then the next run begins.
Printed at the end: answers that were recorded and are gone (must be 0), answers recorded
twice (0), oracle calls made again, of which each kill may cost as many as were in flight,
and how many finished portfolios are the same, byte for byte, as that of an undisturbed run.

    python benchmarks/soak.py [--quick] [--kills 300]
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from common import Aim, Benchmark, Figure, run
from palm_core.run.ledger import FILE_NAME, Ledger

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from common import Record

LOST = Figure("answers that were recorded and are gone", "")
TWICE = Figure("answers that are recorded twice", "")
SAME = Figure("portfolios that are the same, byte for byte", "%")
AGAIN = Figure("oracle calls made again, for each kill", "×")
ABOUT = Benchmark(
    question="Is anything lost, repeated or changed when a run is killed at any instant?",
    against="the undisturbed run",
    baseline="The same run, undisturbed.",
    why="What a killed run ends with should not tell that it was killed. The rate is what "
    "matters, so runs are killed by the hundred and not a few times on purpose.",
    quick="ten kills; under a minute",
    full="300 kills; a quarter of an hour",
    figures=(LOST, TWICE, SAME, AGAIN),
    aims=(
        Aim("no answer is lost", LOST, most=0),
        Aim("no answer is recorded twice", TWICE, most=0),
        Aim("every portfolio is the undisturbed run's", SAME, least=1),
        Aim("a kill costs at most the calls in flight: one for each of two workers", AGAIN, most=2),
    ),
)

ORACLE = """
import os, time
from pathlib import Path
from palm_core.oracles.tabular import load

class Soaked:
    def __init__(self, calls: Path, seconds: float):
        self.oracle = load(objectives=["helpful", "brief", "safe"], prompts=4, responses=20)
        self.objectives = self.oracle.objectives
        self.calls, self.seconds = calls, seconds

    def solve(self, weights):
        for row in weights:
            (policy,) = self.oracle.solve(row[None])
            descriptor = os.open(self.calls, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(descriptor, f"{policy.id}\\n".encode())
            os.close(descriptor)
            time.sleep(self.seconds)
            yield policy
"""
TASK = """
[oracle]
name = "soaked:Soaked"
calls = "{calls}"
seconds = {seconds}
[{how}]
{asked}
"""
ASKED = {"grid": "mu = 0.5\nalpha = 0.1", "adaptive": "target_epsilon = 0.02"}


class Run:
    """A run, the folder it is in, and what is known of it from outside."""

    def __init__(self, place: Path, how: str, workers: int, seconds: float) -> None:
        self.place, self.out, self.calls = place, place / "run", place / "calls"
        self.workers = workers
        self.seen: set[str] = set()
        place.mkdir()
        (place / "soaked.py").write_text(ORACLE)
        (place / "task.toml").write_text(
            TASK.format(calls="calls", seconds=seconds, how=how, asked=ASKED[how])
        )

    def start(self) -> subprocess.Popen[bytes]:
        """`palm build`, in a session of its own."""
        arguments = ["build", "task.toml", "--out", "run", f"--workers={self.workers}", "--json"]
        return subprocess.Popen(
            [sys.executable, "-m", "palm_core", *arguments],
            cwd=self.place,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def finish(self) -> None:
        """Run it to its end."""
        process = self.start()
        _, told = process.communicate(timeout=300)
        if process.returncode:
            raise SystemExit(f"a run failed: {told.decode()}")

    def portfolio(self) -> str:
        """SHA-256 of portfolio.json."""
        return hashlib.sha256((self.out / "portfolio.json").read_bytes()).hexdigest()

    def made(self) -> int:
        """How many calls the oracle has begun, by its own account."""
        return len(self.calls.read_text().splitlines())

    def check(self) -> tuple[int, int]:
        """Answers that were recorded and are gone, and answers recorded twice."""
        if not (self.out / FILE_NAME).exists():
            return len(self.seen), 0
        try:
            with Ledger.read(self.out) as ledger:
                found = [answer.policy.id for answer in ledger.answers()]
        except ValueError:
            return len(self.seen), 0  # killed before the first table was made
        log = self.out / "logs" / "build.log"
        lines = log.read_text().splitlines() if log.exists() else []
        # What the log says was recorded, was recorded before that was said.
        self.seen |= {
            line.split(" answered ")[1].split()[0] for line in lines if " answered " in line
        }
        lost = len(self.seen - set(found))
        self.seen |= set(found)
        return lost, len(found) - len(set(found))


def children_of(pid: int) -> list[int]:
    """The processes that ``pid`` has started."""
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []  # it has ended meanwhile


def workers_of(pid: int) -> dict[int, str]:
    """The worker processes of ``pid`` and those that supervise them, and which is what."""
    supervisors = children_of(pid)
    workers = [worker for supervisor in supervisors for worker in children_of(supervisor)]
    return dict.fromkeys(supervisors, "a supervisor") | dict.fromkeys(workers, "a worker")


def kill(process: subprocess.Popen[bytes], chance: random.Random) -> str:
    """Kill the driver, or one of its workers or their supervising processes, if there are any."""
    victims = workers_of(process.pid)
    if victims and chance.random() < 0.5:
        victim = chance.choice(list(victims))
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            return "nobody"
        return victims[victim]
    process.kill()
    process.wait()
    return "the driver"


def soak(folder: Path, kills: int, workers: int, seconds: float, seed: int) -> dict[str, int]:
    """Kill and go on until ``kills`` are done; returns what is printed."""
    chance = random.Random(seed)
    undisturbed, durations, needed = {}, {}, {}
    for how in ASKED:
        run = Run(folder / f"whole-{how}", how, workers, seconds)
        begun = time.perf_counter()
        run.finish()
        durations[how] = time.perf_counter() - begun
        undisturbed[how], needed[how] = run.portfolio(), run.made()
        print(f"undisturbed {how}: {needed[how]} calls, {durations[how]:.1f} s", flush=True)
    told: Counter[str] = Counter()
    number = 0
    while told["kills"] < kills:
        how = chance.choice(list(ASKED))
        run = Run(folder / f"run-{number}", how, workers, seconds)
        number += 1
        # Killed only so often that it ends at last, then left alone.
        for _ in range(chance.randrange(1, 12)):
            process = run.start()
            try:
                process.wait(chance.uniform(0.0, 1.1 * durations[how]))
            except subprocess.TimeoutExpired:
                victim = kill(process, chance)
                told[f"killed: {victim}"] += 1
                told["kills"] += victim != "nobody"
                if victim != "the driver":
                    process.wait(300)
            assert process.stderr is not None
            process.stderr.close()
            lost, twice = run.check()
            told["lost"] += lost
            told["recorded twice"] += twice
        run.finish()
        lost, twice = run.check()
        told["lost"] += lost
        told["recorded twice"] += twice
        told["calls made again"] += run.made() - needed[how]
        told["portfolios"] += 1
        print(f"{told['kills']} kills, {told['portfolios']} portfolios", flush=True)
        told["identical portfolios"] += run.portfolio() == undisturbed[how]
    return {**dict.fromkeys(("lost", "recorded twice", "identical portfolios"), 0), **told}


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.02, help="of an oracle call")
    parser.add_argument("--seed", type=int, default=0)


def measure(given: Namespace, record: Record) -> None:
    """Soak and count."""
    kills = 10 if given.quick else given.kills
    with tempfile.TemporaryDirectory() as folder:
        told = soak(Path(folder), kills, given.workers, given.seconds, given.seed)
    table = record.table("counts", "what                    ", "count")
    for name, count in sorted(told.items()):
        table.row(name, count)
    over = f"{told['kills']} kills of {told['portfolios']} runs"
    record.value(LOST, over, told["lost"])
    record.value(TWICE, over, told["recorded twice"])
    record.value(SAME, over, told["identical portfolios"] / told["portfolios"])
    record.value(AGAIN, over, told["calls made again"] / told["kills"])


if __name__ == "__main__":
    run(__file__, ABOUT, measure, arguments)
