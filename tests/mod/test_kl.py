"""KL(π_w ‖ π_ref) against sums over all responses there are."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from fake_models import FakeModels

from palm_mod import GumbelNoise, Limits, Mixing, WeightSplitter, grow
from palm_mod.kl import Meter, kl

WEIGHTS = np.array([[1.0, 0.0], [0.6, 0.4], [0.25, 0.75]])
LIMITS = Limits(end_tokens=frozenset({0}), new_tokens=3)


def enumerated(models, prompt, weights, mixing, temperature, limits=LIMITS):
    """KL of all responses, Σ_y π(y) (log π(y) − log π_ref(y)), by walking over every y."""
    total = 0.0

    def walk(tokens, sums, p, log_p, log_ref):
        nonlocal total
        if (tokens and tokens[-1] in limits.end_tokens) or len(tokens) == limits.new_tokens:
            total += p * (log_p - log_ref)
            return
        step = models.predict((*prompt, *tokens))
        scores = mixing.scores(step.unsqueeze(0), torch.tensor([weights]), sums.unsqueeze(0))
        policy = (scores[0].double() / temperature).softmax(dim=-1).tolist()
        for token, chance in enumerate(policy):
            if chance == 0:
                continue
            walk(
                (*tokens, token),
                sums + step[:, token].double(),
                p * chance,
                log_p + math.log(chance),
                log_ref + step[-1, token].item(),
            )

    walk((), torch.zeros(3, dtype=torch.float64), 1.0, 0.0, 0.0)
    return total


def sampled(models, prompt, mixing, temperature, draws, limits=LIMITS):
    """Σ_k KL along each of ``draws`` responses: (weights, draws)."""
    splitter = WeightSplitter(WEIGHTS, mixing)
    noise = GumbelNoise(5, models.vocabulary, temperature, None)
    meter = Meter(splitter, noise, temperature)
    members = [(0, 1, 2)] * draws
    leaves, _ = grow(models, [prompt] * draws, members, meter, limits, noise=meter.noise)
    plain, _ = grow(models, [prompt] * draws, members, splitter, limits, noise=noise)
    assert leaves == plain  # measuring changes nothing
    return np.array([[meter.nats(i, w) for i in range(draws)] for w in range(len(WEIGHTS))])


@pytest.mark.parametrize(
    "mixing", [Mixing(), Mixing("forward-kl"), Mixing("jensen-shannon")], ids=lambda m: m.divergence
)
def test_the_mean_along_samples_is_that_over_all_responses(mixing):
    models = FakeModels(2, 4, seed=3, reference=True, disagreement=1.0, spread=1.0)
    found = sampled(models, (1, 2), mixing, 0.8, draws=800)
    for row, values in zip(WEIGHTS, found, strict=True):
        exact = enumerated(models, (1, 2), row.tolist(), mixing, 0.8)
        error = values.std(ddof=1) / math.sqrt(len(values))
        assert error < 0.1 * exact
        assert values.mean() == pytest.approx(exact, abs=4 * error)
        assert (values >= 0).all()


def test_one_step_is_exact_whatever_is_drawn():
    models = FakeModels(2, 6, seed=1, reference=True, disagreement=1.0)
    limits = Limits(new_tokens=1)
    found = sampled(models, (3,), Mixing(), 1.3, draws=4, limits=limits)
    for row, values in zip(WEIGHTS, found, strict=True):
        exact = enumerated(models, (3,), row.tolist(), Mixing(), 1.3, limits)
        assert values == pytest.approx(np.full(4, exact), rel=1e-4)


def test_rows_that_wait_are_measured_once():
    models = FakeModels(2, 5, seed=2, reference=True, disagreement=1.0)
    wide = sampled(models, (1, 2), Mixing(), 1.0, draws=20)
    narrow = sampled(models, (1, 2), Mixing(), 1.0, draws=20, limits=replace(LIMITS, rows=2))
    assert wide == pytest.approx(narrow, rel=1e-5)


def test_a_step_that_is_done_again_is_measured_once(monkeypatch):
    models = FakeModels(2, 5, seed=2, reference=True, disagreement=1.0)
    plain = sampled(models, (1, 2), Mixing(), 1.0, draws=12)
    split, calls = WeightSplitter.split, []

    def tight(self, log_probs, sums, members):
        calls.append(len(members))
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return split(self, log_probs, sums, members)

    monkeypatch.setattr(WeightSplitter, "split", tight)
    again = sampled(models, (1, 2), Mixing(), 1.0, draws=12)
    assert calls[2] < calls[1]
    assert again == pytest.approx(plain, rel=1e-5)


def test_an_expert_that_is_its_own_reference_costs_nothing():
    models = FakeModels(2, 5, seed=4, reference=True, disagreement=1.0)
    predict = models.predict

    def same(prefix):
        step = predict(prefix).clone()
        step[-1] = step[0]
        return step

    models.predict = same
    found = sampled(models, (1,), Mixing(), 1.0, draws=10)
    assert found[0] == pytest.approx(np.zeros(10), abs=1e-5)
    assert found[2].min() > 0.01


def test_greedy_is_a_point_mass():
    # the limit T → 0 of the distribution that is sampled
    models = FakeModels(2, 4, seed=6, reference=True, disagreement=1.0)
    leaves, _ = grow(models, [(1,)], [(0, 1, 2)], WeightSplitter(WEIGHTS, Mixing()), LIMITS)
    for leaf in leaves:
        for member in leaf.members:
            cold = enumerated(models, (1,), WEIGHTS[member].tolist(), Mixing(), 1e-4)
            assert -leaf.log_probs[-1] == pytest.approx(cold, rel=1e-3)


def test_kl_of_hand_made_distributions():
    p = torch.tensor([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5]]).log()
    q = torch.tensor([0.25, 0.25, 0.5]).log()
    assert kl(p, q).tolist() == pytest.approx([math.log(2), 0.0])
    impossible = torch.tensor([0.5, 0.0, 0.5]).log()
    assert kl(p, impossible).tolist() == [math.inf, math.inf]
