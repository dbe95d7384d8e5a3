"""Answers at weights of one's own, kept like those of any run."""

from __future__ import annotations

import numpy as np
import pytest

from palm_core import Execution, InputError, TabularOracle, WorkError, answers_at, build_portfolio
from palm_core.plugin import Ledger

WEIGHTS = np.array([[0.3, 0.7], [1.0, 0.0], [0.5, 0.5]])


class Counted:
    """The exact oracle, which remembers what it was asked."""

    objectives = ("a", "b")
    fingerprint = "counted"

    def __init__(self, broken=()):
        table = np.random.default_rng(0).random((3, 5, 2))
        self._inner = TabularOracle(table, objectives=self.objectives)
        self.asked, self._broken = [], [tuple(row) for row in broken]

    def solve(self, weights):
        for row in weights:
            self.asked.append(tuple(row.tolist()))
            if tuple(row.tolist()) in self._broken:
                raise ValueError("no")
            yield next(self._inner.solve(row[np.newaxis]))


def test_one_answer_for_each_row_in_order():
    oracle = Counted()
    found = answers_at(oracle, WEIGHTS)
    assert [tuple(one.weights) for one in found] == list(map(tuple, WEIGHTS))
    for one, row in zip(found, WEIGHTS, strict=True):
        wanted = next(oracle._inner.solve(row[np.newaxis]))
        np.testing.assert_array_equal(one.policy.rewards, wanted.rewards)
    assert oracle.asked == list(map(tuple, WEIGHTS.tolist()))


def test_nothing_is_asked_twice(tmp_path):
    first = answers_at(Counted(), WEIGHTS[:2], run_dir=tmp_path)
    oracle = Counted()
    again = answers_at(oracle, WEIGHTS[[2, 1, 0, 0]], run_dir=tmp_path)
    assert oracle.asked == [(0.5, 0.5)]
    assert [tuple(one.weights) for one in again] == [(0.5, 0.5), (1.0, 0.0), *[(0.3, 0.7)] * 2]
    np.testing.assert_array_equal(again[1].policy.rewards, first[1].policy.rewards)
    with Ledger.read(tmp_path) as ledger:
        assert len(ledger.answers()) == 3


def test_the_answers_of_a_run_count(tmp_path):
    build_portfolio(Counted(), mu=0.5, alpha=0.5, run_dir=tmp_path)
    oracle = Counted()
    answers_at(oracle, np.eye(2), run_dir=tmp_path)
    assert oracle.asked == []


def test_another_oracle_is_refused(tmp_path):
    answers_at(Counted(), WEIGHTS, run_dir=tmp_path)
    other = Counted()
    other.fingerprint = "other"
    with pytest.raises(InputError, match="fingerprint was 'counted', is 'other'"):
        answers_at(other, WEIGHTS, run_dir=tmp_path)


def test_what_fails_has_no_answer(tmp_path):
    oracle = Counted(broken=WEIGHTS[:1].tolist())
    found = answers_at(oracle, WEIGHTS, run_dir=tmp_path)
    assert [tuple(one.weights) for one in found] == [(1.0, 0.0), (0.5, 0.5)]
    with pytest.raises(WorkError, match="ValueError: no"):
        answers_at(Counted(broken=WEIGHTS.tolist()), WEIGHTS)


def test_workers_answer_alike(tmp_path):
    plain = answers_at(Counted(), WEIGHTS)
    there = answers_at(Counted(), WEIGHTS, run_dir=tmp_path, execution=Execution(workers=2))
    for one, other in zip(plain, there, strict=True):
        np.testing.assert_array_equal(one.policy.rewards, other.policy.rewards)


def test_weights_off_the_simplex():
    with pytest.raises(InputError, match="weights"):
        answers_at(Counted(), [[0.5, 0.6]])
