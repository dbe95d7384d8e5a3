from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from palm_core import (
    InputError,
    OracleAnswerError,
    Policy,
    WorkError,
    sample_weights,
)
from palm_core.plugin import Artifact, Claims, Ledger
from palm_core.run.executors.protocol import Failure
from palm_core.run.ledger import FILE_NAME
from palm_core.run.ledger import schema as _schema
from palm_core.run.ledger.lock import is_worked_on

TASK = {
    "oracle": {"name": "x", "lr": 5e-4},
    "grid": {"mu": 0.5, "alpha": 0.1},
    "run": {"seed": 0},
}
NAMES = ("helpful", "brief")
HALF = np.array([[0.5, 0.5]])


def policy(weights: np.ndarray, name: str = "", prompts: int | None = 3) -> Policy:
    rng = np.random.default_rng(int(1e6 * weights[0]))
    return Policy(
        id=name or f"w{weights[0]!r}",
        weights=weights,
        rewards=rng.normal(size=2),
        regularizer=float(rng.uniform()),
        reward_errors=rng.uniform(size=2),
        prompt_rewards=None if prompts is None else rng.normal(size=(prompts, 2)),
        prompt_regularizer=None if prompts is None else rng.normal(size=prompts),
        artifact="a/b",
        info={"steps": 3},
    )


def begin(folder: Path, asked: np.ndarray = HALF, **options: object) -> Ledger:
    ledger = Ledger.begin(folder, TASK, NAMES, **options)
    ledger.request(asked)
    return ledger


def answer(ledger: Ledger, row: np.ndarray, seconds: float = 1.0, **options: object) -> None:
    ledger.started(row[np.newaxis])
    ledger.record(row, policy(row, **options), seconds)


def change(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def test_answers_come_back_bit_for_bit_in_order(tmp_path: Path) -> None:
    asked = sample_weights(20, 2, seed=1)
    kept = Artifact("a/b", "0" * 64, 7)
    with Ledger.begin(tmp_path, TASK, NAMES, Claims(epsilon=0.1, reward_bound=2.0)) as ledger:
        ledger.request(asked)
        ledger.started(asked)
        for index, row in enumerate(asked):
            made = policy(row, prompts=None if index == 3 else index + 1)
            ledger.record(row, made, index / 10, kept if index == 4 else None)
    with Ledger.read(tmp_path) as ledger:
        answers = ledger.answers()
        assert ledger.task == TASK
        assert ledger.objectives == NAMES
        assert ledger.claims == Claims(epsilon=0.1, reward_bound=2.0)
        np.testing.assert_array_equal(ledger.rounds()[0], asked)
    assert len(answers) == 20
    for index, (row, found) in enumerate(zip(asked, answers, strict=True)):
        expected = policy(row, prompts=None if index == 3 else index + 1)
        np.testing.assert_array_equal(found.weights, row)
        np.testing.assert_array_equal(found.policy.rewards, expected.rewards)
        np.testing.assert_array_equal(found.policy.reward_errors, expected.reward_errors)
        assert found.policy.regularizer == expected.regularizer
        assert found.policy.info == {"steps": 3}
        assert found.seconds == index / 10
        assert found.artifact == (kept if index == 4 else None)
        if index == 3:
            assert found.policy.prompt_rewards is None
        else:
            np.testing.assert_array_equal(found.policy.prompt_rewards, expected.prompt_rewards)
            np.testing.assert_array_equal(
                found.policy.prompt_regularizer, expected.prompt_regularizer
            )


def test_a_run_goes_on_and_another_task_is_refused_by_field(tmp_path: Path) -> None:
    with begin(tmp_path) as ledger:
        answer(ledger, HALF[0])
    with begin(tmp_path) as ledger:
        assert len(ledger.answers()) == 1
    message = r"was built for another task: \[oracle\] lr was 0.0005, is 0.001. Use another --out"
    for extend in (False, True):
        other = {**TASK, "oracle": {"name": "x", "lr": 1e-3}}
        with pytest.raises(InputError, match=message):
            Ledger.begin(tmp_path, other, NAMES, extend=extend)
        with pytest.raises(InputError, match=r"\[run\] seed was 0, is 1"):
            Ledger.begin(tmp_path, {**TASK, "run": {"seed": 1}}, NAMES, extend=extend)
        with pytest.raises(InputError, match="objectives were helpful, brief, are helpful, safe"):
            Ledger.begin(tmp_path, TASK, ("helpful", "safe"), extend=extend)
    with Ledger.read(tmp_path) as ledger:
        assert ledger.task == TASK


def test_a_run_is_extended_only_when_asked_to(tmp_path: Path) -> None:
    wanted = np.array([[0.5, 0.5], [1.0, 0.0], [0.0, 1.0]])
    with begin(tmp_path, wanted) as ledger:
        answer(ledger, wanted[0])
    adaptive = {name: value for name, value in TASK.items() if name != "grid"}
    for other in (
        {**TASK, "grid": {"mu": 0.25, "alpha": 0.1}},
        {**TASK, "prune": {"mu": 0.1}},
        {**adaptive, "adaptive": {"target_epsilon": 0.1}},
    ):
        with pytest.raises(InputError, match="restore it, or add --extend: its answers stay valid"):
            Ledger.begin(tmp_path, other, NAMES)
    with Ledger.begin(tmp_path, other, NAMES, Claims(delta=0.5), extend=True) as ledger:
        assert ledger.task == other
        assert ledger.claims == Claims(delta=0.5)
        # What was wanted and not answered is the old task's; the new one asks for itself.
        assert [rows.tolist() for rows in ledger.rounds()] == [[[0.5, 0.5]]]
        assert ledger.counts().requested == 1
        ledger.request(wanted[1:2])
        assert [rows.tolist() for rows in ledger.rounds()] == [[[0.5, 0.5]], [[1.0, 0.0]]]
    with pytest.raises(InputError, match="add --extend"):
        Ledger.begin(tmp_path, TASK, NAMES)


def test_attempts_failures_and_sessions_are_kept(tmp_path: Path) -> None:
    asked = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.25, 0.75]])
    versions, execution = {"numpy": "2"}, {"workers": 3}
    with begin(tmp_path, asked, versions=versions, execution=execution) as ledger:
        answer(ledger, asked[0], seconds=2.0)
        for final in (False, True):
            ledger.started(asked[1:2])
            ledger.failed(asked[1], Failure("raised", f"no {final}", "Traceback"), final=final)
        ledger.started(asked[2:])
        ledger.set_aside(asked[3:])
        counts = ledger.counts()
        assert (counts.requested, counts.done, counts.failed, counts.running) == (4, 1, 1, 1)
        assert (counts.failures, counts.interrupted, counts.seconds) == (2, 1, 2.0)
        (missing,) = ledger.missing()
        assert (missing.attempts, missing.kind, missing.message) == (2, "raised", "no True")
        assert missing.weights.tolist() == [0.5, 0.5]
        (session,) = ledger.sessions()
        assert (session.pid, session.ended) == (os.getpid(), None)
        assert (session.versions, session.execution, session.workers) == (versions, execution, 3)
    with Ledger.read(tmp_path) as ledger:
        counts = ledger.counts()
        assert (counts.running, counts.interrupted, counts.failed) == (0, 2, 1)
        assert ledger.sessions()[0].ended is not None
        assert ledger.finished is None
    with begin(tmp_path, asked) as ledger:  # what failed for good gets another chance
        assert ledger.missing() == []
        ledger.started(asked[1:2])
        ledger.failed(asked[1], Failure("died", "again"), final=True)
        assert [item.attempts for item in ledger.missing()] == [1]
        answer(ledger, asked[1])
        assert ledger.missing() == []
        assert ledger.counts().failures == 3
        ledger.finish()
        assert ledger.finished is not None
    with begin(tmp_path, asked) as ledger:
        assert ledger.finished is None


def test_the_same_weight_is_not_answered_twice(tmp_path: Path) -> None:
    with begin(tmp_path) as ledger:
        answer(ledger, HALF[0])
        with pytest.raises(InputError, match="UNIQUE"):
            answer(ledger, HALF[0], name="other")
        assert [found.policy.id for found in ledger.answers()] == [policy(HALF[0]).id]
        ledger.request(HALF)
        assert len(ledger.rounds()) == 1


def test_answers_too_large_to_read_again_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with begin(tmp_path) as ledger:
        monkeypatch.setattr(_schema, "LARGEST_VALUE", 1000)
        with pytest.raises(OracleAnswerError, match="bytes with its per-prompt rewards and info"):
            answer(ledger, HALF[0], prompts=200)
        answer(ledger, HALF[0])
        monkeypatch.setattr(_schema, "LARGEST_VALUE", 100)
        with pytest.raises(InputError, match="must be at most"):
            ledger.answers()


def test_a_second_writer_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    with begin(tmp_path) as ledger:
        assert is_worked_on(tmp_path)
        with pytest.raises(
            InputError, match=rf"another process is using this run \(process {os.getpid()} on "
        ):
            begin(tmp_path)
        answer(ledger, HALF[0])
        with Ledger.read(tmp_path) as reader:  # reading goes on
            assert len(reader.answers()) == 1
    assert not is_worked_on(tmp_path)
    begin(tmp_path).close()


def test_the_lock_of_a_killed_writer_is_stale(tmp_path: Path) -> None:
    with writer(tmp_path) as process:
        with pytest.raises(InputError, match=rf"\(process {process.pid} on "):
            begin(tmp_path)
        process.kill()
        process.wait()
    with begin(tmp_path) as ledger:
        assert ledger.interrupted == 1
        assert ledger.sessions()[0].ended is None


def test_places_that_are_not_runs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such run folder"):
        Ledger.read(tmp_path / "none")
    with pytest.raises(InputError, match="is not a run"):
        Ledger.read(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file, must be a folder"):
        begin(tmp_path / "file")
    with pytest.raises(WorkError, match="cannot be created"):
        begin(tmp_path / "file" / "run")
    assert [f.name for f in tmp_path.iterdir()] == ["file"]
    fifo = tmp_path / "run" / FILE_NAME
    fifo.parent.mkdir()
    os.mkfifo(fifo)
    with pytest.raises(InputError, match="must be a regular file"):
        Ledger.read(fifo.parent)


def test_files_that_are_not_ledgers(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not a database at all, but long enough to look at")
    for open_it in (lambda: Ledger.read(tmp_path), lambda: begin(tmp_path)):
        with pytest.raises(InputError, match="is not a readable ledger"):
            open_it()
    assert not is_worked_on(tmp_path)


def test_other_databases_are_left_alone(tmp_path: Path) -> None:
    change(tmp_path, "CREATE TABLE t (a)")
    with pytest.raises(InputError, match="must be the ledger of a PALM run"):
        begin(tmp_path)


def test_newer_ledgers_are_refused(tmp_path: Path) -> None:
    begin(tmp_path).close()
    change(tmp_path, "PRAGMA user_version = 3")
    with pytest.raises(InputError, match="ledger version 3, must be at most 2; upgrade"):
        Ledger.read(tmp_path)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON answer BEGIN DELETE FROM answer; END",
        "CREATE VIEW v AS SELECT * FROM answer",
        "CREATE TABLE extra (a)",
        "DROP TABLE artifact",
        "ALTER TABLE answer ADD COLUMN more TEXT",
    ],
)
def test_tables_that_are_not_ours_are_refused(tmp_path: Path, statement: str) -> None:
    begin(tmp_path).close()
    change(tmp_path, statement)
    for open_it in (lambda: Ledger.read(tmp_path), lambda: begin(tmp_path)):
        with pytest.raises(InputError, match="its tables are not those of a ledger of version 2"):
            open_it()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE answer SET policy = '{}'",
        "UPDATE answer SET policy = substr(policy, 1, 20)",
        "UPDATE answer SET policy = replace(policy, '1', '2')",
        "UPDATE answer SET prompt_rewards = substr(prompt_rewards, 1, 40)",
        "UPDATE answer SET prompt_rewards = NULL",
        "UPDATE answer SET digest = zeroblob(32)",
        "UPDATE request SET weights = substr(weights, 1, 5)",
        "UPDATE request SET weights = zeroblob(16)",
        "DELETE FROM run",
        "DELETE FROM task",
        "UPDATE task SET content = '['",
        "UPDATE run SET value = '7' WHERE key = 'objectives'",
        "UPDATE session SET versions = '7'",
    ],
)
def test_damage_is_told_in_one_line(tmp_path: Path, damage: str) -> None:
    with begin(tmp_path) as ledger:
        answer(ledger, HALF[0])
    change(tmp_path, damage)
    with pytest.raises((InputError, WorkError)) as caught, Ledger.read(tmp_path) as ledger:
        _ = ledger.task, ledger.sessions(), ledger.answers()
    assert "\n" not in str(caught.value)
    assert FILE_NAME in str(caught.value)


def test_a_disk_that_stays_full_is_told_in_one_line(tmp_path: Path) -> None:
    with begin(tmp_path) as ledger:
        pages = ledger._connection.execute("PRAGMA page_count").fetchone()[0]
        ledger._connection.execute(f"PRAGMA max_page_count = {pages}")
        ledger.started(HALF)
        with pytest.raises(WorkError, match="the disk is full"):
            ledger.record(HALF[0], policy(HALF[0], prompts=1000), 1.0)
        assert ledger.answers() == []


WRITER = """
import sys
from pathlib import Path
import numpy as np
from palm_core import Policy
from palm_core.run.ledger import Ledger
task = {"oracle": {"name": "x", "lr": 5e-4}, "grid": {"mu": 0.5, "alpha": 0.1}, "run": {"seed": 0}}
with Ledger.begin(Path(sys.argv[1]), task, ("helpful", "brief")) as ledger:
    for index in range(len(ledger.answers()), 100_000):
        row = np.array([index / 1e5, 1 - index / 1e5])
        ledger.request(row[np.newaxis])
        ledger.started(row[np.newaxis])
        if "--hold" in sys.argv:
            print("started", flush=True)
            sys.stdin.read()
        ledger.record(row, Policy(id=str(index), weights=row, rewards=row, regularizer=0.0), 0.0)
        print(index, flush=True)
"""


@contextmanager
def writer(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds a run with one call begun."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), "--hold"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_killed_writer_loses_nothing_it_had_recorded(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    recorded = kills = 0
    while kills < 4 or recorded <= 4:  # on a busy machine it is killed before it writes much
        kills += 1
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0, 0.1))
        os.kill(process.pid, signal.SIGKILL)
        told = process.stdout.read().split()
        process.stdout.close()
        process.wait()
        with Ledger.read(tmp_path) as ledger:
            answers = ledger.answers()
        assert [found.policy.id for found in answers] == [str(i) for i in range(len(answers))]
        assert len(answers) >= max(recorded, int(told[-1]) + 1 if told else 0)
        recorded = len(answers)
        assert kills < 40
