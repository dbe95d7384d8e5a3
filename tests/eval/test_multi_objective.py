"""Expected utility, maximum utility loss and hypervolume: by hand, brute force, properties."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from palm_core import InputError, gaps, sample_weights
from palm_eval import expected_utility, hypervolume, maximum_utility_loss

values = st.integers(2, 4).flatmap(
    lambda d: arrays(
        np.float64,
        st.tuples(st.integers(1, 6), st.just(d)),
        elements=st.integers(0, 16).map(lambda i: i / 16),
    )
)


def test_expected_utility_by_hand():
    # E max(w, 1 − w) = ¾ on a segment.
    assert expected_utility(np.eye(2)).value == pytest.approx(0.75)
    # E max(w) for Dirichlet(1) in d objectives is H_d / d.
    assert expected_utility(np.eye(3)).value == pytest.approx(11 / 18)
    assert expected_utility(np.eye(4), method="exact").value == pytest.approx(25 / 48)
    # One policy: the mean of its rewards.
    assert expected_utility([[3.0, 1.0, -7.0]]).value == pytest.approx(-1.0)
    assert expected_utility([[2.0, 2.0], [2.0, 2.0]]).value == 2.0
    # max(w_1, ½) on a segment: ½·½ + ½·¾
    assert expected_utility([[1.0, 0.0], [0.5, 0.5]]).value == pytest.approx(0.625)


@settings(max_examples=30)
@given(values)
def test_exact_agrees_with_sampling(u):
    exact = expected_utility(u, method="exact")
    found = expected_utility(u, method="sampling", n_samples=4000)
    assert (exact.method, exact.standard_error) == ("exact", 0.0)
    assert found.method == "sampling"
    assert found.value == pytest.approx(exact.value, abs=5 * found.standard_error + 1e-9)


def test_the_standard_error_is_that_of_the_mean():
    found = expected_utility(np.eye(4), n_samples=1000, seed=5)
    utility = sample_weights(1000, 4, seed=5).max(axis=1)
    assert found.method == "sampling"
    assert found.value == pytest.approx(utility.mean())
    assert found.standard_error == pytest.approx(utility.std(ddof=1) / 1000**0.5)


@settings(max_examples=30)
@given(values)
def test_expected_utility_lies_between_the_ends_of_the_envelope(u):
    value = expected_utility(u, method="exact").value
    vertices = u.max(axis=0)
    # L is convex: below the mean of its vertex values, above its value at the centre.
    assert value <= vertices.mean() + 1e-9
    assert value >= u.mean(axis=1).max() - 1e-9
    assert value >= vertices.min() - 1e-9 or value >= u.mean(axis=1).max() - 1e-9


@settings(max_examples=30)
@given(values, st.sampled_from([1e-4, 7.0, 1e6]), st.integers(-3, 3))
def test_expected_utility_moves_with_units(u, factor, shift):
    one = expected_utility(u, method="exact").value
    other = expected_utility((u + shift) * factor, method="exact").value
    assert other == pytest.approx((one + shift) * factor, rel=1e-7, abs=1e-8 * factor)


@settings(max_examples=30)
@given(values)
def test_more_policies_serve_no_worse(u):
    assert (
        expected_utility(u, method="exact").value
        >= expected_utility(u[:-1] if len(u) > 1 else u, method="exact").value - 1e-9
    )
    assert hypervolume(u, np.zeros(u.shape[1])) >= hypervolume(u[:1], np.zeros(u.shape[1])) - 1e-12


def test_maximum_utility_loss_is_the_additive_gap():
    u = np.random.default_rng(0).random((9, 3))
    assert maximum_utility_loss(u[:2], u) == gaps(u[:2], u).delta > 0
    assert maximum_utility_loss(np.eye(2), [[0.8, 0.7]]) == pytest.approx(0.25)


def union_of_boxes(u: np.ndarray, low: np.ndarray) -> float:
    """Inclusion and exclusion, term by term."""
    boxes = [row for row in u if (row > low).all()]
    return sum(
        (-1) ** (size + 1) * float(np.prod(np.min(some, axis=0) - low))
        for size in range(1, len(boxes) + 1)
        for some in itertools.combinations(boxes, size)
    )


@settings(max_examples=30)
@given(values, st.sampled_from([-0.5, 0.0, 0.3]))
def test_hypervolume_by_inclusion_and_exclusion(u, low):
    reference = np.full(u.shape[1], low)
    assert hypervolume(u, reference) == pytest.approx(union_of_boxes(u, reference), abs=1e-12)


def test_hypervolume_by_hand():
    # Two boxes 2×1 and 1×2 that share 1×1.
    assert hypervolume([[2.0, 1.0], [1.0, 2.0]], [0.0, 0.0]) == 3.0
    assert hypervolume([[2.0, 1.0], [1.0, 2.0]], [1.0, 0.0]) == 1.0
    assert hypervolume([[2.0, -1.0]], [0.0, 0.0]) == 0.0


@settings(max_examples=30)
@given(values, st.randoms())
def test_hypervolume_grows_as_the_reference_falls_and_order_does_not_matter(u, random):
    d = u.shape[1]
    order = random.sample(range(len(u)), len(u))
    here = hypervolume(u, np.zeros(d))
    assert hypervolume(u[order], np.zeros(d)) == pytest.approx(here)
    assert hypervolume(u, np.full(d, -0.25)) >= here
    assert hypervolume(u * 2, np.zeros(d)) == pytest.approx(here * 2**d)


def test_refusals():
    with pytest.raises(InputError, match="method = 'exat': must be one of auto, exact, sampling"):
        expected_utility(np.eye(2), method="exat")
    with pytest.raises(InputError, match="n_samples = 1: must be at least 2"):
        expected_utility(np.eye(2), n_samples=1)
    for wrong in ([0.0], 0.0, [0.0, np.nan], ["a", "b"]):
        with pytest.raises(InputError, match="reference: must be 2"):
            hypervolume(np.eye(2), wrong)
