"""The steps of the search for a minimum cover, one by one: what each may claim."""

from __future__ import annotations

import time

import numpy as np
import pulp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.sparse import csr_array
from test_setcover import as_bits, circulant, few_rows_each, is_cover, lines, smallest, tables

from palm_core import InputError, WorkError
from palm_core.cover import integer_program as _integer
from palm_core.cover import reductions
from palm_core.cover import set_cover as setcover
from palm_core.cover.reductions import ROUNDING, Core, packing_bound, relaxation
from palm_core.cover.set_cover import relative_gap, solve_set_cover


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


@pytest.mark.parametrize("extra", [0, 1, 63])
@pytest.mark.parametrize("words", [1, 2])
def test_bits_beyond_the_columns_are_no_columns(words: int, extra: int) -> None:
    """Also where the columns fill whole words, and nothing lies beyond them."""
    columns = 64 * words - extra
    table = np.random.default_rng(columns).random((9, columns)) < 0.4
    table[np.arange(columns) % 9, np.arange(columns)] = True
    bits = as_bits(table)
    if extra:
        bits[3:, -1] |= np.uint64(1) << np.uint64(63)
    before = bits.copy()
    found = solve_set_cover(bits, columns)
    assert is_cover(table, found.chosen)
    assert found.upper_bound == smallest(table)
    np.testing.assert_array_equal(bits, before)


def beside(*tables: np.ndarray) -> np.ndarray:
    """Instances that share neither row nor column, as one."""
    whole = np.zeros(np.sum([table.shape for table in tables], axis=0), dtype=bool)
    row, column = 0, 0
    for table in tables:
        whole[row : row + len(table), column : column + table.shape[1]] = table
        row, column = row + len(table), column + table.shape[1]
    return whole


def test_what_was_needed_is_told_whichever_part_needed_it() -> None:
    hard, easy, alone = np.array(lines(2)), circulant(11, 2), np.ones((1, 1), dtype=bool)
    # without a program both would be called "reduction"; parts are solved small ones first
    for parts, forced in (((hard, easy), 0), ((hard, easy, alone, alone), 2), ((hard,), 0)):
        table = beside(*parts)
        found = solve_set_cover(as_bits(table), table.shape[1])
        assert (found.solver, found.n_forced) == ("cbc", forced)
    small = beside(hard, circulant(31, 2))
    found = solve_set_cover(as_bits(small), small.shape[1])
    assert (found.solver, found.status) == ("cbc", "optimal")
    assert solve_set_cover(as_bits(easy), 11).solver == "reduction"


def test_what_is_struck_out_twice_keeps_every_small_cover(monkeypatch) -> None:
    """Few instances come so far: the bound of what is left is exactly the target."""
    bounds = []

    def watched(core, **options):
        found = relaxation(core, **options)
        bounds.append(len(core.forced) + found.bound)
        return found

    monkeypatch.setattr(setcover, "relaxation", watched)
    met = 0
    for seed in (6, 98, 111, 143, 167, 185, 223, 237, 273, 378):
        table = few_rows_each(np.random.default_rng(seed), 12, 26)
        best, core = smallest(table), Core.of(as_bits(table), 26)
        relaxed = relaxation(core, seconds=60.0)
        bounds.clear()
        left = setcover._without_costly(core, best, relaxed, time.perf_counter() + 60.0)
        assert left is not None, "there is a cover of that size"
        assert smallest(table[[*left.forced, *left.rows]]) == best
        met += best in bounds
    assert met > 3


def test_what_reduced_costs_rule_out_needs_no_program(monkeypatch) -> None:
    def refuse(*_, **__):
        raise AssertionError("asked a solver")

    monkeypatch.setattr(setcover, "integer_program", refuse)
    table = circulant(11, 2)
    relaxed = relaxation(core_of(table), seconds=60.0)
    assert relaxed.bound == smallest(table) == 6
    assert search(table)._decide(5, relaxed, 60.0, last=True) == "none"
    assert search(table)._decide(6, relaxed, 60.0, last=True) == "found"


def test_nothing_to_cover_needs_no_row() -> None:
    assert packing_bound(np.zeros((0, 0), np.uint64), 0) == 0
    assert packing_bound(np.zeros((4, 0), np.uint64), 0) == 0


def test_a_relaxation_ends_where_few_columns_settle_it(monkeypatch) -> None:
    """The row of the first column covers all others: no more of them are looked at."""
    table = np.zeros((4, 12), dtype=bool)
    table[0], table[1:, 4:8] = True, True
    asked = []

    def watched(some, seconds):
        asked.append((some.shape, seconds))
        return fewest_shares(some, seconds)

    fewest_shares = reductions._fewest_shares
    monkeypatch.setattr(reductions, "_fewest_shares", watched)
    monkeypatch.setattr(reductions, "_FIRST_COLUMNS", 1)
    found = relaxation(core_of(table), seconds=60.0)
    assert (found.bound, found.value) == (1, pytest.approx(1.0))
    ((shape, seconds),) = asked
    assert shape == (1, 1)
    assert 59.0 < seconds <= 60.0


def test_a_linear_program_keeps_its_time_and_its_method(monkeypatch) -> None:
    random = np.random.default_rng(0)
    table = random.random((300, 300)) < 0.1
    table[np.arange(300), np.arange(300)] = True
    assert reductions._fewest_shares(csr_array(table, dtype=float), 1e-9) is None
    asked = []

    def watched(*given, **options):
        asked.append(options["method"])
        return linprog(*given, **options)

    monkeypatch.setattr("scipy.optimize.linprog", watched)
    ring, values = core_of(circulant(11, 2)), []
    for few in (10, 11):
        monkeypatch.setattr(reductions, "_FEW_COLUMNS", few)
        values.append(relaxation(ring, seconds=60.0).value)
    assert asked == ["highs-ipm", "highs-ds"]  # interior points for many columns
    assert values == pytest.approx([5.5, 5.5])


class Answering(pulp.LpSolver):
    """A solver that gives the answer it is told to give."""

    def __init__(self, status: int, solution: int, rows: tuple[int, ...]) -> None:
        super().__init__()
        self.answer = status, solution, rows

    def available(self) -> bool:
        return True

    def actualSolve(self, model: pulp.LpProblem) -> int:
        status, solution, rows = self.answer
        model.assignVarsVals({f"x{i}": float(i in rows) for i in range(5)})
        model.assignStatus(status, solution)
        return status


@pytest.mark.parametrize(
    ("status", "solution", "rows", "proven", "found"),
    [
        (pulp.LpStatusOptimal, pulp.LpSolutionOptimal, (0, 2, 4), True, [0, 2, 4]),
        (pulp.LpStatusOptimal, pulp.LpSolutionIntegerFeasible, (0, 1, 2, 4), False, [0, 1, 2, 4]),
        # no cover at all, from a solver that was stopped
        (pulp.LpStatusOptimal, pulp.LpSolutionIntegerFeasible, (0,), False, None),
        (pulp.LpStatusNotSolved, pulp.LpSolutionNoSolutionFound, (0, 2, 4), False, None),
        (pulp.LpStatusInfeasible, pulp.LpSolutionInfeasible, (), True, None),
    ],
)
def test_a_solver_is_believed_what_it_says_and_no_more(
    monkeypatch, status, solution, rows, proven, found
) -> None:
    monkeypatch.setattr(_integer, "_engine", lambda *_, **__: Answering(status, solution, rows))
    told = _integer.integer_program(circulant(5, 2), solver=None, seconds=9.0)
    assert told[:2] == ("cbc", proven)
    assert (None if told[2] is None else told[2].tolist()) == found


def test_a_minimum_that_covers_nothing_is_an_error_of_the_solver(monkeypatch) -> None:
    wrong = Answering(pulp.LpStatusOptimal, pulp.LpSolutionOptimal, (0,))
    monkeypatch.setattr(_integer, "_engine", lambda *_, **__: wrong)
    with pytest.raises(WorkError, match="returned rows that leave columns"):
        _integer.integer_program(circulant(5, 2), solver="cbc", seconds=9.0)


def test_cbc_is_given_a_cover_to_begin_from_only_where_there_is_one(monkeypatch) -> None:
    asked = []

    def watched(*_, **options):
        asked.append(options["warm"])
        return Answering(pulp.LpStatusNotSolved, pulp.LpSolutionNoSolutionFound, ())

    monkeypatch.setattr(_integer, "_engine", watched)
    for start in (None, np.arange(5)):
        _integer.integer_program(circulant(5, 2), solver=None, seconds=9.0, start=start)
    assert asked == [False, True]
