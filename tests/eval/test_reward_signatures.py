"""Whatever TRL takes as a reward function is taken by scoring and by its check alike."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import numpy as np
import pytest

from palm_core import InputError, WorkError
from palm_eval import score
from palm_eval.rewards import brevity, gsm
from palm_eval.rewards.base import Reward
from palm_eval.testing import check_reward


def sizes(completions: Any) -> list[float]:
    return [float(len(text)) for text in completions]


def keyword_only(*, completions: Any, prompts: Any) -> list[float]:
    return sizes(completions)


def scaled(scale: float, completions: Any, **kwargs: Any) -> list[float]:
    return [scale * size / 2 for size in sizes(completions)]


def wrapped(function: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return call


async def slowly(completions: Any, **kwargs: Any) -> list[float]:
    await asyncio.sleep(0)
    return sizes(completions)


class Sized:
    def __call__(self, completions: Any, **kwargs: Any) -> list[float]:
        return sizes(completions)

    def method(self, completions: Any, **kwargs: Any) -> list[float]:
        return sizes(completions)


class Slowly:
    async def __call__(self, completions: Any, **kwargs: Any) -> list[float]:
        return await slowly(completions)


FUNCTIONS = {
    "(prompts, completions)": lambda prompts, completions: sizes(completions),
    "(prompts, completions, **kwargs)": lambda prompts, completions, **kwargs: sizes(completions),
    "(completions, **kwargs)": lambda completions, **kwargs: sizes(completions),
    "(completions)": sizes,
    "(completions, prompts)": lambda completions, prompts: sizes(completions),
    "(prompts, **kwargs)": lambda prompts, **kwargs: sizes(kwargs["completions"]),
    "(**kwargs)": lambda **kwargs: sizes(kwargs["completions"]),
    "(scale=1, **kwargs)": lambda scale=1, **kwargs: sizes(kwargs["completions"]),
    "(asked, said, /)": lambda asked, said, /: sizes(said),
    "(*args)": lambda *args: sizes(args[1]),
    "(*, completions, prompts)": keyword_only,
    "a wrapper": wrapped(keyword_only),
    "partial by keyword": functools.partial(scaled, scale=2.0),
    "partial by position": functools.partial(scaled, 2.0),
    "a callable": Sized(),
    "a bound method": Sized().method,
    "async": slowly,
    "async callable": Slowly(),
    "partial of async": functools.partial(slowly),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_every_signature_is_scored_and_checked(function: Any) -> None:
    found = score({"size": function}, ["a", "b"], ["xyz", "x"])
    assert found.mean.tolist() == [2.0]
    report = check_reward(function, prompts=["a", "b"], completions=["xyz", "x"])
    assert report.values == (3.0, 1.0)
    assert len(check_reward(function).checked) == 6


def test_columns_come_by_name_only_to_functions_that_take_them() -> None:
    def right(completions: Any, *, truth: Any) -> list[float]:
        return [float(a == b) for a, b in zip(completions, truth, strict=True)]

    given: dict[str, Any] = {"columns": {"truth": ["x", "y"], "other": [1, 2]}}
    asked = {"prompts": ["a", "a"], "completions": ["x", "x"]}
    assert check_reward(right, **asked, **given).values == (1.0, 0.0)
    with pytest.raises(InputError, match="'right' needs the column 'truth'; given: none"):
        check_reward(right)


def test_an_asynchronous_function_keeps_its_loop_and_runs_inside_another() -> None:
    loops = []

    async def seen(completions: Any) -> list[float]:
        loops.append(asyncio.get_running_loop())
        return sizes(completions)

    async def notebook() -> None:
        score({"size": seen}, ["a"], ["x"])

    asyncio.run(notebook())
    score({"size": seen}, ["a"], ["x"])
    assert loops[0] is loops[1]


def test_what_an_asynchronous_function_raises_is_told() -> None:
    async def broken(completions: Any) -> list[float]:
        raise RuntimeError("no server")

    with pytest.raises(WorkError, match="'size' failed at prompt 'a'.*RuntimeError: no server"):
        score({"size": broken}, ["a"], ["x"])


class Picky:
    """Scores completions to prompts that speak of numbers; of others it has nothing to say."""

    fingerprint = "picky 1"

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, prompts: Any, completions: Any) -> list[float | None]:
        self.asked += len(prompts)
        return [
            float(len(text)) if "2" in prompt else None
            for prompt, text in zip(prompts, completions, strict=True)
        ]


class TestAbstaining:
    """``None`` for a completion: TRL leaves it out of the weighted sum, so it counts as 0."""

    PROMPTS = ("2?", "why?", "2+2?", "who?")
    COMPLETIONS = (["a", "aaa"], ["b"], ["cc"], ["d", "dd"])

    def test_means_are_over_all_prompts(self) -> None:
        rewards = {"picky": Picky(), "size": sizes}
        found = score(rewards, self.PROMPTS, self.COMPLETIONS)
        assert found.per_prompt[:, 0].tolist() == [2.0, 0.0, 2.0, 0.0]
        assert found.mean.tolist() == [1.0, 1.625]
        assert np.isfinite(found.standard_error).all()
        assert found.abstained == {"picky": 3, "size": 0}

    def test_weighted_sums_are_those_of_trl(self) -> None:
        rewards = {"picky": Picky(), "size": sizes}
        completions = [several[0] for several in self.COMPLETIONS]
        found = score(rewards, self.PROMPTS, completions)
        both = [
            Picky()(self.PROMPTS, completions),
            sizes(completions),
        ]
        values = np.array(both, dtype=float).T  # None is NaN
        for weights in ([0.3, 0.7], [1.0, 0.0], [0.0, 1.0]):
            trl = np.nansum(values * weights, axis=1).mean()
            assert found.mean @ weights == pytest.approx(trl, abs=1e-15)

    def test_the_cache_keeps_that_there_is_none(self, tmp_path: Any) -> None:
        first, second = Picky(), Picky()
        one = score({"picky": first}, self.PROMPTS, self.COMPLETIONS, cache=tmp_path)
        other = score({"picky": second}, self.PROMPTS, self.COMPLETIONS, cache=tmp_path)
        assert (first.asked, second.asked) == (6, 0)
        assert np.array_equal(one.per_prompt, other.per_prompt)
        assert one.abstained == other.abstained == {"picky": 3}

    def test_the_check_takes_it_and_compares_it(self) -> None:
        values = check_reward(Picky()).values
        assert None in values
        assert 8.0 in values

        def moody(completions: Any) -> list[float | None]:
            return [1.0 if len(completions) > 1 else None for _ in completions]

        with pytest.raises(AssertionError, match="alone: completion 0 scores 1, by itself None"):
            check_reward(moody)

    def test_a_check_that_saw_no_score_is_none(self) -> None:
        with pytest.raises(AssertionError, match="scores: it returned None for all 8"):
            check_reward(lambda completions: [None] * len(completions))

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
    def test_what_is_not_finite_is_no_abstention(self, bad: float) -> None:
        def reward(completions: Any) -> Any:
            return np.array([1.0, bad])

        with pytest.raises(WorkError, match=f"'r' of completion 1, prompt 'b', is {bad}: must"):
            score({"r": reward}, ["a", "b"], ["x", "y"])
        with pytest.raises(AssertionError, match=f"scores: .*prompt 'b', is {bad}: must"):
            check_reward(reward, prompts=["a", "b"], completions=["x", "y"])

    def test_brevity_has_no_score_where_correctness_has_none(self) -> None:
        class Undecided(Reward):
            def __init__(self) -> None:
                super().__init__("undecided", {}, {}, None)

            def _score(self, prompts: Any, completions: Any, columns: Any) -> list[float | None]:
                return [None if text == "?" else 1.0 for text in completions]

        made = brevity(correct=Undecided(), max_tokens=4)
        found = made(["q", "q"], ["?", "4"], completion_ids=[[1, 2], [1, 2]])
        assert found == [None, 0.5]
        assert gsm()(["q"], ["4"], ground_truth=["4"]) == [1.0]
