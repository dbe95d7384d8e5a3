"""The forest on real transformers equals decoding each weight vector alone, token for token."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import tiny_models
import torch
from naive import Alone, compare, naive_decode
from transformers import AutoModelForCausalLM

from palm_core import WorkError, sample_weights
from palm_eval.plugin import Responder
from palm_mod import Limits, Mixing, WeightSplitter, grow, load_experts
from palm_mod.causal_model import CausalModel, Running

# peft reads an attribute that transformers is about to rename.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

RAGGED = (0, 7, 14, 21)


@pytest.fixture(scope="module")
def alone():
    """The models of a family, each by itself; what they said is remembered for all tests."""
    made = {}

    def get(path: str, vocabulary: int) -> Alone:
        if path not in made:
            made[path] = Alone(
                AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32), vocabulary
            )
        return made[path]

    return get


def prompts_of(tokenizer, numbers):
    """Prompts of different lengths; the later ones have an earlier turn in front."""
    put = []
    for turn, number in enumerate(numbers):
        before = "" if turn % 3 else f"USER: {tiny_models.PROMPTS[-turn]} ASSISTANT: No.</s>"
        text = f"{before}USER: {tiny_models.PROMPTS[number]} ASSISTANT:"
        put.append(tokenizer(text)["input_ids"])
    assert len({len(ids) for ids in put}) > 1 or len(put) == 1
    return put


def weights_of(d, count, seed=0):
    """Every expert by itself, all alike, and others."""
    return np.concatenate(
        [np.eye(d), np.full((1, d), 1 / d), sample_weights(count, d, seed=seed)]
    ).astype("float32").astype("float64")  # fmt: skip


def decode(
    experts, prompts, weights, *, mixing=None, rows=64, new_tokens=16,
    on_complete=None, progress=None,
    ends=None, **limits,
):  # fmt: skip
    """The forest's answers as {(prompt, weight): leaf}, and what they cost."""
    splitter = WeightSplitter(weights, mixing or Mixing())
    group = tuple(range(len(weights)))
    leaves, counts = grow(
        experts,
        prompts,
        [group] * len(prompts),
        splitter,
        Limits(end_tokens=ends or experts.end_tokens, new_tokens=new_tokens, rows=rows, **limits),
        on_complete=on_complete,
        progress=progress,
    )
    found = {(leaf.prompt, one): leaf for leaf in leaves for one in leaf.members}
    assert len(found) == len(prompts) * len(weights)
    return found, counts


def check(found, models, prompts, weights, *, mixing=None, reference=None, **limits):
    """Compare all answers with decoding alone; near ties are counted and rare."""
    mixing = mixing or Mixing()
    ties, lengths = 0, []
    for (prompt, one), leaf in found.items():
        tokens, leads, sums = naive_decode(
            models,
            weights[one].tolist(),
            prompts[prompt],
            divergence=mixing.divergence,
            alpha=mixing.alpha,
            reference=reference,
            **limits,
        )
        lengths.append(len(tokens))
        if not compare(leaf.tokens, tokens, leads):
            ties += 1
            continue
        assert leaf.log_probs == pytest.approx(sums, abs=2e-3)
        assert leaf.margin <= min(leads) + 1e-4
    assert ties <= 0.01 * len(found)
    return lengths


def dividing(found):
    """The token at which the most of these answers would end at different lengths."""
    answers = [leaf.tokens for leaf in found.values()]
    tokens = sorted({token for answer in answers for token in answer})

    def lengths(token):
        return len({(*answer, token).index(token) for answer in answers})

    return frozenset({max(tokens, key=lengths)})


@pytest.mark.parametrize(
    ("kind", "d"),
    [
        *(("llama", 2), ("llama", 3), ("qwen2", 3), ("gpt2", 3), ("mistral", 3)),
        ("qwen2-sliding", 2),
        pytest.param("llama", 4, marks=pytest.mark.scheduled),
    ],
)
def test_equals_decoding_alone(kind, d, families, alone):
    paths = families(kind)["models"][:d]
    experts = load_experts(paths)
    prompts = prompts_of(experts.tokenizer, RAGGED)
    weights = weights_of(d, 4)
    # Whether the models have learnt to end is another matter.
    ends = dividing(decode(experts, prompts, weights)[0])
    found, counts = decode(experts, prompts, weights, ends=ends)
    lengths = check(
        found,
        [alone(path, experts.vocabulary) for path in paths],
        prompts,
        weights,
        end_tokens=ends,
        new_tokens=16,
    )
    assert len(set(lengths)) > 1  # they end at different times
    assert counts.rows < counts.alone  # something was shared
    assert len({(p, leaf.tokens) for (p, _), leaf in found.items()}) > len(
        prompts
    )  # experts disagree


def test_one_prompt_and_sixteen_are_the_same(families, alone):
    paths = families("llama")["models"][:3]
    experts = load_experts(paths)
    prompts = prompts_of(experts.tokenizer, range(16))
    weights = weights_of(3, 3)
    together, _ = decode(experts, prompts, weights, new_tokens=12)
    models = [alone(path, experts.vocabulary) for path in paths]
    limits = {"end_tokens": experts.end_tokens, "new_tokens": 12}
    some = {place: leaf for place, leaf in together.items() if place[0] % 4 == 1}
    check(some, models, prompts, weights, **limits)
    for number in (0, 9):
        single, _ = decode(experts, [prompts[number]], weights, new_tokens=12)
        for one in range(len(weights)):
            assert single[0, one].tokens == together[number, one].tokens
        assert len({leaf.tokens for leaf in single.values()}) > 1


@pytest.mark.parametrize("kind", ["mistral", "qwen2-sliding"])
def test_the_window_slides(kind, families):
    """The models above do forget, within the lengths that were compared."""
    model = AutoModelForCausalLM.from_pretrained(families(kind)["base"])
    ids = torch.randint(3, 300, (1, 2 * tiny_models.WINDOW), generator=torch.Generator())
    other = ids.clone()
    other[0, 0] += 1
    with torch.no_grad():
        a, b = model(ids).logits[0], model(other).logits[0]
    layers = 1 if kind == "qwen2-sliding" else 2
    reach = layers * (tiny_models.WINDOW - 1)
    assert not torch.equal(a[1], b[1])
    if kind == "mistral":
        assert torch.equal(a[reach + 1 :], b[reach + 1 :])


@pytest.mark.parametrize(
    "mixing",
    [Mixing("forward-kl"), Mixing("alpha", alpha=0.5), Mixing("jensen-shannon")],
    ids=lambda mixing: mixing.divergence,
)
def test_other_divergences(mixing, families, alone):
    family = families("qwen2")
    paths = family["models"][:2]
    experts = load_experts(paths, reference=family["base"])
    prompts = prompts_of(experts.tokenizer, RAGGED[:3])
    weights = weights_of(2, 4)
    found, _ = decode(experts, prompts, weights, mixing=mixing, new_tokens=12)
    check(
        found,
        [alone(path, experts.vocabulary) for path in paths],
        prompts,
        weights,
        mixing=mixing,
        reference=alone(family["base"], experts.vocabulary),
        end_tokens=experts.end_tokens,
        new_tokens=12,
    )


@pytest.mark.parametrize("kind", ["llama", pytest.param("gpt2", marks=pytest.mark.scheduled)])
def test_adapters_equal_merged_models(kind, adapters, alone):
    from peft import PeftModel

    family = adapters(kind)
    paths = family["adapters"][:3]
    experts = load_experts(base=family["base"], adapters=paths, reference=family["base"])
    prompts = prompts_of(experts.tokenizer, RAGGED)
    weights = weights_of(3, 5)
    found, _ = decode(experts, prompts, weights, new_tokens=12)
    merged = [
        Alone(
            PeftModel.from_pretrained(
                AutoModelForCausalLM.from_pretrained(family["base"]), path
            ).merge_and_unload(),
            experts.vocabulary,
        )
        for path in paths
    ]
    check(
        found,
        merged,
        prompts,
        weights,
        reference=alone(family["base"], experts.vocabulary),  # its log-probabilities, too
        end_tokens=experts.end_tokens,
        new_tokens=12,
    )
    assert len({(p, leaf.tokens) for (p, _), leaf in found.items()}) > len(prompts)


@pytest.mark.parametrize(
    "kind", ["qwen2-sliding", pytest.param("llama", marks=pytest.mark.scheduled)]
)
def test_the_row_budget_changes_nothing(kind, families):
    experts = load_experts(families(kind)["models"][:3])
    prompts = prompts_of(experts.tokenizer, RAGGED)
    weights = weights_of(3, 8)
    wide, much = decode(experts, prompts, weights, new_tokens=12)
    assert much.most_held > 7
    for rows in (1, 7):
        narrow, counts = decode(experts, prompts, weights, rows=rows, new_tokens=12)
        assert counts.most_held <= rows
        assert counts.read_again > 0
        for place, leaf in wide.items():
            assert narrow[place].tokens == leaf.tokens
            assert narrow[place].log_probs == pytest.approx(leaf.log_probs, abs=1e-3)


def test_the_total_length_ends_responses(families, alone):
    paths = families("gpt2")["models"][:2]
    experts = load_experts(paths)
    prompts = prompts_of(experts.tokenizer, RAGGED)
    total = max(map(len, prompts)) + 3
    weights = weights_of(2, 2)
    found, _ = decode(experts, prompts, weights, total=total)
    lengths = check(
        found,
        [alone(path, experts.vocabulary) for path in paths],
        prompts,
        weights,
        total=total,
        end_tokens=experts.end_tokens,
        new_tokens=16,
    )
    assert 3 in lengths
    assert all(len(prompts[p]) + len(leaf.tokens) <= total for (p, _), leaf in found.items())


def small_memory(monkeypatch, rows):
    """The models cannot read more rows than that at once, and fail as PyTorch does."""
    run = CausalModel.run

    def read(self, ids, *given):
        if len(ids) > rows * self.width:
            torch.empty(2**60)
        return run(self, ids, *given)

    monkeypatch.setattr(CausalModel, "run", read)


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_out_of_memory_halves_the_rows_and_goes_on(kind, families, monkeypatch, caplog):
    experts = load_experts(families(kind)["models"][:3])
    prompts = prompts_of(experts.tokenizer, RAGGED)
    weights = weights_of(3, 8)
    wide, plenty = decode(experts, prompts, weights)
    assert plenty.halvings == 0
    small_memory(monkeypatch, 6)
    heard = []
    found, counts = decode(experts, prompts, weights, on_complete=heard.append)
    assert counts.halvings >= 1
    assert "out of memory with " in caplog.text
    assert {place: leaf.tokens for place, leaf in found.items()} == {
        place: leaf.tokens for place, leaf in wide.items()
    }
    assert sorted((leaf.prompt, leaf.members) for leaf in heard) == sorted(
        {(leaf.prompt, leaf.members) for leaf in found.values()}
    )  # each response once: nothing was lost or done again
    small_memory(monkeypatch, 0)
    with pytest.raises(WorkError, match="out of memory with a single row: .*DefaultCPUAllocator"):
        decode(experts, prompts, weights)


def test_progress_tells_and_stopping_frees_the_caches(families, monkeypatch):
    experts = load_experts(families("llama")["models"][:2])
    prompts = prompts_of(experts.tokenizer, RAGGED)
    caches = []
    read = Running.read

    def watched(self, ids):
        caches.append(weakref.ref(self.cache))
        read(self, ids)

    monkeypatch.setattr(Running, "read", watched)
    seen = []

    def progress(counts, going):
        seen.append((counts.rows, going))
        if counts.steps == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        decode(experts, prompts, weights_of(2, 2), progress=progress)
    assert len(seen) == 4
    assert seen == sorted(seen, key=lambda one: one[0])
    assert seen[0] == (4, seen[0][1])
    assert len(caches) == 2 * 4
    del caught
    gc.collect()
    assert all(cache() is None for cache in caches)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_logit_that_is_no_number_names_model_and_prompt(place, families):
    """A model that fails at one token only: the prompt that has it is named."""
    family = families("llama")
    experts = load_experts(family["models"][:2], reference=family["base"])
    prompts = prompts_of(experts.tokenizer, RAGGED)
    missing = next(token for token in prompts[3] if not any(token in p for p in prompts[:3]))
    with torch.inference_mode():
        experts.models[place].inner.get_input_embeddings().weight[missing] = float("nan")
    with pytest.raises(WorkError) as caught:
        decode(experts, prompts, weights_of(2, 1))
    path = [*family["models"][:2], family["base"]][place]
    name = f"models[{place}]" if place < 2 else "reference"
    assert str(caught.value) == (
        f"{name} = {path!r}: its prediction for prompt 3 after 0 tokens is not a number"
    )


def test_a_stop_string_ends_a_response_on_models(families):
    experts = load_experts(families("llama")["models"][:2])
    prompts = prompts_of(experts.tokenizer, RAGGED)
    weights = weights_of(2, 4)
    free, _ = decode(experts, prompts, weights)
    plain = Responder(experts.tokenizer)
    letters = "".join(plain.text(leaf.tokens)[3:] for leaf in free.values())
    often = max(set(letters) - {" "}, key=letters.count)
    said = Responder(experts.tokenizer, [often])
    found, _ = decode(experts, prompts, weights, stop=said.stopped)
    cut = 0
    for place, leaf in found.items():
        whole = plain.text(free[place].tokens)
        assert said.text(leaf.tokens) == whole.split(often)[0]
        assert leaf.tokens == free[place].tokens[: len(leaf.tokens)]
        cut += len(leaf.tokens) < len(free[place].tokens)
        if often in whole:
            assert leaf.ended
            assert often not in plain.text(leaf.tokens[:-1])
    assert cut > 3
