"""Batched forward passes of a causal language model: cache, masks, positions, adapters, probe.

Prefixes of different lengths are padded on the left, so that all end in the same column: the
mask hides the padding, positions count from each prefix's first token. d LoRA adapters of one
base model share a forward pass with the base model itself.

Whether masks, positions and cache reordering work depends on the architecture; the probe
validates them with a few short forward passes.
"""

from __future__ import annotations

import inspect
import math
from contextlib import nullcontext
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from transformers import DynamicCache

from palm_core import InputError, WorkError
from palm_core.plugin import error_reason, one_line
from palm_eval.plugin import check_memory

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor

    from palm_eval.plugin import Source

#: peft's adapter name for the base model in a mixed batch.
WITHOUT = "__base__"
# Padding token; it is masked, so any valid token will do.
_PADDING = 0
# Names of the cache argument: transformers from 5.24 on, and before; models with custom code
# may use the old name in any version.
_CACHE_NAMES = ("cache", "past_key_values")


def cache_argument(model: Any) -> str | None:
    """The name of the cache argument of ``model``; ``None`` if it has none."""
    takes = inspect.signature(model.forward).parameters
    return next((name for name in _CACHE_NAMES if name in takes), None)


class CausalModel:
    """A model, or one base model with several adapters that share each forward pass.

    Args:
        model: a transformers model, a peft model if there are ``adapters``; it is put in
            evaluation mode.
        name: its name in messages.
        adapters: names of loaded LoRA adapters, :data:`WITHOUT` for the base model alone;
            each is run on each prefix, as additional rows of the same batch.

    Raises:
        InputError: the model takes no attention mask, so that prompts of different lengths
            cannot be batched, or no cache, so that every token would need a pass over the
            whole prefix.
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
        """Number of predictions for each prefix: one for each adapter."""
        return 1 if self.adapters is None else len(self.adapters)

    @property
    def device(self) -> torch.device:
        """The device of the model's inputs."""
        return torch.device(self.inner.get_input_embeddings().weight.device)

    def start(
        self, prefixes: Sequence[Sequence[int]], vocabulary: int, *, raw: bool = False
    ) -> Running:
        """Run the model on n non-empty prefixes; predictions are of tokens < ``vocabulary``.

        ``raw`` leaves the logits as they are (for :mod:`palm_mod.mixing`).
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
        """Logits after the last of ``ids`` (rows, m), in the model's dtype: (rows, V)."""
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
    """A model's state at n prefixes, each in ``width`` consecutive rows.

    Attributes:
        log_probs: (n, width, V) float32, normalised over the vocabulary (unless ``raw``),
            whatever the model's dtype: bfloat16 would create ties.
    """

    log_probs: Tensor

    def __init__(self, model: CausalModel, vocabulary: int, mask: Tensor, *, raw: bool) -> None:
        self._model, self._vocabulary, self._mask = model, vocabulary, mask
        self._raw = raw
        self.cache: Any = DynamicCache(config=model.config)

    @torch.inference_mode()
    def step(self, parents: Tensor, tokens: Tensor) -> None:
        """Extend the prefixes ``parents`` (r,) by ``tokens`` (r,): r new prefixes."""
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
                f"{self._model.name}: {type(self._model.inner).__name__} does not fill the cache "
                "passed to it, must be a model whose generation can use transformers' DynamicCache"
            )
        kept = logits[:, : self._vocabulary].float()
        if not self._raw:
            kept = kept.log_softmax(dim=-1)
        self.log_probs = kept.view(-1, self._model.width, self._vocabulary)


def _counting(rows: Tensor) -> Tensor:
    return torch.arange(len(rows), device=rows.device)


def with_adapters(
    base: Any, name: str, adapters: Sequence[tuple[str, Source]], *, reference: bool
) -> tuple[CausalModel, list[str]]:
    """The base model with all adapters, unmerged; each row of a batch selects its adapter.

    Args:
        base: a causal language model of transformers.
        name: its name in messages.
        adapters: the name of each in messages, and its source.
        reference: whether the base model itself is run as well, last.

    Returns:
        The model; notes on harmless differences.

    Raises:
        InputError: peft is missing; an adapter cannot be loaded, does not fit the base, or
            is of a kind that mixed batches do not support.
    """
    require_peft()
    from peft import PeftModel

    model: Any = None
    notes, names = [], []
    for number, (label, source) in enumerate(adapters):
        notes += _check(label, source, base)
        names.append(f"expert-{number}")
        options: dict[str, Any] = {"adapter_name": names[-1], "revision": source.revision}
        try:
            if model is None:
                model = PeftModel.from_pretrained(base, source.name, **options)
            else:
                model.load_adapter(source.name, **options)
        except Exception as error:
            check_memory(label, error)
            raise InputError(
                f"{label}: does not fit {name}, must be an adapter of it: {error_reason(error)}"
            ) from error
    if reference:
        names.append(WITHOUT)
    return CausalModel(model, name, names), notes


def require_peft() -> None:
    """Raise :class:`InputError` if peft is not installed."""
    if find_spec("peft") is None:
        raise InputError("adapters: peft is not installed; install palm-mod with its extra [lora]")


def _check(label: str, source: Source, base: Any) -> list[str]:
    """Refuse adapters that mixed batches do not support; note a different base model."""
    from peft import LoraConfig, PeftConfig
    from peft.utils.save_and_load import load_peft_weights

    try:
        config = PeftConfig.from_pretrained(source.name, revision=source.revision)
        keys = load_peft_weights(source.name, device="cpu", revision=source.revision)
    except Exception as error:
        raise InputError(
            f"{label}: cannot be loaded, must be a LoRA adapter saved by peft: "
            f"{error_reason(error)}"
        ) from error
    refused = None
    if type(config) is not LoraConfig:
        refused = f"is of type {config.peft_type}"
    elif config.use_dora:
        refused = "is of type DoRA"
    elif config.bias != "none":
        refused = f"changes the base's biases (bias = {config.bias!r})"
    else:
        others = sorted(key for key in keys if ".lora_" not in key)
        if others:
            refused = f"has full weights beside LoRA ({one_line(others[0], 120)})"
    if refused is not None:
        raise InputError(
            f"{label}: {refused}, must be plain LoRA to share forward passes; merged into its "
            "base it can be one of 'models'"
        )
    trained_on, given = config.base_model_name_or_path, base.config.name_or_path
    if trained_on and trained_on != given:
        return [f"{label}: was trained on {trained_on!r}, runs on {given!r}"]
    return []


# Total variation distance attributed to rounding: of float32, and of shorter dtypes.
_TOLERANCE, _SHORT_TOLERANCE = 0.01, 0.1
_LENGTHS = (7, 3)


def probe(model: CausalModel, vocabulary: int) -> int:
    """Compare a padded batch, after one step with reordered rows, with each prefix run alone.

    Returns:
        Bytes of cache for one token in one row, for all adapters together.

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
                        f"{model.name}: {type(model.inner).__name__} predicts differently in a "
                        f"batch than alone (total variation {distance:.2g}, must be at most "
                        f"{tolerance:g}); it cannot be decoded in batches"
                    )


def _only(model: CausalModel, place: int) -> AbstractContextManager[object]:
    """Activate one adapter, or none, in place of a mixed batch."""
    if model.adapters is None:
        return nullcontext()
    if model.adapters[place] == WITHOUT:
        found: AbstractContextManager[object] = model.model.disable_adapter()
        return found
    model.model.set_adapter(model.adapters[place])
    return nullcontext()
