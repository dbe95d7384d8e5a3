"""Causal language models: loading them and their tokenizers, decoding their tokens to text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.hub import cached_file

from palm_core import InputError
from palm_core.plugin import check_choice, error_reason, one_line
from palm_eval.lm.memory import check_memory

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from palm_eval.lm.sources import Source

DTYPES = ("auto", "float32", "bfloat16", "float16")
_OF_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")


def load_causal(place: str, source: Source, device: torch.device, dtype: Any) -> Any:
    """Load the model of ``source`` on ``device``, with frozen weights.

    Args:
        place: its name in messages, the option's name and value.
        source: its folder or hub name.
        device: see :func:`device_of`.
        dtype: of its weights: "auto" as saved, or one of torch's.

    Raises:
        InputError: it cannot be loaded, is an adapter, or no trained causal language model.
        WorkError: not enough memory.
    """
    loader: Any = AutoModelForCausalLM
    folder = Path(source.name)
    if (folder / "adapter_config.json").is_file():
        raise InputError(f"{place}: is an adapter, must be given by 'base' and 'adapters'")
    try:
        model, info = loader.from_pretrained(
            source.name, revision=source.revision, dtype=dtype, output_loading_info=True
        )
        wrong = sorted(map(str, (*info["missing_keys"], *info["mismatched_keys"])))
        if not wrong:
            return model.requires_grad_(False).to(device)
    except Exception as error:
        check_memory(place, error)
        raise InputError(
            f"{place}: cannot be loaded, must be a causal language model on the Hugging Face hub "
            f"or a folder made by save_pretrained: {error_reason(error)}"
        ) from error
    raise InputError(
        f"{place}: must be a trained causal language model, but weights of "
        f"{type(model).__name__} are missing: {one_line(', '.join(wrong), 200)}"
    )


def has_tokenizer(source: Source) -> bool:
    """Whether the source has a tokenizer."""
    folder = Path(source.name)
    if folder.is_dir():
        return any((folder / name).exists() for name in _OF_TOKENIZERS)
    for name in _OF_TOKENIZERS:
        try:
            cached_file(source.name, name, revision=source.revision)
        except OSError:
            continue  # try the next file name
        return True
    return False


def load_tokenizer(place: str, source: Source) -> Any:
    """Load the tokenizer of ``source``; ``place`` is its name in messages.

    Raises:
        InputError: it cannot be loaded.
    """
    try:
        return AutoTokenizer.from_pretrained(source.name, revision=source.revision)
    except Exception as error:
        raise InputError(
            f"{place}: its tokenizer cannot be loaded: {error_reason(error)}"
        ) from error


def end_tokens(tokenizer: Any, models: Iterable[Any]) -> frozenset[int]:
    """The end-of-text tokens of the tokenizer and all models."""
    settings = [tokenizer]
    for model in models:
        settings += [model.config, getattr(model, "generation_config", None)]
    found: set[int] = set()
    for one in settings:
        ends = getattr(one, "eos_token_id", None)
        found |= set() if ends is None else {ends} if isinstance(ends, int) else set(ends)
    return frozenset(found)


def device_of(device: str) -> torch.device:
    """The device of that name; "auto" is a GPU if there is one.

    Raises:
        InputError: there is no such device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except Exception as error:
        raise InputError(f"device = {device!r}: cannot be used: {error_reason(error)}") from error


def dtype_of(dtype: str) -> Any:
    """The type of that name among :data:`DTYPES`, or "auto".

    Raises:
        InputError: another name.
    """
    check_choice(dtype, DTYPES, name="dtype")
    return dtype if dtype == "auto" else getattr(torch, dtype)


class Responder:
    """Decodes responses, without special tokens, truncated at the first stop string.

    Args:
        tokenizer: the model's.
        stop: strings that end a response; they are not part of it.

    Raises:
        InputError: ``stop`` is not a list of non-empty strings.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str] = ()) -> None:
        if isinstance(stop, str) or not all(isinstance(one, str) and one for one in stop):
            raise InputError(f"stop = {stop!r}: must be a list of strings, none of them empty")
        self._tokenizer, self._stop = tokenizer, tuple(stop)
        self._special = frozenset(tokenizer.all_special_ids)
        # A token is at least one byte. One more, since decoding may trim the first.
        self._longest = 1 + max((len(one.encode()) for one in self._stop), default=0)

    @property
    def stops(self) -> bool:
        """Whether there are stop strings."""
        return bool(self._stop)

    def stopped(self, prompt: int, tokens: Sequence[int]) -> bool:
        """Whether the last of ``tokens`` completes a stop string.

        Must be called after each token; ``prompt``, the prompt's number, is ignored.
        """
        del prompt
        if not tokens or tokens[-1] in self._special:
            return False
        tail: list[int] = []
        for token in reversed(tokens):
            if token not in self._special:
                tail.append(token)
                if len(tail) == self._longest:
                    break
        said = self._decode(tail[::-1])
        if "\ufffd" in said:  # starts within a character, which may corrupt later ones
            said = self._decode(tokens)
        return any(one in said for one in self._stop)

    def text(self, tokens: Sequence[int]) -> str:
        """The decoded text of ``tokens``, including a leading space."""
        said = self._decode(tokens)
        ends = [place for one in self._stop if (place := said.find(one)) >= 0]
        return said[: min(ends)] if ends else said

    def _decode(self, tokens: Sequence[int]) -> str:
        return str(
            self._tokenizer.decode(
                list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )
