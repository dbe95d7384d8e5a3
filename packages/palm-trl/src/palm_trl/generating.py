"""Responses drawn from a policy, with noise that depends on nothing but what it is for.

Token t of the s-th response to a prompt is the inverse of the distribution function of
π(·|x, y_<t) at a uniform number, which a counter-based generator (Philox) gives for a BLAKE2
digest of (seed, x, s). So a response does not depend on the batch that it is drawn in, and two
policies see the same numbers: where they nearly agree, they answer nearly alike, and the
error of their difference is smaller than of each (common random numbers).

Logits differ by rounding with what else is in a batch: a response may differ where a number
falls within that of a border, at one token in about a million (float32).
"""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from palm_core.errors import WorkError
from palm_trl.batches import in_batches

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray
    from torch import Tensor


class Wanted(NamedTuple):
    """A response that is to be drawn: to which tokens, and which of several."""

    prompt: tuple[int, ...]
    sample: int


def wanted_of(prompts: Sequence[Sequence[int]], samples: int) -> list[Wanted]:
    """``samples`` responses to each prompt; one that stands twice gets other ones."""
    seen: Counter[tuple[int, ...]] = Counter()
    found = []
    for prompt in map(tuple, prompts):
        found += [Wanted(prompt, seen[prompt] + sample) for sample in range(samples)]
        seen[prompt] += samples
    return found


def uniforms(seed: int, wanted: Wanted, count: int) -> NDArray[np.float64]:
    """(count,) numbers in (0, 1) for the tokens of a response, the first whatever ``count``."""
    words = np.array([seed, wanted.sample, *wanted.prompt], dtype="<i8")
    digest = blake2b(words.tobytes(), digest_size=16, person=b"palm-trl measure").digest()
    philox = np.random.Philox(key=int.from_bytes(digest, "little"))
    # Bits rather than numbers: NumPy promises that they stay what they are.
    bits = np.asarray(philox.random_raw(count), dtype=np.uint64)
    # The middles of 2^52 intervals: neither 0 nor 1.
    middles: NDArray[np.float64] = ((bits >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    return middles


def inverse(logits: Tensor, temperature: float, uniform: Tensor) -> Tensor:
    """(rows,) the least token k with F(k) > u, F of softmax(logits/T); none of probability 0.

    Args:
        logits: (rows, V); V is the model's, as in training: where it is more than the
            tokenizer has tokens, the rest is drawn too (TRL does so).
        temperature: T > 0.
        uniform: (rows,) u in (0, 1), float64.
    """
    shares = (logits.double() / temperature).softmax(dim=-1).cumsum(dim=-1)
    found = torch.searchsorted(shares, (uniform * shares[:, -1]).unsqueeze(1), right=True)
    return found.squeeze(1).clamp(max=logits.shape[-1] - 1)


class _Draw(LogitsProcessor):
    """Leaves one token to greedy decoding: the one that is drawn."""

    def __init__(self, uniform: Tensor, temperature: float, width: int) -> None:
        self._uniform, self._temperature, self._width = uniform, temperature, width

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """(rows, V) 0 at the token drawn, −∞ elsewhere."""
        if not scores.amax(dim=-1).isfinite().all():
            raise WorkError(
                f"the policy's prediction after {input_ids.shape[1] - self._width} tokens of a "
                "response is not a number: training may have diverged"
            )
        uniform = self._uniform[:, input_ids.shape[1] - self._width]
        drawn = inverse(scores, self._temperature, uniform).unsqueeze(1)
        return torch.full_like(scores, -torch.inf).scatter(1, drawn, 0.0)


def draw(
    model: Any,
    wanted: Sequence[Wanted],
    *,
    seed: int,
    temperature: float,
    new_tokens: int,
    ends: Collection[int],
    rows: int,
) -> list[tuple[int, ...]]:
    """Draw a response for each of ``wanted``: its tokens, the one that ends it included.

    Args:
        model: of transformers; its own generation settings must be empty.
        wanted: in any order.
        seed: of the draws.
        temperature: T > 0; nothing else shapes the distribution.
        new_tokens: the most tokens of a response.
        ends: tokens that end one.
        rows: at once; fewer where memory runs out.

    Raises:
        WorkError: not enough memory for one row, or predictions that are not numbers.
    """
    device = model.get_input_embeddings().weight.device
    plain: Any = GenerationConfig  # its initializer has no types
    settings = plain(
        do_sample=False,
        max_new_tokens=new_tokens,
        eos_token_id=sorted(ends) or None,
        pad_token_id=0,  # masked, and cut off
        disable_compile=True,
    )

    def some(batch: Sequence[Wanted]) -> list[tuple[int, ...]]:
        width = max(len(one.prompt) for one in batch)
        ids = [[0] * (width - len(one.prompt)) + list(one.prompt) for one in batch]
        mask = [[0] * (width - len(one.prompt)) + [1] * len(one.prompt) for one in batch]
        uniform = np.stack([uniforms(seed, one, new_tokens) for one in batch])
        with torch.inference_mode():
            found = model.generate(
                input_ids=torch.tensor(ids, device=device),
                attention_mask=torch.tensor(mask, device=device),
                generation_config=settings,
                logits_processor=LogitsProcessorList(
                    [_Draw(torch.tensor(uniform, device=device), temperature, width)]
                ),
            )
        return [_until_end(row, ends) for row in found[:, width:].tolist()]

    # Prompts of like length together: little padding.
    order = sorted(range(len(wanted)), key=lambda place: len(wanted[place].prompt))
    drawn = in_batches([wanted[place] for place in order], rows, some)
    found: list[tuple[int, ...]] = [()] * len(wanted)
    for place, tokens in zip(order, drawn, strict=True):
        found[place] = tokens
    return found


def _until_end(tokens: Sequence[int], ends: Collection[int]) -> tuple[int, ...]:
    for place, token in enumerate(tokens):
        if token in ends:
            return tuple(tokens[: place + 1])
    return tuple(tokens)
