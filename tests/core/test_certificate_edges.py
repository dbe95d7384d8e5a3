"""Certificates at their edges: units, words, and where rounding leads astray."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palm_core import AdaptiveGrid, Certificate, InputError, PolicySet, certify
from palm_core.geometry.exact import rounding_error
from palm_core.guarantees.subdivision import Largest, Sandwich, Subdivision

FEW = settings(max_examples=20)
SEEDS = st.integers(0, 2**16)
SCALES = [2.0**-12, 1.0, 2.0**9]


def asked(d: int, n: int, seed: int) -> np.ndarray:
    return np.vstack([np.eye(d), np.random.default_rng(seed).dirichlet(np.ones(d), n)])


def model_of(seed: int, d: int, scale: float, *, shift: float = 0.0) -> Subdivision:
    random = np.random.default_rng(seed)
    weights, values = asked(d, 4, seed), random.uniform(0.1, 0.9, (5, d)) + shift
    bounds = (weights @ values.T).max(axis=1) + 0.05
    return Subdivision(weights, scale * bounds, scale * values)


def sandwich_of(seed: int, d: int) -> tuple[np.random.Generator, np.ndarray, Sandwich]:
    """Policies of which only the first is known yet, and bounds a little above all of them."""
    random = np.random.default_rng(seed)
    values = random.uniform(0.1, 0.9, (3, d))
    model = Sandwich(values.max(axis=0) + 0.1, values[0])
    for row in random.dirichlet(np.ones(d), 6):
        model.add_bound(row, float((values @ row).max()) + 0.01)
    return random, values, model


# --- subdivision, in any unit


@FEW
@given(SEEDS, st.integers(2, 4), st.sampled_from(SCALES), st.sampled_from([0.0, -0.6]))
def test_a_subdivision_has_no_unit(seed, d, scale, shift):
    """Powers of two change no digit: what is in units of reward scales, shares do not."""
    plain, scaled = model_of(seed, d, 1.0, shift=shift), model_of(seed, d, scale, shift=shift)
    extra = np.random.default_rng(seed).dirichlet(np.ones(d))
    for one, unit in ((plain, 1.0), (scaled, scale)):
        one.add_policy(unit * np.full(d, 0.3))
        one.add_bound(extra, unit * 0.95)
    assert scaled._no_negative() is plain._no_negative()
    upper, answer = plain.expected(extra)
    other_upper, other_answer = scaled.expected(extra)
    assert other_upper == scale * upper
    np.testing.assert_array_equal(other_answer, scale * answer)
    for ratio in (False, True):
        if ratio and not plain._no_negative():
            continue
        one, other = (model.search(ratio=ratio, budget=60) for model in (plain, scaled))
        unit = 1.0 if ratio else scale
        assert (other.bound, other.reached) == (unit * one.bound, unit * one.reached)
        np.testing.assert_array_equal(one.weights, other.weights)
    for ratio in (False, True):
        place, high, loss, share = plain.worst(ratio=ratio, budget=60)
        places, highs, losses, shares = scaled.worst(ratio=ratio, budget=60)
        np.testing.assert_array_equal(places, place)
        np.testing.assert_array_equal(highs, scale * high)
        np.testing.assert_array_equal(losses, scale * loss)
        np.testing.assert_array_equal(shares, share)


@FEW
@given(SEEDS, st.integers(2, 4), st.sampled_from(SCALES))
def test_what_a_subdivision_expects_is_halfway(seed, d, scale):
    model = model_of(seed, d, scale)
    weights = np.random.default_rng(seed).dirichlet(np.ones(d))
    upper, answer = model.expected(weights)
    lower = float((model._values @ weights).max()) * model._unit
    assert upper >= lower
    assert answer @ weights == pytest.approx((upper + lower) / 2)


@FEW
@given(SEEDS, st.integers(2, 4), st.sampled_from(SCALES))
def test_the_worst_is_told_with_what_is_lost_there(seed, d, scale):
    model = model_of(seed, d, scale)
    for ratio in (False, True):
        (weights,), (upper,), (loss,), (share,) = model.worst(ratio=ratio, budget=200)
        lower = float((model._values @ weights).max()) * model._unit
        assert loss == pytest.approx(upper - lower, rel=1e-9)
        assert share == pytest.approx(1 - lower / upper, rel=1e-9)
        found = model.search(ratio=ratio, budget=200)
        assert found.reached == pytest.approx(share if ratio else loss, rel=1e-9)
        assert found.bound >= found.reached


def test_the_worst_below_zero_is_unbounded():
    model = model_of(1, 3, 1.0, shift=-0.6)
    assert not model._no_negative()
    assert np.isinf(model.worst(ratio=True, budget=50)[3]).all()
    zero = Subdivision(np.eye(3), np.zeros(3), np.zeros((1, 3)))
    assert zero._no_negative()
    weights, upper, loss, share = zero.worst(ratio=True, budget=50)
    assert (upper.tolist(), loss.tolist(), share.tolist()) == ([0.0], [0.0], [0.0])
    assert weights.sum() == pytest.approx(1.0)


def test_without_a_budget_nothing_is_known_but_the_vertices():
    model = model_of(2, 3, 1.0)
    none = model.search(ratio=False, budget=0)
    assert math.isinf(none.bound)
    at_vertices = [
        model._gap(vertex, float(model._bounds[i]), False) for i, vertex in enumerate(np.eye(3))
    ]
    assert none.reached == max(at_vertices)
    assert not none.exact
    one = model.search(ratio=False, budget=1)
    assert math.isfinite(one.bound)
    assert Largest(1.0, 1.0, np.ones(1), 0.0).exact
    assert Largest(1.0 + 1e-9, 1.0, np.ones(1), 0.0).exact
    assert not Largest(1.0 + 1e-8, 1.0, np.ones(1), 0.0).exact
    assert Largest(1e-16, 0.0, np.ones(1), 1e-15).exact
    assert not Largest(1e-14, 0.0, np.ones(1), 1e-15).exact


# --- sandwich, in any unit


@FEW
@given(SEEDS, st.integers(2, 4), st.sampled_from(SCALES))
def test_a_sandwich_expects_halfway_in_any_unit(seed, d, scale):
    random = np.random.default_rng(seed)
    values = random.uniform(0.1, 0.9, (3, d))
    model = Sandwich(scale * (values.max(axis=0) + 0.05), scale * values[0])
    for policy in values[1:]:
        model.add_policy(scale * policy)
    weights = random.dirichlet(np.ones(d))
    model.add_bound(weights, scale * (float((values @ weights).max()) + 0.01))
    upper, answer = model.expected(weights)
    lower = scale * float((values @ weights).max())
    assert upper == pytest.approx(lower + 0.01 * scale)
    assert answer @ weights == pytest.approx((upper + lower) / 2)


@FEW
@given(SEEDS, st.integers(2, 4))
def test_where_pieces_lead_astray_a_program_finds_the_least_mixture(seed, d):
    random, _, model = sandwich_of(seed, d)
    for corner in random.dirichlet(np.ones(d), 4):
        piece, value = model._search(corner)
        assert piece in model._hull.places
        assert model._by_program(corner) == pytest.approx(value, abs=1e-12)
        # all mixtures are above U; where none is near it, the program decides
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(model, "_mixtures", lambda corners, level: np.full(len(level), 9.0))
            found = model._search(corner)
        assert found[0] in model._hull.places
        assert found[1] == pytest.approx(value, abs=1e-12)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(model, "_by_program", lambda _: 9.0)
            assert model._search(corner)[1] == value


# --- words


def test_what_a_certificate_says():
    made = {
        "epsilon": 0.0123,
        "delta": 0.5,
        "epsilon_weights": np.eye(2)[0],
        "delta_weights": np.eye(2)[0],
        "n_weights": 2,
        "method": "corners",
        "exact": True,
    }
    assert str(Certificate(**made)) == "certified ε 1.23 %  δ 0.5"
    condition = made | {"conditional_on": "the weather"}
    assert str(Certificate(**condition)) == "certified ε 1.23 %  δ 0.5  conditional on the weather"
    measured = condition | {"measured_slack": 0.25}
    assert str(Certificate(**measured)) == (
        "certified ε 1.23 %  δ 0.5  conditional on the weather (measured so far: 0.25)"
    )
    assert "measured" not in str(Certificate(**measured, refuted=True))
    noted = made | {"epsilon": math.inf, "note": "below 0"}
    assert str(Certificate(**noted)) == "certified ε unbounded  δ 0.5  (below 0)"


@pytest.mark.parametrize("shift", [0.0, -1.0])
def test_both_methods_tell_the_same_in_the_same_words(shift):
    random = np.random.default_rng(4)
    weights = asked(3, 5, 4)
    policies = PolicySet(random.uniform(0.1, 0.9, (6, 3)) + shift)
    one, other = (certify(policies, weights, method=m) for m in ("corners", "subdivision"))
    assert other.note == one.note
    assert (other.note == "") is (shift == 0)
    assert other.delta == pytest.approx(one.delta, rel=1e-8)
    assert one.exact is other.exact is True
    for found in (one, other):
        for at in (found.epsilon_weights, found.delta_weights):
            assert at.shape == (3,)
            assert at.sum() == pytest.approx(1.0)
    loss_at = policies.objective(other.delta_weights)[0].max()
    assert loss_at <= policies.objective(one.delta_weights)[0].max() + one.delta + 1e-9


def test_a_certificate_is_exact_only_if_both_gaps_are(monkeypatch):
    policies, weights = PolicySet(np.eye(3) + 0.1), np.eye(3)
    original = Subdivision.search

    def one_open(self, *, ratio, budget):
        found = original(self, ratio=ratio, budget=budget)
        return found._replace(bound=2 * found.bound) if ratio is open_ratio else found

    monkeypatch.setattr(Subdivision, "search", one_open)
    for open_ratio in (False, True):  # noqa: B007  read by one_open
        assert certify(policies, weights, method="subdivision").exact is False


# --- asking


@pytest.mark.parametrize("method", ["corners", "subdivision"])
def test_where_nothing_is_to_be_had_nothing_is_lost(method):
    found = certify(PolicySet(np.zeros((2, 3))), asked(3, 2, 0), method=method)
    assert (found.epsilon, found.delta, found.note, found.exact) == (0.0, 0.0, "", True)


def test_a_grid_asks_beside_what_is_open_in_any_unit():
    for scale in SCALES:
        grid = AdaptiveGrid(5, target_epsilon=0.02)
        rows = np.eye(5)
        assert sorted(map(tuple, grid.ask(5).tolist())) == sorted(map(tuple, rows.tolist()))
        for row in rows:
            grid.tell(row, scale * np.sqrt(row))
        (further,) = grid.ask(1)
        if scale == SCALES[0]:
            first = further
        np.testing.assert_array_equal(further, first)


def test_rounding_is_no_gap():
    model = Subdivision(np.eye(2), np.ones(2), np.ones((1, 2)))
    middle = np.array([0.5, 0.5])
    lower, rounding = model._lower(middle)
    # Twice what the sum and its bound may be off by, each of size 1.
    assert (lower, rounding) == (1.0, 4 * rounding_error(2))
    assert model._gap(middle, 1.0 + rounding / 2, False) == 0.0
    assert model._gap(middle, 1.0 + 2 * rounding, False) > 0
    assert model._gap(middle, 2.0, True) == 0.5
    assert model._gap(middle, 2.0, False) == 1.0


def test_refusals_name_what_was_given():
    policies, weights = PolicySet(np.eye(2)), np.eye(2)
    for name in ("portfolio", "answers"):
        with pytest.raises(InputError, match=rf"^{name}: index 7: must be in \[0, 1\]$"):
            certify(policies, weights, **{name: [0, 7]})
        with pytest.raises(InputError, match=rf"^{name} = \[\[0, 1\]\]: must be indices"):
            certify(policies, weights, **{name: [[0, 1]]})
    assert certify(policies, weights, portfolio=np.array([0, 1], np.uint8)).delta == 0.5
    for wrong in (-0.1, 1.1):
        with pytest.raises(InputError, match=rf"^target_epsilon = {wrong}: must be in \[0, 1\]"):
            AdaptiveGrid(2, target_epsilon=wrong)
    grid = AdaptiveGrid(2, target_epsilon=0.1)
    for take in (grid.forget, lambda rows: grid.tell(rows, rows)):
        with pytest.raises(InputError, match="must be 2"):
            take([[0.5, 0.25, 0.25]])


def test_of_weights_asked_twice_one_is_forgotten():
    grid = AdaptiveGrid(2, target_epsilon=0.1)
    grid.ask(2)
    assert len(grid.pending) == 2
    grid.forget([1.0, 0.0])
    assert grid.pending.tolist() == [[0.0, 1.0]]


# --- where a solver has no answer, and where the oracle has none


@pytest.mark.parametrize("d", [2, 3, 4])
def test_pieces_whose_weights_are_no_simplex_lead_to_a_program(d, monkeypatch):
    _, values, model = sandwich_of(d, d)
    other = model.copy()
    model.add_policy(values[1])

    def singular(*_):
        raise np.linalg.LinAlgError("Singular matrix")

    monkeypatch.setattr(np.linalg, "solve", singular)
    other.add_policy(values[1])
    np.testing.assert_array_equal(other.corners, model.corners)
    np.testing.assert_allclose(other.upper, model.upper, atol=1e-12)
    pieces = other._mixtures(other.corners, other._hull.places[:1].repeat(len(other.corners)))
    assert pieces.dtype == float
    assert (pieces == np.inf).all()


class NoAnswer:
    x = None


@pytest.mark.parametrize("d", [2, 3])
def test_without_a_mixture_the_bounds_at_the_vertices_hold(d, monkeypatch):
    monkeypatch.setattr("scipy.optimize.linprog", lambda *_, **__: NoAnswer())
    random = np.random.default_rng(d)
    corner, top = random.dirichlet(np.ones(d)), random.uniform(0.5, 0.9, d)
    assert Sandwich(top, top)._by_program(corner) == pytest.approx(corner @ top)
    value, piece = Subdivision(np.eye(d), top, top[np.newaxis])._least_mixture(corner)
    model = Subdivision(np.eye(d), top, top[np.newaxis])
    assert value * model._unit == pytest.approx(corner @ top)
    np.testing.assert_allclose(piece * model._unit, top)


@pytest.mark.parametrize("d", [3, 4])
def test_what_is_given_up_is_asked_no_more(d):
    grid = AdaptiveGrid(d, target_epsilon=0.01)
    for row in grid.ask(d):
        grid.tell(row, np.sqrt(row))
    (first,) = grid.ask(1)
    assert len(grid._pending) == 1
    grid.give_up(first)
    assert len(grid._pending) == 0, "nobody waits for its answer"
    asked = []
    while len(asked) < 12 and len(rows := grid.ask(1)):
        asked.append(rows[0])
        grid.tell(rows[0], np.sqrt(rows[0]))
    assert len(asked) > 4
    assert min(np.abs(row - first).max() for row in asked) > 1e-6


def test_vertices_are_given_up_like_any_weights():
    grid = AdaptiveGrid(3, target_epsilon=0.01)
    pending = grid.ask(1)
    assert (pending == 1.0).any()
    grid.give_up(np.eye(3))
    assert not (grid.ask(3) == 1.0).any()
    with pytest.raises(InputError, match="must add to 1|sum"):
        grid.give_up(np.full(3, 2.0))
    with pytest.raises(InputError, match="3"):
        grid.give_up([0.5, 0.5])
