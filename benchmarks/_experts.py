"""Three experts, decoded by palm_mod's forest and by transformers' generate."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, LogitsProcessor

from palm_core.weights.simplex import sample_weights
from palm_mod.causal_model import CausalModel, cache_argument, probe
from palm_mod.experts import Experts
from palm_mod.mixing import Mixing
from palm_mod.prefix_tree import Counts, Limits, WeightSplitter, grow

if TYPE_CHECKING:
    from numpy.typing import NDArray

D = 3


@dataclass(frozen=True)
class Size:
    """How large everything is."""

    hidden: int
    layers: int
    vocabulary: int
    prompts: int
    prompt: int
    tokens: int
    rows: int
    compared: int


SIZES = {
    "quick": Size(64, 2, 256, 3, 8, 12, 128, 3),
    "small": Size(256, 4, 4096, 6, 16, 48, 256, 4),
    # some 300 million parameters each, for a GPU
    "large": Size(1024, 16, 32000, 32, 64, 128, 512, 4),
}


def make_models(size: Size, noise: float, device: str, dtype: torch.dtype) -> list[Any]:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=2 * size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=max(2, size.hidden // 64),
        max_position_embeddings=1024,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    base: Any = LlamaForCausalLM(config)  # its methods have no types
    base.eval()
    base.lm_head.weight.data.mul_(8)  # predictions of random models are nearly flat
    models = []
    for seed in range(1, D + 1):
        model = copy.deepcopy(base)
        chance = torch.Generator().manual_seed(seed)
        for value in model.parameters():
            drawn = torch.randn(value.shape, generator=chance)
            value.data.add_(drawn, alpha=noise * float(value.data.std(correction=0)))
        models.append(model.to(device, dtype))
    return models


def experts_of(models: list[Any], size: Size) -> Experts:
    experts = Experts(
        [CausalModel(model, f"expert {i}") for i, model in enumerate(models)],
        [f"expert {i}" for i in range(D)],
        reference=False,
        tokenizer=None,
        vocabulary=size.vocabulary,
    )
    experts.cache_bytes = sum(probe(model, size.vocabulary) for model in experts.models)
    return experts


def weights_of(count: int) -> NDArray[np.float64]:
    """A lattice of 91 weights where there is room, Dirichlet samples for the rest."""
    steps = 12
    lattice = [
        (i / steps, j / steps, (steps - i - j) / steps)
        for i in range(steps + 1)
        for j in range(steps + 1 - i)
    ]
    if count < len(lattice):
        return sample_weights(count, D, seed=1)
    return np.vstack([np.array(lattice), sample_weights(count - len(lattice) or 1, D, seed=1)])[
        :count
    ]


class Mix(LogitsProcessor):
    """Runs the other experts beside ``generate``, with their own caches, and mixes."""

    def __init__(self, others: list[Any], weights: list[float]) -> None:
        self.others, self.weights = others, weights
        self.caches = [DynamicCache(config=model.config) for model in others]

    @torch.inference_mode()
    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Mixed log-probabilities of the next token."""
        mixed = self.weights[0] * scores.float().log_softmax(-1)
        for model, cache, weight in zip(self.others, self.caches, self.weights[1:], strict=True):
            new = input_ids[:, cache.get_seq_length() :]
            given = {str(cache_argument(model)): cache}
            logits = model(input_ids=new, logits_to_keep=1, **given).logits[:, -1]
            mixed = mixed + weight * logits.float().log_softmax(-1)
        return mixed


def generate(models: list[Any], ids: Any, weights: NDArray[np.float64], tokens: int) -> Any:
    made = models[0].generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=tokens,
        min_new_tokens=tokens,
        do_sample=False,
        logits_processor=[Mix(models[1:], weights.tolist())],
        pad_token_id=0,
    )
    return made[:, ids.shape[1] :]


class Watching(WeightSplitter):
    """Counts the steps at which the experts' own best tokens differ."""

    steps = differing = 0

    def split(self, log_probs: Any, sums: Any, members: Any) -> Any:
        """As it splits anyway."""
        best = log_probs.argmax(dim=-1)
        self.steps += len(best)
        self.differing += int((best != best[:, :1]).any(dim=1).sum())
        return super().split(log_probs, sums, members)


def finish(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def decode(
    experts: Experts, ids: Any, weights: NDArray[np.float64], size: Size, rows: int, device: str
) -> tuple[float, Any, Counts]:
    members = [tuple(range(len(weights)))] * len(ids)
    limits = Limits(new_tokens=size.tokens, rows=rows)
    begin = time.perf_counter()
    leaves, counts = grow(experts, ids.tolist(), members, WeightSplitter(weights, Mixing()), limits)
    finish(device)
    return time.perf_counter() - begin, leaves, counts
