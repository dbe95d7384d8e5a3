"""From tokens to text: what a response says, and whether a stop string has ended it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from palm_core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Responder:
    """Reads responses: without special tokens, and without a stop string and what follows.

    Args:
        tokenizer: the model's.
        stop: strings that end a response; they are no part of it.

    Raises:
        InputError: ``stop`` is not a list of strings with something in each.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str] = ()) -> None:
        if isinstance(stop, str) or not all(isinstance(one, str) and one for one in stop):
            raise InputError(f"stop = {stop!r}: must be a list of strings, none of them empty")
        self._tokenizer, self._stop = tokenizer, tuple(stop)
        self._special = frozenset(tokenizer.all_special_ids)
        # A token is at least one byte. One more, whose front decoding may trim.
        self._longest = 1 + max((len(one.encode()) for one in self._stop), default=0)

    @property
    def stops(self) -> bool:
        """Whether there are stop strings."""
        return bool(self._stop)

    def stopped(self, prompt: int, tokens: Sequence[int]) -> bool:
        """Whether ``tokens``, of which all but the last were asked about, hold a stop string.

        Called after each token; ``prompt``, the prompt's number, does not matter.
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
        if "\ufffd" in said:  # cut within a character, which may spoil those after it
            said = self._decode(tokens)
        return any(one in said for one in self._stop)

    def text(self, tokens: Sequence[int]) -> str:
        """What ``tokens`` say, as it is: a space in front, where there is one, stays."""
        said = self._decode(tokens)
        ends = [place for one in self._stop if (place := said.find(one)) >= 0]
        return said[: min(ends)] if ends else said

    def _decode(self, tokens: Sequence[int]) -> str:
        return str(
            self._tokenizer.decode(
                list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )
