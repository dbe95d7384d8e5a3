from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palm_core import InputError, check_weights, sample_weights, uniform_lattice
from palm_core.plugin import check_count, check_number


@given(st.integers(2, 6), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_samples_are_weight_vectors_and_repeat(d: int, k: int, seed: int) -> None:
    weights = sample_weights(k, d, seed=seed)
    assert weights.shape == (k, d)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(weights, sample_weights(k, d, seed=seed))


@given(st.integers(2, 5), st.integers(1, 8))
def test_lattice_has_each_multiple_once(d: int, m: int) -> None:
    weights = uniform_lattice(d, m)
    assert len(weights) == math.comb(m + d - 1, d - 1)
    parts = np.rint(weights * m).astype(int)
    np.testing.assert_allclose(parts / m, weights, atol=1e-15)
    assert len({tuple(row) for row in parts.tolist()}) == len(parts)
    assert (parts.sum(axis=1) == m).all()


def test_rows_that_add_to_one_are_not_touched() -> None:
    weights = [[0.25, 0.75], [1.0, 0.0]]
    np.testing.assert_array_equal(check_weights(weights), weights)


def test_rounding_in_the_sum_is_mended_and_the_input_left_alone() -> None:
    given_row = np.array([0.3333333, 0.3333333, 0.3333333])
    kept = given_row.copy()
    assert abs(check_weights(given_row).sum() - 1.0) <= 2e-16
    np.testing.assert_array_equal(given_row, kept)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([0.5, 0.6], r"0\.5, 0\.6 add to 1\.1, must add to 1"),
        ([[0.5, 0.5], [0.2, 0.2]], r"weights row 1: 0\.2, 0\.2 add to 0\.4"),
        ([-0.5, 1.5], "must not be negative"),
        ([math.nan, 1.0], "must be finite"),
        ([math.inf, 0.0], "must be finite"),
        ([1.0], "at least 2 objectives"),
        ([[[1.0]]], r"must have shape \(d,\) or \(k, d\)"),
        (["a", "b"], "must be numbers"),
        ([[0.5, 0.5], [1.0]], "must be numbers"),
    ],
)
def test_refusals_name_the_row_and_the_sum(weights: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_weights(weights)


def test_the_number_of_objectives_is_checked() -> None:
    with pytest.raises(InputError, match="weights: 2 values"):
        check_weights([0.5, 0.5], 3)


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "1", None, True])
def test_numbers_outside_an_interval_are_refused_by_name(value: object) -> None:
    with pytest.raises(InputError, match=r"^mu = .*must be in \(0, 1\]; half$"):
        check_number(value, name="mu", above=0.0, most=1.0, hint="half")


@pytest.mark.parametrize("value", [1.0, 0, True, "3", None])
def test_counts_are_whole_and_large_enough(value: object) -> None:
    with pytest.raises(InputError, match="n = "):
        check_count(value, name="n", least=1)
    assert check_count(np.int64(3), name="n", least=1) == 3
