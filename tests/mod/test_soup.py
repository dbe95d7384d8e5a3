"""The oracle `soup`: averages of parameters, whole and of adapters."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny_models
import torch
from transformers import AutoModelForCausalLM

from palm_core import InputError
from palm_core.testing import check_conformance
from palm_eval import read_responses
from palm_mod import SoupOracle

FORM = "USER: {prompt} ASSISTANT: "
WEIGHTS = np.array([[1.0, 0.0], [0.6, 0.4], [0.0, 1.0]])
peft_warns = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def words(prompts, completions):
    return [min(1.0, len(text.split()) / 20) for text in completions]


def kind(prompts, completions):
    return [float("sorry" in text or "fine" in text) for text in completions]


@pytest.fixture
def task(families, tmp_path):
    made = families("llama")
    file = tmp_path / "prompts.jsonl"
    prompts = ["Tell me about green tea.", "Why a lost key?"]
    file.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))

    def options(**changed):
        asked = {
            "models": made["models"][:2],
            "rewards": {"long": words, "kind": kind},
            "prompts": file,
            "format": FORM,
            "new_tokens": 12,
            "device": "cpu",
            **changed,
        }
        return {name: value for name, value in asked.items() if value is not ...}

    options.base = made["base"]
    return options


def logits(model, ids):
    with torch.no_grad():
        return model.eval()(input_ids=ids).logits[0].log_softmax(-1)


IDS = torch.tensor([[0, 40, 50, 60, 70, 80]])


def test_it_keeps_the_rules(task, tmp_path):
    weights = [[1.0, 0.0], [0.5, 0.5], [0.2, 0.8]]
    report = check_conformance(lambda: SoupOracle(**task(artifact_dir=tmp_path)), weights=weights)
    assert set(report.skipped) <= {"bounds"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_soup_has_the_average_of_all_parameters(task, tmp_path, dtype):
    oracle = SoupOracle(**task(artifact_dir=tmp_path, save_models=True, dtype=dtype))
    kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    states = [
        AutoModelForCausalLM.from_pretrained(folder, dtype=kinds[dtype]).state_dict()
        for folder in task()["models"]
    ]
    for row, policy in zip(WEIGHTS, oracle.solve(WEIGHTS), strict=True):
        kept = AutoModelForCausalLM.from_pretrained(tmp_path / policy.artifact).state_dict()
        assert kept.keys() == states[0].keys()
        for name, tensor in kept.items():
            wanted = sum(w * s[name].float() for w, s in zip(row.tolist(), states, strict=True))
            assert tensor.dtype == kinds[dtype]
            last_digit = torch.finfo(kinds[dtype]).eps
            assert torch.allclose(tensor.float(), wanted, rtol=last_digit, atol=1e-7)


def test_its_responses_are_those_of_the_model_it_saved(task, tmp_path):
    oracle = SoupOracle(
        **task(artifact_dir=tmp_path, save_models=True, reference=task.base, beta=0.5)
    )
    from transformers import AutoTokenizer

    told = []
    for policy in oracle.solve(WEIGHTS):
        folder = tmp_path / policy.artifact
        model = AutoModelForCausalLM.from_pretrained(folder)
        reference = AutoModelForCausalLM.from_pretrained(task.base)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        responses = read_responses(folder)
        for i, prompt in enumerate(responses.prompts):
            ids = tokenizer(FORM.format(prompt=prompt), return_tensors="pt")["input_ids"]
            made = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=12,
                do_sample=False,
                pad_token_id=2,
            )[0, ids.shape[1] :]
            text = tokenizer.decode(made, skip_special_tokens=True).strip()
            assert responses.completions[i] == (text,)
            whole = torch.cat([ids[0], made]).unsqueeze(0)
            steps = logits(reference, whole)[ids.shape[1] - 1 : -1]
            nats = -steps[torch.arange(len(made)), made].sum().item()
            assert policy.prompt_regularizer[i] == pytest.approx(0.5 * nats, abs=1e-3)
            told.append(text)
    assert len(set(told)) > 2


@peft_warns
def test_adapters_are_averaged_as_products(task, adapters, tmp_path):
    from peft import PeftModel

    made = adapters("llama")
    oracle = SoupOracle(
        **task(
            models=...,
            base=made["base"],
            adapters=made["adapters"][:2],
            artifact_dir=tmp_path,
            save_models=True,
        )
    )
    merged = [
        PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(made["base"]), folder)
        .merge_and_unload()
        .state_dict()
        for folder in made["adapters"][:2]
    ]
    wanted = AutoModelForCausalLM.from_pretrained(made["base"])
    plain = logits(wanted, IDS)
    for row, policy in zip(WEIGHTS, oracle.solve(WEIGHTS), strict=True):
        state = wanted.state_dict()
        for name, tensor in state.items():
            tensor.copy_(sum(w * m[name] for w, m in zip(row.tolist(), merged, strict=True)))
        (place,) = (tmp_path / policy.artifact).rglob("adapter_config.json")
        base = AutoModelForCausalLM.from_pretrained(made["base"])
        kept = logits(PeftModel.from_pretrained(base, place.parent), IDS)
        assert torch.allclose(kept, logits(wanted, IDS), atol=1e-4)
        assert (kept - plain).abs().max() > 0.05


@peft_warns
def test_adapters_answer_as_their_average_and_are_measured_against_the_base(
    task, adapters, tmp_path
):
    made = adapters("llama")
    options = task(
        models=...,
        base=made["base"],
        adapters=made["adapters"][:2],
        reference=made["base"],
        beta=0.2,
        new_tokens=24,
    )
    first = list(SoupOracle(**options).solve(WEIGHTS))
    again = list(SoupOracle(**options).solve(WEIGHTS[::-1]))[::-1]
    assert [p.id for p in first] == [p.id for p in again]
    assert all(policy.regularizer > 0 for policy in first)
    assert first[0].id != first[2].id


def test_other_architectures_are_refused_by_name(task, families):
    # equal tokenizers, and another width
    models = task()["models"]
    folder = f"{models[0]}-wide"
    config = tiny_models.make_config("llama", 320)
    config.intermediate_size = 96
    torch.manual_seed(0)
    tiny_models.save_model(
        folder, AutoModelForCausalLM.from_config(config), tiny_models.make_tokenizer()
    )
    oracle = SoupOracle(**task(models=[models[0], folder]))
    message = r"models\[1\] = .*cannot be averaged with .*: .* has shape \(32, 96\) and \(32, 64\)"
    with pytest.raises(InputError, match=message):
        next(oracle.solve(WEIGHTS))


def _padded(folder, model, size, *, tied):
    """``model`` with rows up to ``size``; those of no token are such that one would be chosen."""
    known = model.get_input_embeddings().num_embeddings
    model.resize_token_embeddings(size, mean_resizing=False)
    model.config.tie_word_embeddings = tied
    if tied:
        model.tie_weights()
    with torch.no_grad():
        model.get_output_embeddings().weight[known:] = 50.0
    tiny_models.save_model(folder, model, tiny_models.make_tokenizer())
    return str(folder)


@pytest.mark.parametrize(
    ("sizes", "tied"),
    [
        ((384, 320), (False, False)),
        ((320, 384), (True, True)),
        ((384, 352), (True, False)),
        ((384, 384), (False, True)),
    ],
)
def test_padded_models_are_averaged_over_the_tokens_that_are(task, tmp_path, sizes, tied):
    folders = [
        _padded(
            tmp_path / f"expert-{i}", AutoModelForCausalLM.from_pretrained(source), size, tied=one
        )
        for i, (source, size, one) in enumerate(zip(task()["models"], sizes, tied, strict=True))
    ]
    options = task(models=folders, artifact_dir=tmp_path / "kept", save_models=True)
    experts = [AutoModelForCausalLM.from_pretrained(folder) for folder in folders]
    states = [model.state_dict() for model in experts]
    heads = [model.get_output_embeddings().weight for model in experts]
    for row, policy in zip(WEIGHTS, SoupOracle(**options).solve(WEIGHTS), strict=True):
        kept = AutoModelForCausalLM.from_pretrained(tmp_path / "kept" / policy.artifact)
        assert kept.config.vocab_size == 320
        head = sum(w * one[:320] for w, one in zip(row.tolist(), heads, strict=True))
        assert torch.allclose(kept.get_output_embeddings().weight, head, atol=1e-6)
        for name, tensor in kept.state_dict().items():
            if name != "lm_head.weight":
                parts = [state[name][: len(tensor)] for state in states]
                wanted = sum(w * part for w, part in zip(row.tolist(), parts, strict=True))
                assert torch.allclose(tensor, wanted, atol=1e-6), name
        assert all(
            text for (text,) in read_responses(tmp_path / "kept" / policy.artifact).completions
        )


def test_padding_changes_no_policy(task, tmp_path):
    models = task()["models"]
    padded = [
        _padded(tmp_path / f"{size}", AutoModelForCausalLM.from_pretrained(one), size, tied=False)
        for one, size in zip(models, (384, 352), strict=True)
    ]
    plain = list(SoupOracle(**task()).solve(WEIGHTS))
    found = list(SoupOracle(**task(models=padded)).solve(WEIGHTS))
    assert [policy.id for policy in found] == [policy.id for policy in plain]


def test_a_padding_token_beyond_the_common_vocabulary_is_no_longer_one(task, tmp_path):
    """As where one expert was given a token for padding, and the other was not."""
    tokenizer = tiny_models.make_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "<added>"})
    models = task()["models"]
    padded = AutoModelForCausalLM.from_pretrained(models[0])
    padded.resize_token_embeddings(321, mean_resizing=False)
    padded.config.pad_token_id = padded.generation_config.pad_token_id = 320
    one = tiny_models.save_model(tmp_path / "one", padded, tokenizer)
    bare = AutoModelForCausalLM.from_pretrained(models[1])
    other = tiny_models.save_model(tmp_path / "other", bare, tokenizer)
    options = task(models=[one, other], artifact_dir=tmp_path / "kept", save_models=True)
    for policy in SoupOracle(**options).solve(WEIGHTS):
        kept = AutoModelForCausalLM.from_pretrained(tmp_path / "kept" / policy.artifact)
        assert kept.get_input_embeddings().num_embeddings == 320


@peft_warns
def test_adapters_of_a_padded_base_answer_as_those_of_the_base(task, adapters, tmp_path):
    made = adapters("llama")
    base = AutoModelForCausalLM.from_pretrained(made["base"])
    padded = _padded(tmp_path / "base", base, 384, tied=False)
    options = {"models": ..., "adapters": made["adapters"][:2]}
    plain = list(SoupOracle(**task(base=made["base"], **options)).solve(WEIGHTS))
    found = list(SoupOracle(**task(base=padded, **options)).solve(WEIGHTS))
    assert [policy.id for policy in found] == [policy.id for policy in plain]


def test_save_models_is_true_or_false(task):
    with pytest.raises(InputError, match="save_models = 'yes': must be true or false"):
        SoupOracle(**task(save_models="yes"))
