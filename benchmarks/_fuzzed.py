"""Inputs for coverage-guided fuzzing, and the readers that they are given to.

Run by fuzz.py in a process of its own, which libFuzzer ends as it likes.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import atheris  # type: ignore[import-untyped]  # has no types

with atheris.instrument_imports(include=["palm_core", "tomllib", "zipfile"]):
    import numpy as np

    from palm_core import Normalization, Policy, Portfolio, build_portfolio, load_oracle
    from palm_core.errors import PalmError
    from palm_core.oracles.task_table import parse_npz, task_of_table
    from palm_core.run.config import parse_task, read_toml
    from palm_core.run.ledger import FILE_NAME
    from palm_core.run.run import Run, run_status
    from palm_core.tables.read import parse_table

if TYPE_CHECKING:
    from collections.abc import Callable

TASK = b"""[oracle]
name = "tabular"
beta = 0.1
[grid]
mu = "8/30"
alpha = 0.2
[prune]
mu = 0.05
method = "exact"
solver = "cbc"
time_limit = 10
normalize = "minmax"
[run]
seed = 3
"""
ADAPTIVE = b"""oracle = {name = "a:b", list = [1, 2.5, "x", 1979-05-27T07:32:00Z]}
adaptive = {target_epsilon = 1e-2, max_calls = 60}
"""
CSV = b"model,helpful,cost\na,1.0,3\nb,0.5,1\n'c d',.25,1e-3\n"
LONG = b"prompt,response,reference,a,b\n0,0,0.5,1,0\n0,1,0.5,0,1\n1,0,1,.5,.5\n"
LONGEST = {"ledger": 1 << 16}
_scratch = tempfile.TemporaryDirectory()
SCRATCH = Path(_scratch.name)
SUFFIXES = (".csv", ".tsv", ".json", ".npy", ".npz", ".parquet")


def portfolio_seeds() -> list[bytes]:
    policies = tuple(
        Policy(id=name, weights=np.array(w), rewards=np.array(w), artifact=f"artifacts/{name}")
        for name, w in (("a", [1.0, 0.0]), ("b", [0.25, 0.75]))
    )
    seeds = []
    with tempfile.TemporaryDirectory() as folder:
        for normalization in (
            Normalization.none(2),
            Normalization(method="minmax", lower=(0.0, -1.0), upper=(1.0, 2.0), over="two"),
        ):
            made = Portfolio(
                policies=policies, objectives=("helpful", "brief"), normalization=normalization
            )
            seeds.append(made.save(Path(folder) / "p.json").read_bytes())
    return seeds


def table_seeds() -> list[bytes]:
    """The first byte says which kind of file the others are."""
    columns: dict[str, Any] = {
        "model": np.array(["a", "b"]),
        "x": np.array([1.0, 2.0]),
        "y": np.array([2, 1]),
    }
    matrix, npz, task, parquet = io.BytesIO(), io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(matrix, np.array([[1.0, 2.0], [2.0, 1.0]]))
    np.savez(npz, **columns)
    np.savez_compressed(task, rewards=np.ones((1, 2, 2)), reference=np.full((1, 2), 0.5))
    rows = json.dumps([{"model": "a", "x": 1, "y": None}, {"model": "b", "x": 2.5, "y": True}])
    lists = json.dumps({"x": [1, 2], "y": [2, 1e300]})
    seeds = [(0, CSV), (0, LONG), (1, CSV.replace(b",", b"\t")), (2, rows.encode())]
    seeds += [(2, lists.encode()), (3, matrix.getvalue()), (4, npz.getvalue())]
    seeds += [(4, task.getvalue())]
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        pass  # an optional extra: its format has no seed then
    else:
        pyarrow.parquet.write_table(pyarrow.table(columns), parquet)
        seeds.append((5, parquet.getvalue()))
    return [bytes([kind]) + data for kind, data in seeds]


def task(data: bytes) -> None:
    parse_task(read_toml(data, "t.toml"))


def portfolio(data: bytes) -> None:
    Portfolio.parse(data).route([[0.5] * 2])


def table(data: bytes) -> None:
    suffix = SUFFIXES[data[0] % len(SUFFIXES)] if data else ".csv"
    if suffix == ".npz":
        refused(lambda: parse_npz(data[1:], "t"))
    read = parse_table(data[1:], suffix, "t")
    refused(lambda: task_of_table(read))
    refused(read.names)
    read.policies(maximize=list(read.columns)[-2:])


def ledger_seeds() -> list[bytes]:
    """A finished run, its file made small: libFuzzer changes a few bytes at a time."""
    oracle = load_oracle("tabular", prompts=1, responses=3)
    with tempfile.TemporaryDirectory() as folder:
        build_portfolio(oracle, mu=1.0, alpha=0.5, run_dir=folder)
        file = Path(folder) / FILE_NAME
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("PRAGMA page_size = 512")
            connection.execute("VACUUM")
        return [file.read_bytes()]


def ledger(data: bytes) -> None:
    for left in SCRATCH.iterdir():
        left.unlink()
    (SCRATCH / FILE_NAME).write_bytes(data)
    refused(lambda: run_status(SCRATCH).document())
    run = Run.open(SCRATCH)
    run.prune(run.settings)


def refused(work: Callable[[], Any]) -> None:
    """Do one thing more with the input, whose refusal does not end the others."""
    try:
        work()
    except PalmError as error:
        check_line(error)


def check_line(error: PalmError) -> None:
    text = str(error)
    assert text, "an empty message"
    assert len(text) < 3000, f"a message of {len(text)} characters"
    assert "\n" not in text, "a message of several lines"
    assert "\x1b" not in text, "a message that moves the cursor"
    text.encode()  # half a character cannot be printed


TARGETS: dict[str, tuple[Callable[[bytes], None], Callable[[], list[bytes]]]] = {
    "task": (task, lambda: [TASK, ADAPTIVE]),
    "portfolio": (portfolio, portfolio_seeds),
    "table": (table, table_seeds),
    "ledger": (ledger, ledger_seeds),
}
TOKENS = {
    "task": ["[oracle]", "[grid]", "[run]", "0x", "1e400", "nan", "'''", '"""', "[[", "\\\\u"],
    "portfolio": ['":', "null", "1e400", "-1", "[]", "{}", "\\\\ud800", '"format"', '"version"'],
    "ledger": ["wanted", "given up", "[]", "null", "\\x00\\x00", "SQLite format 3"],
    "table": ["1e400", "nan", "PK\\x01\\x02", "\\x93NUMPY", "\\x22", "null", "{}", "'shape'"],
}


ODD: list[Any] = [None, True, 0, -1, 1 << 64, 1e308, -1e308, 5e-324, 0.5]
ODD += ["", "\x1b[2J", "é", "x" * 300, [], {}, [[]], [0.5, 0.5]]
ODD += [{"format": "palm-portfolio", "version": 1}]


def changed(node: Any, rng: random.Random) -> Any:
    """JSON with one of its nodes removed, doubled, swapped or replaced by an odd value."""
    if isinstance(node, (list, dict)) and node and rng.random() < 0.85:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key, copy = rng.choice(keys), node.copy()
        what = rng.random()
        if what < 0.08:
            del copy[key]
        elif what < 0.16 and isinstance(copy, list):
            copy.insert(key, copy[key])
        elif what < 0.24:
            copy[key] = copy[rng.choice(keys)]
        else:
            copy[key] = changed(copy[key], rng)
        return copy
    if isinstance(node, float) and rng.random() < 0.5:
        return node * rng.choice([-1, 0, 2, 1e-300, 1e300])
    return rng.choice(ODD)


def mutated(data: bytes, most: int, seed: int) -> bytes:
    """Half the time bytes are changed as libFuzzer does, else a node of the JSON."""
    rng = random.Random(seed)
    start = next((i for i in (0, 1) if data[i : i + 1] in (b"{", b"[")), None)
    if start is not None and rng.random() < 0.6:
        try:
            document = json.loads(data[start:])
        except (ValueError, RecursionError):
            pass  # broken before: changed as bytes
        else:
            for _ in range(rng.choice([1, 1, 1, 2, 4])):
                document = changed(document, rng)
            return (data[:start] + json.dumps(document).encode())[:most]
    return bytes(atheris.Mutate(data, most))


def fuzz() -> None:
    """Give mutated inputs to the reader until the time is over or something is found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int)
    parser.add_argument("--slow", type=float)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--seed", type=int)
    asked = parser.parse_args()
    read, seeds = TARGETS[asked.target]
    read(seeds()[0])  # the others have to be refused rightly at least

    def one(data: bytes) -> None:
        begin = time.perf_counter()
        try:
            refused(lambda: read(data))
        except BaseException as error:
            sys.stderr.write(f"FINDING {type(error).__name__}: {error}\n{data!r}\n")
            raise
        if time.perf_counter() - begin > asked.slow:
            sys.stderr.write(f"FINDING {time.perf_counter() - begin:.1f} s\n{data!r}\n")
            raise AssertionError("a slow input")

    with tempfile.TemporaryDirectory() as scratch:
        corpus = asked.corpus or Path(scratch) / "corpus"
        corpus.mkdir(parents=True, exist_ok=True)
        for index, seed in enumerate(seeds()):
            (corpus / f"seed-{index}").write_bytes(seed)
        words = Path(scratch) / "words"
        escaped = (word.replace('"', '\\"') for word in TOKENS[asked.target])
        words.write_text("".join(f'"{word}"\n' for word in escaped))
        atheris.Setup(
            [
                sys.argv[0],
                str(corpus),
                f"-max_total_time={asked.seconds}",
                f"-dict={words}",
                f"-max_len={LONGEST.get(asked.target, 8192)}",
                "-timeout=20",
                "-rss_limit_mb=1500",
                f"-seed={asked.seed}",
                "-print_final_stats=1",
            ],
            one,
            **({"custom_mutator": mutated} if asked.target in ("portfolio", "table") else {}),
        )
        atheris.Fuzz()
