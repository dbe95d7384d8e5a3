"""Where and when a benchmark runs, and how busy the machine is with other work."""

from __future__ import annotations

import datetime
import os
import platform
import resource
import subprocess
import time
from importlib import metadata
from pathlib import Path

from common.documents import Conditions, Machine

LIBRARIES = (
    *("palm-core", "palm-eval", "palm-mod", "palm-trl"),
    *("numpy", "scipy", "numba", "pulp", "highspy", "torch", "transformers", "trl", "peft"),
    *("morl-baselines", "cvxpy", "atheris"),
)
ROOT = Path(__file__).parents[2]


def machine() -> Machine:
    """The machine that this runs on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    except OSError:
        named = []
    affinity = getattr(os, "sched_getaffinity", None)
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(
        processor=named[0] if named else platform.processor() or platform.machine(),
        cores=len(affinity(0)) if affinity else os.cpu_count() or 1,
        memory_gib=round(pages / 2**30, 1),
        system=f"{platform.system()} {platform.machine()}",
    )


def versions() -> dict[str, str]:
    """Python's, and those of the libraries that are installed."""
    found = {"Python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # not used here then
    return found


def commit() -> str:
    """The checkout's, with "+" where the packages or benchmarks differ from it."""

    def git(*words: str) -> str:
        found = subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return found.stdout.strip() if found.returncode == 0 else ""

    changed = git("status", "--porcelain", "--", "packages/*/src", "benchmarks/*.py")
    return git("rev-parse", "--short=10", "HEAD") + ("+" if changed else "")


def _own() -> float:
    """Processor seconds of this process and of its children that have ended."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(sum(resource.getrusage(each)[:2]) for each in who)


def _all() -> tuple[float, float] | None:
    """Processor seconds that all work has taken, and that there were."""
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0]
    except OSError:
        return None  # only Linux tells
    ticks = [int(word) for word in first.split()[1:9]]
    idle = ticks[3] + ticks[4]
    second = os.sysconf("SC_CLK_TCK")
    return (sum(ticks) - idle) / second, sum(ticks) / second


class Watch:
    """Begun with the run; :meth:`conditions` at its end."""

    def __init__(self) -> None:
        self.began = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        self.clock, self.load = time.perf_counter(), os.getloadavg()[0]
        self.own, self.all = _own(), _all()

    def conditions(self) -> Conditions:
        """What it was like since then."""
        others, now = None, _all()
        if self.all is not None and now is not None and now[1] > self.all[1]:
            busy = now[0] - self.all[0] - (_own() - self.own)
            others = round(max(0.0, busy / (now[1] - self.all[1])), 3)
        return Conditions(
            began=self.began.isoformat().replace("+00:00", "Z"),
            seconds=round(time.perf_counter() - self.clock, 1),
            load=(round(self.load, 1), round(os.getloadavg()[0], 1)),
            others=others,
            commit=commit(),
        )
