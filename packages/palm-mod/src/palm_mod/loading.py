"""From names and folders to :class:`~palm_mod.experts.Experts`, or one line that says why not."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palm_core.errors import InputError
from palm_core.text import one_line
from palm_eval.language.causal import (
    device_of,
    dtype_of,
    end_tokens,
    has_tokenizer,
    load_causal,
    load_tokenizer,
)
from palm_eval.language.memory import check_memory
from palm_eval.language.sources import Source, source_of
from palm_mod.adapters import require_peft, with_adapters
from palm_mod.experts import Experts
from palm_mod.probe import probe
from palm_mod.running import CausalModel
from palm_mod.vocabularies import check_tokenizers, common_vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

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

    Each name is one on the Hugging Face hub, with ``@revision`` where it matters, or a
    folder made by save_pretrained. Every model is tried on a small batch before use.

    Args:
        models: d ≥ 2 causal language models.
        base: the causal language model that ``adapters`` are for.
        adapters: d ≥ 2 LoRA adapters, run together in one forward pass.
        reference: π_ref. With ``adapters`` it must be ``base``, and costs no memory.
        tokenizer: of all experts; without, that of the first expert (or of the base) that
            has one. Given, it decides where experts end their texts by other tokens.
        device: "auto" takes a GPU if there is one; or "cpu", "cuda", "cuda:1", …
        dtype: of the weights, "auto" as they were saved; mixing is always in float32.

    Raises:
        InputError: one of them cannot be loaded, is no causal language model, does not fit
            the others; the line says which one and why.
        WorkError: not enough memory; a model that does not work in batches.
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
    """Where all weights are, and what messages call each."""
    if (models is None) == (adapters is None):
        raise InputError("experts: must be given by 'models', or by 'base' and 'adapters'")
    if (base is None) != (adapters is None):
        raise InputError("base: must be given with 'adapters', and only then")
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
    """The tokenizer that holds, and what others have of it otherwise."""
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
        if not place.startswith("adapters")  # they have their base's
    ]
    return named[0][1], notes


def _width(model: CausalModel) -> int:
    """For how many tokens it has predictions, and can read."""
    head = model.inner.get_output_embeddings()
    read = int(model.inner.get_input_embeddings().weight.shape[0])
    return read if head is None else min(read, int(head.weight.shape[0]))
