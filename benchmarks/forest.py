"""Multi-objective decoding: the shared forest against one decoding for each weight vector.

    python benchmarks/forest.py            about ten minutes on one core
    python benchmarks/forest.py --quick    under a minute, small models and few weights

Three experts are one random Llama with more or less noise on its parameters, so that their
most likely tokens differ at a share ρ of the steps (measured along the decoding of the
centre of the simplex). All decode the same prompts greedily, without an end token, in
float32 on one thread (``--threads``), or on ``--device cuda``.

* ``forest``: palm_mod, all weight vectors and all prompts together.
* ``generate``: transformers' own ``generate`` for each weight vector, the prompts in one
  batch; a LogitsProcessor runs the other experts with caches of their own and mixes. It is
  run for a few weights, spread over them all, and its time is scaled up to all; the tokens
  are compared with the forest's.
* ``ideal``: generate's time divided by (rows of all decodings alone / rows of the forest),
  what sharing would give if a row cost the same there as here. "of ideal" below 1 is
  possible: a forest runs more rows in one batch.

The second table bounds the rows that are held at once, and shows what that costs.
"""

from __future__ import annotations

import argparse
import copy
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, LogitsProcessor

from palm_core.simplex import sample_weights
from palm_mod.experts import Experts
from palm_mod.forest import Counts, Limits, grow
from palm_mod.mixing import Mixing
from palm_mod.probe import probe
from palm_mod.running import CausalModel
from palm_mod.splitters import WeightSplitter

if TYPE_CHECKING:
    from numpy.typing import NDArray

D = 3
# Noise relative to the parameters' own size; the experts disagree more with more.
NOISES = (0.005, 0.02, 0.05, 0.15)
WEIGHTS = (25, 91, 408)


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
    base = LlamaForCausalLM(config).eval()
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
            logits = model(input_ids=new, past_key_values=cache, logits_to_keep=1).logits[:, -1]
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--size", choices=sorted(SIZES), default="small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    size = SIZES["quick" if given.quick else given.size]
    dtype = torch.bfloat16 if given.dtype == "bfloat16" else torch.float32
    chance = torch.Generator().manual_seed(7)
    ids = torch.randint(size.vocabulary, (size.prompts, size.prompt), generator=chance)
    ids = ids.to(given.device)
    print(f"{D} experts, {size}, {given.device}, {given.dtype}")
    head = "noise     ρ     weights  rows run     alone  fewer  forest s  generate s  times faster"
    print(head + "  of ideal  tokens/s  equal")
    for noise in NOISES[1:3] if given.quick else NOISES:
        models = make_models(size, noise, given.device, dtype)
        experts = experts_of(models, size)
        watching = Watching(np.full((1, D), 1 / D), Mixing())
        limits = Limits(new_tokens=size.tokens, rows=size.rows)
        grow(experts, ids.tolist(), [(0,)] * len(ids), watching, limits)
        share = watching.differing / watching.steps
        for count in WEIGHTS[:2] if given.quick else WEIGHTS:
            weights = weights_of(count)
            taken, leaves, counts = decode(experts, ids, weights, size, size.rows, given.device)
            found = {(leaf.prompt, one): leaf.tokens for leaf in leaves for one in leaf.members}
            places = np.linspace(0, count - 1, size.compared).astype(int)
            generate(models, ids, weights[0], 2)
            finish(given.device)
            begin = time.perf_counter()
            made = [generate(models, ids, weights[one], size.tokens) for one in places]
            finish(given.device)
            each = (time.perf_counter() - begin) / len(places)
            equal = np.mean(
                [
                    found[prompt, int(one)] == tuple(row.tolist())
                    for one, rows in zip(places, made, strict=True)
                    for prompt, row in enumerate(rows)
                ]
            )
            alone, fewer = each * count, counts.alone / counts.rows
            print(
                f"{noise:5.3f} {share:6.3f} {count:10d} {counts.rows:9d} {counts.alone:9d} "
                f"{fewer:6.1f} {taken:9.2f} {alone:11.2f} {alone / taken:13.1f} "
                f"{taken / (alone / fewer):9.2f} {counts.alone / taken:9.0f} {equal:6.0%}",
                flush=True,
            )
    experts = experts_of(make_models(size, NOISES[1], given.device, dtype), size)
    weights = weights_of(WEIGHTS[1])
    print(f"\nrows held at once, noise {NOISES[1]}, {len(weights)} weights:")
    print("rows     forest s  read again (tokens)  most held  most waiting  caches and more, MiB")
    for rows in (4, 16, 64, 256, 1024):
        taken, _, counts = decode(experts, ids, weights, size, rows, given.device)
        memory = experts.memory.of_rows(counts.most_held, size.prompt + size.tokens) / 2**20
        print(
            f"{rows:4d} {taken:12.2f} {counts.read_again:11d} ({counts.tokens_read_again}) "
            f"{counts.most_held:10d} {counts.most_waiting:12d} {memory:12.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
