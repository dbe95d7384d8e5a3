from __future__ import annotations

import itertools
import math
import subprocess
import sys
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from palm_core import InputError, check_weights, construct_grid, grid_size, grid_values

mus = st.floats(0.05, 1.0)
alphas = st.floats(0.01, 1.0)
dimensions = st.integers(2, 5)

# Oracle calls printed in the paper, appendix B.5.2.
PUBLISHED = [
    (2, 14 / 30, 7 / 100, 17),
    (2, 16 / 30, 7 / 100, 17),
    (2, 16 / 30, 5 / 100, 19),
    (2, 16 / 30, 2 / 100, 23),
    (2, 16 / 30, 1 / 100, 25),
    (3, 18 / 30, 8 / 10, 19),
    (3, 19 / 30, 4 / 10, 37),
    (3, 18 / 30, 3 / 10, 61),
    (3, 19 / 30, 2 / 10, 91),
]


@pytest.mark.parametrize(("d", "mu", "alpha", "calls"), PUBLISHED)
def test_published_oracle_calls(d: int, mu: float, alpha: float, calls: int) -> None:
    assert grid_size(d, mu, alpha) == calls
    assert construct_grid(d, mu, alpha).shape == (calls, d)


def test_rlvr_gsm_gives_17_where_the_paper_prints_13() -> None:
    assert grid_size(2, 8 / 30, 2 / 10) == 17


def small(d: int, mu: float, alpha: float, most: int = 20_000) -> int:
    size = grid_size(d, mu, alpha)
    assume(size <= most)
    return size


@given(dimensions, mus, alphas)
def test_rows_are_all_cube_vectors_once_in_the_documented_order(
    d: int, mu: float, alpha: float
) -> None:
    small(d, mu, alpha, 3000)
    values = grid_values(mu, alpha)
    top = len(values) - 1
    digits = [t for t in itertools.product(range(top + 1), repeat=d) if max(t) == top]
    digits.sort(key=lambda t: (t.index(top), t))
    cube = values[np.array(digits)]
    expected = cube / cube.sum(axis=1, keepdims=True)
    built = construct_grid(d, mu, alpha)
    assert built.shape == expected.shape
    np.testing.assert_allclose(built, expected, rtol=1e-15)
    # To the last bit: a run finds its weights again by their bits.
    total = np.zeros(len(cube))
    last_first = np.array([row.index(top) == d - 1 for row in digits])
    for i in range(d - 2):
        total += cube[:, i]
    for i in (-2, -1):
        total += np.where(last_first, cube[:, -3 - i], cube[:, i])
    np.testing.assert_array_equal(built, cube * (1 / total)[:, np.newaxis])
    assert len(np.unique(built, axis=0)) == grid_size(d, mu, alpha)


@given(dimensions, mus, alphas)
def test_rows_are_on_the_simplex_and_every_vertex_is_exact(d: int, mu: float, alpha: float) -> None:
    small(d, mu, alpha)
    rows = construct_grid(d, mu, alpha)
    assert np.abs(rows.sum(axis=1) - 1).max() <= d * 2.3e-16
    assert (check_weights(rows, d) >= 0).all()
    for vertex in np.eye(d):
        assert (rows == vertex).all(axis=1).sum() == 1


def rounded_up(v: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The weight that the proof of Lemma A.1 matches with v."""
    cube = v / v.max()
    matched = values[np.searchsorted(values, cube * (1 - 1e-12))]
    return matched / matched.sum()


@given(dimensions, mus, alphas, st.integers(0, 2**32 - 1))
def test_lemma_a1_every_weight_has_a_close_grid_weight(
    d: int, mu: float, alpha: float, seed: int
) -> None:
    small(d, mu, alpha)
    values = grid_values(mu, alpha)
    grid = construct_grid(d, mu, alpha)
    rng = np.random.default_rng(seed)
    cubes = [
        *rng.dirichlet(np.full(d, 0.3), size=8),
        # Just above a grid value the next one is farthest away.
        *(np.minimum(values[rng.integers(0, len(values), (8, d))] * (1 + 1e-9), 1) + 1e-30),
    ]
    for cube in cubes:
        v = cube / cube.sum()
        w = rounded_up(v, values)
        assert np.abs(grid - w).max(axis=1).min() <= 1e-12
        assert (np.abs(w - v) <= mu * v + d * alpha + 1e-12).all()
        # What the proof uses of w' itself: this is the sharper test of 1dgrid.
        matched = values[np.searchsorted(values, v / v.max() * (1 - 1e-12))]
        near = np.maximum(v / v.max() * (1 + mu), v / v.max() + alpha)
        assert (matched <= near * (1 + 1e-9)).all()


@given(st.floats(1e-4, 1.0), st.integers(0, 400))
def test_alpha_that_is_a_power_of_1_plus_mu_gives_that_power(mu: float, k: int) -> None:
    ways = [
        (1 + mu) ** -k,
        1 / (1 + mu) ** k,
        math.exp(-k * math.log1p(mu)),
        float(np.prod(np.full(k, 1 / (1 + mu)))),
    ]
    for alpha in ways:
        assume(alpha > 1e-300)
        assert grid_size(2, mu, min(alpha, 1.0)) == 2 * (k + 2) - 1


@given(st.floats(1e-3, 1.0), st.floats(1e-6, 1.0))
def test_number_of_steps_is_the_logarithm_rounded_up(mu: float, alpha: float) -> None:
    n_steps = (grid_size(2, mu, alpha) + 1) // 2 - 2
    assume(n_steps <= 400)
    ratio = 1 + Fraction(mu)
    forgiven = Fraction(1, 10**11)
    assert Fraction(alpha) * ratio**n_steps >= 1 - forgiven
    assert n_steps == 0 or Fraction(alpha) * ratio ** (n_steps - 1) < 1


@given(st.floats(0.01, 1.0), st.floats(2.3e-308, 1.0))
def test_values_ascend_in_steps_of_at_most_1_plus_mu(mu: float, alpha: float) -> None:
    values = grid_values(mu, alpha)
    assert values[0] == 0
    assert values[-1] == 1
    assert len(values) == 2 or values[1] == alpha
    assert (np.diff(values) > 0).all()
    normal = values[values > 1e-300]
    assert (normal[1:] <= normal[:-1] * (1 + mu) * (1 + 1e-9)).all()


def test_alpha_of_one_leaves_the_corners_of_the_cube() -> None:
    np.testing.assert_array_equal(construct_grid(2, 0.3, 1.0), [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    assert grid_size(3, 0.3, 1.0) == 7


def test_size_can_exceed_the_closed_form_of_theorem_3_4() -> None:
    size = grid_size(2, 1.0, 0.9)
    assert size == 5
    assert size > 2 * (2 + 2 / 1.0 * math.log(1 / 0.9)) ** (2 - 1)


@given(dimensions, st.floats(1e-3, 1.0), st.floats(1e-6, 1.0))
def test_size_is_below_d_times_n_to_the_d_minus_1(d: int, mu: float, alpha: float) -> None:
    n = (grid_size(2, mu, alpha) + 1) // 2
    assert d * (n - 1) ** (d - 1) < grid_size(d, mu, alpha) < d * n ** (d - 1)


@pytest.mark.parametrize(
    ("mu", "alpha"), [(1e-9, 1e-300), (5e-324, 3e-308), (1e-300, 0.5), (1e-9, 0.5)]
)
def test_astronomic_grids_are_counted_without_memory(mu: float, alpha: float) -> None:
    tracemalloc.start()
    size = grid_size(12, mu, alpha)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size > 10**90
    assert peak < 1 << 20
    with pytest.raises(InputError, match=r"about 10\^\d+ weights"):
        construct_grid(12, mu, alpha)
    with pytest.raises(InputError, match=r"grid has .* values; raise mu or alpha"):
        grid_values(mu, alpha)


def test_a_grid_beyond_the_limit_is_refused_with_its_count_before_allocation() -> None:
    d, mu, alpha = 8, 0.2, 0.1
    size = grid_size(d, mu, alpha)
    spaced = f"{size:,}".replace(",", " ")
    tracemalloc.start()
    with pytest.raises(InputError) as caught:
        construct_grid(d, mu, alpha)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(caught.value) == (
        f"the grid has {spaced} weights, must have at most 50 000 000; raise mu or alpha, or limit"
    )
    assert peak < 1 << 20


def test_limit_is_the_largest_size_allowed() -> None:
    assert len(construct_grid(2, 14 / 30, 7 / 100, limit=17)) == 17
    with pytest.raises(InputError, match="the grid has 17 weights"):
        construct_grid(2, 14 / 30, 7 / 100, limit=16)


@pytest.mark.parametrize(
    ("d", "mu", "alpha", "complaint"),
    [
        (2, 0.0, 0.5, r"mu = 0.0: must be in \(0, 1\]; 0.2 means"),
        (2, 1.5, 0.5, r"mu = 1.5: must be in \(0, 1\]"),
        (2, float("nan"), 0.5, r"mu = nan: must be in \(0, 1\]"),
        (2, 0.5, 0.0, r"alpha = 0.0: must be in \(0, 1\]"),
        (2, 0.5, 1.5, r"alpha = 1.5: must be in \(0, 1\]; 0.2 means weights below a fifth"),
        (2, 0.5, 5e-324, "alpha = 5e-324: must be at least 2.23e-308"),
        (2, 0.5, "x", r"alpha = 'x'"),
        (1, 0.5, 0.5, "n_objectives = 1: must be at least 2"),
        (2.0, 0.5, 0.5, "n_objectives = 2.0: must be a whole number"),
    ],
)
def test_bad_arguments_are_named(d: int, mu: float, alpha: float, complaint: str) -> None:
    for call in (grid_size, construct_grid):
        with pytest.raises(InputError, match=complaint):
            call(d, mu, alpha)


def test_counting_needs_no_numba() -> None:
    code = (
        "import sys; from palm_core.weights.grid import grid_size; "
        "assert grid_size(8, .05, .01) > 10**12; "
        "assert not {'numba', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
