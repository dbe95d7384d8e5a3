"""The experts: d causal language models over one vocabulary, as the forest takes them."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from palm_core.errors import InputError
from palm_eval.language.memory import free_bytes
from palm_mod.memory import Memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from palm_eval.language.sources import Source
    from palm_mod.running import CausalModel, Running

# float32
_BYTES = 4


class Experts:
    """d experts and perhaps a reference; :func:`~palm_mod.loading.load_experts` makes them.

    Every next-token prediction is float32 log π_i(t | prefix), normalised over the common
    vocabulary, in whatever type a model computes.

    Args:
        models: each run once per prefix; their predictions in this order are those of the
            experts and, last, of the reference.
        names: what messages call the d experts and the reference.
        reference: whether the last prediction is the reference's.
        tokenizer: of all of them.
        vocabulary: tokens from 0 up to it, exclusive, can be decoded.
        end_tokens: each ends a response.
        sources: of all weights.
        notes: what was found that the reader of the results should know.

    Attributes:
        context: the most tokens that all models can read, or ``None``.
        raw_logits: whether predictions are the models' logits as they are, for
            :mod:`palm_mod.published`; else, and at first, normalised.
        cache_bytes: of one token in one row, measured by :func:`~palm_mod.probe.probe`.
    """

    def __init__(
        self,
        models: Sequence[CausalModel],
        names: Sequence[str],
        *,
        reference: bool,
        tokenizer: Any,
        vocabulary: int,
        end_tokens: frozenset[int] = frozenset(),
        sources: Sequence[Source] = (),
        notes: Sequence[str] = (),
    ) -> None:
        self.models = tuple(models)
        self.names: Sequence[str] = tuple(names)
        self.has_reference = reference
        self.n_experts = len(self.names) - reference
        self.tokenizer, self.vocabulary = tokenizer, vocabulary
        self.end_tokens = end_tokens
        self.sources, self.notes = tuple(sources), tuple(notes)
        self.raw_logits = False
        self.cache_bytes = 0
        if sum(model.width for model in models) != len(self.names):
            raise InputError(f"{len(self.names)} names for {len(models)} models")

    @property
    def device(self) -> torch.device:
        """Where predictions are."""
        return self.models[0].device

    @property
    def context(self) -> int | None:
        """The most tokens that all models can read, where their configurations say so."""
        said = (
            getattr(model.config.get_text_config(), "max_position_embeddings", None)
            for model in self.models
        )
        return min((int(most) for most in said if most is not None), default=None)

    @property
    def memory(self) -> Memory:
        """What weights, caches and predictions take."""
        return Memory(
            weights=sum(model.inner.get_memory_footprint() for model in self.models),
            cache=self.cache_bytes,
            predictions=len(self.names) * self.vocabulary * _BYTES,
        )

    @cached_property
    def fingerprint(self) -> str:
        """Changes with any weights, tokenizer or number type that predictions depend on.

        Raises:
            InputError: what a source is cannot be told.
        """
        from palm_eval.rewards.hub import source_identity

        told = [source_identity(source.name, source.revision) for source in self.sources]
        told += [str(model.inner.dtype) for model in self.models]
        told += [str(self.has_reference), str(self.vocabulary)]
        return hashlib.sha256("\0".join(told).encode()).hexdigest()

    def rows_that_fit(self, length: int, *, most: int = 256) -> int | None:
        """How many prefixes of ``length`` tokens fit in the memory that is free, up to ``most``.

        ``None`` where the device does not tell.
        """
        free = free_bytes(self.device)
        return None if free is None else min(most, self.memory.rows_that_fit(free, length))

    def start(self, prefixes: Sequence[Sequence[int]]) -> ExpertsRunning:
        """Read n prefixes of any lengths, at least one token each; see ``Models``.

        Raises:
            InputError: a token beyond the vocabulary.
        """
        largest = max(max(prefix) for prefix in prefixes)
        if largest >= self.vocabulary:
            raise InputError(
                f"prompts: token {largest} is beyond the experts' common vocabulary of "
                f"{self.vocabulary}"
            )
        running = [
            model.start(prefixes, self.vocabulary, raw=self.raw_logits) for model in self.models
        ]
        return ExpertsRunning(running, self.device)


class ExpertsRunning:
    """All experts at n prefixes; see :class:`palm_mod.forest.Prefixes`.

    Attributes:
        log_probs: (n, d [+ 1], V) float32, of the next token.
    """

    def __init__(self, running: Sequence[Running], device: torch.device) -> None:
        self._running, self._device = running, device
        self.log_probs = self._together()

    def step(self, parents: Tensor, tokens: Tensor) -> ExpertsRunning:
        """The prefixes that continue ``parents`` (r,) by ``tokens`` (r,)."""
        for one in self._running:
            one.step(parents, tokens)
        self.log_probs = self._together()
        return self

    def _together(self) -> Tensor:
        parts = [one.log_probs.to(self._device) for one in self._running]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
