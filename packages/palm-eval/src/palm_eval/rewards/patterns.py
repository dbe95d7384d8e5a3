"""Rewards for completions that match a regular expression."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import regex as engine  # type: ignore[import-untyped]  # it has no types

from palm_core import InputError, WorkError
from palm_core.plugin import check_choice, check_number, one_line
from palm_eval.rewards.base import Reward, check_sign, texts_of
from palm_eval.rewards.conversations import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_METHODS = ("search", "match", "fullmatch")


def regex(
    *,
    pattern: str,
    method: str = "search",
    ignore_case: bool = False,
    multiline: bool = False,
    dot_all: bool = False,
    sign: int = 1,
    seconds: float = 1.0,
    name: str | None = None,
) -> Reward:
    """r(x, y) = ±1 where ``pattern`` matches y, else 0.

    Args:
        pattern: in the syntax of Python's ``re``.
        method: "search" anywhere, "match" from the start, "fullmatch" all of it.
        ignore_case: letters match in either case.
        multiline: ``^`` and ``$`` match at every line.
        dot_all: a dot matches line breaks too.
        sign: -1 for an unwanted pattern.
        seconds: timeout for one completion, since a pattern such as ``(a+)+b`` may take
            exponential time; enforced by the ``regex`` package, as ``re`` has no timeout.
        name: of the function; ``None`` derives it.

    Raises:
        InputError: an option is wrong. On a call, WorkError: a completion took longer than
            ``seconds``; whether it matches is not known, so there is no reward to give.

    Example:
        >>> regex(pattern="please")(["?"] * 2, ["Yes, please.", "No."])
        [1.0, 0.0]
    """
    options = {
        "pattern": pattern,
        "method": check_choice(method, _METHODS, name="method"),
        "ignore_case": bool(ignore_case),
        "multiline": bool(multiline),
        "dot_all": bool(dot_all),
        "sign": check_sign(sign),
    }
    return _Regex(options, check_number(seconds, name="seconds", above=0.0), name)


class _Regex(Reward):
    def __init__(self, options: Mapping[str, Any], seconds: float, name: str | None) -> None:
        # Always include the pattern, so that functions of different patterns have different names.
        super().__init__("regex", options, {"pattern": None}, name)
        pattern = options["pattern"]
        if not isinstance(pattern, str):
            raise InputError(f"pattern = {one_line(repr(pattern), 80)}: must be a text")
        flags = engine.VERSION0
        for option, flag in (
            ("ignore_case", engine.IGNORECASE),
            ("multiline", engine.MULTILINE),
            ("dot_all", engine.DOTALL),
        ):
            flags |= flag if options[option] else 0
        try:
            compiled = engine.compile(pattern, flags)
        except (engine.error, RecursionError, OverflowError) as error:
            raise InputError(
                f"pattern = {one_line(repr(pattern), 80)}: must be a regular expression: {error}"
            ) from error
        self._matches = getattr(compiled, options["method"])
        self._pattern, self._sign, self._seconds = pattern, options["sign"], seconds

    def _score(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        columns: Mapping[str, Sequence[Any]],  # noqa: ARG002  every reward is called alike
    ) -> list[float]:
        scores = []
        for index, text in enumerate(texts_of(completions)):
            try:
                found = self._matches(text, timeout=self._seconds)
            except TimeoutError as error:
                raise WorkError(
                    f"reward {self.__name__!r}: pattern {one_line(repr(self._pattern), 80)} took "
                    f"more than {self._seconds:g} s on completion {index}, prompt "
                    f"{shown(prompts[index])}: make the pattern simpler or 'seconds' greater"
                ) from error
            scores.append(float(self._sign) if found else 0.0)
        return scores
