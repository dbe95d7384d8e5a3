"""One causal language model on a batch of prefixes: its cache, masks and positions.

Prefixes of different lengths are padded on their left, so that all end in the same column:
the mask hides the padding, positions count from each prefix's own first token.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from transformers import DynamicCache

from palm_core.errors import InputError, WorkError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

#: What peft calls the model without an adapter, in a batch of several adapters.
WITHOUT = "__base__"
# Masked, so any token that every model has.
_PADDING = 0
# The argument for the cache, in transformers from 5.24 on and before; a model of somebody
# else's code may have the old name with any version.
_CACHE_NAMES = ("cache", "past_key_values")


def cache_argument(model: Any) -> str | None:
    """The name under which ``model`` takes its cache; none if it takes none."""
    takes = inspect.signature(model.forward).parameters
    return next((name for name in _CACHE_NAMES if name in takes), None)


class CausalModel:
    """A model, or one model with several adapters that share each forward pass.

    Args:
        model: of transformers, or of peft where there are ``adapters``; is put in
            evaluation mode.
        name: what messages call it.
        adapters: names of loaded LoRA adapters, :data:`WITHOUT` for the base alone; each is
            run on each prefix, as further rows of the same batch.

    Raises:
        InputError: the model takes no attention mask, so that it cannot read prompts of
            different lengths together, or no cache, so that it would read them anew for
            each token.
    """

    def __init__(self, model: Any, name: str, adapters: Sequence[str] | None = None) -> None:
        self.model = model.eval()
        self.name = name
        self.adapters = None if adapters is None else tuple(adapters)
        self.inner = model if adapters is None else model.get_base_model()
        self.config = self.inner.config
        self._takes = set(inspect.signature(self.inner.forward).parameters)
        if "attention_mask" not in self._takes:
            raise InputError(
                f"{name}: {type(self.inner).__name__} takes no attention_mask, must be a model "
                "that reads prompts of different lengths in one batch"
            )
        cache = cache_argument(self.inner)
        if cache is None:
            raise InputError(
                f"{name}: {type(self.inner).__name__} takes no {' or '.join(_CACHE_NAMES)}, must "
                "be a model whose generation can use transformers' DynamicCache"
            )
        self._cache_name: str = cache

    @property
    def width(self) -> int:
        """How many different predictions it makes for a prefix: one for each adapter."""
        return 1 if self.adapters is None else len(self.adapters)

    @property
    def device(self) -> torch.device:
        """Where its inputs have to be."""
        return torch.device(self.inner.get_input_embeddings().weight.device)

    def start(
        self, prefixes: Sequence[Sequence[int]], vocabulary: int, *, raw: bool = False
    ) -> Running:
        """Read n prefixes of at least one token; predictions are of tokens < ``vocabulary``.

        ``raw`` leaves the logits as they are (for :mod:`palm_mod.published`).
        """
        longest = max(len(prefix) for prefix in prefixes)
        ids = [[_PADDING] * (longest - len(prefix)) + list(prefix) for prefix in prefixes]
        lengths = torch.tensor([len(prefix) for prefix in prefixes], device=self.device)
        seen = torch.arange(longest, device=self.device) >= (longest - lengths).unsqueeze(1)
        mask = seen.long().repeat_interleave(self.width, dim=0)
        running = Running(self, vocabulary, mask, raw=raw)
        running.read(torch.tensor(ids, device=self.device).repeat_interleave(self.width, dim=0))
        return running

    def run(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:
        """Logits after the last of ``ids`` (rows, m), whatever they come in: (rows, V)."""
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "use_cache": True}
        inputs[self._cache_name] = cache
        if "position_ids" in self._takes:
            inputs["position_ids"] = positions
        if "logits_to_keep" in self._takes:
            inputs["logits_to_keep"] = 1
        if self.adapters is not None:
            inputs["adapter_names"] = list(self.adapters) * (len(ids) // self.width)
        logits: Tensor = self.model(**inputs).logits
        return logits[:, -1]


class Running:
    """A model's state at n prefixes, each in ``width`` rows that follow each other.

    Attributes:
        log_probs: (n, width, V) float32, normalised over the vocabulary (unless ``raw``),
            whatever the model's own type: bfloat16 has ties where there are none.
    """

    log_probs: Tensor

    def __init__(self, model: CausalModel, vocabulary: int, mask: Tensor, *, raw: bool) -> None:
        self._model, self._vocabulary, self._mask = model, vocabulary, mask
        self._raw = raw
        self.cache: Any = DynamicCache(config=model.config)

    @torch.inference_mode()
    def step(self, parents: Tensor, tokens: Tensor) -> None:
        """Go on: the r new prefixes continue ``parents`` (r,) by ``tokens`` (r,)."""
        device, width = self._mask.device, self._model.width
        parents, tokens = parents.to(device), tokens.to(device)
        rows = (parents.unsqueeze(1) * width + torch.arange(width, device=device)).flatten()
        if len(rows) != len(self._mask) or not torch.equal(rows, _counting(rows)):
            self.cache.reorder_cache(rows)
            self._mask = self._mask[rows]
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(rows), 1)], dim=1)
        self.read(tokens.unsqueeze(1).repeat_interleave(width, dim=0))

    @torch.inference_mode()
    def read(self, ids: Tensor) -> None:
        """Run the model on the last columns of all prefixes."""
        positions = (self._mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        logits = self._model.run(ids, self._mask, positions, self.cache)
        if self.cache.get_seq_length() != self._mask.shape[1]:
            raise WorkError(
                f"{self._model.name}: {type(self._model.inner).__name__} does not keep what it "
                "read in the cache that it is given, must be a model whose generation "
                "can use transformers' DynamicCache"
            )
        kept = logits[:, : self._vocabulary].float()
        if not self._raw:
            kept = kept.log_softmax(dim=-1)
        self.log_probs = kept.view(-1, self._model.width, self._vocabulary)


def _counting(rows: Tensor) -> Tensor:
    return torch.arange(len(rows), device=rows.device)
