"""The steps of the search for a minimum cover, one by one: what each may claim."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_setcover import as_bits, circulant, is_cover, lines, smallest, tables

from palm_core import reductions, setcover
from palm_core.errors import InputError
from palm_core.reductions import ROUNDING, Core, relaxation
from palm_core.setcover import relative_gap, solve_set_cover


def core_of(table):
    """An instance as it is, nothing reduced."""
    none = np.zeros(0, dtype=np.intp)
    rows = np.arange(len(table))
    return Core(bits=as_bits(table), rows=rows, n_columns=table.shape[1], forced=none)


def search(table, seconds=60.0, solver=None):
    return setcover._Search(core_of(table), solver, time.perf_counter() + seconds)


def strike(table, target, seconds=60.0):
    core = core_of(table)
    relaxed = relaxation(core, seconds=60.0)
    assert relaxed is not None
    deadline = time.perf_counter() + seconds
    return core, relaxed, setcover._without_costly(core, target, relaxed, deadline)


@given(tables(rows=(1, 8), columns=(1, 20)), st.integers(0, 2))
def test_striking_out_keeps_every_small_cover(table, more) -> None:
    best = smallest(table)
    core, relaxed, left = strike(table, best + more)
    assert left is not None, "there is a cover of that size"
    kept = [*left.forced, *left.rows]
    assert is_cover(table, kept)
    assert smallest(table[kept]) == best
    # what reduced costs strike out is gone
    costly = len(core.forced) + relaxed.value + relaxed.reduced > best + more + ROUNDING
    assert not costly[kept].any()


@given(tables(rows=(2, 8), columns=(2, 20)))
def test_that_there_is_no_cover_is_said_only_where_there_is_none(table) -> None:
    best = smallest(table)
    for target in range(best):
        _, relaxed, left = strike(table, target)
        if relaxed.bound > target:
            assert left is None
        assert left is None or smallest(table[[*left.forced, *left.rows]]) > target


@settings(max_examples=settings().max_examples // 10)  # each is many processes of CBC
@given(tables(rows=(2, 6), columns=(2, 12)))
def test_a_question_is_answered_as_brute_force_does(table) -> None:
    best = smallest(table)
    for target in range(1, len(table) + 1):
        for last in (False, True):
            asked = search(table)
            answer = asked._decide(target, None, 60.0, last=last)
            # the last question is for the best cover there is
            assert answer == ("found" if best <= target else "none")
            assert is_cover(table, asked.best)
            assert best <= asked.upper == len(asked.best)
            if answer == "found":
                assert asked.upper <= target


def test_a_question_without_time_stays_open() -> None:
    table = np.array(lines(3))
    assert search(table)._decide(17, None, 0.0, last=True) == "open"
    assert search(table)._decide(17, None, 60.0, last=True) == "none"


@pytest.mark.parametrize("rows", [None, "all"])
def test_an_answer_without_proof_is_no_proof(monkeypatch, rows) -> None:
    asked = []

    def unproven(table, **options):
        asked.append(options)
        return "cbc", False, None if rows is None else np.arange(len(table))

    monkeypatch.setattr(setcover, "integer_program", unproven)
    table = np.array(lines(3))
    for last in (True, False):
        assert search(table)._decide(17, None, 60.0, last=last) == "open"
    found = solve_set_cover(as_bits(table), table.shape[1], time_limit=5.0)
    assert found.status == "feasible"
    assert found.lower_bound < len(found.chosen) == 18
    # a cover to begin from where the best is asked for, a limit where a smaller one is
    for options in asked:
        assert (options["start"] is None) != (options["most"] is None)
        assert 0 < options["seconds"] <= 60.0
    assert asked[0]["most"] is None
    assert is_cover(table, asked[0]["start"])
    assert asked[1]["most"] == 17


def test_the_limit_counts_rows_that_are_taken_anyhow(monkeypatch) -> None:
    table = np.zeros((8, 8), dtype=bool)
    table[:7, :7], table[7, 7] = circulant(7, 2), True  # nothing but the last row covers 7
    limits = []

    def unproven(table, *, most, **_):
        limits.append(most)
        return "cbc", False, None

    monkeypatch.setattr(setcover, "integer_program", unproven)
    monkeypatch.setattr(setcover._Search, "_swap", lambda *_, **__: np.arange(0))
    asked = setcover._Search(Core.of(as_bits(table), 8), None, time.perf_counter() + 60)
    assert asked.core.forced.tolist() == [7]
    assert asked._decide(4, None, 60.0, last=False) == "open"
    assert limits == [3]


def test_prices_that_a_row_cannot_pay_are_scaled_until_it_can(monkeypatch) -> None:
    # as a solver's tolerance may leave them: each row of two columns would be worth 1.5
    def too_high(table, seconds):
        return np.full(table.shape[0], 0.5), np.full(table.shape[1], 0.75)

    monkeypatch.setattr(reductions, "_fewest_shares", too_high)
    found = relaxation(core_of(circulant(7, 2)), seconds=60.0)
    assert found.value == pytest.approx(3.5)
    assert found.reduced == pytest.approx(np.zeros(7))
    assert found.bound == 4 == smallest(circulant(7, 2))


def test_a_gap_is_a_share_of_the_cover() -> None:
    assert relative_gap(0, 0) == 0.0
    assert relative_gap(3, 3) == 0.0
    assert relative_gap(2, 8) == 0.75


@pytest.mark.parametrize("none", [[], ()])
def test_no_rows_are_no_incumbent(none) -> None:
    with pytest.raises(InputError, match="incumbent: does not cover column 0"):
        solve_set_cover(as_bits(circulant(5, 2)), 5, incumbent=none)


def test_the_time_taken_is_told() -> None:
    found = solve_set_cover(as_bits(circulant(5, 2)), 5)
    assert 0 < found.seconds < 60
