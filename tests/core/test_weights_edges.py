"""Weight vectors, sets of policies and normalisation: layout, names and limits to the letter."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palm_core import (
    InputError,
    Normalization,
    Policy,
    PolicySet,
    check_weights,
    construct_grid,
    grid_size,
    sample_weights,
    uniform_lattice,
)
from palm_core.plugin import check_count, check_number
from palm_core.weights.grid import spaced


def refusal(call, *arguments, **options) -> str:
    with pytest.raises(InputError) as caught:
        call(*arguments, **options)
    return str(caught.value)


# --- weights


@given(st.integers(2, 5), st.integers(1, 6))
def test_the_lattice_is_in_lexicographic_order(d, m):
    every = [row for row in itertools.product(range(m + 1), repeat=d) if sum(row) == m]
    np.testing.assert_allclose(uniform_lattice(d, m), np.array(every) / m, atol=1e-15)


def test_weights_are_c_contiguous_whatever_they_were():
    turned = np.asfortranarray(sample_weights(5, 3))
    assert check_weights(turned).flags.c_contiguous
    assert check_weights(turned).dtype == np.float64


def test_the_row_that_is_wrong_is_named_and_no_other():
    assert refusal(check_weights, [[0.5, 0.5], [-0.5, 1.5]]) == (
        "weights row 1: -0.5, 1.5 must not be negative"
    )
    assert refusal(check_weights, [[0.5, 0.5], [0.0, 0.5]], name="asked") == (
        "asked row 1: 0, 0.5 add to 0.5, must add to 1"
    )
    assert refusal(check_weights, [0.0, 0.5]) == "weights: 0, 0.5 add to 0.5, must add to 1"


def test_no_more_than_eight_weights_are_shown():
    eight = ", ".join(["0.25"] * 8)
    assert refusal(check_weights, [0.25] * 8) == f"weights: {eight} add to 2, must add to 1"
    assert refusal(check_weights, [0.25] * 9) == f"weights: {eight}, … add to 2.25, must add to 1"
    assert refusal(check_weights, [0.25] * 10) == f"weights: {eight}, … add to 2.5, must add to 1"


def test_samples_are_seeded_by_zero_and_drawn_by_numpy():
    drawn = np.random.default_rng(0).dirichlet(np.ones(3), size=4)
    np.testing.assert_allclose(sample_weights(4, 3), drawn, atol=1e-15)
    generator = np.random.default_rng(7)
    first, second = (sample_weights(2, 3, seed=generator) for _ in range(2))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("call", [uniform_lattice, sample_weights])
def test_counts_are_refused_by_name(call):
    first = {"n_objectives": 1} if call is uniform_lattice else {"n_weights": 3, "n_objectives": 1}
    other = {"resolution": 2} if call is uniform_lattice else {}
    assert refusal(call, **first, **other) == "n_objectives = 1: must be at least 2"
    if call is uniform_lattice:
        assert refusal(call, 2, 0) == "resolution = 0: must be at least 1"
        assert len(call(2, 1)) == 2
    else:
        assert refusal(call, 0, 2) == "n_weights = 0: must be at least 1"
        assert len(call(1, 2)) == 1


@pytest.mark.parametrize(
    ("limits", "accepted", "inside", "outside"),
    [
        ({}, "must be a finite number", [-3.0, 0.0, 1e300], [math.inf, math.nan]),
        ({"above": 0.0}, "must be a finite number above 0", [1e-300, 9.0], [0.0, math.inf]),
        ({"least": 1.0}, "must be a finite number of at least 1", [1.0, 9.0], [0.5, math.inf]),
        ({"above": 0.0, "most": 2.0}, "must be in (0, 2]", [1e-300, 2.0], [0.0, 2.5]),
        ({"least": 0.0, "most": 2.0}, "must be in [0, 2]", [0.0, 2.0], [-0.5, 2.5, math.nan]),
    ],
)
def test_what_would_be_accepted_is_said(limits, accepted, inside, outside):
    for value in inside:
        found = check_number(value, name="x", **limits)
        assert found == value
        assert isinstance(found, float)
    for value in [*outside, None, "x"]:
        assert refusal(check_number, value, name="x", **limits) == f"x = {value!r}: {accepted}"
    assert refusal(check_number, None, name="x", hint="so", **limits).endswith(f"{accepted}; so")


@pytest.mark.parametrize("value", [True, np.True_, 2.0, "2", None])
def test_what_is_no_whole_number_is_said(value):
    assert refusal(check_count, value, name="n", least=2) == (
        f"n = {value!r}: must be a whole number of at least 2"
    )


def test_whole_numbers_of_numpy_count():
    assert refusal(check_count, np.int64(1), name="n", least=2) == "n = 1: must be at least 2"
    assert type(check_count(np.int32(2), name="n", least=2)) is int


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0"),
        (2_176_782_336, "2 176 782 336"),
        (10**18 - 1, "999 999 999 999 999 999"),
        (10**18, "about 10^18"),
        (4 * 10**18, "about 10^18"),
        (10**60, "about 10^60"),
    ],
)
def test_counts_are_spaced_or_about(count, shown):
    assert spaced(count) == shown


# --- sets of policies


def test_objectives_are_counted_from_one_and_policies_from_zero():
    policies = PolicySet([[1, 2, 3], [3, 2, 1]])
    assert policies.objectives == ("objective 1", "objective 2", "objective 3")
    assert policies.names == ("0", "1")


def test_all_arrays_of_a_set_are_read_only_and_contiguous():
    policies = PolicySet(np.asfortranarray(np.ones((3, 2))), [0.0, 1.0, 2.0])
    for array in (policies.rewards, policies.regularizer, policies.vertex_values):
        assert not array.flags.writeable
        assert array.flags.c_contiguous


def test_objectives_are_kept_from_policies():
    one = Policy(id="x", weights=np.array([1.0, 0.0]), rewards=np.array([1.0, 0.0]))
    assert PolicySet.from_policies([one], ["a", "b"]).objectives == ("a", "b")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": ["a", "b"]}, "names: 2 given, must be 3, as many as policies"),
        (
            {"names": ["a", "b", "b"]},
            "names: duplicate name 'b', every name must be unique",
        ),
        ({"objectives": ["a"]}, "objectives: 1 given, must be 2, as many as columns of rewards"),
        ({"objectives": ["a", "a"]}, "objectives: duplicate name 'a', every name must be unique"),
        ({"regularizer": [0.5, 0.0, -1.0]}, "regularizer[2] = -1: must be at least 0"),
        (
            {"regularizer": [0.0, math.nan, 0.0]},
            "regularizer[1] = nan: must be a finite number below 1e300",
        ),
    ],
)
def test_the_one_that_is_wrong_is_named(arguments, message):
    assert refusal(PolicySet, [[1, 2], [2, 1], [0, 0]], **arguments) == message


def test_weights_for_another_number_of_objectives_are_refused_by_count():
    policies = PolicySet([[1, 2], [2, 1]])
    assert refusal(policies.objective, [0.5, 0.25, 0.25]) == (
        "weights: 3 values per row, must be 2, one per objective"
    )


def test_the_empty_subset_is_refused():
    assert refusal(PolicySet([[1, 2]]).subset, []).startswith("rewards: ")


def test_the_largest_reward_is_allowed():
    assert PolicySet([[1e300, -1e300]]).rewards[0, 0] == 1e300


# --- normalisation


def test_none_is_zero_to_one():
    found = Normalization.none(3)
    assert (found.method, found.lower, found.upper) == ("none", (0.0,) * 3, (1.0,) * 3)
    np.testing.assert_array_equal(found.spread, [1.0, 1.0, 1.0])


def test_limits_names_and_words_are_kept():
    policies = PolicySet([[3.0, 1.0], [1.0, 9.0]], [0.5, 0.0], names="pq", objectives="xy")
    found = Normalization.fit(policies, "minmax", over="two")
    assert (found.method, found.over) == ("minmax", "two")
    assert (found.lower, found.upper) == ((1.0, 0.5), (2.5, 9.0))
    applied = found.apply(policies)
    assert (applied.names, applied.objectives) == (("p", "q"), ("x", "y"))
    np.testing.assert_array_equal(applied.rewards, [[1.0, 0.0], [0.0, 1.0]])


def test_raw_weights_of_another_number_of_objectives_are_refused_by_count():
    found = Normalization.fit(PolicySet([[3.0, 1.0], [1.0, 9.0]]), "minmax", over="two")
    assert refusal(found.raw_weights, [0.5, 0.25, 0.25]) == (
        "weights: 3 values per row, must be 2, one per objective"
    )
    np.testing.assert_allclose(found.raw_weights([0.5, 0.5]), [[0.8, 0.2]])


def test_a_spread_of_a_few_last_places_is_none_whatever_the_size():
    for size in (1e-9, 1.0, 1e9):
        flat = [[size, 1.0], [size * (1 + 6 * 2.0**-52), 2.0]]
        with pytest.raises(InputError, match="objective 'objective 1': all values are"):
            Normalization.fit(PolicySet(flat), "minmax", over="test")
        told_apart = [[size, 1.0], [size * (1 + 20 * 2.0**-52), 2.0]]
        assert Normalization.fit(PolicySet(told_apart), "minmax", over="test").lower[0] == size
    # the larger end decides, on whichever side of zero it lies
    below = [[-1.0, 1.0], [-1.0 + 2.0**-51, 2.0]]
    with pytest.raises(InputError, match="objective 'objective 1'"):
        Normalization.fit(PolicySet(below), "minmax", over="test")


# --- the grid


@pytest.mark.parametrize(("beyond", "steps"), [(0.4, 0), (0.75, 1)])
def test_rounding_forgives_no_more_than_half_a_step(beyond, steps):
    # so small a μ that a power of 1 + μ is known to two steps only
    mu, k = 1e-9, 10**6
    alpha = math.exp(-(k + beyond) * math.log1p(mu))
    assert (grid_size(2, mu, alpha) + 1) // 2 - 2 == k + steps


def test_the_smallest_alpha_that_floats_resolve_is_allowed():
    smallest = float(np.finfo(np.float64).tiny)
    assert grid_size(2, 1.0, smallest) == 2 * (1022 + 2) - 1
    assert refusal(grid_size, 2, 1.0, smallest / 2).startswith("alpha = ")


def test_the_limit_is_a_count():
    assert refusal(construct_grid, 2, 1.0, 1.0, limit=0) == "limit = 0: must be at least 1"
    assert refusal(construct_grid, 2, 1.0, 1.0, limit=1).startswith("the grid has 3 weights")
