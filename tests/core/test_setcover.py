"""Minimum set cover: reductions, bounds, search and solvers against brute force."""

from __future__ import annotations

import itertools
import stat
import sys
import tempfile
import time
from importlib.util import find_spec

import numpy as np
import pulp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from palm_core import InputError, WorkError
from palm_core.cover import integer_program as _integer
from palm_core.cover import set_cover as setcover
from palm_core.cover.integer_program import integer_program
from palm_core.cover.reductions import (
    Core,
    packed,
    packing_bound,
    relaxation,
    transposed,
    uncovered,
    unpacked,
)
from palm_core.cover.set_cover import greedy_rows, local_search, solve_set_cover
from palm_core.geometry import kernels as _kernels

HAS_HIGHS = find_spec("highspy") is not None
SOLVERS = [
    "cbc",
    pytest.param("highs", marks=pytest.mark.skipif(not HAS_HIGHS, reason="an optional extra")),
]


def as_bits(table):
    """Bit j of word b is column 64·b + j; written here a second time."""
    m, k = table.shape
    bits = np.zeros((m, -(-k // 64)), dtype=np.uint64)
    for i, j in zip(*np.nonzero(table), strict=True):
        bits[i, j // 64] |= np.uint64(1) << np.uint64(j % 64)
    return bits


def smallest(table):
    """The size of a minimum cover, by trying all sets of rows, small ones first."""
    masks = [int("".join("1" if x else "0" for x in row), 2) for row in table]
    everything = (1 << table.shape[1]) - 1
    for size in range(len(masks) + 1):
        for rows in itertools.combinations(masks, size):
            together = 0
            for mask in rows:
                together |= mask
            if together == everything:
                return size
    raise AssertionError("no cover at all")


def is_cover(table, rows):
    return bool(table[np.asarray(rows, dtype=int)].any(axis=0).all())


def few_rows_each(random, m, k):
    """Columns of two or three rows each: half of these need the integer program."""
    table = np.zeros((m, k), dtype=bool)
    for column in table.T:
        column[random.choice(m, size=min(m, random.integers(2, 4)), replace=False)] = True
    return table


@st.composite
def tables(draw, rows=(1, 10), columns=(1, 140)):
    """Random instances, each column covered; some rows are doubled, some fall apart."""
    m, k = draw(st.integers(*rows)), draw(st.integers(*columns))
    kind = draw(st.sampled_from(["mixed", "few", "few", "apart"]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if kind == "mixed":
        table = random.random((m, k)) < random.choice([0.15, 0.3, 0.5, 0.8], size=k)
        table[random.integers(m, size=k), np.arange(k)] = True
        table[0] |= table[-1] & (random.random() < 0.3)
    elif kind == "few" or m < 6 or k < 4:
        table = few_rows_each(random, m, min(k, 6 * m))
    else:
        half = few_rows_each(random, m // 2, min(k // 2, 3 * m))
        rest = few_rows_each(random, m - m // 2, min(k // 2, 3 * m))
        table = np.zeros((m, half.shape[1] + rest.shape[1]), dtype=bool)
        table[: m // 2, : half.shape[1]] = half
        table[m // 2 :, half.shape[1] :] = rest
    return table[random.permutation(len(table))]


def circulant(n, width):
    """Row i covers columns i, …, i + width − 1 around a ring of n: ⌈n/width⌉ rows are needed."""
    return np.array([[(j - i) % n < width for j in range(n)] for i in range(n)])


def lines(dimension):
    """Points (rows) that hit each line (column) of the affine space over three elements.

    The points left out hold no line, they are a cap set, and largest cap sets have
    2, 4, 9, 20 points in 1 to 4 dimensions (Pellegrino, 1970). These are the Steiner
    triple problems A9, A27 and A81 of Fulkerson, Nemhauser and Trotter (1974), whose
    linear relaxation is worth only a third of the points.
    """
    points = list(itertools.product(range(3), repeat=dimension))
    number = {point: i for i, point in enumerate(points)}
    found = set()
    for a, b in itertools.combinations(points, 2):
        third = tuple((-x - y) % 3 for x, y in zip(a, b, strict=True))
        found.add(frozenset([number[a], number[b], number[third]]))
    table = np.zeros((len(points), len(found)), dtype=bool)
    for j, line in enumerate(sorted(map(sorted, found))):
        table[line, j] = True
    return table


# Bits and reductions.


@given(st.integers(0, 200), st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_bits_are_packed_unpacked_and_transposed(m, k, seed):
    table = np.random.default_rng(seed).random((m, k)) < 0.4
    bits = packed(table)
    np.testing.assert_array_equal(bits, as_bits(table))
    np.testing.assert_array_equal(unpacked(bits, k), table)
    np.testing.assert_array_equal(transposed(bits, k), as_bits(table.T))


def test_threads_change_nothing(monkeypatch):
    table = np.random.default_rng(2).random((300, 500)) < 0.02
    table[0] |= ~table.any(axis=0)
    before = Core.of(as_bits(table), 500)
    monkeypatch.setattr(_kernels, "n_threads", lambda: 3)
    monkeypatch.setattr("palm_core.cover.reductions._BLOCKS_WORTH_A_THREAD", 1)
    monkeypatch.setattr("palm_core.cover.reductions._SETS_WORTH_A_THREAD", 1)
    after = Core.of(as_bits(table), 500)
    np.testing.assert_array_equal(before.rows, after.rows)
    np.testing.assert_array_equal(before.bits, after.bits)
    np.testing.assert_array_equal(before.forced, after.forced)
    assert 0 < len(after.rows) < 300


@given(tables(rows=(1, 40)), st.booleans())
def test_sets_inside_and_around_others_are_found(table, with_empty):
    if with_empty:
        table = np.vstack([table, np.zeros((2, table.shape[1]), dtype=bool)])
    inside, around = marks = np.zeros((2, len(table)), dtype=bool)
    sets, elements = (as_bits(table), table.sum(1)), (as_bits(table.T), table.sum(0))
    _kernels.inclusions(sets, elements, marks, 0, len(table))

    subsets, supersets = set(), set()
    for a, b in itertools.permutations(range(len(table)), 2):
        # An empty set is inside any other; nothing is called around it.
        if (table[a] <= table[b]).all() and table[a].any():
            larger = (table[a] < table[b]).any()
            subsets |= {a} if larger or b < a else set()
            supersets |= {b} if larger or b > a else set()
    subsets |= set(np.flatnonzero(~table.any(axis=1)))
    assert (set(np.flatnonzero(inside)), set(np.flatnonzero(around))) == (subsets, supersets)


@given(tables())
def test_reductions_keep_a_minimum_cover(table):
    core = Core.of(as_bits(table), table.shape[1])
    rest = core.matrix()
    assert len(core.forced) + (smallest(rest) if core.n_columns else 0) == smallest(table)
    # It is the original instance on those rows and some of the columns …
    assert len(np.intersect1d(core.rows, core.forced)) == 0
    columns = {tuple(column) for column in table[core.rows].T}
    assert all(tuple(column) in columns for column in rest.T)
    # … whose parts add up …
    parts = core.parts()
    assert sum(smallest(part.matrix()) for part in parts) == smallest(table) - len(core.forced)
    assert sorted(itertools.chain(*(part.rows for part in parts))) == core.rows.tolist()
    assert sum(part.n_columns for part in parts) == core.n_columns
    # … and to which no rule applies any more.
    assert (rest.sum(axis=0) >= 2).all()
    for sets in (rest, ~rest.T):
        for a, b in itertools.permutations(range(len(sets)), 2):
            assert not (sets[a] <= sets[b]).all()


def test_parts_share_nothing():
    ring = circulant(5, 2)
    table = np.zeros((15, 15), dtype=bool)
    for i in range(3):
        table[5 * i : 5 * i + 5, 5 * i : 5 * i + 5] = ring
    shuffled = np.random.default_rng(0).permutation(15)
    core = Core.of(as_bits(table[shuffled][:, shuffled]), 15)
    assert [(len(part.rows), part.n_columns) for part in core.parts()] == [(5, 5)] * 3
    # Each ring needs 3; three halves of rounding add up to what the whole would miss.
    found = solve_set_cover(as_bits(table), 15)
    assert (found.lower_bound, found.upper_bound, found.solver) == (9, 9, "reduction")


@given(tables(), st.integers(0, 2**32 - 1))
def test_an_instance_on_some_rows_is_reduced_or_refused(table, seed):
    core = Core.of(as_bits(table), table.shape[1])
    keep = np.random.default_rng(seed).random(len(core.rows)) < 0.7
    left = core.only(keep)
    rest = core.matrix()[keep]
    if left is None:
        assert not rest.any(axis=0).all()
    else:
        forced = len(left.forced) - len(core.forced)
        size = smallest(left.matrix()) if left.n_columns else 0
        assert forced + size == (smallest(rest) if core.n_columns else 0)


# Bounds.


@given(tables())
def test_bounds_are_never_above_the_minimum(table):
    bits, k = as_bits(table), table.shape[1]
    best = smallest(table)
    assert 1 <= packing_bound(bits, k) <= best
    core = Core.of(bits, k)
    if core.n_columns:
        relaxed = relaxation(core, seconds=60)
        assert len(core.forced) + relaxed.bound <= best
        assert (relaxed.reduced >= -1e-12).all()


def test_a_packing_of_a_sample_is_a_bound_still(monkeypatch):
    table = np.eye(300, dtype=bool)
    assert packing_bound(as_bits(table), 300) == 300
    monkeypatch.setattr("palm_core.cover.reductions._PACKING_PAIRS", 300 * 100)
    assert 64 <= packing_bound(as_bits(table), 300) < 300


@pytest.mark.parametrize("first", [1, 7, 1000])
def test_the_relaxation_is_solved_from_few_columns(monkeypatch, first):
    monkeypatch.setattr("palm_core.cover.reductions._FIRST_COLUMNS", first)
    for seed in range(5):
        random = np.random.default_rng(seed)
        table = random.random((40, 90)) < 0.1
        table[random.integers(40, size=90), np.arange(90)] = True
        core = Core.of(as_bits(table), 90)
        rest = core.matrix().astype(float)
        if not rest.size:
            continue
        value = linprog(np.ones(len(rest)), A_ub=-rest.T, b_ub=-np.ones(rest.shape[1])).fun
        relaxed = relaxation(core, seconds=60)
        assert relaxed.value == pytest.approx(value, abs=1e-6)
        assert relaxed.shares.sum() == pytest.approx(value, abs=1e-6)
        assert (relaxed.shares @ rest >= 1 - 1e-6).all()
        some = relaxation(core, seconds=60, enough=1)
        assert some.value <= value + 1e-9


def test_a_relaxation_out_of_time_is_none():
    core = Core.of(as_bits(lines(3)), 117)
    assert relaxation(core, seconds=-1.0) is None


@given(tables())
def test_rows_struck_out_are_in_no_small_cover(table):
    core = Core.of(as_bits(table), table.shape[1])
    if not core.n_columns:
        return
    relaxed = relaxation(core, seconds=60)
    best = smallest(table)
    for target in range(max(best - 1, 1), best + 2):
        left = setcover._without_costly(core, target, relaxed, time.perf_counter() + 60)
        if target < best:
            assert left is None or len(left.forced) + smallest(left.matrix()) > target
        else:
            size = smallest(left.matrix()) if left.n_columns else 0
            assert len(left.forced) + size == best


# Heuristics.


@given(tables(rows=(2, 40)))
def test_greedy_and_local_search_are_covers(table):
    core = Core.of(as_bits(table), table.shape[1])
    if not core.n_columns:
        assert len(greedy_rows(core)) == 0
        return
    rest = core.matrix()
    greedy = greedy_rows(core)
    assert is_cover(rest, greedy)
    assert is_cover(rest, greedy_rows(core, greedy[:1]))
    found = local_search(rest, greedy, target=0, deadline=np.inf, patience=50)
    assert is_cover(rest, found)
    assert len(np.unique(found)) == len(found) <= len(greedy)
    np.testing.assert_array_equal(
        found, local_search(rest, greedy, target=0, deadline=np.inf, patience=50)
    )
    assert local_search(rest, greedy, target=0, deadline=-np.inf).size <= len(greedy)


def test_local_search_finds_what_greedy_misses():
    table = lines(3)
    start = np.arange(27)
    found = local_search(table, start, target=18, deadline=np.inf)
    assert len(found) == 18
    assert is_cover(table, found)
    # It stops at its target, above the minimum as well.
    assert len(local_search(table, start, target=22, deadline=np.inf)) == 22


# The whole.


@given(tables())
def test_the_cover_is_minimum(table):
    found = solve_set_cover(as_bits(table), table.shape[1])
    assert is_cover(table, found.chosen)
    assert found.status == "optimal"
    assert found.lower_bound == found.upper_bound == len(found.chosen) == smallest(table)
    assert (np.diff(found.chosen) > 0).all()
    assert found.gap == 0


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    ("table", "best"),
    [(lines(2), 5), (circulant(11, 4), 3), (circulant(60, 7), 9)],
    ids=["A9", "ring 11", "ring 60"],
)
def test_known_minima_are_proven(table, best, solver):
    found = solve_set_cover(as_bits(table), table.shape[1], solver=solver)
    assert (found.status, found.lower_bound, found.upper_bound) == ("optimal", best, best)
    assert is_cover(table, found.chosen)


def test_a_minimum_twice_its_relaxation_is_proven():
    found = solve_set_cover(as_bits(lines(3)), 117)
    assert (found.status, found.lower_bound, found.upper_bound) == ("optimal", 18, 18)


def test_the_solver_is_needed_where_the_relaxation_is_weak():
    assert solve_set_cover(as_bits(lines(2)), 12).solver == "cbc"
    assert solve_set_cover(as_bits(circulant(60, 7)), 60).solver == "reduction"


@pytest.mark.parametrize("levels", range(3, 9))
def test_greedy_is_far_from_the_minimum_and_the_search_is_not(levels):
    """Two rows cover all; a third kind always covers a bit more than half of the rest."""
    n = 2 * (2**levels - 1)
    table = np.zeros((levels + 2, n), dtype=bool)
    end = n
    for level in range(levels):
        size = 2 ** (levels - level)
        table[level, end - size : end] = True
        end -= size
    table[levels, ::2] = True
    table[levels + 1, 1::2] = True
    bits = as_bits(table)
    chosen = np.empty(len(table), np.int64)
    left = as_bits(np.ones((1, n)))[0]
    greedy = _kernels.greedy_cover(bits, left, table.sum(axis=1), chosen)
    assert greedy == levels
    found = solve_set_cover(bits, n, incumbent=chosen[:greedy])
    np.testing.assert_array_equal(found.chosen, [levels, levels + 1])
    assert found.status == "optimal"


@settings(max_examples=40)
@given(tables(), st.integers(0, 2**32 - 1))
def test_the_order_of_rows_and_columns_does_not_change_the_size(table, seed):
    random = np.random.default_rng(seed)
    shuffled = table[random.permutation(len(table))][:, random.permutation(table.shape[1])]
    sizes = [
        len(solve_set_cover(as_bits(each), table.shape[1]).chosen) for each in (table, shuffled)
    ]
    assert sizes[0] == sizes[1]


def test_the_same_input_gives_the_same_cover():
    table = few_rows_each(np.random.default_rng(9), 18, 52)
    first, second = (solve_set_cover(as_bits(table), 52) for _ in range(2))
    assert first.solver == "cbc"
    np.testing.assert_array_equal(first.chosen, second.chosen)


@settings(max_examples=50)
@given(tables(), st.sampled_from([1e-9, 1e-4, 1e-2]))
def test_bounds_hold_however_little_time_there_is(table, seconds):
    found = solve_set_cover(as_bits(table), table.shape[1], time_limit=seconds)
    assert is_cover(table, found.chosen)
    assert found.lower_bound <= smallest(table) <= found.upper_bound
    assert (found.status == "optimal") == (found.lower_bound == found.upper_bound)


@pytest.mark.parametrize("solver", [None, "cbc"])
def test_a_solver_that_crashes_at_its_limit_is_asked_again(solver, monkeypatch):
    """CBC does, one time in twenty, where the limit is a few milliseconds."""
    table = few_rows_each(np.random.default_rng(9), 18, 52)

    def crash(*_: object) -> None:
        time.sleep(0.02)
        raise pulp.PulpSolverError("crashed")

    with monkeypatch.context() as patch:
        patch.setattr(pulp.LpProblem, "solve", crash)
        assert integer_program(table, solver=solver, seconds=0.01) == ("cbc", False, None)
    assert integer_program(table, solver=solver, seconds=60.0)[:2] == ("cbc", True)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_timeout_is_not_sold_as_optimal(solver):
    """A81: the minimum, 61, is beyond these solvers' reach in two seconds."""
    table = lines(4)
    begun = time.perf_counter()
    found = solve_set_cover(as_bits(table), table.shape[1], solver=solver, time_limit=2.0)
    assert found.solver == solver
    assert found.status == "feasible"
    assert 27 <= found.lower_bound < 61 <= found.upper_bound < 66
    assert found.gap == pytest.approx(1 - found.lower_bound / found.upper_bound)
    assert is_cover(table, found.chosen)
    assert time.perf_counter() - begun < 30


def test_an_instance_too_large_to_unpack_still_gets_bounds(monkeypatch):
    monkeypatch.setattr(setcover, "_MOST_PAIRS", 10)
    table = lines(3)
    found = solve_set_cover(as_bits(table), table.shape[1])
    assert found.status == "feasible"
    assert 1 < found.lower_bound < 18 <= found.upper_bound
    assert is_cover(table, found.chosen)


def test_an_incumbent_is_returned_unless_it_is_beaten():
    table = np.eye(4, dtype=bool)[[0, 0, 1, 2, 3]]
    found = solve_set_cover(as_bits(table), 4, incumbent=[1, 2, 3, 4])
    np.testing.assert_array_equal(found.chosen, [1, 2, 3, 4])
    found = solve_set_cover(as_bits(table), 4, incumbent=[0, 1, 2, 3, 4])
    np.testing.assert_array_equal(found.chosen, [0, 2, 3, 4])
    a27 = lines(3)
    best = np.sort(local_search(a27, np.arange(27), target=18, deadline=np.inf))
    again = solve_set_cover(as_bits(a27), 117, incumbent=best, time_limit=1e-9)
    np.testing.assert_array_equal(again.chosen, best)
    assert again.upper_bound == 18


# Solvers.


@pytest.mark.parametrize("solver", SOLVERS)
@settings(max_examples=25)
@given(tables(rows=(2, 10), columns=(2, 30)))
def test_integer_programs_agree_with_brute_force(solver, table):
    best = smallest(table)
    name, proven, rows = integer_program(table, solver=solver, seconds=60)
    assert (name, proven, len(rows)) == (solver, True, best)
    assert is_cover(table, rows)
    every = np.arange(len(table))
    _, proven, rows = integer_program(table, solver=solver, seconds=60, start=every)
    assert (proven, len(rows)) == (True, best)
    _, proven, rows = integer_program(table, solver=solver, seconds=60, most=best)
    assert (proven, len(rows)) == (True, best)
    _, proven, rows = integer_program(table, solver=solver, seconds=60, most=best - 1)
    assert (proven, rows) == (True, None)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("most", [None, 60])
def test_solvers_out_of_time_prove_nothing(solver, most):
    _, proven, rows = integer_program(lines(4), solver=solver, seconds=0.3, most=most)
    assert not proven
    assert rows is None or is_cover(lines(4), rows)


@pytest.mark.parametrize("solver", SOLVERS)
def test_solvers_are_silent_and_leave_no_files(solver, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert solve_set_cover(as_bits(lines(2)), 12, solver=solver).solver == solver
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def pretend(monkeypatch, folder, script):
    """Put a program in the place of cbc."""
    program = folder / "cbc"
    program.write_text(f"#!{sys.executable}\n{script}")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(pulp.PULP_CBC_CMD, "pulp_cbc_path", str(program))


def test_a_solver_that_dies_is_an_error(monkeypatch, tmp_path):
    (tmp_path / "work").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "work"))
    # PuLP's own choice of a folder for what it leaves behind.
    for name in ("TMPDIR", "TMP", "TEMP"):
        monkeypatch.setenv(name, str(tmp_path / "work"))
    pretend(monkeypatch, tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(WorkError, match=r"the solver cbc \(.*\) failed: PulpSolverError"):
        solve_set_cover(as_bits(lines(2)), 12, solver="cbc")
    assert list((tmp_path / "work").iterdir()) == []


def test_a_solver_that_claims_a_cover_it_has_not_is_an_error(monkeypatch, tmp_path):
    script = """
import sys
where = sys.argv[sys.argv.index("-solution") + 1]
open(where, "w").write("Optimal - objective value 1\\n      0 X0000000  1  1\\n")
"""
    pretend(monkeypatch, tmp_path, script)
    with pytest.raises(WorkError, match="leave columns uncovered"):
        solve_set_cover(as_bits(lines(2)), 12, solver="cbc")


def test_bounds_that_contradict_each_other_are_an_error(monkeypatch):
    monkeypatch.setattr(setcover, "packing_bound", lambda bits, n_columns: 6)
    with pytest.raises(WorkError, match="lower bound 6"):
        solve_set_cover(as_bits(lines(2)), 12, incumbent=solve_any())


def solve_any():
    """Five points that hit every line of the plane: all but a cap of four."""
    table = lines(2)
    for rows in itertools.combinations(range(9), 5):
        if is_cover(table, rows):
            return np.array(rows)
    raise AssertionError


def test_a_highs_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(_integer, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"^solver = 'highs': requires .*palm-core\[highs\]"):
        solve_set_cover(as_bits(lines(2)), 12, solver="highs")


@pytest.mark.skipif(not HAS_HIGHS, reason="an optional extra")
def test_a_highs_that_does_not_load_says_why(monkeypatch):
    def refuse(name):
        raise ImportError("highspy and ortools cannot be loaded together")

    # PuLP swallows the reason and only says that HiGHS is not available.
    monkeypatch.setattr(pulp.HiGHS, "available", lambda self: False)
    monkeypatch.setattr(_integer.importlib, "import_module", refuse)
    with pytest.raises(WorkError, match="highs cannot be loaded: highspy and ortools cannot"):
        solve_set_cover(as_bits(lines(2)), 12, solver="highs")


# Requests that are wrong.


def test_wrong_requests_are_refused():
    bits = as_bits(np.eye(3, dtype=bool))
    with pytest.raises(InputError, match=r"^bits: no row covers column 3"):
        solve_set_cover(bits, 4)
    with pytest.raises(InputError, match=r"must be uint64 \(rows, 2\) for 65 columns"):
        solve_set_cover(bits, 65)
    with pytest.raises(InputError, match="bits: must be uint64"):
        solve_set_cover(bits.astype(np.int64), 3)
    with pytest.raises(InputError, match="n_columns = 0"):
        solve_set_cover(bits, 0)
    with pytest.raises(InputError, match="time_limit = 0"):
        solve_set_cover(bits, 3, time_limit=0)
    with pytest.raises(InputError, match="one of cbc, highs; did you mean 'highs'"):
        solve_set_cover(bits, 3, solver="higs")
    with pytest.raises(InputError, match="incumbent: does not cover column 2"):
        solve_set_cover(bits, 3, incumbent=[0, 1])
    with pytest.raises(InputError, match="incumbent: rows must be from 0 to 2"):
        solve_set_cover(bits, 3, incumbent=[0, 1, 3])


def test_bits_beyond_the_columns_are_ignored():
    # The last row is inside the first, whatever its bits beyond the columns say.
    bits = np.vstack([as_bits(circulant(5, 2)), np.array([[0b1100001]], dtype=np.uint64)])
    found = solve_set_cover(bits, 5)
    assert (found.n_rows, found.n_columns, found.upper_bound) == (5, 5, 3)
    assert bits[-1, 0] == 0b1100001
    np.testing.assert_array_equal(uncovered(bits[-1:], 7), [1, 2, 3, 4])
