"""Experts on a batch of prefixes: padding, positions, caches, vocabularies, memory."""

from __future__ import annotations

import inspect

import pytest
import tiny_models
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, BertConfig, BertLMHeadModel

from palm_core import InputError, WorkError
from palm_eval.lm import memory
from palm_mod import causal_model, load_experts
from palm_mod.causal_model import CausalModel
from palm_mod.experts import Experts, Memory

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

KINDS = ["llama", "qwen2", "gpt2", "mistral", "qwen2-sliding"]


@pytest.fixture(scope="module")
def untrained():
    """By kind a model that only has chance weights, large enough to matter."""
    made = {}

    def get(kind):
        if kind not in made:
            model = tiny_models.new_model(kind, 320)
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.ndim == 2:
                        parameter.mul_(8.0)
            made[kind] = CausalModel(model, kind)
        return made[kind]

    return get


def alone(model, prefix):
    with torch.no_grad():
        logits = model.inner(torch.tensor([list(prefix)]), use_cache=False).logits
    return logits[0, -1].double().log_softmax(dim=-1)


def check(model, running, prefixes):
    for row, prefix in enumerate(prefixes):
        wanted = alone(model, prefix)
        found = running.log_probs[row, 0].double()
        assert torch.allclose(found.exp(), wanted.exp(), atol=1e-4), (row, prefix)
    assert running.log_probs.dtype == torch.float32
    assert torch.allclose(running.log_probs.exp().sum(dim=-1), torch.ones(()), atol=1e-5)


TOKEN = st.integers(3, 319)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=settings().max_examples // 5)
def test_any_walk_over_prefixes_predicts_as_alone(kind, data, untrained):
    """Rows are repeated, dropped, exchanged; prefixes pass the window of those that have one."""
    model = untrained(kind)
    prefixes = data.draw(st.lists(st.lists(TOKEN, min_size=1, max_size=12), min_size=1, max_size=4))
    running = model.start(prefixes, 320)
    check(model, running, prefixes)
    for _ in range(data.draw(st.integers(1, 4))):
        parents = data.draw(st.lists(st.integers(0, len(prefixes) - 1), min_size=1, max_size=4))
        tokens = data.draw(st.lists(TOKEN, min_size=len(parents), max_size=len(parents)))
        running.step(torch.tensor(parents), torch.tensor(tokens))
        prefixes = [[*prefixes[p], t] for p, t in zip(parents, tokens, strict=True)]
        check(model, running, prefixes)


@pytest.mark.parametrize(
    ("kind", "sliding"), [("mistral", [True, True]), ("qwen2-sliding", [False, True])]
)
def test_layers_with_a_window_keep_no_more_than_it(kind, sliding, untrained):
    running = untrained(kind).start([range(3, 23), [5, 6]], 320)
    for step in range(3):
        kept = [layer.keys.shape[-2] for layer in running.cache.layers]
        assert kept == [tiny_models.WINDOW - 1 if slides else 20 + step for slides in sliding]
        running.step(torch.tensor([0, 1]), torch.tensor([7, 8]))


def test_all_experts_and_the_reference_last(families):
    family = families("llama")
    experts = load_experts(family["models"][:2], reference=family["base"])
    state = experts.start([[0, 40, 50], [0, 60, 70, 80, 90]])
    assert state.log_probs.shape == (2, 3, 320)
    for place, path in enumerate([*family["models"][:2], family["base"]]):
        model = CausalModel(AutoModelForCausalLM.from_pretrained(path), path)
        wanted = alone(model, [0, 40, 50])
        assert torch.allclose(state.log_probs[0, place].double(), wanted, atol=1e-4)
    stepped = state.step(torch.tensor([1, 1, 0]), torch.tensor([7, 8, 9]))
    assert stepped.log_probs.shape == (3, 3, 320)


def test_adapters_share_one_forward_pass(adapters, monkeypatch):
    family = adapters("llama")
    experts = load_experts(
        base=family["base"], adapters=family["adapters"][:3], reference=family["base"]
    )
    assert (experts.n_experts, experts.has_reference, len(experts.models)) == (3, True, 1)
    sizes = []
    run = CausalModel.run
    monkeypatch.setattr(
        CausalModel, "run", lambda self, ids, *a: sizes.append(len(ids)) or run(self, ids, *a)
    )
    state = experts.start([[0, 40, 50], [0, 60]])
    state.step(torch.tensor([1, 0, 1]), torch.tensor([7, 8, 9]))
    assert sizes == [2 * 4, 3 * 4]  # one pass each: rows for every adapter and the base
    base = CausalModel(AutoModelForCausalLM.from_pretrained(family["base"]), "base")
    wanted = alone(base, [0, 40, 50, 8])
    assert torch.allclose(state.log_probs[1, 3].double(), wanted, atol=1e-4)
    assert not torch.allclose(state.log_probs[1, 0], state.log_probs[1, 3], atol=1e-2)


def test_predictions_beyond_the_vocabulary_have_no_probability(untrained):
    model = untrained("llama")
    whole = model.start([[5, 6, 7]], 320).log_probs
    cut = model.start([[5, 6, 7]], 300).log_probs
    assert cut.shape == (1, 1, 300)
    assert torch.allclose(cut.exp().sum(), torch.ones(()), atol=1e-5)
    assert torch.allclose(cut, whole[..., :300].log_softmax(dim=-1), atol=1e-5)


def test_raw_logits_are_left_as_they_are(families):
    experts = load_experts(families("llama")["models"][:2])
    normalised = experts.start([[0, 40]]).log_probs
    experts.raw_logits = True
    raw = experts.start([[0, 40]]).log_probs
    assert torch.allclose(raw.log_softmax(dim=-1), normalised, atol=1e-5)
    assert float(raw.exp().sum(dim=-1).max()) > 1.5


def test_a_token_that_no_expert_has_is_refused(families):
    experts = load_experts(families("llama")["models"][:2])
    with pytest.raises(InputError, match="token 320 is beyond .* vocabulary of 320"):
        experts.start([[0, 5], [0, 320]])


def test_a_model_that_is_wrong_in_batches_is_found():
    """What a model would do that ignores the mask, or the positions."""
    for ignored in ("attention_mask", "position_ids"):
        model = CausalModel(tiny_models.new_model("gpt2", 320), "./gpt")
        with torch.no_grad():
            for parameter in model.inner.parameters():
                parameter.mul_(4.0)
        causal_model.probe(model, 320)
        forward = model.model.forward
        model.model.forward = lambda ignored=ignored, forward=forward, **given: forward(
            **{name: value for name, value in given.items() if name != ignored}
        )
        with pytest.raises(
            WorkError, match=r"^\./gpt: GPT2LMHeadModel predicts differently in a b"
        ):
            causal_model.probe(model, 320)


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_sees_what_follows_is_found():
    config = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=16, initializer_range=0.5,
    )  # fmt: skip
    with pytest.raises(
        WorkError, match="BertLMHeadModel predicts differently in a batch than alone"
    ):
        causal_model.probe(CausalModel(BertLMHeadModel(config), "./bert"), 50)


def test_a_model_that_keeps_no_cache_is_found():
    model = CausalModel(tiny_models.new_model("gpt2", 320), "./gpt")
    forward = model.model.forward
    model.model.forward = lambda cache=None, past_key_values=None, **given: forward(**given)
    with pytest.raises(WorkError, match=r"^\./gpt: GPT2LMHeadModel does not fill the cache"):
        causal_model.probe(model, 320)


def with_arguments(*caches):
    """A model that takes its cache by these names only; and the caches that it was given."""
    whole = tiny_models.new_model("llama", 320)
    own = "cache" if "cache" in inspect.signature(whole.forward).parameters else "past_key_values"
    given = []

    class Named(torch.nn.Module):
        config, dtype = whole.config, whole.dtype
        get_input_embeddings = staticmethod(whole.get_input_embeddings)

        def forward(self, **passed):
            found = [passed.pop(name) for name in caches if name in passed]
            given.extend(found)
            assert not passed.keys() - {"input_ids", "attention_mask", "position_ids", "use_cache"}
            return whole(**passed, **({own: found[0]} if found else {}))

    names = ("self", "input_ids", "attention_mask", "position_ids", "use_cache", *caches)
    Named.forward.__signature__ = inspect.Signature(
        [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    )
    return Named(), given


@pytest.mark.parametrize("names", [["cache"], ["past_key_values"], ["cache", "past_key_values"]])
def test_the_cache_goes_where_the_model_takes_it(names):
    model, given = with_arguments(*names)
    causal_model.probe(CausalModel(model, "./named"), 320)
    assert len(given) == 2  # for a batch, and one step on
    assert given[0] is given[1]


def test_a_model_that_takes_no_cache_is_refused():
    with pytest.raises(InputError, match=r"^\./none: Named takes no cache or past_key_values"):
        CausalModel(with_arguments()[0], "./none")


def test_a_model_that_is_broken_from_the_start_is_found(untrained):
    model = CausalModel(tiny_models.new_model("llama", 320), "./broken")
    with torch.no_grad():
        model.inner.get_output_embeddings().weight[7] = float("inf")
    with pytest.raises(WorkError, match=r"^\./broken: a logit is not a number, for any prompt"):
        causal_model.probe(model, 320)


def test_a_model_that_takes_no_mask_is_refused():
    class Bare(torch.nn.Module):
        config = None

        def forward(self, input_ids):
            raise AssertionError

    with pytest.raises(InputError, match=r"^\./bare: Bare takes no attention_mask"):
        CausalModel(Bare(), "./bare")


def test_the_memory_of_a_row(families, adapters):
    family = families("llama")
    experts = load_experts(family["models"][:2])
    # keys and values, 2 layers, 2 heads of 8 numbers, 4 bytes, 2 models
    assert experts.memory.cache == 2 * 2 * 2 * 8 * 4 * 2
    assert experts.memory.predictions == 2 * 320 * 4
    held = AutoModelForCausalLM.from_pretrained(family["base"]).num_parameters() * 4
    assert experts.memory.weights == pytest.approx(2 * held, rel=0.01)
    lora = adapters("llama")
    shared = load_experts(base=lora["base"], adapters=lora["adapters"][:2], reference=lora["base"])
    assert shared.memory.cache == 3 * experts.memory.cache // 2
    assert shared.memory.weights < 1.5 * held


def test_rows_that_fit(monkeypatch):
    some = Memory(weights=10**9, cache=1000, predictions=500)
    for free in (1, 10**6, 10**8):
        rows = some.rows_that_fit(free, 100)
        assert rows >= 1
        assert rows == 1 or some.of_rows(rows, 100) <= 0.8 * free < some.of_rows(rows + 1, 100)
    assert some.rows_that_fit(10**8, 200) < some.rows_that_fit(10**8, 100)
    with pytest.raises(InputError, match="length = 0: must be"):
        some.rows_that_fit(10**8, 0)


def test_free_memory_is_told_and_limits_the_rows(families, monkeypatch):
    experts = load_experts(families("llama")["models"][:2])
    free = memory.free_bytes(torch.device("cpu"))
    assert free is not None
    assert 2**20 < free < 2**50
    assert experts.rows_that_fit(100) == 256
    assert experts.rows_that_fit(100, most=9) == 9
    monkeypatch.setattr("palm_mod.experts.free_bytes", lambda device: 10**6)
    assert experts.rows_that_fit(100) == int(0.8e6) // (100 * 512 + 6 * 2560)
    monkeypatch.setattr("palm_mod.experts.free_bytes", lambda device: None)
    assert experts.rows_that_fit(100) is None


def test_what_says_out_of_memory():
    with pytest.raises(RuntimeError) as real:
        torch.empty(2**60)
    assert memory.out_of_memory(real.value)
    assert memory.out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"))
    assert memory.out_of_memory(MemoryError())
    assert not memory.out_of_memory(RuntimeError("shapes do not match"))
    assert not memory.out_of_memory(WorkError("out of memory with a single row"))
    assert not memory.out_of_memory(KeyboardInterrupt("out of memory"))


def test_halving_ends_at_one_row(caplog):
    assert memory.halved(9, MemoryError("no room")) == 4
    assert "out of memory with 9 rows, retrying with 4: no room" in caplog.text
    with pytest.raises(WorkError, match="out of memory with a single row: no room"):
        memory.halved(1, MemoryError("no room\nmore"))


def test_names_must_be_as_many_as_predictions(untrained):
    with pytest.raises(InputError, match="names: has 3 entries, must have 2"):
        Experts(
            [untrained("llama"), untrained("gpt2")], ["a", "b", "c"], reference=False,
            tokenizer=None, vocabulary=320,
        )  # fmt: skip
