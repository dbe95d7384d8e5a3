"""Usage shares and perplexity: by hand, against each other, and their properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from palm_core import InputError, sample_weights
from palm_eval import exact_usage, expected_utility, perplexity
from palm_eval.metrics import usage, usage_at, usage_pairs

rewards = st.integers(2, 3).flatmap(
    lambda d: arrays(
        np.float64,
        st.tuples(st.integers(1, 6), st.just(d)),
        elements=st.integers(0, 16).map(lambda i: i / 16),
    )
)
shares = st.lists(st.integers(0, 20), min_size=1, max_size=8).filter(any)


def test_exact_shares_by_hand():
    # J_1 = w_1 against J_2 = ½ for all w: equal at w_1 = ½; (½, ½) is one of the sizes.
    assert exact_usage([[1.0, 0.0], [0.5, 0.5]]).tolist() == [0.5, 0.5]
    # w_1 against ¾·w_2: equal at w_1 = 3/7.
    assert exact_usage([[1.0, 0.0], [0.0, 0.75]]) == pytest.approx([4 / 7, 3 / 7])
    assert exact_usage(np.eye(3)) == pytest.approx([1 / 3] * 3)
    # w_1 ≥ ½ cuts a triangle of half the side off: a quarter of the area.
    assert exact_usage([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]) == pytest.approx([0.25, 0.75])


def test_sampled_is_the_paper_s_frequency():
    u = np.random.default_rng(0).random((5, 3))
    w = sample_weights(1000, 3, seed=7)
    counts = [0] * 5
    for row in w:
        counts[max(range(5), key=lambda j: float(row @ u[j]))] += 1
    assert usage(u, seed=7).tolist() == [count / 1000 for count in counts]


@given(rewards, st.integers(0, 5))
def test_sampled_and_exact_agree_within_sampling_error(u, seed):
    n = 4000
    exact, found = exact_usage(u), usage(u, n=n, seed=seed)
    assert found.sum() == pytest.approx(1)
    assert exact.sum() == pytest.approx(1)
    # five standard errors: 6e-7 a comparison
    assert (np.abs(found - exact) <= 5 * np.sqrt(exact * (1 - exact) / n) + 1e-9).all()


def test_of_equal_policies_the_first_serves():
    rng = np.random.default_rng(1)
    # 15 policies in 7 objectives: enough for products to be computed in blocks
    u = np.repeat(rng.random((3, 7)) / 3 + np.eye(3, 7), 5, axis=0)
    found = usage(u, n=500)
    assert (found > 0).nonzero()[0].tolist() == [0, 5, 10]
    assert exact_usage([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]).tolist() == [0.5, 0.5, 0.0]
    assert exact_usage([[0, 1, 0], [0, 1, 0]]).tolist() == [1.0, 0.0]


@given(rewards, st.sampled_from([0.25, 8.0]), st.randoms())
def test_units_and_order_do_not_matter(u, factor, random):
    u = np.unique(u, axis=0)
    order = random.sample(range(len(u)), len(u))
    assert exact_usage(u[order] * factor) == pytest.approx(exact_usage(u)[order], abs=1e-9)


def test_perplexity_by_hand():
    assert perplexity([0.25] * 4) == 4.0
    assert perplexity([1.0, 0.0]) == 1.0
    # H(½, ¼, ¼) = 1.5 bits
    assert perplexity([0.5, 0.25, 0.25]) == pytest.approx(2**1.5)


@given(shares, st.randoms())
def test_perplexity_is_between_one_and_the_policies_in_use(counts, random):
    s = np.array(counts) / sum(counts)
    value = perplexity(s)
    assert 1.0 <= value <= np.count_nonzero(s)
    assert value == pytest.approx(np.prod([x**-x for x in s if x]))
    assert perplexity(random.sample(s.tolist(), len(s))) == pytest.approx(value)
    assert perplexity([*s, 0.0]) == pytest.approx(value)


@given(rewards)
def test_merging_two_policies_use_never_raises_it(u):
    s = exact_usage(u)
    if len(s) > 1:
        assert perplexity([s[0] + s[1], *s[2:]]) <= perplexity(s) + 1e-12


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([0.5, 0.4], "must add to 1, add to 0.9"),
        ([1.5, -0.5], "must not be negative"),
        ([], "must have shape"),
        ([[1.0]], "must have shape"),
        ([np.nan, 1.0], "must not be negative"),
        (["a"], "must be numbers"),
    ],
)
def test_what_is_no_distribution(wrong, message):
    with pytest.raises(InputError, match=message):
        perplexity(wrong)


def test_refusals():
    with pytest.raises(InputError, match="4 objectives, volumes are exact for 2 and 3"):
        exact_usage(np.eye(4))
    with pytest.raises(InputError, match="n = 0: must be at least 1"):
        usage(np.eye(2), n=0)


class TestPairs:
    @given(
        u=arrays(np.float64, (4, 5, 3), elements=st.integers(-9, 9).map(lambda k: k / 8)),
        seed=st.integers(0, 99),
    )
    def test_as_one_set_at_a_time(self, u, seed):
        weights = sample_weights(40, 3, seed=seed)
        portfolio = [4, 0, 2]
        found = usage_pairs(u, portfolio, weights)
        assert found.shape == (4, 2)
        for values, (evenness, utility) in zip(u[:, portfolio], found, strict=True):
            assert utility == pytest.approx((weights @ values.T).max(axis=1).mean())
            if len(np.unique(values, axis=0)) == 3:  # equal ones may share the ties
                assert evenness == pytest.approx(perplexity(usage_at(values, weights)))

    def test_blocks_change_nothing(self, monkeypatch):
        u = np.random.default_rng(0).normal(size=(2, 7, 6, 2))
        weights = sample_weights(30, 2, seed=1)
        whole = usage_pairs(u, [1, 3], weights)
        monkeypatch.setattr("palm_eval.metrics._USAGE_BLOCK", 130)
        assert np.array_equal(usage_pairs(u, [1, 3], weights), whole)
        assert whole.shape == (2, 7, 2)

    def test_utility_tends_to_the_expected_one(self):
        u = np.random.default_rng(2).normal(size=(6, 3))
        weights = sample_weights(40_000, 3, seed=3)
        expected = expected_utility(u).value
        assert usage_pairs(u, range(6), weights)[1] == pytest.approx(expected, abs=0.01)
