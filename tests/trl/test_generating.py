"""Responses depend on the seed, the prompt and the number of the sample, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_models
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, GenerationConfig

from palm_core import WorkError
from palm_eval.plugin import in_batches
from palm_trl.inference import Wanted, draw, inverse, uniforms, wanted_of

KINDS = ("llama", "gpt2", "mistral", "qwen2-sliding")
PROMPTS = [(0, 5, 6, 7, 8, 9, 10, 11, 12), (0, 5), (0, 9, 8, 7), (0, 5, 6, 7, 200)]
ENDS = (1, 17)


@pytest.fixture(scope="module")
def model_of():
    made = {}

    def get(kind):
        if kind not in made:
            model = tiny_models.new_model(kind, 320, seed=3)
            # far from uniform, so that draws depend on what came before
            for name, weights in model.named_parameters():
                if "norm" not in name and "ln_" not in name:
                    weights.data *= 4
            model.generation_config = GenerationConfig()
            made[kind] = model.eval()
        return made[kind]

    return get


def drawn(model, wanted, **changes):
    settings = {"seed": 7, "temperature": 0.8, "new_tokens": 12, "ends": ENDS, "rows": 64}
    return draw(model, wanted, **(settings | changes))


def by_hand(model, one, temperature=0.8, new_tokens=12, seed=7):
    """The definition: the whole prefix read anew for each token, alone and without a cache."""
    tokens = []
    for u in uniforms(seed, one, new_tokens):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*one.prompt, *tokens]])).logits[0, -1]
        shares = np.exp((logits.double() / temperature).log_softmax(-1).numpy()).cumsum()
        tokens.append(int(np.argmax(shares > u)))
        if tokens[-1] in ENDS:
            break
    return tuple(tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_draws_what_each_prompt_draws_alone_by_plain_logits(model_of, kind):
    model, wanted = model_of(kind), wanted_of(PROMPTS, 3)
    expected = [by_hand(model, one) for one in wanted]
    assert drawn(model, wanted) == expected
    assert len(set(expected)) > len(PROMPTS), "the samples of a prompt must differ"


def test_neither_rows_nor_order_matter(model_of):
    model, wanted = model_of("llama"), wanted_of(PROMPTS, 4)
    found = drawn(model, wanted)
    for rows in (1, 3, 5):
        assert drawn(model, wanted, rows=rows) == found
    assert drawn(model, wanted[::-1])[::-1] == found


def test_more_tokens_go_on_where_fewer_were_cut(model_of):
    model, wanted = model_of("llama"), wanted_of(PROMPTS, 4)
    short, long = drawn(model, wanted, new_tokens=5), drawn(model, wanted, new_tokens=12)
    assert short == [tokens[:5] for tokens in long]
    assert {len(tokens) for tokens in long} - set(range(6))


def test_a_response_ends_with_its_first_end_token_or_where_it_is_full(model_of):
    model, wanted = model_of("llama"), wanted_of(PROMPTS, 64)
    found = drawn(model, wanted, temperature=3.0, ends=range(0, 320, 16))
    for tokens in found:
        inside = [token % 16 == 0 for token in tokens]
        assert not any(inside[:-1])
        assert inside[-1] or len(tokens) == 12
    assert {len(tokens) for tokens in found} >= {1, 2, 12}
    assert all(len(tokens) == 12 for tokens in drawn(model, wanted[:9], ends=()))


def test_the_makers_settings_of_generation_do_nothing(model_of, tmp_path):
    from palm_trl.inference import _plain

    model = model_of("llama")
    model.generation_config = GenerationConfig(
        do_sample=True, top_k=1, repetition_penalty=9.0, temperature=0.1, eos_token_id=1
    )
    model.save_pretrained(tmp_path)
    model.generation_config = GenerationConfig()
    again = _plain(AutoModelForCausalLM.from_pretrained(tmp_path))
    wanted = wanted_of(PROMPTS, 4)
    assert drawn(again, wanted, ends=()) == drawn(model, wanted, ends=())


def test_seeds_and_samples_differ_and_numbers_stay_what_they_are():
    one = Wanted((5, 6), 0)
    expected = [0.543545, 0.26868, 0.639145]
    assert uniforms(0, one, 3).round(6).tolist() == expected
    assert np.array_equal(uniforms(0, one, 9)[:3], uniforms(0, one, 3))
    others = [(1, one), (0, Wanted((5, 6), 1)), (0, Wanted((5,), 6)), (0, Wanted((6, 5), 0))]
    assert len({uniforms(seed, other, 1)[0] for seed, other in [(0, one), *others]}) == 5


def test_numbers_are_uniform():
    found = np.concatenate([uniforms(seed, Wanted((1, 2), 0), 50) for seed in range(2000)])
    counts = np.histogram(found, bins=20, range=(0, 1))[0]
    # chi-square with 19 degrees of freedom: 43.8 is its 0.999 quantile
    assert ((counts - 5000) ** 2 / 5000).sum() < 43.8
    assert found.min() > 0
    assert found.max() < 1


def test_a_prompt_that_stands_twice_gets_other_responses():
    found = wanted_of([(1, 2), (3,), (1, 2)], 2)
    assert [one.sample for one in found] == [0, 1, 0, 1, 2, 3]
    assert len(set(found)) == 6


@given(
    st.lists(st.one_of(st.just(-np.inf), st.floats(-30, 30)), min_size=2, max_size=9),
    st.floats(2.0**-53, 1 - 2.0**-53),
    st.sampled_from([0.5, 1.0, 2.0]),
)
def test_the_inverse_of_the_distribution_function(logits, u, temperature):
    if max(logits) == -np.inf:
        return
    shares = np.exp(np.array(logits) / temperature - max(logits) / temperature)
    shares /= shares.sum()
    token = int(inverse(torch.tensor([logits]).double(), temperature, torch.tensor([u]).double()))
    assert logits[token] > -np.inf
    assert shares[:token].sum() <= u + 1e-12
    assert shares[: token + 1].sum() >= u - 1e-12


def test_tokens_are_drawn_with_their_probabilities(model_of):
    model, count = model_of("llama"), 4000
    wanted = [Wanted((0, 5, 6), sample) for sample in range(count)]
    found = [tokens[0] for tokens in drawn(model, wanted, new_tokens=1, rows=1000)]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[0, 5, 6]])).logits[0, -1].double()
    shares = (logits / 0.8).softmax(-1).numpy()
    likely = np.argsort(-shares)[:5]
    for token in likely:
        error = np.sqrt(shares[token] * (1 - shares[token]) / count)
        assert abs(found.count(token) / count - shares[token]) < 4.5 * error


def test_predictions_that_are_no_numbers_are_told():
    model = tiny_models.new_model("llama", 320)
    model.generation_config = GenerationConfig()
    model.lm_head.weight.data[:] = torch.nan
    with pytest.raises(WorkError, match="is not a number: training may have diverged"):
        drawn(model, wanted_of(PROMPTS, 1))


def test_batches_get_smaller_where_memory_runs_out(caplog):
    sizes = []

    def work(items):
        sizes.append(len(items))
        if len(items) > 3:
            raise torch.OutOfMemoryError("no memory")
        return [item * 2 for item in items]

    assert in_batches(range(10), 8, work) == [item * 2 for item in range(10)]
    assert sizes == [8, 4, 2, 2, 2, 2, 2]
    with pytest.raises(WorkError, match="out of memory with a single row"):
        in_batches(range(4), 4, lambda items: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(ZeroDivisionError):
        in_batches(range(4), 4, lambda items: [1 // 0])
