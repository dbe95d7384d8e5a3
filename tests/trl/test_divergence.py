"""KL of responses against plain logits, and against all responses that there are."""

from __future__ import annotations

import itertools
import math

import pytest
import tiny_models
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from palm_core import WorkError
from palm_trl import inference
from palm_trl.inference import Policy, divergences

SMALL, END = 5, 1
PROMPTS = [(0, 5, 6, 7, 8, 9), (0, 5), (0, 9, 8), (0, 5, 6, 7)]
RESPONSES = [(4, 5, 6), (7, 8, 9, 10, 11, 12, 13), (1,), (300, 2, 2, 9)]


def small_model(seed):
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=SMALL, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=32,
        )
    )  # fmt: skip
    for weights in model.parameters():
        weights.data *= 8
    return model.eval()


def log_probs(model, prompt, response, temperature):
    """(T, V) by one plain forward pass for each prefix."""
    found = []
    for place in range(len(response)):
        with torch.no_grad():
            ids = torch.tensor([[*prompt, *response[:place]]])
            logits = model(input_ids=ids).logits[0, -1].double()
        found.append((logits / temperature).log_softmax(-1))
    return torch.stack(found)


def all_responses(new_tokens):
    """Those that end, and those that are cut off."""
    found = []
    for length in range(1, new_tokens + 1):
        found += [
            tokens
            for tokens in itertools.product(range(SMALL), repeat=length)
            if END not in tokens[:-1] and (tokens[-1] == END or length == new_tokens)
        ]
    return found


@pytest.mark.parametrize(("new_tokens", "temperature"), [(1, 1.0), (2, 0.5), (3, 1.0), (3, 2.0)])
def test_both_means_over_all_responses_are_the_kl_of_responses(new_tokens, temperature):
    ours, theirs, prompt = small_model(1), small_model(2), (0, 3)
    responses = all_responses(new_tokens)
    log_p, log_q = (
        [
            float(log_probs(model, prompt, one, temperature)[range(len(one)), list(one)].sum())
            for one in responses
        ]
        for model in (ours, theirs)
    )
    shares = [math.exp(value) for value in log_p]
    assert sum(shares) == pytest.approx(1, abs=1e-6)
    exact = sum(p * (a - b) for p, a, b in zip(shares, log_p, log_q, strict=True))
    assert exact > 0.05
    found = divergences(
        Policy(ours, theirs),
        [prompt] * len(responses),
        responses,
        temperature=temperature,
        rows=50,
    )
    for mean in (
        sum(p * one.full for p, one in zip(shares, found, strict=True)),
        sum(p * one.k1 for p, one in zip(shares, found, strict=True)),
    ):
        assert mean == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mistral", "qwen2-sliding"])
def test_a_batch_is_each_response_alone_by_plain_logits(kind):
    ours, theirs = (tiny_models.new_model(kind, 320, seed=seed).eval() for seed in (1, 2))
    for model in (ours, theirs):
        for weights in model.parameters():
            weights.data *= 2
    found = divergences(Policy(ours, theirs), PROMPTS, RESPONSES, temperature=0.7, rows=64)
    for prompt, response, nats in zip(PROMPTS, RESPONSES, found, strict=True):
        log_p = log_probs(ours, prompt, response, 0.7)
        log_q = log_probs(theirs, prompt, response, 0.7)
        along = (log_p - log_q)[range(len(response)), list(response)].sum()
        assert nats.full == pytest.approx(float((log_p.exp() * (log_p - log_q)).sum()), rel=1e-4)
        assert nats.k1 == pytest.approx(float(along), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "value"), [("_LOGITS", 320), ("_LOGITS", 320 * 10), ("_PART_ON_CPU", 1)]
)
def test_however_little_is_held_at_once(monkeypatch, name, value):
    ours, theirs = (tiny_models.new_model("llama", 320, seed=seed).eval() for seed in (1, 2))
    settings = {"temperature": 1.0, "rows": 64}
    whole = divergences(Policy(ours, theirs), PROMPTS, RESPONSES, **settings)
    sizes = []
    ours.register_forward_pre_hook(
        lambda module, args, given: sizes.append(len(given["input_ids"])), with_kwargs=True
    )
    monkeypatch.setattr(inference, name, value)
    parts = divergences(Policy(ours, theirs), PROMPTS, RESPONSES, **settings)
    assert [one.full for one in parts] == pytest.approx([one.full for one in whole], rel=1e-5)
    assert [one.k1 for one in parts] == pytest.approx([one.k1 for one in whole], abs=1e-5)
    wanted = {320: [1, 1, 1, 1], 320 * 10: [1, 2, 1], 1: [4]}
    assert sizes == wanted[value]


def test_a_model_is_nothing_from_itself():
    model = tiny_models.new_model("llama", 320).eval()
    for policy in (Policy(model, model), Policy(model, None)):
        found = divergences(policy, PROMPTS, RESPONSES, temperature=1.0, rows=3)
        assert found == [(0.0, 0.0)] * 4


def test_what_is_never_said_costs_nothing_and_what_the_reference_never_says_everything():
    ours, theirs = (tiny_models.new_model("llama", 320, seed=seed).eval() for seed in (1, 2))

    def never(module, args, output):
        output.logits[..., 40] = -torch.inf

    ours.register_forward_hook(never)
    found = divergences(Policy(ours, theirs), PROMPTS, RESPONSES, temperature=1.0, rows=3)
    assert all(0 < one.full < 100 for one in found)
    with pytest.raises(WorkError, match="the KL of response 0 is inf: must be finite"):
        divergences(Policy(theirs, ours), PROMPTS, RESPONSES, temperature=1.0, rows=3)


def test_a_prediction_that_is_no_number_is_told():
    model = tiny_models.new_model("llama", 320).eval()
    broken = tiny_models.new_model("llama", 320).eval()
    broken.lm_head.weight.data[:] = torch.nan
    with pytest.raises(WorkError, match="the KL of response 0 is nan: must be finite"):
        divergences(Policy(broken, model), PROMPTS, RESPONSES, temperature=1.0, rows=3)
