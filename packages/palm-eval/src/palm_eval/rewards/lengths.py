"""Length rewards: length of a completion, and the paper's brevity (section B.2, eq. (3))."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from palm_core import InputError
from palm_core.plugin import check_choice, check_count, one_line
from palm_eval.rewards.base import Reward, check_sign, texts_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_UNITS = ("characters", "words", "tokens")
_IDS = "completion_ids"


def length(
    *, unit: str = "characters", tokenizer: Any = None, sign: int = 1, name: str | None = None
) -> Reward:
    """r(x, y) = ±|y|, the length of the completion.

    Args:
        unit: "characters" (Unicode code points), "words" (separated by white space) or
            "tokens": of the column ``completion_ids``, which TRL gives, where there is
            one, else of ``tokenizer``.
        tokenizer: name or folder of a Hugging Face tokenizer (``palm-eval[hf]``), or
            one that is loaded; it counts without special tokens.
        sign: -1 where shorter is better.
        name: of the function; ``None`` derives it.

    Raises:
        InputError: an option is wrong; on a call, tokens are asked for and there are
            neither ``completion_ids`` nor a tokenizer.

    Example:
        >>> length(unit="words", sign=-1)(["?"], ["Forty two."])
        [-2.0]
    """
    return _Length(check_choice(unit, _UNITS, name="unit"), tokenizer, check_sign(sign), name)


class _Length(Reward):
    def __init__(self, unit: str, tokenizer: Any, sign: int, name: str | None) -> None:
        if tokenizer is not None and unit != "tokens":
            raise InputError(f"tokenizer: requires unit = 'tokens', unit is {unit!r}")
        self._tokens = Tokens(tokenizer)
        options = {"unit": unit, "tokenizer": self._tokens.given, "sign": sign}
        defaults = {"unit": "characters", "sign": 1}
        super().__init__("length", options, defaults, name)
        self.columns = (_IDS,) if unit == "tokens" else ()
        self._unit, self._sign = unit, sign

    def _sources(self) -> dict[str, Any] | None:
        return self._tokens.identity()

    def _score(
        self,
        prompts: Sequence[Any],  # noqa: ARG002  every reward is called alike
        completions: Sequence[Any],
        columns: Mapping[str, Sequence[Any]],
    ) -> list[float]:
        if self._unit == "tokens":
            counts = self._tokens.count(completions, columns.get(_IDS), self.__name__)
        else:
            texts = texts_of(completions)
            counts = [len(text if self._unit == "characters" else text.split()) for text in texts]
        return [float(self._sign * count) for count in counts]


def brevity(
    *,
    max_tokens: int = 256,
    correct: Any = "gsm",
    correct_options: Mapping[str, Any] | None = None,
    tokenizer: Any = None,
    name: str | None = None,
) -> Reward:
    """r(x, y) = 𝟙[correct(x, y)] · max(0, 1 − |y| / L_max), in [0, 1].

    Paper, eq. (3). There |y| ≤ L_max always, since L_max is also where generation
    stops; completions from elsewhere may be longer, and Theorem 3.4 needs rewards that
    are not negative, hence the maximum.

    Args:
        max_tokens: L_max; 256 in the paper.
        correct: the reward that says whether y is correct: "gsm", "math", another name or
            "module:function" that :func:`~palm_eval.rewards.load_reward` takes, or a
            reward function; 1 or 0 for each completion.
        correct_options: for the reward so named: ``{"ground_truth": "answer"}``.
        tokenizer: counts |y| where the column ``completion_ids`` is not given, without
            special tokens. ``completion_ids`` from TRL include the end-of-sequence token.
        name: of the function; ``None`` derives it.

    Raises:
        InputError: an option is wrong; on a call, the number of tokens is unknown,
            or ``correct`` is neither 0 nor 1.

    Example:
        >>> ids = [[7] * 64, [7] * 64]
        >>> brevity()(["2+2?"] * 2, ["It is 4.", "5"], completion_ids=ids, ground_truth=["4", "4"])
        [0.75, 0.0]
    """
    most = check_count(max_tokens, name="max_tokens", least=1)
    if isinstance(correct, str):
        from palm_eval.rewards import gsm, load_reward, math

        ours: Any = {"gsm": gsm, "math": math}.get(correct)
        given = dict(correct_options or {})
        judge: Any = ours(**given) if ours else load_reward(correct, **given)
    elif correct_options:
        raise InputError("correct_options: requires the name of a reward as 'correct'")
    else:
        judge = correct
    if not isinstance(judge, Reward):
        raise InputError(
            f"correct = {one_line(repr(correct), 80)}: must be 'gsm', 'math' or another reward "
            "made by a factory, which says what columns it reads"
        )
    return _Brevity(most, judge, tokenizer, name)


class _Brevity(Reward):
    def __init__(self, most: int, judge: Reward, tokenizer: Any, name: str | None) -> None:
        self._most, self._judge, self._tokens = most, judge, Tokens(tokenizer)
        options = {
            "max_tokens": most,
            "correct": judge.__name__,
            "tokenizer": self._tokens.given,
        }
        defaults = {"max_tokens": 256, "correct": "gsm"}
        super().__init__("brevity", options, defaults, name)
        self.columns = tuple(dict.fromkeys((*judge.columns, _IDS)))
        self.requires = judge.requires

    @property
    def correctness(self) -> Reward:
        """The correctness reward that gates brevity."""
        return self._judge

    def _sources(self) -> dict[str, Any] | None:
        tokenizer, judge = self._tokens.identity(), self._judge.fingerprint
        return None if tokenizer is None or judge is None else {**tokenizer, "correct": judge}

    def _score(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        columns: Mapping[str, Sequence[Any]],
    ) -> list[float | None]:
        judged = self._judge(prompts, completions, **columns)
        counts = self._tokens.count(completions, columns.get(_IDS), self.__name__)
        scores: list[float | None] = []
        for index, (right, count) in enumerate(zip(judged, counts, strict=True)):
            if right is None:  # not judged
                scores.append(None)
                continue
            if right not in (0.0, 1.0):
                raise InputError(
                    f"reward {self.__name__!r}: correct is {right:g} for completion {index}, "
                    "must be 0 or 1"
                )
            scores.append(right * max(0.0, 1.0 - count / self._most))
        return scores


class Tokens:
    """Counts the tokens of completions, by their ids or by a tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        if isinstance(tokenizer, str):
            from palm_eval.lm.sources import require_hf

            require_hf("a tokenizer")
        elif tokenizer is not None and not callable(tokenizer):
            raise InputError(
                f"tokenizer = {one_line(repr(tokenizer), 80)}: must be a name, a folder or a "
                "Hugging Face tokenizer"
            )
        self._given, self._loaded = tokenizer, None if isinstance(tokenizer, str) else tokenizer

    @property
    def given(self) -> str | None:
        """The tokenizer's name in the options."""
        if self._given is None or isinstance(self._given, str):
            return self._given
        return str(getattr(self._given, "name_or_path", "") or "loaded")

    def identity(self) -> dict[str, Any] | None:
        """The identity of the tokenizer, for the fingerprint; ``None`` if unknown."""
        if self._given is None:
            return {}
        from palm_eval.lm.sources import source_identity, tokenizer_identity

        if isinstance(self._given, str):
            return {"tokenizer": source_identity(self._given, None)}
        found = tokenizer_identity(self._given)
        return None if found is None else {"tokenizer": found}

    def count(self, completions: Sequence[Any], ids: Sequence[Any] | None, name: str) -> list[int]:
        """The number of tokens of each completion.

        Raises:
            InputError: there are neither ids nor a tokenizer.
        """
        if ids is not None:
            return [len(row) for row in ids]
        if self._given is None:
            raise InputError(
                f"reward {name!r} counts tokens: needs the column {_IDS!r} or the option "
                "'tokenizer'"
            )
        if self._loaded is None:
            from palm_eval.lm.sources import load_tokenizer

            self._loaded = load_tokenizer(self._given, None)
        if not completions:
            return []
        encoded = self._loaded(texts_of(completions), add_special_tokens=False, verbose=False)
        return [len(row) for row in encoded["input_ids"]]
