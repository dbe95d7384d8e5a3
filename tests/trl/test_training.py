from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_tasks

from palm_core import InputError, WorkError
from palm_trl.trainer_config import seed_of, trainer_config
from palm_trl.training import prepared, train

EVEN = np.array([0.5, 0.5])
#: Learns from the first step on.
AT_ONCE = {"lr_scheduler_type": "constant", "warmup_steps": 0}
KINDS = {
    "lora": {},
    "full": {"tuning": "full"},
    "rloo": {"algorithm": "rloo"},
    "rloo-full": {"algorithm": "rloo", "tuning": "full"},
    "paper": {"preset": "paper"},  # full fine-tuning in bfloat16, as it says
}


def trained(oracle, folder, weights=EVEN, **options):
    folder.mkdir(exist_ok=True)
    train(oracle, np.array(weights), folder, **options)
    lines = (folder / "training.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def weights_of(folder):
    from safetensors.torch import load_file

    return {n: t for file in folder.glob("*.safetensors") for n, t in load_file(file).items()}


def same(one, other):
    return one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)


@pytest.mark.parametrize("kind", KINDS)
def test_a_policy_and_its_curves_are_left_and_nothing_else(kind, tiny_model, make_oracle, tmp_path):
    from palm_eval.plugin import Source, load_causal, load_tokenizer

    named = {"model": Path(tiny_model).name, "task_dir": Path(tiny_model).parent}
    oracle = make_oracle(steps=3, trainer=AT_ONCE, **named, **KINDS[kind])
    curves = trained(oracle, tmp_path)

    # the reference is what it starts from
    assert curves[0]["kl"] == 0.0
    assert curves[2]["kl"] != 0.0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["policy", "training.jsonl"]
    assert [line["step"] for line in curves] == [1, 2, 3]
    assert {"reward", "loss", "rewards/short/mean", "rewards/long/mean"} <= curves[0].keys()
    policy = tmp_path / "policy"
    load_tokenizer("policy", Source(str(policy)))
    if oracle.tuning == "lora":
        settings = json.loads((policy / "adapter_config.json").read_text())
        assert settings["base_model_name_or_path"] == Path(tiny_model).name
        assert any("lora_B" in name and tensor.any() for name, tensor in weights_of(policy).items())
    else:
        import torch

        model = load_causal("policy", Source(str(policy)), torch.device("cpu"), "auto")
        base = load_causal("base", oracle.source, torch.device("cpu"), "auto")
        assert model.config.to_dict() | {"_name_or_path": ""} == base.config.to_dict() | {
            "_name_or_path": ""
        }
        assert not same(dict(model.named_parameters()), dict(base.named_parameters()))
    kept = {file.name for file in policy.iterdir()}
    assert not kept & {"training_args.bin", "README.md", "optimizer.pt"}


def test_dropout_is_no_part_of_the_policy(make_oracle, tmp_path):
    """GPT-2 and others have it: responses would be drawn from another policy than is measured."""
    model = tiny_tasks.save_model(tmp_path / "gpt2", "gpt2")
    file = tmp_path / "gpt2" / "config.json"
    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.5)
    file.write_text(json.dumps(json.loads(file.read_text()) | dropout))
    for kind in ("grpo", "rloo"):
        oracle = make_oracle(model=model, algorithm=kind, tuning="full", steps=1)
        assert trained(oracle, tmp_path / kind)[0]["kl"] == 0.0


def test_a_policy_that_is_there_is_left_alone(make_oracle, tmp_path):
    (tmp_path / "policy").mkdir()
    train(make_oracle(model="/nowhere"), EVEN, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["policy"]


def test_the_same_call_gives_the_same_policy_and_another_weight_another(make_oracle, tmp_path):
    options = {"steps": 1, "trainer": AT_ONCE}
    for name, weights in {"a": (0.3, 0.7), "b": (0.3, 0.7), "c": (0.7, 0.3)}.items():
        trained(make_oracle(**options), tmp_path / name, weights)
    found = {name: weights_of(tmp_path / name / "policy") for name in "abc"}

    assert same(found["a"], found["b"])
    assert not same(found["a"], found["c"])
    assert seed_of(0, np.array([0.3, 0.7])) != seed_of(1, np.array([0.3, 0.7]))
    assert seed_of(0, np.array([0.3, 0.7])) != seed_of(0, np.array([0.7, 0.3]))


def _one_step(oracle, folder, weights):
    """Of one step the rewards (n, d) as functions gave them, the advantages, what is logged."""
    config = trainer_config(oracle, np.array(weights), folder)
    trainer = prepared(oracle, config, folder).trainer
    given = {name: [] for name in oracle.objectives}
    for index, name in enumerate(oracle.objectives):
        function = trainer.reward_funcs[index]

        def spy(function=function, name=name, **arguments):
            values = function(**arguments)
            given[name].extend(values)
            return values

        trainer.reward_funcs[index] = spy
    trainer.train()
    rewards = np.column_stack([given[name] for name in oracle.objectives])
    return rewards, np.array(trainer._logs["advantages"]), trainer.state.log_history[0]


def _centred(values, group=4):
    grouped = values.reshape(-1, group)
    return grouped - grouped.mean(axis=1, keepdims=True)


@pytest.mark.parametrize("weights", [(0.25, 0.75), (1.0, 0.0)])
def test_advantages_are_weighted_sums_that_nothing_scales(weights, make_oracle, tmp_path):
    rewards, advantages, _ = _one_step(make_oracle(steps=1), tmp_path, weights)

    expected = _centred(rewards @ np.array(weights)).ravel()
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(advantages, expected, atol=1e-6)


def _some(prompts, completions, **_):
    """Scores all prompts of a batch but one."""
    return [
        None if prompt == min(prompts) else len(text) / 20
        for prompt, text in zip(prompts, completions, strict=True)
    ]


@pytest.mark.parametrize("preset", ["objective", "paper"])
def test_no_score_for_a_prompt_adds_nothing(preset, make_oracle, tmp_path):
    rewards = {"short": tiny_tasks.short, "some": _some}
    weights = (0.25, 0.75)
    trainer = {"scale_rewards": "none"}
    oracle = make_oracle(rewards=rewards, steps=1, preset=preset, trainer=trainer, new_tokens=8)
    given, advantages, _ = _one_step(oracle, tmp_path, weights)

    values = given.astype(float)  # None is NaN
    assert 0 < np.isnan(values[:, 1]).sum() < len(values)
    if preset == "paper":
        low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
        values = (values - low) / (high - low)
    expected = _centred(np.nansum(values * weights, axis=1)).ravel()
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(advantages, expected, atol=1e-6)


def test_a_reward_of_weight_0_is_seen_and_changes_nothing(make_oracle, tmp_path):
    seen = []

    def extra(completions, **_):
        seen.extend(completions)
        return [float(len(text)) for text in completions]

    rewards = {"short": tiny_tasks.short, "long": tiny_tasks.lengthy}
    curves = trained(
        make_oracle(rewards={**rewards, "extra": extra}), tmp_path / "a", (0.5, 0.5, 0)
    )
    assert len(seen) == 16
    assert curves[0]["rewards/extra/mean"] > 0
    assert curves[0]["reward"] == pytest.approx(
        0.5 * curves[0]["rewards/short/mean"] + 0.5 * curves[0]["rewards/long/mean"]
    )


def test_the_paper_scales_min_max_normalized_rewards_by_their_groups(make_oracle, tmp_path):
    oracle = make_oracle(preset="paper", steps=1, new_tokens=8)
    rewards, advantages, logged = _one_step(oracle, tmp_path, (0.25, 0.75))

    span = np.ptp(rewards, axis=0)
    scaled = (rewards - rewards.min(axis=0)) / np.where(span > 0, span, 1)
    total = scaled @ np.array([0.25, 0.75])
    spread = total.reshape(-1, 4).std(axis=1, ddof=1, keepdims=True)
    expected = (_centred(total) / (spread + 1e-4)).ravel()
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(advantages, expected, atol=1e-4)
    assert logged["rewards/short/mean"] == pytest.approx(scaled[:, 0].mean(), abs=1e-6)
    assert logged["rewards/short/before"] == pytest.approx(rewards[:, 0].mean(), abs=1e-6)


@pytest.mark.parametrize("form", ["helpful-assistants", "chat"])
def test_prompts_are_the_tokens_that_measuring_puts(form, make_oracle, tmp_path):
    """The chat template writes what begins a text by itself: it must not stand there twice."""
    oracle = make_oracle(format=form, steps=1)
    config = trainer_config(oracle, EVEN, tmp_path)
    ready = prepared(oracle, config, tmp_path)
    seen = []
    generate = ready.trainer._generate_single_turn

    def spy(prompt_ids, *rest):
        seen.extend(prompt_ids)
        return generate(prompt_ids, *rest)

    ready.trainer._generate_single_turn = spy
    ready.trainer.train()

    possible = [oracle.put.tokens(ready.tokenizer, one) for one in oracle.training_prompts.texts]
    assert len(seen) == 8
    assert all(ids in possible and ids.count(0) == 1 for ids in seen)


def test_a_conversation_is_put_by_the_chat_template(make_oracle, tmp_path):
    path = tmp_path / "chats.jsonl"
    rows = [{"prompt": [{"role": "user", "content": q}]} for q in tiny_tasks.QUESTIONS[:4]]
    path.write_text("\n".join(map(json.dumps, rows)))
    seen = []

    def reads(prompts, completions):
        seen.extend(prompts)
        assert all(isinstance(text, str) for text in completions)
        return [0.0] * len(prompts)

    rewards = {"reads": reads, "short": tiny_tasks.short}
    oracle = make_oracle(prompts=str(path), format="chat", system="Be kind.", rewards=rewards)
    trained(oracle, tmp_path / "call")
    assert seen
    assert all(prompt in [row["prompt"] for row in rows] for prompt in seen)


def test_a_revision_of_the_hub_is_named_in_the_adapter(make_oracle, tmp_path, monkeypatch):
    from palm_eval.plugin import Source
    from palm_trl import GrpoOracle

    oracle = make_oracle()
    trained(oracle, tmp_path)
    file = tmp_path / "policy" / "adapter_config.json"
    monkeypatch.setattr(GrpoOracle, "source", property(lambda _: Source("org/name", "v1")))
    from palm_trl.outcome import _name_base

    _name_base(file, oracle)
    settings = json.loads(file.read_text())
    assert (settings["base_model_name_or_path"], settings["revision"]) == ("org/name", "v1")


def test_a_whole_model_trains_in_float32_and_is_saved_as_it_was(make_oracle, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    oracle = make_oracle()
    half = AutoModelForCausalLM.from_pretrained(oracle.model, dtype=torch.bfloat16)
    half.save_pretrained(tmp_path / "half")
    options = {"model": str(tmp_path / "half"), "tokenizer": oracle.model, "tuning": "full"}

    config = trainer_config(make_oracle(**options), EVEN, tmp_path)
    ready = prepared(make_oracle(**options), config, tmp_path)
    assert {one.dtype for one in ready.trainer.model.parameters()} == {torch.float32}
    assert {one.dtype for one in ready.trainer.ref_model.parameters()} == {torch.float32}
    curves = trained(make_oracle(steps=1, **options), tmp_path / "call")
    assert curves[0]["kl"] == 0.0
    saved = weights_of(tmp_path / "call" / "policy")
    assert {one.dtype for one in saved.values()} == {torch.bfloat16}
    settings = json.loads((tmp_path / "call" / "policy" / "config.json").read_text())
    assert settings["dtype"] == "bfloat16"
    named = prepared(make_oracle(dtype="bfloat16", **options), config, tmp_path).trainer
    assert {one.dtype for one in named.model.parameters()} == {torch.bfloat16}


# What is wrong


def test_weights_that_are_not_finite_end_it_with_the_step(make_oracle, tmp_path):
    oracle = make_oracle(steps=5, trainer={**AT_ONCE, "learning_rate": 1e30})
    with pytest.raises(
        WorkError,
        match=r"step 2: the weights are no longer finite; lower "
        r"trainer\.learning_rate = 1e\+30",
    ):
        trained(oracle, tmp_path)
    assert not (tmp_path / "policy").exists()


def test_a_loss_that_is_not_finite_ends_it_with_the_step(make_oracle, tmp_path, monkeypatch):
    import torch

    from palm_trl.trainers import Rloo

    def nowhere(self, model, inputs):
        return torch.tensor(float("inf"), requires_grad=True)

    monkeypatch.setattr(Rloo, "_compute_loss", nowhere)
    oracle = make_oracle(algorithm="rloo", trainer={"bf16": True})
    with pytest.raises(
        WorkError,
        match=r"step 1: the loss is not finite; lower trainer\.l.* or "
        r"trainer\.max_grad_norm = 1, or trainer\.bf16 = false",
    ):
        trained(oracle, tmp_path)
    assert not (tmp_path / "policy").exists()


def test_a_gradient_that_is_not_finite_does_not_reach_the_weights(
    make_oracle, tmp_path, monkeypatch
):
    from palm_trl.trainers import Grpo

    step = Grpo.training_step

    def spoilt(self, model, *rest, **more):
        loss = step(self, model, *rest, **more)
        next(p for p in model.parameters() if p.grad is not None).grad.fill_(float("nan"))
        return loss

    monkeypatch.setattr(Grpo, "training_step", spoilt)
    with pytest.raises(WorkError, match="step 1: the gradient is not finite"):
        trained(make_oracle(), tmp_path)


def test_out_of_memory_says_what_to_lower(make_oracle, tmp_path, monkeypatch):
    import torch

    from palm_trl.trainers import Rloo

    def full(self, *_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(Rloo, "_compute_loss", full)
    oracle = make_oracle(algorithm="rloo", tuning="full")
    with pytest.raises(WorkError) as told:
        trained(oracle, tmp_path)
    for part in ("step 1: out of memory", "per_device_train_batch_size = 4", "gradient_checkpoint",
                 "tuning = 'lora'"):  # fmt: skip
        assert part in str(told.value)
    assert "\n" not in str(told.value)


def test_a_full_disk_is_said_and_leaves_no_policy(make_oracle, tmp_path, monkeypatch):
    import errno

    from palm_trl.trainers import Grpo

    def full(self, *_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Grpo, "save_model", full)
    oracle = make_oracle(checkpoint_every=50)
    with pytest.raises(WorkError, match="step 2: the disk is full; free space"):
        trained(oracle, tmp_path)
    assert not (tmp_path / "policy").exists()


def test_prompts_too_few_for_a_batch_are_refused(make_oracle, tmp_path):
    oracle = make_oracle(trainer={"gradient_accumulation_steps": 13})
    with pytest.raises(InputError, match="prompts: 12 to train on, must be at least 13"):
        trained(oracle, tmp_path)


def test_responses_longer_than_the_model_are_refused(make_oracle, tmp_path):
    with pytest.raises(InputError, match=r"new_tokens = 256: the model has 256 positions"):
        trained(make_oracle(new_tokens=256), tmp_path)
    with pytest.raises(InputError, match=r"must have 1 to 6 tokens"):
        trained(make_oracle(new_tokens=250), tmp_path)


def test_no_model_is_an_input_error(make_oracle, tmp_path):
    with pytest.raises(InputError, match=r"model = '/nowhere'"):
        trained(make_oracle(model="/nowhere"), tmp_path)
