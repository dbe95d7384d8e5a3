"""Training from an adapter that is there: its weights, and the model as the reference."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from test_training import AT_ONCE, EVEN, same, trained, weights_of

from palm_core import InputError
from palm_trl.trainer_config import lora_config, trainer_config
from palm_trl.training import prepared

WARM = {"start": "nearest", "trainer": {**AT_ONCE, "learning_rate": 3e-2}}


@pytest.fixture(scope="module")
def begun(tmp_path_factory, tiny_model, prompt_file):
    """An adapter that has moved away from the model."""
    import tiny_tasks

    folder = tmp_path_factory.mktemp("begun")
    options = {**WARM, "trainer": {**WARM["trainer"], "learning_rate": 0.2}}
    trained(tiny_tasks.make_oracle(tiny_model, prompt_file, steps=4, **options), folder)
    return folder / "policy"


@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
def test_the_reference_stays_the_model(algorithm, begun, make_oracle, tmp_path):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    oracle = make_oracle(algorithm=algorithm, steps=1, **WARM)
    config = trainer_config(oracle, EVEN, tmp_path, start=begun)
    trainer = prepared(oracle, config, tmp_path, start=begun).trainer
    assert list(trainer.model.peft_config) == ["default"]

    kept = []
    method = trainer._generate_and_score_completions

    def spy(inputs):
        kept.append(method(inputs))
        return kept[-1]

    trainer._generate_and_score_completions = spy
    trainer.train()
    (batch,) = kept
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    length = batch["completion_ids"].shape[1]

    def log_probs(model):
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        with torch.no_grad():
            logits = model(ids, attention_mask=mask, position_ids=positions).logits
        found = logits[:, -length - 1 : -1].log_softmax(-1)
        return found.gather(-1, batch["completion_ids"][..., None])[..., 0]

    seen = batch["completion_mask"].bool()
    base = AutoModelForCausalLM.from_pretrained(oracle.model)
    of_base = log_probs(base)[seen]
    of_start = log_probs(PeftModel.from_pretrained(base, begun))[seen]
    reference = batch.get("ref_per_token_logps")
    if reference is not None:
        torch.testing.assert_close(reference[seen], of_base, atol=1e-4, rtol=0)
    ratio = of_base - of_start
    k3, k1 = (ratio.exp() - ratio - 1).mean().item(), -ratio.mean().item()
    assert k3 > 1e-3
    told = trainer.state.log_history[0]["kl"]
    assert told == pytest.approx(k3 if algorithm == "grpo" else k1, rel=0.02)


def test_it_goes_on_from_the_adapters_weights_for_fewer_steps(begun, make_oracle, tmp_path):
    still = {**WARM, "trainer": {**AT_ONCE, "learning_rate": 0.0}}
    oracle = make_oracle(steps=9, warm_steps=2, **still)
    curves = trained(oracle, tmp_path, start=begun)

    assert [line["step"] for line in curves] == [1, 2]
    assert same(weights_of(tmp_path / "policy"), weights_of(begun))
    assert curves[0]["kl"] > 1e-3


def test_an_adapter_of_other_options_is_refused(begun, make_oracle, tmp_path):
    for lora in ({"r": 4}, {"target_modules": ["q_proj"]}):
        with pytest.raises(InputError, match=r"^start = .*/policy: "):
            trained(make_oracle(lora=lora, **WARM), tmp_path, start=begun)
    empty = tmp_path / "none"
    with pytest.raises(InputError, match=r"^start = .*none: "):
        trained(make_oracle(**WARM), tmp_path, start=empty)
    shutil.copytree(begun, empty)
    (empty / "adapter_model.safetensors").write_bytes(b"half")
    with pytest.raises(InputError, match=r"^start = .*none: cannot be loaded"):
        trained(make_oracle(**WARM), tmp_path, start=empty)


def test_a_checkpoint_goes_before_the_start(begun, make_oracle, tmp_path, monkeypatch):
    oracle = make_oracle(steps=3, **WARM)
    trained(oracle, tmp_path / "at once", start=begun)

    from palm_trl import training

    monkeypatch.setattr(training, "save_policy", lambda *_: 1 / 0)
    with pytest.raises(Exception, match="ZeroDivisionError"):
        trained(oracle, tmp_path / "twice", start=begun)
    monkeypatch.undo()
    trained(oracle, tmp_path / "twice", start=begun)
    found = [weights_of(tmp_path / name / "policy") for name in ("at once", "twice")]
    assert same(*found)
    assert not same(found[0], weights_of(begun))


@pytest.mark.parametrize(
    ("lora", "told"),
    [
        ({"rank": 4}, r"lora\.rank: peft's LoraConfig has no such option"),
        ({"lora_alfa": 4}, r"lora\.lora_alfa: .*did you mean 'lora_alpha'"),
        ({"task_type": "SEQ_CLS"}, r"lora\.task_type: "),
        ({"init_lora_weights": "pissa"}, r"lora\.init_lora_weights = 'pissa': changes the base"),
        ({"target_modules": "all-linear", "layers_to_transform": 1}, r"lora: peft refuses it"),
    ],
)
def test_options_of_adapters_are_refused_by_name(lora, told, make_oracle):
    with pytest.raises(InputError, match=told):
        lora_config(make_oracle(lora=lora))


def test_an_adapter_on_the_head_is_refused(make_oracle, tmp_path):
    with pytest.raises(InputError, match="TRL refuses to train it: .*lm_head"):
        trained(make_oracle(lora={"target_modules": ["lm_head"]}), tmp_path)


def test_the_adapter_that_is_asked_for_is_trained(make_oracle, tmp_path):
    import json

    assert lora_config(make_oracle()).r == 16
    trained(make_oracle(lora={"r": 2, "target_modules": ["q_proj"]}), tmp_path)
    settings = json.loads((tmp_path / "policy" / "adapter_config.json").read_text())
    assert (settings["r"], settings["target_modules"]) == (2, ["q_proj"])
    assert settings["lora_alpha"] == 32
    assert np.array([("q_proj" in name) for name in weights_of(tmp_path / "policy")]).all()
