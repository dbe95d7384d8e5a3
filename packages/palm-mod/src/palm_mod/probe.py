"""A model is tried before it is believed: the same predictions in a batch as alone.

Whether padding is masked, positions are counted and caches are gathered as they should be
depends on each architecture; a few short forward passes tell.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch

from palm_core.errors import WorkError
from palm_mod.running import WITHOUT

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from torch import Tensor

    from palm_mod.running import CausalModel

# The total variation distance that rounding may make: of float32, and of shorter types.
_TOLERANCE, _SHORT_TOLERANCE = 0.01, 0.1
_LENGTHS = (7, 3)


def probe(model: CausalModel, vocabulary: int) -> int:
    """Compare a padded batch, one step on and rows exchanged, with each prefix read alone.

    Returns:
        Bytes that the cache takes for one token in one row, for all adapters together.

    Raises:
        WorkError: the predictions differ, or are not numbers.
    """
    longest = _LENGTHS[0] + 1
    tokens = [(place * vocabulary) // (longest + 1) for place in range(1, longest + 1)]
    prefixes = [tokens[:length] for length in _LENGTHS]
    running = model.start(prefixes, vocabulary)
    cache: int = sum(
        tensor.numel() * tensor.element_size()
        for layer in running.cache.layers
        for tensor in (getattr(layer, "keys", None), getattr(layer, "values", None))
        if tensor is not None
    )
    _compare(model, running.log_probs, prefixes, vocabulary)
    parents = [1, 0, 1]
    running.step(torch.tensor(parents), torch.tensor(tokens[-3:]))
    longer = [
        [*prefixes[parent], token] for parent, token in zip(parents, tokens[-3:], strict=True)
    ]
    _compare(model, running.log_probs, longer, vocabulary)
    return cache // (len(prefixes) * _LENGTHS[0])


@torch.inference_mode()
def _compare(model: CausalModel, found: Tensor, prefixes: list[list[int]], vocabulary: int) -> None:
    short = model.inner.dtype not in (torch.float32, torch.float64)
    tolerance = _SHORT_TOLERANCE if short else _TOLERANCE
    for place in range(model.width):
        with _only(model, place):
            for row, prefix in enumerate(prefixes):
                ids = torch.tensor([prefix], device=model.device)
                logits = model.model(input_ids=ids, use_cache=False).logits
                alone = logits[0, -1, :vocabulary].float().softmax(dim=-1)
                distance = float((alone - found[row, place].exp()).abs().sum() / 2)
                if math.isnan(distance):
                    raise WorkError(f"{model.name}: a logit is not a number, for any prompt")
                if distance > tolerance:
                    raise WorkError(
                        f"{model.name}: {type(model.inner).__name__} predicts otherwise in a "
                        f"batch than alone (total variation {distance:.2g}, must be at most "
                        f"{tolerance:g}); it cannot be decoded in batches"
                    )


def _only(model: CausalModel, place: int) -> AbstractContextManager[object]:
    """The model with one adapter, or without any, and no mixed batch."""
    if model.adapters is None:
        return nullcontext()
    if model.adapters[place] == WITHOUT:
        found: AbstractContextManager[object] = model.model.disable_adapter()
        return found
    model.model.set_adapter(model.adapters[place])
    return nullcontext()
