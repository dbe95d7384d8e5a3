"""PRUNE: the policies kept cover all weights, and how few can do is told truly."""

from __future__ import annotations

import itertools
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palm_core import (
    InputError,
    PolicySet,
    WorkError,
    prune,
    prune_curve,
    sample_weights,
    uniform_lattice,
)
from palm_core.cover import cover
from palm_core.cover.minimal import fewest_intervals

HAS_HIGHS = find_spec("highspy") is not None
SOLVERS = [
    "cbc",
    pytest.param("highs", marks=pytest.mark.skipif(not HAS_HIGHS, reason="an optional extra")),
]


@st.composite
def problems(draw, policies=(1, 9), objectives=(2, 5), weights=(1, 90), signed=None):
    """Policies with and without regulariser, of either sign, and weights with vertices."""
    m, d = draw(st.integers(*policies)), draw(st.integers(*objectives))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rewards = random.random((m, d)) ** random.choice([0.3, 1.0, 3.0])
    if draw(st.booleans()) if signed is None else signed:
        rewards -= random.random()
    # Coarse rewards make ties and equal policies.
    rewards = np.round(rewards, draw(st.sampled_from([1, 12])))
    regularizer = random.random(m) * draw(st.sampled_from([0.0, 0.2]))
    k = draw(st.integers(*weights))
    rows = np.vstack([np.eye(d), random.dirichlet(np.full(d, 0.7), size=k)])
    return PolicySet(rewards, regularizer), random.permutation(rows)


MUS = st.sampled_from([0.0, 0.01, 0.05, 0.2, 0.6, 1.0])
ALPHAS = st.sampled_from([0.0, 0.02, 0.3])


def covered(policies, weights, mu, alpha, slack=1e-12):
    """(k, m) the definition, in plain NumPy; ``slack`` forgives rounding."""
    values = policies.objective(weights)
    best = values.max(axis=1, keepdims=True)
    return values >= best - mu * np.maximum(best, 0) - alpha - slack


def smallest(table):
    """The size of a minimum cover of the columns (m, k), by trying all sets of rows."""
    for size in range(1, len(table) + 1):
        for rows in itertools.combinations(table, size):
            if np.any(rows, axis=0).all():
                return size
    raise AssertionError("no cover at all")


@given(problems(policies=(1, 40)), MUS, ALPHAS)
def test_what_greedy_keeps_covers_all_weights(problem, mu, alpha):
    policies, weights = problem
    found = prune(policies, weights, mu=mu, alpha=alpha)
    table = covered(policies, weights, mu, alpha)
    assert table[:, found.indices].any(axis=1).all()
    assert len(np.unique(found.indices)) == len(found.indices)
    np.testing.assert_array_equal(found.indices, prune(policies, weights, mu=mu, alpha=alpha))
    assert (found.method, found.solver) == ("greedy", "greedy")
    # Each choice covers most of what was left, and something.
    left = np.ones(len(weights), dtype=bool)
    strict = covered(policies, weights, mu, alpha, slack=0)
    for index in found.indices:
        gain = table[left, index].sum()
        assert gain > 0
        assert gain >= strict[left].sum(axis=0).max()
        left &= ~table[:, index]


@given(problems(), MUS, ALPHAS)
def test_exact_is_the_minimum_and_never_above_greedy(problem, mu, alpha):
    policies, weights = problem
    found = prune(policies, weights, mu=mu, alpha=alpha, method="exact")
    best = smallest(cover.cover_weights(policies, weights, mu=mu, alpha=alpha).matrix())
    assert found.status == "optimal"
    assert found.lower_bound == found.upper_bound == len(found.indices) == best
    assert covered(policies, weights, mu, alpha)[:, found.indices].any(axis=1).all()
    assert (np.diff(found.indices) > 0).all()
    greedy = prune(policies, weights, mu=mu, alpha=alpha)
    assert greedy.lower_bound <= best <= greedy.upper_bound
    assert (greedy.status == "optimal") == (greedy.lower_bound == greedy.upper_bound)


@given(problems(policies=(1, 60), objectives=(2, 2), signed=False), MUS, ALPHAS)
def test_intervals_and_the_integer_program_agree(problem, mu, alpha):
    policies, weights = problem
    # Without regulariser and with rewards ≥ 0, opt ≥ 0: covered weights are intervals.
    policies = PolicySet(policies.rewards)
    found = prune(policies, weights, mu=mu, alpha=alpha, method="exact")
    assert found.solver == "intervals"
    other = prune(policies, weights, mu=mu, alpha=alpha, method="exact", solver="cbc")
    assert other.solver in {"cbc", "reduction"}
    assert other.status == found.status == "optimal"
    assert other.upper_bound == found.upper_bound


@pytest.mark.parametrize("solver", SOLVERS)
def test_named_solvers_agree(solver):
    random = np.random.default_rng(3)
    points = random.normal(size=(150, 3))
    points = 1 + points / np.linalg.norm(points, axis=1, keepdims=True)
    policies, weights = PolicySet(points), sample_weights(300, 3, seed=4)
    found = prune(policies, weights, mu=0.01, method="exact", solver=solver)
    assert found.status == "optimal"
    assert found.upper_bound == prune(policies, weights, mu=0.01, method="exact").upper_bound
    assert covered(policies, weights, 0.01, 0.0)[:, found.indices].any(axis=1).all()


def test_a_covered_set_with_a_hole_goes_to_the_integer_program():
    """Where opt < 0 a share of it forgives nothing, so the threshold is not convex.

    Policy 0 has J = 2t − 1, policy 1 has J = 2.4t − 1.05 at w = (t, 1 − t): policy 0
    is best up to t = 1/8, covers nothing while opt < 0, and covers again, to μ' = 1/2,
    where 2t − 1 ≥ (2.4t − 1.05)/2.
    """
    policies = PolicySet([[1.0, -1.0], [1.35, -1.05]])
    weights = uniform_lattice(2, 40)
    found = prune(policies, weights, mu=0.5, method="exact")
    row = cover.cover_weights(policies, weights, mu=0.5).row(0)
    assert np.abs(np.diff(row.astype(int))).sum() == 2
    assert found.solver == "reduction"
    np.testing.assert_array_equal(found.indices, [0, 1])
    assert found.status == "optimal"
    assert 0 < found.n_negative < found.n_weights


@given(st.integers(1, 12), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_the_fewest_intervals_are_found(m, k, seed):
    random = np.random.default_rng(seed)
    first = random.integers(0, k, size=m)
    last = np.minimum(first + random.integers(-1, k // 2 + 2, size=m), k - 1)
    first[0], last[0] = 0, max(k // 3, last[0])
    first[-1], last[-1] = min(first[-1], last[0] + 1), k - 1
    first[:1] = 0
    runs = np.column_stack([first, last + 1])
    table = (first[:, None] <= np.arange(k)) & (np.arange(k) <= last[:, None])
    if not table.any(axis=0).all():
        with pytest.raises(WorkError, match="none covers what is just above"):
            fewest_intervals(runs, k)
        return
    chosen = fewest_intervals(runs, k)
    assert table[chosen].any(axis=0).all()
    assert len(chosen) == smallest(table)


def test_of_intervals_that_reach_equally_far_the_lowest_index_is_taken():
    runs = np.array([[0, 3], [0, 6], [1, 10], [0, 6]])
    np.testing.assert_array_equal(fewest_intervals(runs, 10), [1, 2])


def test_intervals_are_read_in_blocks(monkeypatch):
    policies = PolicySet(np.random.default_rng(5).random((50, 2)))
    weights = sample_weights(100, 2, seed=6)
    whole = prune(policies, weights, mu=0.02, method="exact")
    monkeypatch.setattr(import_module("palm_core.cover.prune"), "_BLOCK", 1)
    parts = prune(policies, weights, mu=0.02, method="exact")
    assert whole.solver == parts.solver == "intervals"
    np.testing.assert_array_equal(whole.indices, parts.indices)


@settings(max_examples=50)
@given(problems(policies=(1, 30)), MUS, st.integers(0, 2**32 - 1))
def test_the_order_of_the_input_does_not_change_the_exact_size(problem, mu, seed):
    policies, weights = problem
    random = np.random.default_rng(seed)
    turned = policies.subset(random.permutation(len(policies)))
    shuffled = weights[random.permutation(len(weights))]
    sizes = [
        len(prune(each, rows, mu=mu, method="exact"))
        for each, rows in ((policies, weights), (turned, shuffled))
    ]
    assert sizes[0] == sizes[1]


@settings(max_examples=50)
@given(problems(objectives=(3, 4)), MUS, st.sampled_from([1e-9, 1e-3]))
def test_bounds_hold_however_little_time_there_is(problem, mu, seconds):
    policies, weights = problem
    found = prune(policies, weights, mu=mu, method="exact", time_limit=seconds)
    best = smallest(cover.cover_weights(policies, weights, mu=mu).matrix())
    assert found.lower_bound <= best <= found.upper_bound
    assert found.upper_bound <= len(prune(policies, weights, mu=mu))
    assert (found.status == "optimal") == (found.lower_bound == found.upper_bound)


def test_greedy_is_beaten_where_it_is_known_to_fail():
    # Greedy takes the middle, and then needs both ends as well.
    policies, weights = PolicySet([[1.0, 0.3], [0.75, 0.75], [0.3, 1.0]]), uniform_lattice(2, 40)
    found = prune(policies, weights, mu=0.2, method="exact")
    greedy = prune(policies, weights, mu=0.2)
    assert greedy.indices[0] == 1
    assert (greedy.upper_bound, found.upper_bound) == (3, 2)
    assert greedy.status == "feasible"
    assert greedy.lower_bound == 2


@pytest.mark.parametrize("method", ["greedy", "exact"])
def test_a_curve_is_the_reports_one_by_one_from_one_evaluation(method, monkeypatch):
    random = np.random.default_rng(7)
    policies, weights = PolicySet(random.random((60, 3))), sample_weights(200, 3, seed=8)
    mus = [0.2, 0.0, 0.05, 1.0, 0.05]
    alone = [prune(policies, weights, mu=mu, alpha=0.01, method=method) for mu in mus]
    given = []
    original = cover.cover_weights

    def recorded(*args, **settings):
        given.append(settings["best"])
        return original(*args, **settings)

    monkeypatch.setattr(cover, "cover_weights", recorded)
    curve = prune_curve(policies, weights, mus, alpha=0.01, method=method)
    assert len(given) == 4
    assert all(isinstance(best, cover.Best) and best is given[0] for best in given)
    assert [point.mu for point in curve] == mus
    for point, report in zip(curve, alone, strict=True):
        assert point.alpha == 0.01
        assert point.lower_bound <= report.upper_bound
        assert point.upper_bound == report.upper_bound
        if method == "greedy":
            np.testing.assert_array_equal(point.indices, report.indices)
    assert curve[3].upper_bound == 1


def test_sizes_on_an_exact_curve_never_grow_even_without_time():
    random = np.random.default_rng(9)
    points = np.abs(random.normal(size=(400, 4)))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    policies, weights = PolicySet(points), sample_weights(500, 4, seed=10)
    mus = np.linspace(0.0, 0.1, 41)
    greedy = [len(prune(policies, weights, mu=mu)) for mu in mus]
    assert (np.diff(greedy) > 0).any()
    curve = prune_curve(policies, weights, mus, method="exact", time_limit=1e-9)
    sizes = [point.upper_bound for point in curve]
    assert (np.diff(sizes) <= 0).all()
    assert all(size <= most for size, most in zip(sizes, greedy, strict=True))


def test_an_empty_curve_is_empty():
    assert prune_curve(PolicySet([[1, 0], [0, 1]]), [[0.5, 0.5]], []) == []


def test_only_the_additive_tolerance_counts_below_zero():
    policies = PolicySet([[-1.0, -1.0], [-1.05, -0.5]])
    found = prune(policies, [[1.0, 0.0]], mu=1.0, method="exact")
    np.testing.assert_array_equal(found.indices, [0])
    found = prune(policies, [[1.0, 0.0], [0.0, 1.0]], mu=1.0, alpha=0.05, method="exact")
    np.testing.assert_array_equal(found.indices, [1])
    assert (found.n_weights, found.n_negative, found.alpha) == (2, 2, 0.05)


def test_a_single_policy_and_a_single_weight():
    found = prune(PolicySet([[0.2, 0.3]]), [0.5, 0.5], mu=0.0, method="exact")
    np.testing.assert_array_equal(found.indices, [0])
    assert found.status == "optimal"
    assert found.seconds > 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mu": 1.5}, r"^mu = 1.5: must be in \[0, 1\]"),
        ({"mu": float("nan")}, "^mu = nan"),
        ({"mu": -0.1}, "^mu = -0.1"),
        ({"alpha": -1}, "^alpha = -1: must be a finite number of at least 0"),
        (
            {"method": "exat"},
            "^method = 'exat': must be one of greedy, exact; did you mean",
        ),
        ({"method": None}, "^method = None: must be one of greedy, exact$"),
        ({"solver": "CBC"}, "^solver = 'CBC': must be one of cbc, highs"),
        ({"time_limit": 0}, "^time_limit = 0: must be a finite number above 0"),
        ({"weights": np.zeros((0, 2))}, "^weights: at least one is needed, got none"),
        ({"weights": [[0.5, 0.6]]}, "^weights: 0.5, 0.6 add to 1.1"),
        ({"weights": [[0.5, 0.25, 0.25]]}, "^weights: 3 values"),
    ],
)
@pytest.mark.parametrize("method", ["greedy", "exact"])
def test_wrong_requests_are_refused(wrong, message, method):
    given = {"weights": [[0.5, 0.5]], "mu": 0.1, "method": method, **wrong}
    policies, weights = PolicySet([[1.0, 0.0], [0.0, 1.0]]), given.pop("weights")
    with pytest.raises(InputError, match=message):
        prune(policies, weights, **given)
    mu = given.pop("mu")
    with pytest.raises(InputError, match=message.replace("^mu =", "^mus =")):
        prune_curve(policies, weights, [0.1, mu], **given)
