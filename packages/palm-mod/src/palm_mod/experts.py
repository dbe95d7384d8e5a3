"""Experts: loading d causal language models over one vocabulary; their memory."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from palm_core import InputError
from palm_core.plugin import check_count, one_line
from palm_eval.plugin import (
    Source,
    check_memory,
    device_of,
    dtype_of,
    end_tokens,
    free_bytes,
    has_tokenizer,
    load_causal,
    load_tokenizer,
    source_of,
    tokenizer_identity,
)
from palm_mod.causal_model import CausalModel, probe, require_peft, with_adapters

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from palm_mod.causal_model import Running

# The share of free memory that is used: allocators cannot use every gap.
_SHARE = 0.8
# Log-probabilities, scores of two weight vectors, and intermediate results.
_COPIES = 6


@dataclass(frozen=True)
class Memory:
    """Memory of decoding in bytes, for all experts and the reference together.

    Args:
        weights: parameters and buffers, as loaded.
        cache: keys and values of one token in one row; layers with a sliding window take
            less once it is full.
        predictions: next-token predictions of one row.
    """

    weights: int
    cache: int
    predictions: int

    def of_rows(self, rows: int, length: int) -> int:
        """Bytes for ``rows`` prefixes of ``length`` tokens, weights not counted."""
        return rows * (length * self.cache + _COPIES * self.predictions)

    def rows_that_fit(self, free: int, length: int) -> int:
        """How many prefixes of ``length`` tokens can be held in ``free`` bytes; at least 1.

        The first pass over the longest prompts has a higher peak; if it runs out of memory,
        the rows are halved (see :func:`palm_mod.prefix_tree.grow`).
        """
        length = check_count(length, name="length", least=1)
        return max(1, int(_SHARE * free) // max(1, self.of_rows(1, length)))


# float32
_BYTES = 4


class Experts:
    """d experts and optionally a reference; made by :func:`~palm_mod.experts.load_experts`.

    Every next-token prediction is float32 log π_i(t | prefix), normalised over the common
    vocabulary, whatever the model's dtype.

    Args:
        models: each run once per prefix; predictions in this order, those of the reference
            last.
        names: names of the d experts and the reference in messages.
        reference: whether the last prediction is the reference's.
        tokenizer: shared by all of them.
        vocabulary: tokens from 0 up to it, exclusive, can be decoded.
        end_tokens: each ends a response.
        sources: of all weights.
        notes: remarks for readers of the results.

    Attributes:
        context: the smallest context length of all models, or ``None``.
        raw_logits: whether predictions are the models' raw logits (for
            :mod:`palm_mod.mixing`); by default normalised log-probabilities.
        cache_bytes: of one token in one row, measured by :func:`~palm_mod.causal_model.probe`.
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
            raise InputError(f"names: has {len(self.names)} entries, must have {len(models)}")

    @property
    def device(self) -> torch.device:
        """The device of the predictions."""
        return self.models[0].device

    @property
    def context(self) -> int | None:
        """The smallest context length of all models, if their configurations have one."""
        said = (
            getattr(model.config.get_text_config(), "max_position_embeddings", None)
            for model in self.models
        )
        return min((int(most) for most in said if most is not None), default=None)

    @property
    def memory(self) -> Memory:
        """The memory of weights, caches and predictions."""
        return Memory(
            weights=sum(model.inner.get_memory_footprint() for model in self.models),
            cache=self.cache_bytes,
            predictions=len(self.names) * self.vocabulary * _BYTES,
        )

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all weights, the tokenizer and the dtypes that predictions depend on.

        Raises:
            InputError: the identity of a source cannot be determined.
        """
        from palm_eval.plugin import source_identity

        parts = [source_identity(source.name, source.revision) for source in self.sources]
        parts += [str(model.inner.dtype) for model in self.models]
        parts += [str(self.has_reference), str(self.vocabulary)]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def rows_that_fit(self, length: int, *, most: int = 256) -> int | None:
        """How many prefixes of ``length`` tokens fit in free memory, up to ``most``.

        ``None`` if the device's free memory is unknown.
        """
        free = free_bytes(self.device)
        return None if free is None else min(most, self.memory.rows_that_fit(free, length))

    def start(self, prefixes: Sequence[Sequence[int]]) -> ExpertsRunning:
        """Run all models on n non-empty prefixes of any lengths; see ``Models``.

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
    """All experts at n prefixes; see :class:`palm_mod.prefix_tree.Prefixes`.

    Attributes:
        log_probs: (n, d [+ 1], V) float32, of the next token.
    """

    def __init__(self, running: Sequence[Running], device: torch.device) -> None:
        self._running, self._device = running, device
        self.log_probs = self._together()

    def step(self, parents: Tensor, tokens: Tensor) -> ExpertsRunning:
        """Extend the prefixes ``parents`` (r,) by ``tokens`` (r,)."""
        for one in self._running:
            one.step(parents, tokens)
        self.log_probs = self._together()
        return self

    def _together(self) -> Tensor:
        parts = [one.log_probs.to(self._device) for one in self._running]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


# Attributes in which tokenizers must agree, unless the user chose one of them.
_SPECIAL = ("bos_token_id", "eos_token_id", "unk_token_id")


def check_tokenizers(named: Sequence[tuple[str, Any]], *, chosen: bool) -> list[str]:
    """Compare the first tokenizer with the others; return notes on harmless differences.

    Args:
        named: the name of each tokenizer in messages, and the tokenizer.
        chosen: the user chose the first: then different end-of-text tokens are noted, not
            refused.

    Raises:
        InputError: a token has different ids, or is in one of them only; a special token
            differs. It names the first difference.
    """
    notes = []
    (first, mine), *others = named
    vocabulary = mine.get_vocab()
    for name, other in others:
        difference = first_difference(vocabulary, other.get_vocab())
        if difference is not None:
            token, here, there = difference
            raise InputError(
                f"tokenizers differ: {one_line(repr(token), 80)} is {_number(here)} in {first} "
                f"and {_number(there)} in {name}; experts must share their vocabulary"
            )
        for kind in (*_SPECIAL, "pad_token_id"):
            here, there = getattr(mine, kind, None), getattr(other, kind, None)
            if here == there:
                continue
            said = f"{kind} is {here} in {first} and {there} in {name}"
            if kind in _SPECIAL and not chosen:
                raise InputError(
                    f"tokenizers differ: {said}; must be the same, or 'tokenizer' must say "
                    "which one holds"
                )
            notes.append(f"tokenizers: {said}; the former holds")
        if getattr(mine, "chat_template", None) != getattr(other, "chat_template", None):
            notes.append(f"tokenizers: {first} and {name} have different chat templates")
        if tokenizer_identity(mine) != tokenizer_identity(other) and not notes:
            notes.append(f"tokenizers: {first} and {name} split text differently; the former holds")
    return notes


def first_difference(
    mine: Mapping[str, int], other: Mapping[str, int]
) -> tuple[str, int | None, int | None] | None:
    """The token with the lowest id that differs between both, and its two ids."""
    if mine == other:
        return None
    differing = (token for token in {*mine, *other} if mine.get(token) != other.get(token))
    lowest = min(differing, key=lambda t: (min(v[t] for v in (mine, other) if t in v), t))
    return lowest, mine.get(lowest), other.get(lowest)


def common_vocabulary(tokenizer: Any, widths: Sequence[tuple[str, int]]) -> tuple[int, list[str]]:
    """Size of the vocabulary common to all models and the tokenizer; notes on tokens left out.

    Models pad their vocabulary to round numbers; ids beyond the tokenizer's are not text.
    Added tokens of the tokenizer that some model does not predict are left out too.

    Args:
        tokenizer: of all models.
        widths: the name of each model in messages, and its vocabulary size.

    Raises:
        InputError: a model does not predict a token that is not an added one.
    """
    known = tokenizer.get_vocab()
    size = max(known.values()) + 1
    name, least = min(widths, key=lambda one: one[1])
    notes = [
        f"{who}: predicts {width} tokens, of which the tokenizer knows {size}"
        for who, width in widths
        if width > size
    ]
    if least < size:
        added = set(tokenizer.added_tokens_decoder)
        beyond = {number: token for token, number in known.items() if number >= least}
        plain = sorted(number for number in beyond if number not in added)
        if plain:
            raise InputError(
                f"{name}: predicts {least} tokens, must predict token {plain[0]} "
                f"({one_line(repr(beyond[plain[0]]), 80)}) of its tokenizer too"
            )
        notes.append(
            f"{name}: predicts {least} tokens; left out are "
            + one_line(", ".join(repr(beyond[number]) for number in sorted(beyond)), 200)
        )
    return min(size, least), notes


def cut_vocabulary(model: Any, size: int) -> None:
    """Truncate a model's embeddings and head to ``size`` rows, in place.

    Removes padding and the tokens that :func:`common_vocabulary` left out. A head that is tied
    to the embeddings stays tied.

    Args:
        model: a transformers model with at least ``size`` tokens.
        size: of the common vocabulary.
    """
    read, head = model.get_input_embeddings().weight, model.get_output_embeddings()
    if len(read) == size and (head is None or len(head.weight) == size):
        return
    model.resize_token_embeddings(size, mean_resizing=False)
    for config in (model.config.get_text_config(), model.config, model.generation_config):
        if (getattr(config, "pad_token_id", None) or 0) >= size:
            config.pad_token_id = None  # out of range of the embedding


def is_tied(model: Any) -> bool:
    """Whether the model's head is tied to its embeddings."""
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight


def _number(number: int | None) -> str:
    return "missing" if number is None else str(number)


_log = logging.getLogger("palm_mod")


def load_experts(
    models: Sequence[str | Path] | None = None,
    *,
    base: str | Path | None = None,
    adapters: Sequence[str | Path] | None = None,
    reference: str | Path | None = None,
    tokenizer: str | Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
) -> Experts:
    """Load d experts, either as ``models`` or as ``adapters`` of one ``base``.

    Each name is a repository on the Hugging Face hub, optionally with ``@revision``, or a
    folder written by save_pretrained. Every model is probed on a small batch before use.

    Args:
        models: d ≥ 2 causal language models.
        base: the base model of ``adapters``.
        adapters: d ≥ 2 LoRA adapters, run together in one forward pass.
        reference: π_ref. With ``adapters`` it must be ``base``, and costs no memory.
        tokenizer: of all experts; by default that of the first expert (or of the base) that
            has one. If given, it decides where experts have different end tokens.
        device: "auto" for a GPU if there is one; or "cpu", "cuda", "cuda:1", …
        dtype: of the weights, "auto" as they were saved; mixing is always in float32.

    Raises:
        InputError: one of them cannot be loaded, is not a causal language model or is
            incompatible with the others; the message names it and the reason.
        WorkError: not enough memory; a model that fails in batches.
    """
    sources, places = _sources(models, base, adapters, reference)
    where, kind = device_of(device), dtype_of(dtype)
    loaded: list[CausalModel] = []
    notes: list[str] = []
    if adapters is not None:
        lm = load_causal(places[0], sources[0], where, kind)
        named = list(zip(places[1:], sources[1:], strict=True))
        model, notes = with_adapters(lm, places[0], named, reference=reference is not None)
        loaded.append(model)
        names = [*places[1:], *([places[0]] if reference is not None else [])]
    else:
        for place, source in zip(places, sources, strict=True):
            loaded.append(CausalModel(load_causal(place, source, where, kind), place))
        names = list(places)
    chosen, more = _tokenizer(tokenizer, places, sources)
    widths = [(model.name, _width(model)) for model in loaded]
    vocabulary, left_out = common_vocabulary(chosen, widths)
    notes += more + left_out
    decoded = loaded if adapters is not None or reference is None else loaded[:-1]
    ends = end_tokens(chosen, [model.inner for model in decoded])
    if not ends:
        notes.append("no end token is known: every response runs to its greatest length")
    for note in notes:
        _log.warning("%s", note)
    tokens_from = [] if tokenizer is None else [source_of(tokenizer)]
    experts = Experts(
        loaded,
        names,
        reference=reference is not None,
        tokenizer=chosen,
        vocabulary=vocabulary,
        end_tokens=ends,
        sources=[*sources, *tokens_from],
        notes=notes,
    )
    for model in loaded:
        try:
            experts.cache_bytes += probe(model, vocabulary)
        except Exception as error:
            check_memory(model.name, error)
            raise
    return experts


def _sources(
    models: Sequence[str | Path] | None,
    base: str | Path | None,
    adapters: Sequence[str | Path] | None,
    reference: str | Path | None,
) -> tuple[list[Source], list[str]]:
    """The sources of all weights, and their names in messages."""
    if (models is None) == (adapters is None):
        raise InputError("experts: must be given by 'models', or by 'base' and 'adapters'")
    if (base is None) != (adapters is None):
        raise InputError("base: must be given exactly if 'adapters' is given")
    field, given = ("models", models) if adapters is None else ("adapters", adapters)
    if isinstance(given, (str, Path)) or given is None or len(given) < 2:
        raise InputError(f"{field} = {given!r}: must be a list of at least 2")
    sources = [source_of(one) for one in given]
    places = [f"{field}[{i}] = {str(one)!r}" for i, one in enumerate(sources)]
    if adapters is not None:
        require_peft()
        sources.insert(0, source_of(base))
        places.insert(0, f"base = {str(sources[0])!r}")
        if reference is not None and source_of(reference) != sources[0]:
            raise InputError(
                f"reference = {str(reference)!r}: with adapters it must be their base, "
                f"{str(sources[0])!r}"
            )
    elif reference is not None:
        sources.append(source_of(reference))
        places.append(f"reference = {str(sources[-1])!r}")
    return sources, [one_line(place, 300) for place in places]


def _tokenizer(
    given: str | Path | None, places: Sequence[str], sources: Sequence[Source]
) -> tuple[Any, list[str]]:
    """The tokenizer to use, and notes on how others differ from it."""
    named: list[tuple[str, Any]] = []
    if given is not None:
        source = source_of(given)
        place = f"tokenizer = {str(source)!r}"
        named.append((place, load_tokenizer(place, source)))
    bare = []
    for place, source in zip(places, sources, strict=True):
        if has_tokenizer(source):
            named.append((place, load_tokenizer(place, source)))
        else:
            bare.append(place)
    if not named:
        raise InputError("tokenizer: missing, none of the experts has one")
    notes = check_tokenizers(named, chosen=given is not None)
    notes += [
        f"{place}: has no tokenizer, is taken to have that of {named[0][0]}"
        for place in bare
        if not place.startswith("adapters")  # they use the base model's tokenizer
    ]
    return named[0][1], notes


def _width(model: CausalModel) -> int:
    """The model's vocabulary size: of its predictions and its embeddings, the smaller."""
    head = model.inner.get_output_embeddings()
    read = int(model.inner.get_input_embeddings().weight.shape[0])
    return read if head is None else min(read, int(head.weight.shape[0]))
