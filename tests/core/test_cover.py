from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from palm_core import (
    Best,
    CoverMatrix,
    InputError,
    PolicySet,
    best_policies,
    check_weights,
    cover_weights,
    greedy,
    prune,
    sample_weights,
    uniform_lattice,
)
from palm_core.geometry import kernels as _kernels
from palm_core.model import policy as policy_module

EPS = np.finfo(float).eps


@pytest.fixture(autouse=True)
def _kernels_and_threads_for_few_pairs_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_module, "_FEW_PAIRS", 0)
    monkeypatch.setattr(policy_module, "_WORTH_A_THREAD", 1)


def made(kind: str, m: int, d: int, seed: int) -> PolicySet:
    rng = np.random.default_rng(seed)
    if kind == "ties":
        return PolicySet(rng.integers(0, 3, (m, d)) / 10.0)
    if kind == "signed":
        return PolicySet(rng.normal(size=(m, d)), rng.uniform(0, 1, m))
    if kind == "front":
        return PolicySet(np.sqrt(sample_weights(m, d, seed=seed)))
    return PolicySet(rng.uniform(0, 1, (m, d)))


@st.composite
def instances(draw: st.DrawFn) -> tuple[PolicySet, np.ndarray, float, float]:
    """Policies, weights, μ', α': all shapes, among them k not a multiple of 64."""
    d = draw(st.integers(2, 8))
    m = draw(st.sampled_from([1, 2, 3, 31, 32, 33, 70, 130]))
    k = draw(st.sampled_from([1, 5, 63, 64, 65, 128, 200]))
    seed = draw(st.integers(0, 2**16))
    policies = made(draw(st.sampled_from(["ties", "signed", "front", "plain"])), m, d, seed)
    weights = sample_weights(k, d, seed=seed)
    if draw(st.booleans()):
        # Vertices and centres, where ties are exact.
        weights = np.concatenate([uniform_lattice(d, 2), weights])[:k]
    mu = draw(st.sampled_from([0.0, 0.001, 0.05, 0.3, 1.0]))
    alpha = draw(st.sampled_from([0.0, 0.0, 0.02, 0.5]))
    return policies, weights, mu, alpha


def dot(weights: np.ndarray, u: np.ndarray) -> np.ndarray:
    """J (k, m), added from the first objective to the last."""
    weights = check_weights(weights)  # may change the last bit of a row
    total = np.multiply.outer(weights[:, 0], u[:, 0])
    for i in range(1, u.shape[1]):
        total = total + np.multiply.outer(weights[:, i], u[:, i])
    return total


def plain_cover(policies: PolicySet, weights: np.ndarray, mu: float, alpha: float) -> np.ndarray:
    u = policies.vertex_values
    values = dot(weights, u)
    tol = 2 * (u.shape[1] + 1) * EPS * np.abs(u).max(axis=1)
    best = values.argmax(axis=1)
    opt = values[np.arange(len(weights)), best]
    least = opt - mu * np.maximum(opt, 0) - alpha - tol[best]
    return (dot(weights, u + tol[:, None]) >= least[:, None]).T


def plain_greedy(matrix: np.ndarray) -> list[int]:
    left = set(range(matrix.shape[1]))
    rows = [set(np.flatnonzero(row)) for row in matrix]
    chosen = []
    while left:
        gains = [len(row & left) for row in rows]
        chosen.append(gains.index(max(gains)))
        left -= rows[chosen[-1]]
    return chosen


@given(instances())
def test_best_is_the_maximum_and_its_lowest_index_bit_for_bit(instance: Any) -> None:
    policies, weights, _, _ = instance
    values = dot(weights, policies.vertex_values)
    best = best_policies(policies, weights)
    np.testing.assert_array_equal(best.values, values.max(axis=1))
    np.testing.assert_array_equal(best.indices, values.argmax(axis=1))


@given(instances())
def test_bits_are_what_numpy_computes(instance: Any) -> None:
    policies, weights, mu, alpha = instance
    k = len(weights)
    made = cover_weights(policies, weights, mu=mu, alpha=alpha)
    expected = plain_cover(policies, weights, mu, alpha)
    np.testing.assert_array_equal(made.matrix(), expected)
    np.testing.assert_array_equal(made.counts(), expected.sum(axis=1))
    np.testing.assert_array_equal(made.best.values, best_policies(policies, weights).values)
    last = len(policies) - 1
    np.testing.assert_array_equal(made.row(last), expected[last])
    assert made.bits.shape == (len(policies), -(-k // 64))
    assert made.bits.dtype == np.uint64
    assert made.bits.flags.c_contiguous
    padded = np.unpackbits(made.bits.view(np.uint8), axis=1, bitorder="little")
    assert not padded[:, k:].any()


@given(instances())
def test_the_best_policy_covers_its_weight(instance: Any) -> None:
    policies, weights, mu, alpha = instance
    made = cover_weights(policies, weights, mu=mu, alpha=alpha)
    assert made.matrix()[made.best.indices, np.arange(len(weights))].all()
    # Also where nothing is forgiven at all: the same arithmetic on both sides.
    strict = Best(
        values=made.best.values, indices=made.best.indices, rounding=np.zeros(len(weights))
    )
    bare = cover_weights(policies, weights, mu=0.0, best=strict).matrix()
    assert bare[made.best.indices, np.arange(len(weights))].all()


@given(instances())
def test_exact_arithmetic_agrees_but_for_rounding(instance: Any) -> None:
    policies, weights, mu, alpha = instance
    u = policies.vertex_values[:40]
    weights = weights[:20]
    got = cover_weights(PolicySet(u), weights, mu=mu, alpha=alpha).matrix()
    scale = np.abs(u).max()
    for j, weight in enumerate(weights):
        exact = [
            sum(Fraction(w) * Fraction(x) for w, x in zip(weight, row, strict=True)) for row in u
        ]
        opt = max(exact)
        least = opt - Fraction(mu) * max(opt, Fraction(0)) - Fraction(alpha)
        for p, value in enumerate(exact):
            if value >= least:
                assert got[p, j]
            # 4(d+1)·eps·scale, and as much again.
            elif value < least - Fraction(8 * (u.shape[1] + 1) * EPS * scale):
                assert not got[p, j]


@given(instances())
def test_greedy_covers_and_equals_plain_greedy(instance: Any) -> None:
    policies, weights, mu, alpha = instance
    made = cover_weights(policies, weights, mu=mu, alpha=alpha)
    chosen = greedy(made)
    assert made.matrix()[chosen].any(axis=0).all()
    assert chosen.tolist() == plain_greedy(made.matrix())


@given(instances(), st.sampled_from([1e-6, 1e6, 2.0**-300, 2.0**300]))
def test_rescaling_all_rewards_changes_nothing(instance: Any, scale: float) -> None:
    policies, weights, mu, alpha = instance
    before = cover_weights(policies, weights, mu=mu, alpha=alpha)
    scaled = PolicySet(policies.vertex_values * scale)
    after = cover_weights(scaled, weights, mu=mu, alpha=alpha * scale)
    np.testing.assert_array_equal(after.bits, before.bits)


@given(instances(), st.integers(0, 100))
def test_order_of_policies_and_weights_does_not_matter(instance: Any, seed: int) -> None:
    policies, weights, mu, alpha = instance
    rng = np.random.default_rng(seed)
    p, k = rng.permutation(len(policies)), rng.permutation(len(weights))
    before = cover_weights(policies, weights, mu=mu, alpha=alpha)
    after = cover_weights(PolicySet(policies.vertex_values[p]), weights[k], mu=mu, alpha=alpha)
    np.testing.assert_array_equal(after.best.values, before.best.values[k])
    if mu or alpha:
        return  # at a margin, which of two equal policies is best decides the last bit
    np.testing.assert_array_equal(after.matrix(), before.matrix()[p][:, k])


@given(instances())
def test_few_pairs_in_numpy_and_many_in_the_kernel_agree(instance: Any) -> None:
    policies, weights, _, _ = instance
    many = best_policies(policies, weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy_module, "_FEW_PAIRS", 1 << 40)
        few = best_policies(policies, weights)
    np.testing.assert_array_equal(few.values, many.values)
    np.testing.assert_array_equal(few.indices, many.indices)
    np.testing.assert_array_equal(few.rounding, many.rounding)


@pytest.mark.parametrize("kind", ["plain", "front", "ties", "signed"])
@pytest.mark.parametrize("d", [2, 3, 6])
def test_threads_do_not_change_the_result(
    kind: str, d: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Above the size from which weights are sorted too.
    policies = made(kind, 1500, d, seed=d)
    weights = sample_weights(3001, d, seed=1)
    results = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(_kernels, "n_threads", lambda n=threads: n)
        one = cover_weights(policies, weights, mu=0.01)
        results.append((one.bits, one.best.values, one.best.indices, one.counts(), greedy(one)))
    for other in results[1:]:
        for first, second in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(
        np.unpackbits(results[0][0].view(np.uint8), axis=1, count=3001, bitorder="little"),
        plain_cover(policies, weights, 0.01, 0.0),
    )


@given(st.lists(st.floats(0.01, 1), min_size=3, max_size=4, unique=True))
@example([0.1, 0.2, 0.7])
def test_mathematical_ties_are_not_split_by_rounding(values: list[float]) -> None:
    """At the centre every permutation of a reward vector is worth the same."""
    policies = PolicySet(list(itertools.permutations(values)))
    centre = np.full(len(values), 1 / len(values))
    assert cover_weights(policies, centre, mu=0.0).matrix().all()
    # … and what is truly worse is not forgiven.
    worse = PolicySet([*itertools.permutations(values), [x * (1 - 1e-13) for x in values]])
    assert not cover_weights(worse, centre, mu=0.0).row(len(worse) - 1).any()


@given(st.integers(-64, 64), st.integers(1, 2**20), st.integers(0, 2**16))
def test_a_steep_policy_that_ties_with_a_flat_one_covers_too(
    level: int, slope: int, seed: int
) -> None:
    """Its value is rounded more coarsely than the best one's; the tie is exact."""
    p = np.random.default_rng(seed).multinomial(2**30, np.full(4, 0.25))
    weight = p / 2**30
    # Orthogonal to the weights, in whole numbers; their products are not.
    slopes = slope * np.array([p[1], -p[0], p[3], -p[2]])
    assert (p * slopes).sum() == 0
    policies = PolicySet([np.full(4, float(level)), (level + slopes).astype(float)])
    assert cover_weights(policies, weight, mu=0.0).matrix().all()


def test_a_giant_policy_does_not_blur_the_others() -> None:
    policies = PolicySet([[1.0, 0.0], [0.0, 1.0], [0.999, 0.0], [-1e9, -1e9]])
    got = cover_weights(policies, [[1.0, 0.0], [0.0, 1.0]], mu=0.0).matrix()
    np.testing.assert_array_equal(got, [[1, 0], [0, 1], [0, 0], [0, 0]])


def test_negative_optimum_takes_no_multiplicative_tolerance() -> None:
    policies = PolicySet([[-1.0, 1.0], [-1.1, 2.0], [-3.0, 1.9]])
    weights = [[1.0, 0.0], [0.0, 1.0], [0.6, 0.4]]
    made = cover_weights(policies, weights, mu=0.5)
    np.testing.assert_array_equal(made.matrix(), [[1, 1, 0], [0, 1, 1], [0, 1, 0]])
    assert made.n_negative == 1
    looser = cover_weights(policies, weights, mu=0.0, alpha=0.15)
    np.testing.assert_array_equal(looser.matrix(), [[1, 0, 0], [1, 1, 1], [0, 1, 0]])


def test_extreme_values_neither_overflow_nor_warn() -> None:
    policies = PolicySet([[1e300, -1e300], [-1e300, 1e300], [0.0, 0.0]])
    weights = [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    got = cover_weights(policies, weights, mu=0.0).matrix()
    np.testing.assert_array_equal(got, [[1, 1, 0], [0, 1, 1], [0, 1, 0]])
    largest = float(np.finfo(np.float64).max)
    worst = PolicySet([[-1e300, -1e300], [-1e300, -9e299]])
    assert cover_weights(worst, weights, mu=0.0, alpha=largest).matrix().all()
    tiny = PolicySet([[5e-324, 0.0], [0.0, 5e-324]])
    # Products are rounded to multiples of that: both may cover, and neither is enough.
    made = cover_weights(tiny, np.eye(2), mu=0.0)
    assert made.matrix().diagonal().all()
    for method in ("greedy", "exact"):
        assert sorted(prune(tiny, np.eye(2), mu=0.0, method=method)) == [0, 1]


def test_identical_policies_name_the_lowest_and_all_cover() -> None:
    policies = PolicySet(np.full((500, 3), 0.7))
    made = cover_weights(policies, sample_weights(100, 3), mu=0.0)
    assert (made.best.indices == 0).all()
    assert made.matrix().all()
    assert greedy(made).tolist() == [0]


def test_best_of_a_larger_set_measures_a_smaller_one() -> None:
    everyone = PolicySet([[1.0, 0.0], [0.0, 1.0], [0.8, 0.8]])
    weights = [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    best = best_policies(everyone, weights)
    part = cover_weights(everyone.subset([0, 1]), weights, mu=0.2, best=best)
    np.testing.assert_array_equal(part.matrix(), [[1, 0, 0], [0, 0, 1]])
    with pytest.raises(InputError, match="cover: no policy covers weight vector 1"):
        greedy(part)
    with pytest.raises(InputError, match="best: holds 3 weights, must hold 1"):
        cover_weights(everyone, [0.5, 0.5], mu=0.1, best=best)


def test_a_million_weights_are_routed_without_a_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    policies = made("front", 7, 4, seed=3)
    weights = sample_weights(1_000_000, 4, seed=5)
    best = best_policies(policies, weights)
    some = slice(None, None, 997)
    np.testing.assert_array_equal(
        best.indices[some], dot(weights[some], policies.vertex_values).argmax(axis=1)
    )


def test_one_weight_and_the_result_types() -> None:
    made = cover_weights(PolicySet([[1.0, 0.0], [0.0, 1.0]]), [0.3, 0.7], mu=0.1)
    assert isinstance(made, CoverMatrix)
    assert (made.n_weights, made.n_policies, made.mu, made.alpha) == (1, 2, 0.1, 0.0)
    assert made.best.indices.tolist() == [1]
    assert made.counts().dtype == np.int64
    assert greedy(made).tolist() == [1]


@pytest.mark.parametrize(
    ("weights", "options", "complaint"),
    [
        ([0.5, 0.5], {"mu": -0.1}, r"mu = -0.1: must be in \[0, 1\]"),
        ([0.5, 0.5], {"mu": 1.1}, r"mu = 1.1: must be in \[0, 1\]"),
        ([0.5, 0.5], {"mu": 0.1, "alpha": -1}, "alpha = -1: must be a finite number of at least 0"),
        ([0.5, 0.5], {"mu": 0.1, "alpha": float("inf")}, "alpha = inf"),
        ([0.5, 0.6], {"mu": 0.1}, "add to 1.1, must add to 1"),
        ([0.2, 0.3, 0.5], {"mu": 0.1}, "3 values per row, must be 2"),
    ],
)
def test_bad_arguments_are_named(weights: Any, options: Any, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        cover_weights(PolicySet([[1.0, 0.0], [0.0, 1.0]]), weights, **options)
