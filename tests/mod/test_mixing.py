"""Scores are the theory's, checked against optima found numerically; and they are stable."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize

from palm_core import InputError
from palm_mod import Mixing
from palm_mod.mixing import DIVERGENCES, choose

MIXINGS = [
    Mixing("reverse-kl"),
    Mixing("forward-kl"),
    Mixing("alpha", 0.5),
    Mixing("alpha", 2.0),
    Mixing("jensen-shannon"),
]
AFFINE = [mixing for mixing in MIXINGS if mixing.affine]
IDS = str


def f(mixing, x):
    """f(x), from the definitions."""
    a = mixing.alpha
    return {
        "reverse-kl": lambda: x * np.log(x),
        "forward-kl": lambda: -np.log(x),
        "alpha": lambda: (x ** (1 - a) - (1 - a) * x - a) / (a * (a - 1)),
        "jensen-shannon": lambda: x * np.log(x) - (x + 1) * np.log((x + 1) / 2),
    }[mixing.divergence]()


def slope(mixing, x):
    """f′(x)."""
    a = mixing.alpha
    return {
        "reverse-kl": lambda: np.log(x) + 1,
        "forward-kl": lambda: -1 / x,
        "alpha": lambda: (1 - x**-a) / a,
        "jensen-shannon": lambda: np.log(2 * x / (1 + x)),
    }[mixing.divergence]()


def best_policy(mixing, reference, rewards, beta=1.0):
    """argmax E_π[r] − β·E_ref[f(π/π_ref)], by a general solver over the simplex."""

    def unpack(logits):
        p = np.exp(logits - logits.max())
        return p / p.sum()

    def loss(logits):
        p = unpack(logits)
        return beta * (reference * f(mixing, p / reference)).sum() - p @ rewards

    def gradient(logits):
        p = unpack(logits)
        by_p = beta * slope(mixing, p / reference) - rewards
        return p * (by_p - p @ by_p)

    found = minimize(loss, np.log(reference), jac=gradient, method="BFGS", options={"gtol": 1e-10})
    return unpack(found.x)


def with_normalizer(mixing, reference, experts, weights):
    """π_ref·(f′)⁻¹(−Z + Σ w_i f′(π_i/π_ref)), with Z by root finding and f′ inverted likewise."""
    mixed = weights @ slope(mixing, experts / reference)

    def invert(value):
        # log x in [−60, 60]
        return math.exp(brentq(lambda u: slope(mixing, math.exp(u)) - value, -60, 60, xtol=1e-14))

    def mass(z):
        return sum(r * invert(m - z) for r, m in zip(reference, mixed, strict=True)) - 1

    # f′ is bounded above for all but reverse KL; at Z = 0 the mass is at most 1
    z = brentq(mass, mixed.max() - slope(mixing, math.exp(30)), 1e-9, xtol=1e-13)
    return np.array([r * invert(m - z) for r, m in zip(reference, mixed, strict=True)]), z


def random_policies(seed, n=8, d=2):
    """A reference over sequences of three binary tokens, and bounded rewards."""
    random = np.random.default_rng(seed)
    return random.dirichlet(np.full(n, 3.0)), random.uniform(-0.25, 0.25, size=(d, n))


@pytest.mark.parametrize("mixing", MIXINGS, ids=IDS)
@pytest.mark.parametrize("seed", range(4))
def test_the_best_policy_of_mixed_rewards_is_the_mix_of_the_best_policies(mixing, seed):
    """The theorem behind MOD, over all sequences of three binary tokens."""
    reference, rewards = random_policies(seed)
    weights = np.array([0.3, 0.7])
    experts = np.stack([best_policy(mixing, reference, one) for one in rewards])
    best = best_policy(mixing, reference, weights @ rewards)
    mixed, z = with_normalizer(mixing, reference, experts, weights)
    assert mixed == pytest.approx(best, abs=1e-6)
    # the experts are not all the same, nor is the mix one of them
    assert np.abs(experts - best).max() > 0.005
    # Z = 0: what scores are the logarithm of, up to a constant factor
    scores = sequence_scores(mixing, reference, experts, weights)
    unnormalized = [
        r * math.exp(brentq(lambda u, v=v: slope(mixing, math.exp(u)) - v, -60, 60, xtol=1e-14))
        for r, v in zip(reference, weights @ slope(mixing, experts / reference), strict=True)
    ]
    # for reverse KL f′ has a constant 1 that Σ w_i = 1 cancels
    assert scores == pytest.approx(np.log(unnormalized), abs=1e-5)
    if mixing.divergence in {"forward-kl", "alpha"}:
        assert z < 0
        assert sum(unnormalized) < 1
        a = mixing.power
        relation = mixed**-a - a * z * reference**-a - weights @ experts**-a
        # with f′ = (1 − x^−α)/α; forward KL's −1/x differs by a constant
        assert relation == pytest.approx(0, abs=1e-6 * (mixed**-a).max())


def sequence_scores(mixing, reference, experts, weights):
    """Scores of whole sequences, as if each were one token."""
    logs = np.log(np.vstack([experts, reference]))[np.newaxis]
    weights = torch.from_numpy(weights[np.newaxis])
    return mixing.scores(torch.from_numpy(logs), weights)[0].double().numpy()


def test_the_order_of_sequences_is_that_of_the_best_policy_for_reverse_kl_alone():
    """What leaving out Z costs, by divergence: how often two sequences change places."""
    swapped = dict.fromkeys(map(str, MIXINGS), 0)
    for mixing, seed in itertools.product(MIXINGS, range(60)):
        random = np.random.default_rng(seed)
        reference = random.dirichlet(np.ones(8))
        experts = random.dirichlet(np.ones(8), size=2)
        weights = np.array([0.4, 0.6])
        mixed, _ = with_normalizer(mixing, reference, experts, weights)
        scores = sequence_scores(mixing, reference, experts, weights)
        swapped[str(mixing)] += np.argsort(mixed).tolist() != np.argsort(scores).tolist()
    assert swapped.pop(str(Mixing("reverse-kl"))) == 0
    assert all(count > 0 for count in swapped.values()), swapped


def test_greedy_by_prefix_is_not_the_best_sequence():
    """The example of the module's second caveat, two tokens, reverse KL, equal weights."""
    # both experts begin with 0 a little more often; after it they contradict each other
    first = np.log([[0.55, 0.45], [0.55, 0.45]])
    after = {0: np.log([[0.99, 0.01], [0.01, 0.99]]), 1: np.log([[0.9, 0.1], [0.9, 0.1]])}
    weights = torch.tensor([[0.5, 0.5]])
    chosen = int(choose(Mixing().scores(torch.from_numpy(first)[None], weights))[0])
    assert chosen == 0
    score = {
        (a, b): (first[:, a] + after[a][:, b]).mean()
        for a, b in itertools.product(range(2), repeat=2)
    }
    assert max(score, key=score.get) == (1, 0)


def exact_scores(mixing, totals, weights, reference):
    """The table's formulas in plain float64, for moderate numbers."""
    kept = weights > 0
    w, a = weights[kept, np.newaxis], totals[kept]
    if mixing.divergence == "reverse-kl":
        return (w * a).sum(axis=0)
    if mixing.divergence == "jensen-shannon":
        product = (w * np.log1p(np.exp(reference - a))).sum(axis=0)
        return reference - np.log(np.expm1(product))
    p = mixing.power
    return -np.log((w * np.exp(-p * a)).sum(axis=0)) / p


@st.composite
def tables(draw):
    d, size = draw(st.integers(2, 4)), draw(st.integers(2, 7))
    seed = draw(st.integers(0, 10**6))
    random = np.random.default_rng(seed)
    step = np.log(random.dirichlet(np.full(size, 0.5), size=d + 1)).clip(min=-40)
    sums = -draw(st.sampled_from([0.0, 3.0, 20.0])) * random.random(d + 1)
    weights = random.dirichlet(np.ones(d))
    if draw(st.booleans()):
        weights[draw(st.integers(0, d - 1))] = 0
        weights /= weights.sum()
    return step.astype(np.float32), sums, weights


def centred(scores):
    return scores - scores.max()


@given(tables(), st.sampled_from(MIXINGS))
@settings(max_examples=300)
def test_scores_are_the_formulas_up_to_a_constant(table, mixing):
    step, sums, weights = table
    d = len(weights)
    found = mixing.scores(
        torch.from_numpy(step)[None], torch.from_numpy(weights)[None], torch.from_numpy(sums)[None]
    )[0]
    totals = step.astype(np.float64) + sums[:, np.newaxis]
    expected = exact_scores(mixing, totals[:d], weights, totals[d])
    assert found.dtype == torch.float32
    assert centred(found.double().numpy()) == pytest.approx(centred(expected), abs=2e-4, rel=1e-5)


@given(tables(), st.sampled_from(AFFINE))
@settings(max_examples=300)
def test_features_order_tokens_as_scores_do(table, mixing):
    step, sums, weights = table
    d = len(weights)
    sums = torch.from_numpy(sums[:d])[None]
    rows = torch.from_numpy(step[:d])[None]
    scores = mixing.scores(rows, torch.from_numpy(weights)[None], sums)[0].double().numpy()
    features = mixing.features(rows, sums)[0].numpy()
    assert features.dtype == np.float64
    values = weights @ features
    for one, other in itertools.combinations(range(len(values)), 2):
        if abs(scores[one] - scores[other]) > 1e-3:
            # both beyond e^100 times the best are the same for features
            hopeless = min(values[one], values[other]) < -1e30
            assert hopeless or (scores[one] > scores[other]) == (values[one] > values[other])
    assert scores[np.argmax(values)] == pytest.approx(scores.max(), abs=1e-3)


@pytest.mark.parametrize("mixing", MIXINGS, ids=IDS)
@pytest.mark.parametrize("far", [1e3, 1e5])
def test_a_long_prefix_costs_no_precision(mixing, far):
    """The same step after a prefix of log-probability −far, seen alike by all."""
    random = np.random.default_rng(1)
    step = torch.from_numpy(np.log(random.dirichlet(np.ones(50), size=3)).astype(np.float32))[None]
    weights = torch.tensor([[0.25, 0.75]], dtype=torch.float64)
    near = mixing.scores(step, weights, torch.zeros(1, 3, dtype=torch.float64))
    away = mixing.scores(step, weights, torch.full((1, 3), -far, dtype=torch.float64))
    assert torch.equal(near, away)


@pytest.mark.parametrize("mixing", [Mixing("forward-kl"), Mixing("alpha", 0.5)], ids=IDS)
def test_where_one_expert_is_far_below_it_decides(mixing):
    """Prefix sums of −1000 and 0: the order is that of the first expert's step."""
    random = np.random.default_rng(2)
    step = torch.from_numpy(np.log(random.dirichlet(np.ones(50), size=2)).astype(np.float32))[None]
    sums = torch.tensor([[-1000.0, 0.0]], dtype=torch.float64)
    scores = mixing.scores(step, torch.tensor([[0.01, 0.99]]), sums)[0]
    assert scores.argsort().tolist() == step[0, 0].argsort().tolist()
    # unless it has no weight
    alone = mixing.scores(step, torch.tensor([[0.0, 1.0]]), sums)[0]
    assert alone.argsort().tolist() == step[0, 1].argsort().tolist()


def test_jensen_shannon_far_from_its_reference():
    """a_i ≫ b: the score goes to that of forward KL; a_i ≪ b: to Σ w_i a_i."""
    mixing, weights = Mixing("jensen-shannon"), torch.tensor([[0.3, 0.7]])
    random = np.random.default_rng(3)
    step = torch.from_numpy(np.log(random.dirichlet(np.ones(20), size=2)).astype(np.float32))[None]
    for offset, limit in ((-300.0, Mixing("forward-kl")), (300.0, Mixing("reverse-kl"))):
        reference = torch.full((1, 1, 20), math.log(1 / 20))
        sums = torch.tensor([[0.0, 0.0, offset]], dtype=torch.float64)
        found = mixing.scores(torch.cat([step, reference], dim=1), weights, sums)
        expected = limit.scores(step, weights)
        assert centred(found[0]) == pytest.approx(centred(expected[0]), abs=1e-3)


def test_a_small_alpha_is_reverse_kl():
    random = np.random.default_rng(4)
    step = torch.from_numpy(np.log(random.dirichlet(np.ones(20), size=3)).astype(np.float32))[None]
    weights = torch.tensor([[0.2, 0.3, 0.5]], dtype=torch.float64)
    expected = Mixing().scores(step, weights)
    assert Mixing("alpha", 1e-6).scores(step, weights)[0] == pytest.approx(expected[0], abs=1e-4)
    forward = Mixing("forward-kl").scores(step, weights)
    assert Mixing("alpha", 1.0).scores(step, weights)[0] == pytest.approx(forward[0], abs=1e-6)


@pytest.mark.parametrize("mixing", MIXINGS, ids=IDS)
def test_equal_experts_give_their_own_prediction(mixing):
    step = torch.log_softmax(torch.arange(6.0), dim=0).expand(1, 4, 6)
    weights = torch.tensor([[0.2, 0.3, 0.5]])
    assert mixing.scores(step, weights)[0] == pytest.approx(step[0, 0], abs=1e-5)


@pytest.mark.parametrize("mixing", MIXINGS, ids=IDS)
def test_a_forbidden_token_wins_only_without_weight(mixing):
    step = torch.tensor([[[-math.inf, -1.0, -9.0], [-0.1, -3.0, -4.0], [-1.0, -1.0, -1.0]]])
    for weights, best in (((0.5, 0.5), 1), ((1e-6, 1 - 1e-6), 1), ((0.0, 1.0), 0), ((1.0, 0.0), 1)):
        scores = mixing.scores(step, torch.tensor([weights], dtype=torch.float64))
        assert not scores.isnan().any()
        assert choose(scores)[0].tolist() == [best]
        assert (scores[0, 0] == -math.inf) == (weights[0] > 0)


@pytest.mark.parametrize("mixing", MIXINGS, ids=IDS)
def test_where_all_is_forbidden_the_lowest_token_is_taken(mixing):
    step = torch.tensor([[[-math.inf, -1.0], [-0.1, -math.inf], [-1.0, -1.0]]])
    tokens, margins = choose(mixing.scores(step, torch.tensor([[0.5, 0.5]])))
    assert (tokens.tolist(), margins.tolist()) == ([0], [0.0])
    if mixing.affine:
        assert (mixing.features(step[:, :2]) == -math.inf).any(dim=1).all()


@pytest.mark.parametrize("mixing", MIXINGS[1:], ids=IDS)
def test_an_impossible_prefix_makes_no_nan(mixing):
    """An expert without weight may find the prefix impossible; with weight all is forbidden."""
    step = torch.tensor([[[-0.5, -1.0], [-0.1, -2.5], [-1.0, -1.0]]])
    sums = torch.tensor([[-math.inf, -1.0, -1.0]], dtype=torch.float64)
    alone = mixing.scores(step, torch.tensor([[0.0, 1.0]]), sums)
    assert choose(alone)[0].tolist() == [0]
    assert alone.isfinite().all()
    assert (mixing.scores(step, torch.tensor([[0.5, 0.5]]), sums) == -math.inf).all()


def test_what_the_reference_forbids_is_forbidden():
    step = torch.tensor([[[-0.5, -1.0], [-0.5, -1.0], [-math.inf, 0.0]]])
    scores = Mixing("jensen-shannon").scores(step, torch.tensor([[0.5, 0.5]]))
    assert scores[0, 0] == -math.inf
    assert scores[0, 1].isfinite()


@given(st.integers(0, 10**6), st.sampled_from(MIXINGS), st.integers(1, 70))
@settings(max_examples=150)
def test_a_score_depends_on_nothing_else_in_the_batch(seed, mixing, size):
    """Bit for bit, wherever it stands: or ties would not be ties."""
    random = np.random.default_rng(seed)
    d, n = 3, 5
    rows = np.log(random.dirichlet(np.ones(size), size=(n, d + 1))).astype(np.float32)
    weights = torch.from_numpy(random.dirichlet(np.ones(d), size=n))
    sums = torch.from_numpy(-10 * random.random((n, d + 1)))
    rows = torch.from_numpy(rows)
    whole = mixing.scores(rows, weights, sums)
    for row in range(n):
        alone = mixing.scores(rows[row : row + 1], weights[row : row + 1], sums[row : row + 1])
        assert torch.equal(alone[0], whole[row])
        some = np.sort(random.choice(size, size=max(1, size // 3), replace=False))
        part = mixing.scores(
            rows[row : row + 1][:, :, some], weights[row : row + 1], sums[row : row + 1]
        )
        assert torch.equal(part[0], whole[row, some])


@given(
    st.lists(st.sampled_from([-math.inf, -3.0, -1.0, 0.0, 0.5]), min_size=1, max_size=8),
)
def test_choose_takes_the_lowest_of_the_best_and_its_lead(scores):
    tokens, margins = choose(torch.tensor([scores]))
    best = max(scores)
    assert tokens.tolist() == [scores.index(best)]
    others = scores[: tokens[0]] + scores[tokens[0] + 1 :]
    lead = math.inf if not others else best - max(others)
    assert margins.tolist() == [0.0 if math.isnan(lead) else lead] or not others


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"divergence": "kl"}, "divergence = 'kl': must be one of reverse-kl, forward-kl"),
        ({"divergence": "alpha"}, "alpha: missing, divergence 'alpha' needs it"),
        ({"divergence": "alpha", "alpha": 0.0}, "alpha = 0.0"),
        ({"divergence": "forward-kl", "alpha": 1.0}, "alpha = 1.0: requires divergence = 'alpha'"),
    ],
)
def test_wrong_divergences(options, words):
    with pytest.raises(InputError, match=words):
        Mixing(**options)


def test_what_jensen_shannon_needs_and_lacks():
    mixing = Mixing("jensen-shannon")
    step, weights = torch.zeros(1, 2, 3), torch.tensor([[0.5, 0.5]])
    with pytest.raises(InputError, match="reference: missing, divergence 'jensen-shannon' needs"):
        mixing.scores(step, weights)
    with pytest.raises(InputError, match="its scores are not affine in w"):
        mixing.features(step)
    assert [Mixing(name).needs_reference for name in DIVERGENCES if name != "alpha"] == [
        False,
        False,
        True,
    ]
