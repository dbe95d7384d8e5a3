"""One vocabulary for all experts: tokenizers compared, padded models cut to what they share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from palm_core.errors import InputError
from palm_core.text import one_line
from palm_eval.rewards.hub import tokenizer_identity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# What two tokenizers may not disagree on, unless one of them was chosen.
_SPECIAL = ("bos_token_id", "eos_token_id", "unk_token_id")


def check_tokenizers(named: Sequence[tuple[str, Any]], *, chosen: bool) -> list[str]:
    """Compare the first tokenizer with the others; return what differs and does no harm.

    Args:
        named: what messages call each tokenizer, and the tokenizer.
        chosen: the first was chosen by the user: then other ends of text than its own are
            told and not refused.

    Raises:
        InputError: a token has another number, or is in one of them only; a special token
            is another. It names the first difference.
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
    """The token with the lowest number that is not the same in both, and its two numbers."""
    if mine == other:
        return None
    differing = (token for token in {*mine, *other} if mine.get(token) != other.get(token))
    lowest = min(differing, key=lambda t: (min(v[t] for v in (mine, other) if t in v), t))
    return lowest, mine.get(lowest), other.get(lowest)


def common_vocabulary(tokenizer: Any, widths: Sequence[tuple[str, int]]) -> tuple[int, list[str]]:
    """How many tokens all models predict and the tokenizer knows; what is left out.

    Models pad their predictions to round numbers; what is beyond the tokenizer is no text.
    Tokens that the tokenizer added and some model does not predict are left out too.

    Args:
        tokenizer: of all models.
        widths: what messages call each model, and for how many tokens it has predictions.

    Raises:
        InputError: a model does not predict a token that was not added.
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
    """Take the rows from ``size`` on out of a model's embeddings and head, in place.

    Padding, and the tokens that :func:`common_vocabulary` left out: no response has them. A
    head that is tied to the embeddings stays tied.

    Args:
        model: of transformers, with at least ``size`` tokens.
        size: of the common vocabulary.
    """
    read, head = model.get_input_embeddings().weight, model.get_output_embeddings()
    if len(read) == size and (head is None or len(head.weight) == size):
        return
    model.resize_token_embeddings(size, mean_resizing=False)
    for config in (model.config.get_text_config(), model.config, model.generation_config):
        if (getattr(config, "pad_token_id", None) or 0) >= size:
            config.pad_token_id = None  # an embedding has no such row


def is_tied(model: Any) -> bool:
    """Whether the model's head is its embeddings."""
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight


def _number(number: int | None) -> str:
    return "missing" if number is None else str(number)
