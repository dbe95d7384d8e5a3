"""What each recipe optimises, exactly: expected gradients over all responses there are.

With six tokens and at most two of them in a response there are 31 responses. TRL's own loss is
taken at each, weighted by its probability, and compared with the gradient of

    J_w(π) = Σ_i w_i E[r_i] − β KL(π ‖ π_ref),

which enumeration gives exactly.
"""

from __future__ import annotations

import itertools
from dataclasses import fields

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from palm_trl.options import RECIPES
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

BETA, VOCABULARY, END = 0.3, 6, 1
PROMPT = [2, 3]


def responses(length):
    """All there are: they end by the end token, or by their length."""
    going = [token for token in range(VOCABULARY) if token != END]
    found = [(*front, END) for n in range(length) for front in itertools.product(going, repeat=n)]
    return [*found, *itertools.product(going, repeat=length)]


@pytest.fixture(scope="module")
def tokenizer():
    names = ["<pad>", "</s>", "a", "b", "c", "d"]
    made = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="</s>")


@pytest.fixture
def base(tmp_path):
    """π_ref, saved: TRL loads the reference from there."""
    torch.manual_seed(0)
    made = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=16,
            eos_token_id=END,
            pad_token_id=0,
        )
    )
    made.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def moved(model):
    """π, away from π_ref."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def log_probs(model, response):
    """log π(y_t | x, y_<t), one for each token."""
    ids = torch.tensor([[*PROMPT, *response]])
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0].float()
    rows = logits[len(PROMPT) - 1 : -1].log_softmax(dim=-1)
    return rows[torch.arange(len(response)), list(response)]


def flat(model, loss):
    grads = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    return torch.cat([g.flatten() for g in grads if g is not None])


def reward(response):
    return float(len(response) == 1) + 0.7 * (response[0] == 4) - 0.2 * (3 in response)


def gradient_of_j(model, reference, length):
    """By enumeration: the gradient of J_w itself."""
    total = torch.zeros(())
    for response in responses(length):
        own = log_probs(model, response).sum()
        ratio = own - log_probs(reference, response).sum().detach()
        total = total + own.exp() * (reward(response) - BETA * ratio)
    return flat(model, total)


def gradient_of_steps(model, reference, length):
    """The same, with each step's KL at prefixes that are taken as they come."""
    total = torch.zeros(())
    for response in responses(length):
        own = log_probs(model, response).sum()
        total = total + own.exp() * reward(response)
    prefixes = {response[:t] for response in responses(length) for t in range(len(response))}
    for prefix in prefixes:
        ids = torch.tensor([[*PROMPT, *prefix]])
        p = model(input_ids=ids).logits[0, -1].float().log_softmax(dim=-1)
        q = reference(input_ids=ids).logits[0, -1].float().log_softmax(dim=-1).detach()
        weight = log_probs(model, prefix).sum().exp().detach() if prefix else 1.0
        total = total - BETA * weight * (p.exp() * (p - q)).sum()
    return flat(model, total)


def trainer_of(algorithm, recipe, base, tokenizer, folder, length):
    Config, Trainer = (
        (GRPOConfig, GRPOTrainer) if algorithm == "grpo" else (RLOOConfig, RLOOTrainer)
    )
    told = {k: v for k, v in recipe.items() if k != "bf16"}
    if "activation_checkpointing" in {field.name for field in fields(Config)}:
        told["activation_checkpointing"] = False  # Transformers 5.20 has no such option
    config = Config(
        output_dir=str(folder / "out"),
        **(told | {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}),
        beta=BETA,
        max_completion_length=length,
        max_steps=1,
        use_cpu=True,
        bf16=False,
        report_to="none",
    )
    return Trainer(
        model=str(base),
        args=config,
        processing_class=tokenizer,
        reward_funcs=[lambda completions, **_: [0.0] * len(completions)],
        train_dataset=Dataset.from_list([{"prompt": "a b"}] * 8),
    )


def trained_gradient(algorithm, recipe, base, tokenizer, folder, length):
    """Minus the expected gradient of TRL's loss, and π and π_ref."""
    trainer = trainer_of(algorithm, recipe, base, tokenizer, folder, length)
    model = moved(trainer.model).train()
    reference = trainer.ref_model.eval()
    trainer.current_gradient_accumulation_steps = 1
    total = torch.zeros(())
    for response in responses(length):
        own = log_probs(model, response).detach()
        other = log_probs(reference, response).detach()
        advantage = reward(response)
        if algorithm == "rloo":  # as TRL does it in _generate_and_score_completions
            advantage -= BETA * float((own - other).sum())
        inputs = {
            "prompt_ids": torch.tensor([PROMPT]),
            "prompt_mask": torch.ones(1, len(PROMPT), dtype=torch.long),
            "completion_ids": torch.tensor([response]),
            "completion_mask": torch.ones(1, len(response), dtype=torch.long),
            "advantages": torch.tensor([advantage]),
            "ref_per_token_logps": other.unsqueeze(0),
            "old_per_token_logps": own.unsqueeze(0),  # for GRPO
            "old_logps": own.sum().unsqueeze(0),  # for RLOO
            "num_items_in_batch": torch.tensor(float(len(response))),
        }
        total = total + own.sum().exp() * trainer._compute_loss(model, inputs)
    return -flat(model, total), model, reference


def apart(found, wanted):
    """Their distance as a share of the second, at the scale that fits best."""
    scale = (found @ wanted) / (found @ found)
    return float((scale * found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("length", [1, 2])
def test_rloo_has_the_gradient_of_j(base, tokenizer, tmp_path, length):
    found, model, reference = trained_gradient(
        "rloo", RECIPES["objective", "rloo"], base, tokenizer, tmp_path, length
    )
    wanted = gradient_of_j(model, reference, length)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("length", [1, 2])
def test_grpo_has_that_of_each_step(base, tokenizer, tmp_path, length):
    found, model, reference = trained_gradient(
        "grpo", RECIPES["objective", "grpo"], base, tokenizer, tmp_path, length
    )
    wanted = gradient_of_steps(model, reference, length)
    # dr_grpo divides by the most tokens that there can be
    torch.testing.assert_close(found * length, wanted, rtol=1e-3, atol=1e-5)
    exact = gradient_of_j(model, reference, length)
    if length == 1:
        torch.testing.assert_close(found, exact, rtol=1e-3, atol=1e-5)
    else:  # what an early token does to the KL of later ones is not seen
        assert apart(found, exact) > 0.01


@pytest.mark.parametrize("length", [1, 2])
def test_the_papers_has_neither(base, tokenizer, tmp_path, length):
    """Its KL term has the gradient of KL(π_ref ‖ π), and long responses count less."""
    found, model, reference = trained_gradient(
        "grpo", RECIPES["paper", "grpo"], base, tokenizer, tmp_path, length
    )
    assert apart(found, gradient_of_steps(model, reference, length)) > 0.02
    assert apart(found, gradient_of_j(model, reference, length)) > 0.02
