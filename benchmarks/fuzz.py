"""Coverage-guided fuzzing of everything that reads a file from someone else.

    python -m pip install atheris
    python benchmarks/fuzz.py [task portfolio table ledger] [--quick] [--seconds 60]

Any exception but a PalmError of one line is a finding; so is an input that takes longer
than --slow seconds, or a gigabyte and a half. A finding prints its input, is kept as a file
crash-… in the working folder, and ends its reader's part; add it as an @example to
tests/core/test_fuzz.py. Each reader runs in a process of its own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from common import Aim, Benchmark, Figure, run

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from common import Record

FINDINGS = Figure("findings", "")
RUNS = Figure("inputs read", "")
READERS = ("task", "portfolio", "table", "ledger")
ABOUT = Benchmark(
    question="Does every file from someone else get read or refused in one line, quickly?",
    against="one line for each refusal",
    baseline="None: each input has to be read, or refused with one line, in two seconds and "
    "1.5 GB, whatever it holds.",
    why="A reader is not compared with a worse reader. The inputs are: libFuzzer keeps those "
    "that reach code no other reached, which random bytes do not get far into.",
    quick="ten seconds for each of four readers",
    full="ten minutes for each of four readers",
    figures=(FINDINGS, RUNS),
    aims=(Aim("no finding", FINDINGS, most=0),),
)


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"{', '.join(READERS)}; all")
    parser.add_argument("--seconds", type=int, default=600, help="for each reader")
    parser.add_argument("--slow", type=float, default=2.0, help="seconds one input may take")
    parser.add_argument("--corpus", type=Path, help="a folder of inputs to begin with and add to")
    parser.add_argument("--seed", type=int, default=0, help="of libFuzzer; 0 draws one")


def measure(given: Namespace, record: Record) -> None:
    if unknown := set(given.readers) - set(READERS):
        raise SystemExit(f"{unknown.pop()!r}: must be one of {', '.join(READERS)}")
    if find_spec("atheris") is None:
        record.note("Not installed here (atheris, which comes for Linux only): nothing was fuzzed.")
        return
    seconds = 10 if given.quick else given.seconds
    table = record.table(
        f"{seconds} s each", "reader   ", "  inputs", "coverage, edges", "findings"
    )
    for reader in given.readers or READERS:
        command = [sys.executable, "-c", "import _fuzzed; _fuzzed.fuzz()", reader]
        command += [f"--seconds={seconds}", f"--slow={given.slow}", f"--seed={given.seed}"]
        if given.corpus is not None:
            command.append(f"--corpus={(given.corpus / reader).resolve()}")
        done = subprocess.run(
            command,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        )
        inputs = re.search(r"stat::number_of_executed_units: *(\d+)", done.stderr)
        edges = re.findall(r" cov: (\d+) ", done.stderr)
        if done.returncode:
            print(done.stderr[-5000:], file=sys.stderr)
        if inputs is None and "FINDING" not in done.stderr:
            raise SystemExit(f"{reader}: the fuzzer did not run")
        count = int(inputs[1]) if inputs else 0
        record.value(FINDINGS, reader, int(done.returncode != 0))
        record.value(RUNS, reader, count)
        table.row(reader, f"{count:,}", edges[-1] if edges else "–", int(done.returncode != 0))


if __name__ == "__main__":
    run(__file__, ABOUT, measure, arguments)
