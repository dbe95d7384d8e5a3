"""What the published code decodes, by hand, and where that is not what the theory says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from fake_models import FakeModels, decode_alone
from hypothesis import given
from hypothesis import strategies as st

from palm_mod import Limits, Mixing, PublishedMixing
from palm_mod.mixing import choose


def scores(mixing, logits, weights, sums=None):
    sums = None if sums is None else torch.tensor([sums], dtype=torch.float64)
    return mixing.scores(torch.tensor([logits]), torch.tensor([weights]), sums)[0]


def test_the_documented_example():
    """Adding a constant to an expert's logits is the same model, but not the same choice."""
    published, ours = PublishedMixing("forward-kl"), Mixing("forward-kl")
    logits = [[6.0, 5.0], [0.0, 2.0]]
    moved = [[6.0, 5.0], [10.0, 12.0]]
    half = [0.5, 0.5]
    assert scores(published, logits, half) == pytest.approx([0.69, 2.64], abs=0.005)
    assert scores(published, moved, half) == pytest.approx([6.68, 5.69], abs=0.006)
    for table in (logits, moved):
        found = scores(ours, torch.tensor(table).log_softmax(dim=-1).tolist(), half)
        assert found == pytest.approx([-1.58, -0.89], abs=0.006)


@pytest.mark.parametrize(
    ("mixing", "expected"),
    [
        # 0.25·l_1 + 0.75·l_2
        (PublishedMixing("reverse-kl"), [1.25, 1.0, 0.75]),
        (PublishedMixing("jensen-shannon"), [1.25, 1.0, 0.75]),
        # −log(0.25·e^−l_1 + 0.75·e^−l_2)
        (
            PublishedMixing("forward-kl"),
            [
                -math.log(0.25 * math.exp(-2) + 0.75 * math.exp(-1)),
                -math.log(math.exp(-1)),
                -math.log(0.25 * math.exp(3) + 0.75 * math.exp(-2)),
            ],
        ),
        # −2·log(0.25·e^(−l_1/2) + 0.75·e^(−l_2/2)): 1/α times what is published
        (
            PublishedMixing("alpha", 0.5),
            [
                -2 * math.log(0.25 * math.exp(-1) + 0.75 * math.exp(-0.5)),
                1.0,
                -2 * math.log(0.25 * math.exp(1.5) + 0.75 * math.exp(-1)),
            ],
        ),
    ],
)
def test_hand_made_logits(mixing, expected):
    logits = [[2.0, 1.0, -3.0], [1.0, 1.0, 2.0]]
    assert scores(mixing, logits, [0.25, 0.75]) == pytest.approx(expected, abs=1e-5)


def test_logits_are_added_up_along_the_prefix():
    """Step 2 of forward KL: s_i = Σ logits so far, so a loud expert is left behind."""
    published = PublishedMixing("forward-kl")
    logits, half = [[0.0, 2.0], [2.0, 0.0]], [0.5, 0.5]
    quiet, loud = [0.0, 0.0], [9.0, 1.0]
    assert scores(published, logits, half, quiet)[0] == scores(published, logits, half, quiet)[1]
    # expert 1 has 9 logits, expert 2 has 1: e^−s_2 is what counts, token 0 is best for it
    found = scores(published, logits, half, loud)
    by_hand = [
        -math.log(0.5 * math.exp(-(9 + a)) + 0.5 * math.exp(-(1 + b)))
        for a, b in zip(*logits, strict=True)
    ]
    assert float(found[0] - found[1]) == pytest.approx(by_hand[0] - by_hand[1], abs=1e-5)
    assert int(choose(found[None])[0]) == 0
    # for reverse KL the past is the same for all tokens
    reverse = PublishedMixing("reverse-kl")
    assert scores(reverse, logits, [0.4, 0.6], loud).tolist() == pytest.approx([1.2, 0.8])


def test_an_expert_without_weight_is_left_out():
    for mixing in (PublishedMixing("forward-kl"), PublishedMixing("alpha", 0.3)):
        found = scores(mixing, [[-50.0, 3.0], [1.0, 0.0]], [0.0, 1.0])
        assert found == pytest.approx([1.0, 0.0])


def test_it_takes_the_place_of_a_mixing():
    mixing = PublishedMixing("jensen-shannon")
    assert isinstance(mixing, Mixing)
    assert mixing.raw_logits
    assert not Mixing().raw_logits
    assert mixing.affine
    assert not mixing.needs_reference
    assert mixing != Mixing("jensen-shannon")


@given(st.integers(0, 10**6), st.floats(-5, 5))
def test_reverse_kl_is_ours_whatever_is_added_to_logits(seed, added):
    raw = FakeModels(2, 6, seed=seed, disagreement=1.0, raw=True)

    class Shifted(FakeModels):
        def _predict(self, prefix):
            found = raw._predict(prefix)
            found[0] += added
            return found

    normal = FakeModels(2, 6, seed=seed, disagreement=1.0)
    limits, weights = Limits(new_tokens=4), np.array([0.3, 0.7])
    ours = decode_alone(normal, [1], weights, Mixing(), limits)
    for name in ("reverse-kl", "jensen-shannon"):
        found = decode_alone(Shifted(2, 6, raw=True), [1], weights, PublishedMixing(name), limits)
        if min(ours[3]) > 1e-4:
            assert found[0] == ours[0]


def test_forward_kl_depends_on_what_is_added_to_logits():
    different = 0
    for seed in range(40):
        raw = FakeModels(2, 6, seed=seed, disagreement=1.0, raw=True)
        normal = FakeModels(2, 6, seed=seed, disagreement=1.0)
        limits, weights = Limits(new_tokens=4), np.array([0.5, 0.5])
        ours = decode_alone(normal, [1], weights, Mixing("forward-kl"), limits)[0]
        theirs = decode_alone(raw, [1], weights, PublishedMixing("forward-kl"), limits)[0]
        different += ours != theirs
    assert 5 < different < 40
