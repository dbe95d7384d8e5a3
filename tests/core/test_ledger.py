from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from palm_core import InputError, Policy, WorkError, sample_weights
from palm_core.ledger import FILE_NAME, Ledger
from palm_core.oracle import Claims

TASK = {"oracle": {"name": "x", "lr": 5e-4}, "grid": {"mu": 0.5, "alpha": 0.1}}
NAMES = ("helpful", "brief")


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


def test_answers_come_back_bit_for_bit_in_order(tmp_path: Path) -> None:
    asked = sample_weights(20, 2, seed=1)
    with Ledger.begin(tmp_path, TASK, NAMES, Claims(epsilon=0.1, reward_bound=2.0)) as ledger:
        for index, row in enumerate(asked):
            ledger.record(row, policy(row, prompts=None if index == 3 else index), index / 10)
    with Ledger.read(tmp_path) as ledger:
        answers = ledger.answers()
        assert ledger.task == TASK
        assert ledger.objectives == NAMES
        assert ledger.claims == Claims(epsilon=0.1, reward_bound=2.0)
    assert len(answers) == 20
    for index, (row, answer) in enumerate(zip(asked, answers, strict=True)):
        expected = policy(row, prompts=None if index == 3 else index)
        np.testing.assert_array_equal(answer.weights, row)
        np.testing.assert_array_equal(answer.policy.rewards, expected.rewards)
        np.testing.assert_array_equal(answer.policy.reward_errors, expected.reward_errors)
        assert answer.policy.regularizer == expected.regularizer
        assert answer.policy.info == {"steps": 3}
        assert answer.seconds == index / 10
        if index == 3:
            assert answer.policy.prompt_rewards is None
        else:
            np.testing.assert_array_equal(answer.policy.prompt_rewards, expected.prompt_rewards)
            np.testing.assert_array_equal(
                answer.policy.prompt_regularizer, expected.prompt_regularizer
            )


def test_a_run_goes_on_and_another_task_is_refused_by_field(tmp_path: Path) -> None:
    row = np.array([0.5, 0.5])
    with Ledger.begin(tmp_path, TASK, NAMES) as ledger:
        ledger.record(row, policy(row), 1.0)
    with Ledger.begin(tmp_path, TASK, NAMES) as ledger:
        assert len(ledger.answers()) == 1
    other = {**TASK, "oracle": {"name": "x", "lr": 1e-3}}
    message = r"was built for another task: \[oracle\] lr was 0.0005, is 0.001. Use another --out"
    with pytest.raises(InputError, match=message):
        Ledger.begin(tmp_path, other, NAMES)


def test_the_same_weight_is_not_answered_twice(tmp_path: Path) -> None:
    row = np.array([0.5, 0.5])
    with Ledger.begin(tmp_path, TASK, NAMES) as ledger:
        ledger.record(row, policy(row), 1.0)
        with pytest.raises(InputError, match="UNIQUE"):
            ledger.record(row, policy(row, "other"), 1.0)
        assert len(ledger.answers()) == 1


def test_places_that_are_not_runs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such run folder"):
        Ledger.read(tmp_path / "none")
    with pytest.raises(InputError, match="is not a run"):
        Ledger.read(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file, must be a folder"):
        Ledger.begin(tmp_path / "file", TASK, NAMES)
    with pytest.raises(WorkError, match="cannot be made"):
        Ledger.begin(tmp_path / "file" / "run", TASK, NAMES)
    assert [f.name for f in tmp_path.iterdir()] == ["file"]


def test_files_that_are_not_ledgers(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not a database at all, but long enough to look at")
    for open_it in (lambda: Ledger.read(tmp_path), lambda: Ledger.begin(tmp_path, TASK, NAMES)):
        with pytest.raises(InputError, match="is not a readable ledger"):
            open_it()


def test_other_databases_are_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE_NAME) as other:
        other.execute("CREATE TABLE t (a)")
    other.close()
    with pytest.raises(InputError, match="is not the ledger of a PALM run"):
        Ledger.begin(tmp_path, TASK, NAMES)


def test_newer_ledgers_are_refused(tmp_path: Path) -> None:
    Ledger.begin(tmp_path, TASK, NAMES).close()
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(InputError, match="ledger version 2, this palm-core reads up to 1; upgrade"):
        Ledger.read(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE answer SET policy = '{}'",
        "UPDATE answer SET policy = substr(policy, 1, 20)",
        "UPDATE answer SET prompt_rewards = substr(prompt_rewards, 1, 40)",
        "UPDATE answer SET weights = substr(weights, 1, 5)",
        "DELETE FROM run",
        "DROP TABLE answer",
    ],
)
def test_damage_is_told_in_one_line(tmp_path: Path, damage: str) -> None:
    row = np.array([0.5, 0.5])
    with Ledger.begin(tmp_path, TASK, NAMES) as ledger:
        ledger.record(row, policy(row), 1.0)
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.execute(damage)
    connection.close()
    with pytest.raises((InputError, WorkError)) as caught, Ledger.read(tmp_path) as ledger:
        _ = ledger.task, ledger.answers()
    assert "\n" not in str(caught.value)
    assert FILE_NAME in str(caught.value)


WRITER = """
import sys
from pathlib import Path
import numpy as np
from palm_core import Policy
from palm_core.ledger import Ledger
task = {"oracle": {"name": "x", "lr": 5e-4}, "grid": {"mu": 0.5, "alpha": 0.1}}
with Ledger.begin(Path(sys.argv[1]), task, ("helpful", "brief")) as ledger:
    for index in range(len(ledger.answers()), 100_000):
        row = np.array([index / 1e5, 1 - index / 1e5])
        ledger.record(row, Policy(id=str(index), weights=row, rewards=row, regularizer=0.0), 0.0)
        print(index, flush=True)
"""


def test_a_killed_writer_loses_nothing_it_had_recorded(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    recorded = 0
    for _ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(rng.uniform(0, 0.1))
        os.kill(writer.pid, signal.SIGKILL)
        told = writer.stdout.read().split()
        writer.stdout.close()
        writer.wait()
        with Ledger.read(tmp_path) as ledger:
            answers = ledger.answers()
        assert [answer.policy.id for answer in answers] == [str(i) for i in range(len(answers))]
        assert len(answers) >= max(recorded, int(told[-1]) + 1 if told else 0)
        recorded = len(answers)
    assert recorded > 4
