"""Ledgers damaged in their bytes and in their tables: read, or refused in one line."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from palm_command import run

from palm_core import PalmError, Policy, Run, build_portfolio, run_status
from palm_core.plugin import Ledger
from palm_core.run.ledger import FILE_NAME

bounded = settings(
    max_examples=settings().max_examples,
    deadline=timedelta(seconds=8),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

ODD: list[Any] = [
    None,
    0,
    -1,
    1,
    2**62,
    0.5,
    1e308,
    float("inf"),
    "",
    "x",
    "[]",
    "{}",
    "7",
    "\x1b[2J",
]
ODD += ['{"a": 1}', "[" * 400, '["a"]', b"", b"x", bytes(16), bytes(24), b"\xff" * 16, "é\n" * 50]
ODD += ["stopped", "given up", "wanted", "dropped", "answered", '"\\ud800"', "NaN", "1e999", "null"]


class Menu:
    objectives = ("x", "y")

    def solve(self, weights: np.ndarray) -> Iterator[Policy]:
        for row in weights:
            if row[0] == 0.5:
                raise RuntimeError("burnt")
            yield Policy(
                id=f"w{row[0]:.4f}",
                weights=row,
                rewards=1 + row,
                prompt_rewards=np.array([row, 2 - row]),
                prompt_regularizer=np.zeros(2),
            )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with a failure."""
    folder = tmp_path_factory.mktemp("whole")
    build_portfolio(Menu(), mu=0.5, alpha=0.2, prune_mu=0.05, run_dir=folder)
    return folder


def works_or_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> bool:
    """Read all there is to read, by the library and at the command line."""
    fine = True
    for read in (Run.open, run_status, everything):
        told = refusal(read, folder)
        fine = fine and not told
        assert "\n" not in told
    capsys.readouterr()
    for command in (["status", str(folder)], ["prune", str(folder), "--epsilon", "0.1", "--json"]):
        code = run(command)
        out, err = capsys.readouterr()
        assert code in (0, 1, 2)
        assert err.count("\n") == (code != 0)
        assert code == 0 or (err.startswith("palm: ") and not out)
        assert "\x1b" not in out + err
        fine = fine and code == 0
    return fine


def refusal(read: Callable[[Path], object], folder: Path) -> str:
    try:
        read(folder)
    except PalmError as error:
        return str(error)
    return ""


def everything(folder: Path) -> None:
    with Ledger.read(folder) as ledger:
        _ = ledger.task, ledger.objectives, ledger.claims, ledger.begun, ledger.finished
        _ = ledger.answers(), ledger.rounds(), ledger.missing(), ledger.sessions()
        _ = ledger.counts()


def copy(whole: Path, folder: Path, data: bytes | None = None) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    file = folder / FILE_NAME
    if data is None:
        shutil.copy(whole / FILE_NAME, file)
    else:
        file.write_bytes(data)
    return file


def test_an_untouched_ledger_is_read(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy(whole, tmp_path / "run")
    assert works_or_is_refused(tmp_path / "run", capsys)


@bounded
@example([(0, 0, b"")])
@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.sampled_from([0, 1, 1, 1, 30, 600]), st.binary(max_size=40)),
        min_size=1,
        max_size=4,
    )
)
def test_bytes(
    whole: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: list[tuple[float, int, bytes]],
) -> None:
    data = bytearray((whole / FILE_NAME).read_bytes())
    for where, length, by in changes:
        place = int(where * max(len(data) - 1, 0))
        data[place : place + length] = by
    copy(whole, tmp_path / "run", bytes(data))
    works_or_is_refused(tmp_path / "run", capsys)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"TABLE answer", b"TABLE ans\xd7er"),
        (b"TABLE answer (", b"TABLE ans\nwer "),
        (b"stopped", b"\xff\xfe\x00\x01\x80\x81\x82"),
        (b"answered", b"\xe9nswered"),
    ],
)
def test_text_that_is_none(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], old: bytes, new: bytes
) -> None:
    data = (whole / FILE_NAME).read_bytes()
    assert old in data
    assert len(old) == len(new)
    copy(whole, tmp_path / "run", data.replace(old, new))
    works_or_is_refused(tmp_path / "run", capsys)


COLUMNS = {
    "run": ("key", "value"),
    "task": ("id", "since", "hash", "content"),
    "session": ("task", "host", "pid", "begun", "ended", "versions", "execution"),
    "request": ("id", "weights", "round", "state"),
    "attempt": ("request", "session", "begun", "ended", "outcome", "message", "detail"),
    "answer": ("request", "policy", "prompt_rewards", "prompt_regularizer", "seconds", "digest"),
}
cells = st.sampled_from([(table, column) for table in COLUMNS for column in COLUMNS[table]])


@bounded
@example([(("run", "value"), '["x", "\x1b[2J"]', 0)])
@example([(("session", "execution"), '{"workers": "many"}', 0)])
@example([(("task", "content"), "[" * 100_000, 0)])
@example([(("attempt", "message"), "\x1b]0;owned\x07\nand more", 7)])
@given(st.lists(st.tuples(cells, st.sampled_from(ODD), st.integers(0, 14)), min_size=1, max_size=3))
def test_cells(
    whole: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: list[tuple[tuple[str, str], Any, int]],
) -> None:
    file = copy(whole, tmp_path / "run")
    with contextlib.closing(sqlite3.connect(file)) as connection:
        for (table, column), value, row in changes:
            # What the tables themselves refuse, nobody can write.
            with contextlib.suppress(sqlite3.IntegrityError):
                connection.execute(
                    f"UPDATE {table} SET {column} = ? WHERE rowid ="
                    f" (SELECT rowid FROM {table} LIMIT 1 OFFSET ?)",
                    (value, row),
                )
        connection.commit()
    works_or_is_refused(tmp_path / "run", capsys)


@settings(bounded, max_examples=settings().max_examples // 3)
@given(st.binary(max_size=200))
def test_a_log_that_is_not_its_own_is_ignored_or_refused(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], log: bytes
) -> None:
    file = copy(whole, tmp_path / "run")
    file.with_name(f"{FILE_NAME}-wal").write_bytes(log)
    file.with_name(f"{FILE_NAME}-shm").write_bytes(log[::-1])
    works_or_is_refused(tmp_path / "run", capsys)


def test_no_code_of_a_run_is_run(whole: Path, tmp_path: Path) -> None:
    file = copy(whole, tmp_path / "run")
    for folder in (tmp_path, tmp_path / "run"):
        (folder / "evil.py").write_text("raise SystemExit('run!')\n")
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute(
            "UPDATE task SET content = replace(content, ?, 'evil:Oracle')",
            (f"{Menu.__module__}:{Menu.__qualname__}",),
        )
        connection.commit()
    assert run_status(tmp_path / "run").oracle == "evil:Oracle"
    made = Run.open(tmp_path / "run")
    made.prune(made.settings)
    for command in (["status"], ["prune", "--mu", "0.1"], ["prune", "--curve"]):
        assert run([command[0], str(tmp_path / "run"), *command[1:]]) == 0
    assert run(["runs", str(tmp_path)]) == 0
