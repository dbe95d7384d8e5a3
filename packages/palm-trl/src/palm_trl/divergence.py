"""KL(π ‖ π_ref) of responses, over the whole vocabulary at each step, and by k1."""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from palm_core.errors import WorkError
from palm_trl.batches import in_batches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from palm_trl.measured_models import Policy

# Logits of a batch, and the part of them that is worked on in float64: on a CPU what its
# caches hold, nearly three times as fast.
_LOGITS, _PART, _PART_ON_CPU = 2**27, 2**24, 2**18


class Nats(NamedTuple):
    """KL of a response in nats: the sum over steps of that over the vocabulary, and k1."""

    full: float
    k1: float


def divergences(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    *,
    temperature: float,
    rows: int,
) -> list[Nats]:
    """KL of each response, all its tokens counted; exactly 0 where π is π_ref.

    Args:
        policy: π and π_ref.
        prompts: tokens, one for each response.
        responses: tokens, at least one each.
        temperature: T > 0, of both.
        rows: at once; fewer for long responses, and where memory runs out.

    Raises:
        WorkError: not enough memory for one row, or a KL that is not finite.
    """
    if policy.reference is None:
        return [Nats(0.0, 0.0)] * len(responses)
    vocabulary = policy.model.config.get_text_config().vocab_size
    # Of like length together: little padding.
    order = sorted(
        range(len(responses)), key=lambda place: (len(prompts[place]), len(responses[place]))
    )

    def fitting(left: Sequence[int]) -> int:
        held = 0
        for count, place in enumerate(left[:rows]):
            shortest = len(prompts[left[0]])
            held = max(held, len(prompts[place]) - shortest + len(responses[place]))
            if (count + 1) * held * vocabulary > _LOGITS:
                return count
        return rows

    @torch.inference_mode()
    def some(places: Sequence[int]) -> list[Nats]:
        given = [(prompts[place], responses[place]) for place in places]
        ours = _logits(policy.model, given)
        with policy.as_reference():
            theirs = _logits(policy.reference, given)
        return [
            _nats(one, other, response, temperature)
            for one, other, (_, response) in zip(ours, theirs, given, strict=True)
        ]

    measured = in_batches(order, fitting, some)
    found = [Nats(0.0, 0.0)] * len(responses)
    for place, nats in zip(order, measured, strict=True):
        found[place] = nats
    for place, nats in enumerate(found):
        if not all(map(math.isfinite, nats)):
            raise WorkError(
                f"the KL of response {place} is {nats.full:g}: must be finite; training may have "
                "diverged, lower the learning rate or raise beta"
            )
    return found


def _logits(model: Any, given: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Tensor]:
    """For each prompt and response (T, V): before each token of the response."""
    whole = [[*prompt, *response[:-1]] for prompt, response in given]
    width = max(map(len, whole))
    device = model.get_input_embeddings().weight.device
    # Padded on the right, where nothing that counts comes after it.
    inputs: dict[str, Any] = {
        "input_ids": torch.tensor([row + [0] * (width - len(row)) for row in whole]).to(device),
        "attention_mask": torch.tensor(
            [[1] * len(row) + [0] * (width - len(row)) for row in whole]
        ).to(device),
        "use_cache": False,
    }
    first = min(len(prompt) for prompt, _ in given) - 1
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        inputs["logits_to_keep"] = width - first
    logits: Tensor = model(**inputs).logits
    left_out = width - logits.shape[1]
    found = []
    for row, (prompt, response) in enumerate(given):
        start = len(prompt) - 1 - left_out
        found.append(logits[row, start : start + len(response)])
    return found


def _nats(ours: Tensor, theirs: Tensor, response: Sequence[int], temperature: float) -> Nats:
    size = max(1, (_PART_ON_CPU if ours.device.type == "cpu" else _PART) // ours.shape[1])
    tokens = torch.tensor(response, device=ours.device)
    full = along = 0.0
    for start in range(0, len(response), size):
        part = slice(start, start + size)
        log_p = (ours[part].double() / temperature).log_softmax(dim=-1)
        log_q = (theirs[part].double() / temperature).log_softmax(dim=-1)
        p = log_p.exp()
        # 0·log 0 = 0
        steps = torch.where(p == 0, 0.0, p * (log_p - log_q)).sum(dim=-1)
        full += float(steps.clamp(min=0.0).sum())
        drawn = tokens[part].unsqueeze(1)
        along += float((log_p.gather(1, drawn) - log_q.gather(1, drawn)).sum())
    return Nats(full, along)
