"""Noise that is what it says, for each weight vector, wherever it is made."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from fake_models import FakeModels, decode_alone
from hypothesis import given, settings
from hypothesis import strategies as st

from palm_core import InputError, uniform_lattice
from palm_mod import GumbelNoise, Limits, Mixing, Sampling, WeightSplitter, grow

MIXINGS = [
    Mixing("reverse-kl"),
    Mixing("forward-kl"),
    Mixing("alpha", 0.5),
    Mixing("jensen-shannon"),
]


DRAWS = 6000


def chi_square_limit(freedom):
    """Exceeded by chance once in about 10^5 (Wilson and Hilferty)."""
    return freedom * (1 - 2 / (9 * freedom) + 4.3 * math.sqrt(2 / (9 * freedom))) ** 3


def expected_shares(models, prefix, weights, mixing, temperature):
    """softmax(score/T), with the formulas written out once more in float64."""
    logs = models.predict(prefix).double().numpy()
    experts, reference = logs[: models.n_experts], logs[-1]
    w = np.array(weights)[:, np.newaxis]
    score = {
        "reverse-kl": lambda: (w * experts).sum(axis=0),
        "forward-kl": lambda: -np.log((w * np.exp(-experts)).sum(axis=0)),
        "alpha": lambda: -2 * np.log((w * np.exp(-0.5 * experts)).sum(axis=0)),
        "jensen-shannon": lambda: (
            reference - np.log(np.exp((w * np.log1p(np.exp(reference - experts))).sum(axis=0)) - 1)
        ),
    }[mixing.divergence]()
    shares = np.exp(score / temperature)
    return shares / shares.sum()


def draw(models, weights, mixing, temperature, limits):
    """All leaves of many samples of one prompt, under two seeds."""
    everyone = tuple(range(len(weights)))
    splitter = WeightSplitter(weights, mixing)
    for seed in (1, 2):
        noise = GumbelNoise(seed, models.vocabulary, temperature)
        leaves, _ = grow(
            models,
            [[1]] * (DRAWS // 2),
            [everyone] * (DRAWS // 2),
            splitter,
            limits,
            noise=noise,
        )
        yield from leaves


@pytest.mark.parametrize("mixing", MIXINGS, ids=lambda mixing: mixing.divergence)
@pytest.mark.parametrize("temperature", [0.7, 1.5])
def test_tokens_are_drawn_from_the_softmax_of_the_scores(mixing, temperature):
    models = FakeModels(2, 6, disagreement=1.0, spread=0.8, seed=4, reference=True)
    weights = np.array([[0.3, 0.7], [1.0, 0.0]])
    seen = np.zeros((2, 6))
    for leaf in draw(models, weights, mixing, temperature, Limits(new_tokens=1, rows=256)):
        seen[list(leaf.members), leaf.tokens[0]] += 1
    for one in (0, 1):
        expected = DRAWS * expected_shares(models, [1], weights[one], mixing, temperature)
        assert expected.min() > 20
        assert ((seen[one] - expected) ** 2 / expected).sum() < chi_square_limit(5)


def test_responses_of_two_tokens_are_drawn_from_the_product():
    """The noise of the second token is independent of that of the first."""
    models = FakeModels(2, 3, disagreement=1.0, spread=0.6, seed=2)
    weights = np.array([[0.4, 0.6]])
    seen = np.zeros((3, 3))
    for leaf in draw(models, weights, Mixing(), 1.0, Limits(new_tokens=2, rows=256)):
        seen[leaf.tokens] += 1
    first = expected_shares(models, [1], weights[0], Mixing(), 1.0)
    second = [expected_shares(models, [1, t], weights[0], Mixing(), 1.0) for t in range(3)]
    expected = DRAWS * first[:, np.newaxis] * np.stack(second)
    assert ((seen - expected) ** 2 / expected).sum() < chi_square_limit(8)


@given(
    st.integers(0, 2**63 - 1),
    st.sampled_from(MIXINGS),
    st.integers(1, 9),
    st.floats(0.1, 3.0),
    st.integers(0, 1000),
)
@settings(max_examples=settings().max_examples // 5)
def test_the_forest_samples_what_each_weight_vector_samples_alone(seed, mixing, rows, t, model):
    models = FakeModels(2, 7, disagreement=0.5, seed=model, reference=True)
    weights = uniform_lattice(2, 12)
    prompts, noise = Sampling(temperature=t, seed=seed, samples=2).noise(7, [[1], [2, 3]])
    limits = Limits(end_tokens=frozenset({0}), new_tokens=5, rows=rows)
    leaves, _ = grow(
        models,
        prompts,
        [tuple(range(13))] * 4,
        WeightSplitter(weights, mixing),
        limits,
        noise=noise,
    )
    found = {(leaf.prompt, one): leaf for leaf in leaves for one in leaf.members}
    for number, prompt in enumerate(prompts):
        for one in range(13):
            tokens, sums, _, _ = decode_alone(
                models, prompt, weights[one], mixing, limits, number=number, noise=noise
            )
            assert found[number, one].tokens == tokens
            # what is kept is the models' own probability, without noise
            assert found[number, one].log_probs == sums


def test_weight_vectors_share_their_noise_and_samples_do_not():
    # two models that are the same: whatever the weights, the same tokens are drawn
    class Twins(FakeModels):
        def _predict(self, prefix):
            found = super()._predict(prefix)
            return torch.stack([found[0], found[0]])

    weights = uniform_lattice(2, 10)
    prompts, noise = Sampling(temperature=2.0, samples=40).noise(12, [[5, 6]])
    limits = Limits(new_tokens=4)
    members = [tuple(range(11))] * 40
    leaves, _ = grow(
        Twins(2, 12), prompts, members, WeightSplitter(weights, Mixing()), limits, noise=noise
    )
    assert len(leaves) == 40
    assert len({leaf.tokens for leaf in leaves}) > 30


def test_noise_depends_on_its_key_alone():
    noise = GumbelNoise(3, 1000, 1.0, keys=[(7, 8, 0), (7, 8, 1), (7, 8, 0)])
    first = noise(0, (4, 5))
    assert torch.equal(first, GumbelNoise(3, 1000, 1.0, keys=[(7, 8, 0)])(0, [4, 5], "cpu"))
    assert torch.equal(first, noise(2, (4, 5)))
    assert torch.equal(2 * first, GumbelNoise(3, 1000, 2.0, keys=[(7, 8, 0)])(0, (4, 5)))
    others = [
        noise(1, (4, 5)),
        noise(0, (5, 4)),
        noise(0, (4,)),
        noise(0, ()),
        GumbelNoise(4, 1000, 1.0, keys=[(7, 8, 0)])(0, (4, 5)),
        # the border between prompt and prefix counts
        GumbelNoise(3, 1000, 1.0, keys=[(7, 8)])(0, (0, 4, 5)),
        GumbelNoise(3, 1000, 1.0)(7, (8, 0, 4, 5)),
    ]
    for other in others:
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.15
    assert first.dtype == torch.float32


def test_noise_is_what_it_was():
    """The same in every release: written down once (NumPy 2.4, Philox's raw bits)."""
    found = GumbelNoise(0, 4, 1.0)(0, (1, 2))
    assert found.numpy() == pytest.approx(WRITTEN, abs=1e-6)


WRITTEN = [0.76815003, -0.93479365, 0.90784442, 0.89498007]


def test_gumbel_values():
    values = GumbelNoise(1, 200_000, 1.0)(0, ()).double().numpy()
    assert np.isfinite(values).all()
    assert values.mean() == pytest.approx(np.euler_gamma, abs=0.015)
    assert values.var() == pytest.approx(math.pi**2 / 6, rel=0.03)


def test_temperature_0_is_greedy():
    prompts, noise = Sampling().noise(5, [[1], [2]])
    assert (prompts, noise) == ([[1], [2]], None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": -0.1}, "temperature = -0.1: must be a finite number of at least 0"),
        ({"temperature": math.nan}, "temperature = nan: must be a finite number"),
        ({"seed": -1}, "seed = -1: must be at least 0"),
        ({"seed": 2**63}, f"seed = {2**63}: must be at most {2**63 - 1}"),
        ({"samples": 0}, "samples = 0: must be at least 1"),
        ({"samples": 2}, "samples = 2: must be 1 with temperature = 0"),
        ({"top_k": 50}, "top_k = 50: must be omitted"),
        ({"top_p": 0.9}, r"top_p = 0\.9: must be omitted"),
    ],
)
def test_options_that_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        Sampling(**options)


def test_noise_without_temperature_is_refused():
    with pytest.raises(InputError, match="temperature = 0"):
        GumbelNoise(0, 5, 0.0)
