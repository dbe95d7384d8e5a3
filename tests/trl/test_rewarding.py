from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_models

from palm_core import InputError, WorkError
from palm_eval import Prompts
from palm_eval.plugin import Responder
from palm_eval.rewards import length
from palm_trl.training import reward_functions

PROMPTS = Prompts(
    ("a?", [{"role": "user", "content": "b?"}], "c?"), {"truth": ("x", ["y", 2], None)}
)


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_models.make_tokenizer()


def call(tokenizer, function, rows=(2, 0), step=6, **more):
    texts = ["No.", "Look up"][: len(rows)]
    ids = [[*tokenizer(text, add_special_tokens=False)["input_ids"], 1] for text in texts]
    (made,) = reward_functions({"kind": function}, PROMPTS, Responder(tokenizer))
    return made(
        prompts=["put"] * len(rows),
        completions=["TRL's"] * len(rows),
        completion_ids=ids,
        row=list(rows),
        trainer_state=SimpleNamespace(global_step=step),
        log_extra=print,
        log_metric=print,
        **more,
    )


def test_functions_are_named_by_their_objectives(tokenizer):
    made = reward_functions({"a": length(), "b": length()}, PROMPTS, Responder(tokenizer))
    assert [one.__name__ for one in made] == ["a", "b"]
    from trl.trainer.utils import get_callable_name, is_async_callable

    assert [get_callable_name(one) for one in made] == ["a", "b"]
    assert not is_async_callable(made[0])


def test_a_function_sees_what_stands_in_the_file_and_what_was_said(tokenizer):
    seen = {}

    def reward(prompts, completions, **columns):
        seen.update(columns, prompts=prompts, completions=completions)
        return [1, np.float32(2)]

    assert call(tokenizer, reward, rows=(1, 0)) == [1.0, 2.0]
    assert seen["prompts"] == [PROMPTS.texts[1], "a?"]
    assert seen["completions"] == ["No.", "Look up"]
    assert seen["truth"] == [["y", 2], "x"]
    assert [ids[-1] for ids in seen["completion_ids"]] == [1, 1]
    assert seen["trainer_state"].global_step == 6
    assert "row" not in seen


def test_only_what_a_function_takes_is_given(tokenizer):
    def bare(prompts, completions):
        return [0.0, 0.0]

    def one(completions, prompts, *, truth):
        assert completions == ["No.", "Look up"]
        return [float(value is None) for value in truth]

    def trls(completions, **kwargs):
        return [float(len(text)) for text in completions]

    def stateful(prompts, completions, trainer_state=None):
        return [trainer_state.global_step] * 2

    assert call(tokenizer, bare) == [0.0, 0.0]
    assert call(tokenizer, one) == [1.0, 0.0]
    assert call(tokenizer, trls) == [3.0, 7.0]
    assert call(tokenizer, lambda asked, said, /: [len(one) for one in said]) == [3.0, 7.0]
    assert call(tokenizer, stateful) == [6.0, 6.0]
    assert call(tokenizer, length()) == [3.0, 7.0]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (math.nan, "must be a finite number"),
        (math.inf, "must be a finite number"),
        ("1", "must be a finite number"),
    ],
)
def test_what_is_no_number_is_refused_with_objective_and_step(value, told, tokenizer):
    with pytest.raises(WorkError, match=rf"^rewards\.kind, step 7: .*prompt 'a\?'.*{told}"):
        call(tokenizer, lambda prompts, completions: [0.0, value])


def test_no_score_is_left_to_trl(tokenizer):
    assert call(tokenizer, lambda completions, **_: [0.5, None]) == [0.5, None]


def test_an_asynchronous_function_is_awaited(tokenizer):
    async def slowly(completions, **_):
        return [float(len(text)) for text in completions]

    assert call(tokenizer, slowly) == [3.0, 7.0]


def test_too_few_and_failures_are_refused_with_objective_and_step(tokenizer):
    with pytest.raises(WorkError, match=r"rewards\.kind, step 7: .*returned 1 scores for 2"):
        call(tokenizer, lambda prompts, completions: [0.0])
    with pytest.raises(WorkError, match=r"rewards\.kind, step 7: failed: ZeroDivisionError"):
        call(tokenizer, lambda prompts, completions: 1 / 0)

    with pytest.raises(WorkError, match=r"rewards\.kind, step 7: .*must be a list of numbers"):
        call(tokenizer, lambda prompts, completions: {"a": 1.0})


def test_a_column_that_is_not_there_is_named(tokenizer):
    def needs(prompts, completions, answer):
        return [0.0, 0.0]

    with pytest.raises(
        InputError, match=r"step 7: needs the column 'answer'; given: completion_ids, truth"
    ):
        call(tokenizer, needs)
