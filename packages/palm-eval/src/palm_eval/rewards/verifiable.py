"""Verifiable answers of several kinds in one data set, as RLVR mixes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from palm_core.errors import InputError
from palm_core.text import one_line
from palm_eval.rewards.base import Reward, check_column
from palm_eval.rewards.correctness import gsm, math

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def rlvr(
    *,
    dataset: str = "dataset",
    ground_truth: str = "ground_truth",
    match: str = "string",
    name: str | None = None,
) -> Reward:
    r"""r(x, y) = 1 where y answers x as its data set wants it answered, else 0.

    The column ``dataset`` says which: "gsm8k" is checked by
    :func:`~palm_eval.rewards.gsm`, "MATH" by :func:`~palm_eval.rewards.math` (Lambert et al.,
    RLVR; the paper trains on both, appendix B.2).

    Args:
        dataset: the column that says which data set a prompt is of.
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
