r"""Verifiable rewards: GSM8K, MATH, and RLVR's mixture of them.

The paper trains on RLVR-GSM and RLVR-MATH (Lambert et al., 2024, Tülu 3), whose checks
are those of Open Instruct: the last number of the completion for GSM8K, the last
``\boxed{…}`` for MATH. Completions are untrusted text: nothing of it is evaluated here, and
equivalence of formulas is judged in a subprocess with a timeout.
"""

from __future__ import annotations

import re
from collections import deque
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from palm_core import InputError
from palm_core.plugin import check_choice, check_number, one_line
from palm_eval.rewards.base import Reward, check_column, texts_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_COMMA = re.compile(r"(?<=[0-9]),(?=[0-9])|(?<=[0-9])\{,\}(?=[0-9])")
# A sign counts where it cannot be a minus between two terms: "10-3" ends in 3, "= -3" in -3.
# Nor is the "- " of a list a sign.
_NUMBER = re.compile(
    r"(?:(?<![\w.)\]}%])(?P<sign>[-+−]))?(?:\\?[$€£]\s?)?"
    r"(?P<number>[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
)
_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")


def gsm(
    *, ground_truth: str = "ground_truth", match: str = "number", name: str | None = None
) -> Reward:
    r"""r(x, y) = 1 where the last number of y is the ground truth, else 0.

    Commas between digits are dropped first ("1,234" is 1234); units, currencies, per cent
    signs and a full stop at the end are no part of a number; of several numbers the last
    counts; without one the answer is wrong. Completion and ground truth are read alike;
    of a ground truth as in GSM8K itself, what follows "####".

    Args:
        ground_truth: the column with the right answers, as text or numbers.
        match: "number": equal as decimal numbers, exactly ("18.0" is 18, "-5" is not 5).
            "string": as Open Instruct does it and hence the paper: the same characters
            ("18.0" is not "18"), where an integer's sign is not read ("-5" gives "5").
        name: of the function; ``None`` derives it.

    Raises:
        InputError: an option is wrong; on a call, a ground truth has no number.

    Example:
        >>> answers = ["2 + 2 = 4.", "It costs $1,234.50", "-7"]
        >>> gsm()(["?"] * 3, answers, ground_truth=[4, "1234.5", 7])
        [1.0, 1.0, 0.0]
    """
    column = check_column(ground_truth, name="ground_truth")
    return _Gsm(column, check_choice(match, ("number", "string"), name="match"), name)


class _Gsm(Reward):
    def __init__(self, column: str, match: str, name: str | None) -> None:
        options = {"ground_truth": column, "match": match}
        super().__init__("gsm", options, {"ground_truth": "ground_truth", "match": "number"}, name)
        self.columns = self.requires = (column,)
        self._column, self._read = column, last_number if match == "number" else _last_written

    @property
    def correctness(self) -> Reward:
        """Itself."""
        return self

    def _score(
        self,
        prompts: Sequence[Any],  # noqa: ARG002  every reward is called alike
        completions: Sequence[Any],
        columns: Mapping[str, Sequence[Any]],
    ) -> list[float]:
        scores = []
        truths = columns[self._column]
        for index, (text, truth) in enumerate(zip(texts_of(completions), truths, strict=True)):
            expected = self._read(_written(truth, self._column, index).rpartition("####")[2])
            if expected is None:
                raise InputError(
                    f"column {self._column!r}, row {index}: {one_line(repr(truth), 80)} has no "
                    "number, must have one"
                )
            scores.append(float(self._read(text) == expected))
        return scores


def last_number(text: str) -> str | None:
    """The last number of ``text`` in its shortest form, or ``None``.

    Compared as text, so that any number of digits is exact.

    Example:
        >>> last_number("from 1,000 to −$1,250.50.")
        '-1250.5'
    """
    found = _last(_NUMBER, _COMMA.sub("", text))
    if found is None:
        return None
    whole, _, fraction = found["number"].partition(".")
    fraction = fraction.rstrip("0")
    number = (whole.lstrip("0") or "0") + (f".{fraction}" if fraction else "")
    return f"-{number}" if found["sign"] in ("-", "−") and number != "0" else number


def _last_written(text: str) -> str | None:
    """The last number as Open Instruct finds it: a sign only before a decimal fraction."""
    numbers = re.findall(r"[-+]?(?:[0-9]+\.[0-9]+|\.[0-9]+)|[0-9]+", _COMMA.sub("", text))
    return numbers[-1] if numbers else None


def math(
    *, ground_truth: str = "ground_truth", seconds: float = 5.0, name: str | None = None
) -> Reward:
    r"""r(x, y) = 1 where the last ``\boxed{…}`` of y is equivalent to the ground truth, else 0.

    Braces may be nested; a last box that is not closed (a completion cut off) is no
    answer. Equivalence is that of math-verify (Hugging Face): 1/2, 0.5 and
    ``\frac{1}{2}`` are the same. It is judged in a subprocess, for two reasons:
    math-verify limits its time by signals, which work in no thread but the main one; and
    no signal stops ``9^{9^{9}}``.

    Args:
        ground_truth: the column with the right answers: an answer, or a text with a box.
        seconds: timeout of one comparison, which then counts as wrong.
        name: of the function; ``None`` derives it.

    Raises:
        InputError: an option is wrong; on a call, a ground truth is empty.

    Example:
        >>> math()(["?"] * 2, [r"so \boxed{\frac{1}{2}}", "0.5"], ground_truth=["0.5", "0.5"])
        [1.0, 0.0]
    """
    column = check_column(ground_truth, name="ground_truth")
    return _Math(column, check_number(seconds, name="seconds", above=0.0), name)


class _Math(Reward):
    def __init__(self, column: str, seconds: float, name: str | None) -> None:
        options = {"ground_truth": column, "seconds": seconds}
        super().__init__("math", options, {"ground_truth": "ground_truth", "seconds": 5.0}, name)
        self.columns = self.requires = (column,)
        self._column, self._seconds = column, seconds

    @property
    def correctness(self) -> Reward:
        """Itself."""
        return self

    def _sources(self) -> dict[str, Any]:
        from importlib.metadata import version

        return {name: version(name) for name in ("math-verify", "latex2sympy2-extended", "sympy")}

    def _score(
        self,
        prompts: Sequence[Any],  # noqa: ARG002  every reward is called alike
        completions: Sequence[Any],
        columns: Mapping[str, Sequence[Any]],
    ) -> list[float]:
        from palm_eval.rewards.math_process import equivalent

        scores = []
        truths = columns[self._column]
        for index, (text, truth) in enumerate(zip(texts_of(completions), truths, strict=True)):
            written = _written(truth, self._column, index)
            expected = (last_boxed(written) if _BOX.search(written) else written) or ""
            if not expected.strip():
                raise InputError(
                    f"column {self._column!r}, row {index}: {one_line(repr(truth), 80)} has no "
                    "answer, must have one"
                )
            answer = last_boxed(text)
            scores.append(float(answer is not None and equivalent(expected, answer, self._seconds)))
        return scores


def last_boxed(text: str) -> str | None:
    r"""The content of the last ``\boxed{…}`` of ``text``; ``None`` if none or unclosed.

    Example:
        >>> last_boxed(r"\boxed{1} or rather \boxed{\frac{1}{2}}.")
        '\\frac{1}{2}'
    """
    box = _last(_BOX, text)
    if box is None:
        return None
    if text[box.end() : box.end() + 1] != "{":  # \boxed 5, as LaTeX allows it
        bare = re.match(r"[^\s$\\{}]", text[box.end() :])
        return bare.group() if bare else None
    depth = 0
    # A backslash escapes the next character: \{ opens nothing.
    for token in re.finditer(r"\\.|[{}]", text[box.end() :], re.DOTALL):
        depth += {"{": 1, "}": -1}.get(token.group(), 0)
        if depth == 0 and token.group() == "}":
            return text[box.end() + 1 : box.end() + token.start()]
    return None


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    newest = deque(pattern.finditer(text), maxlen=1)
    return newest[0] if newest else None


def _written(truth: object, column: str, index: int) -> str:
    if isinstance(truth, str):
        return truth
    if isinstance(truth, (int, float)) and not isinstance(truth, bool):
        return format(Decimal(repr(truth)), "f")  # 1e-07 has no number at its end
    raise InputError(
        f"column {column!r}, row {index}: {one_line(repr(truth), 80)} must be a text or a number"
    )


def rlvr(
    *,
    dataset: str = "dataset",
    ground_truth: str = "ground_truth",
    match: str = "string",
    name: str | None = None,
) -> Reward:
    r"""r(x, y) = 1 where y is correct by the rule of x's data set, else 0.

    The column ``dataset`` says which: "gsm8k" is checked by
    :func:`~palm_eval.rewards.gsm`, "MATH" by :func:`~palm_eval.rewards.math` (Lambert et al.,
    RLVR; the paper trains on both, appendix B.2).

    Args:
        dataset: the column with the name of a prompt's data set.
        ground_truth: the column with the right answers.
        match: of GSM answers, see :func:`~palm_eval.rewards.gsm`; "string" as the paper.
        name: of the function; ``None`` derives it.

    Raises:
        InputError: an option is wrong; on a call, another data set.

    Example:
        >>> rlvr()(
        ...     ["?", "?"],
        ...     ["so 4", r"\boxed{\frac{1}{2}}"],
        ...     ground_truth=["4", "0.5"],
        ...     dataset=["gsm8k", "MATH"],
        ... )
        [1.0, 1.0]
    """
    column = check_column(dataset, name="dataset")
    truth = check_column(ground_truth, name="ground_truth")
    kinds = {"gsm8k": gsm(ground_truth=truth, match=match), "math": math(ground_truth=truth)}
    return _Rlvr(column, truth, match, kinds, name)


class _Rlvr(Reward):
    def __init__(
        self, column: str, truth: str, match: str, kinds: dict[str, Reward], name: str | None
    ) -> None:
        options = {"dataset": column, "ground_truth": truth, "match": match}
        defaults = {"dataset": "dataset", "ground_truth": "ground_truth", "match": "string"}
        super().__init__("rlvr", options, defaults, name)
        self.columns = self.requires = (column, truth)
        self._column, self._truth, self._kinds = column, truth, kinds

    @property
    def correctness(self) -> Reward:
        """Itself."""
        return self

    def _sources(self) -> dict[str, Any]:
        return {kind: reward.fingerprint for kind, reward in self._kinds.items()}

    def _score(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        columns: Mapping[str, Sequence[Any]],
    ) -> list[float | None]:
        scores: list[float | None] = [None] * len(prompts)
        places: dict[str, list[int]] = {}
        for place, given in enumerate(columns[self._column]):
            kind = given.lower() if isinstance(given, str) else ""
            if kind not in self._kinds:
                raise InputError(
                    f"{self._column} of prompt {place} = {one_line(repr(given), 60)}: must be "
                    "'gsm8k' or 'MATH'"
                )
            places.setdefault(kind, []).append(place)
        for kind, chosen in places.items():
            found = self._kinds[kind](
                [prompts[i] for i in chosen],
                [completions[i] for i in chosen],
                **{self._truth: [columns[self._truth][i] for i in chosen]},
            )
            for place, score in zip(chosen, found, strict=True):
                scores[place] = score
        return scores
