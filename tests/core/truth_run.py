"""Hold the claims of many instances against the exact reference: a long run that can go on.

    python tests/core/truth_run.py --instances 100000 --resume truth.json --seconds 3600

Seeds are taken in order, each for every family; every function is asked about each instance,
or about one in so many (:data:`ONE_IN`). What was counted, and the first instances that failed,
are in the file of ``--resume``: a run that is stopped goes on from there. An instance is made
again by its name, ``--only lattice:17 --functions gaps``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from truth_instances import FAMILIES, ORDINARY, Instance, make
from truth_judges import JUDGES

#: What takes an integer program or several is asked about fewer instances.
ONE_IN = {"certify": 10, "size_gap_curve": 20, "select_models": 4, "minimal_portfolio": 2}
#: Seconds of processor time after which a function counts as stuck.
PATIENCE = 20.0
_SAVE_EVERY = 10.0
_EXAMPLES = 3


class Stuck(BaseException):
    """A function that does not end; no ``except Exception`` of its own stops it."""


@contextlib.contextmanager
def patience(seconds: float):
    """Raise :class:`Stuck` after so much processor time (main thread, and not on Windows)."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_: object) -> None:
        raise Stuck

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def problems(function: str, given: Instance) -> list[str]:
    """What is wrong with a function's answer; warnings and exceptions are wrong, too."""
    rng = np.random.default_rng(sum(map(ord, f"{function} {given.name}")))
    try:
        with warnings.catch_warnings(), patience(PATIENCE):
            warnings.simplefilter("error")
            return list(JUDGES[function](given, rng))
    except Stuck:
        return [f"stuck: no answer after {PATIENCE:g} s of processor time"]
    except Exception as error:  # noqa: BLE001 (whatever it is, it is counted)
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}, line {place.lineno}"
        return [f"crash: {type(error).__name__}: {error} ({where})"]


def named(name: str) -> Instance:
    """The instance of a name: family:seed, or family:seed:high."""
    family, seed, *size = name.split(":")
    return make(family, int(seed), high={"high": True, "low": False}[size[0]] if size else None)


def described(given: Instance) -> str:
    """The instance as Python."""
    fields = {
        "values": given.values.tolist(),
        "regularizer": given.regularizer.tolist(),
        "portfolio": given.portfolio,
        "epsilon": given.epsilon,
        "delta": given.delta,
        "weights": given.weights.tolist(),
    }
    return f"# {given.name}\n" + "\n".join(f"{name} = {value!r}" for name, value in fields.items())


class Counts:
    """How many instances were judged, and what was wrong, by function, kind and family."""

    def __init__(self, file: Path | None, setting: str) -> None:
        self.file, self.next, self.instances, self.seconds = file, 0, 0, 0.0
        self.asked: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}
        self.comparisons: Counter[str] = Counter()
        self.setting = setting
        if file is not None and file.exists():
            stored = json.loads(file.read_text(encoding="utf-8"))
            if stored["setting"] != setting:
                sys.exit(f"{file}: was made with {stored['setting']}, not {setting}")
            for key, value in stored.items():
                setattr(
                    self, key, Counter(value) if isinstance(getattr(self, key), Counter) else value
                )

    def add(self, function: str, family: str, name: str, found: list[str]) -> None:
        self.asked[f"{function} {family}"] += 1
        for kind in sorted({line.split(":")[0] for line in found}):
            key = f"{function} | {kind} | {family}"
            self.wrong[key] += 1
            kept = self.examples.setdefault(key, [])
            if len(kept) < _EXAMPLES:
                line = next(line for line in found if line.startswith(kind))
                kept.append(f"{name} {line}")

    def save(self) -> None:
        if self.file is not None:
            stored = {key: value for key, value in vars(self).items() if key != "file"}
            beside = self.file.with_suffix(".part")
            beside.write_text(json.dumps(stored, indent=1, ensure_ascii=False), encoding="utf-8")
            beside.replace(self.file)

    def show(self) -> None:
        functions = dict.fromkeys(key.split()[0] for key in self.asked)
        print(f"\n{self.instances} instances, {self.seconds:.0f} s, next seed {self.next}")
        for function in functions:
            asked = sum(n for key, n in self.asked.items() if key.split()[0] == function)
            kinds: Counter[str] = Counter()
            for key, n in self.wrong.items():
                if key.startswith(f"{function} |"):
                    kinds[key.split(" | ")[1]] += n
            shown = ", ".join(f"{kind} {n}" for kind, n in kinds.most_common()) or "nothing wrong"
            print(f"  {function:<16} {asked:>7} asked   {shown}")
        for key, n in sorted(self.wrong.items()):
            function, _, family = key.split(" | ")
            print(f"\n{key}: {n} of {self.asked[f'{function} {family}']}")
            for line in self.examples[key]:
                print(f"    {line}")
        opened = sum(n for key, n in self.wrong.items() if _is_open(key))
        ordinary = sum(
            n
            for key, n in self.asked.items()
            if key.startswith("minimal_portfolio ") and key.split()[1] in ORDINARY
        )
        if ordinary:
            print(f"\nstatus optimal, ordinary scale: {1 - opened / ordinary:.2%} of {ordinary}")
        if self.comparisons["comparisons"]:
            share = self.comparisons["rational"] / self.comparisons["comparisons"]
            print(
                f"decided by rational arithmetic: {share:.3%} of {self.comparisons['comparisons']}"
            )


def _is_open(key: str) -> bool:
    function, kind, family = key.split(" | ")
    return function == "minimal_portfolio" and kind == "open" and family in ORDINARY


def comparisons() -> Counter[str]:
    """How often palm_core compared and how often floats could not decide, if it counts."""
    try:
        from palm_core.geometry.exact import counts
    except ImportError:
        return Counter()
    return Counter(counts())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--instances", type=int, default=1000, help="stop after so many, in all")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--resume", type=Path, help="a file to keep the counts in and go on from")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--functions", nargs="+", choices=JUDGES, default=list(JUDGES))
    parser.add_argument("--high", action="store_true", help="5 … 8 objectives only")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these instances, FAMILY:SEED")
    given = parser.parse_args(arguments)
    if given.only:
        wrong = [
            (name, function, line)
            for name in given.only
            for function in given.functions
            for line in problems(function, named(name))
        ]
        for name in given.only:
            print(described(named(name)))
        for line in wrong:
            print(*line)
        return bool(wrong)
    high = "high" if given.high else "mixed"
    setting = f"{high}: {' '.join(given.families)}: {' '.join(given.functions)}"
    counts = Counts(given.resume, setting)
    begun = saved = time.monotonic()
    before, earlier = comparisons(), counts.seconds
    try:
        while counts.instances < given.instances and time.monotonic() - begun < given.seconds:
            seed = counts.next
            for family in given.families:
                made = make(family, seed, high=True if given.high else None)
                for function in given.functions:
                    if seed % ONE_IN.get(function, 1) == 0:
                        counts.add(function, family, made.name, problems(function, made))
                counts.instances += 1
            counts.next = seed + 1
            now = time.monotonic()
            counts.seconds = earlier + now - begun
            after = comparisons()
            counts.comparisons += after - before
            before = after
            if now - saved > _SAVE_EVERY:
                counts.save()
                saved = now
    except KeyboardInterrupt:
        print("stopped; what was asked about the last seed is not counted", file=sys.stderr)
    else:
        counts.save()
    counts.show()
    return bool(counts.wrong)


if __name__ == "__main__":
    sys.exit(main())
