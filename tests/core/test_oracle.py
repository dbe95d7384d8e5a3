"""The door of a run: what an oracle may be, claim and answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from palm_core import InputError, Oracle, OracleAnswerError, Policy, WorkError, sample_weights
from palm_core.oracles.protocol import claims
from palm_core.plugin import Claims, check_answer, check_oracle, weight_id

ASKED = np.array([0.25, 0.75])
TILT = np.array([1.0, -1.0])
NAMES = ("help", "brevity")
GOOD = Policy(
    id="p",
    weights=ASKED,
    rewards=np.array([1.0, 0.5]),
    regularizer=0.1,
    reward_errors=np.array([0.01, 0.02]),
    prompt_rewards=np.array([[1.5, 0.5], [0.5, 0.5], [1.0, 0.5]]),
    prompt_regularizer=np.array([0.1, 0.0, 0.2]),
    artifact="runs/p",
    info={"steps": 3},
)


def refused(answer: Any, asked: Any = ASKED) -> str:
    with pytest.raises(OracleAnswerError) as caught:
        check_answer(answer, asked, NAMES)
    message = str(caught.value)
    assert "\n" not in message
    return message


def an_oracle(**attributes: Any) -> Any:
    return SimpleNamespace(**{"objectives": NAMES, "solve": iter, **attributes})


class TestCheckOracle:
    def test_returns_the_objectives_as_a_tuple(self) -> None:
        assert check_oracle(an_oracle()) == NAMES
        assert check_oracle(an_oracle(objectives=["a", "b", "c"])) == ("a", "b", "c")

    def test_an_oracle_is_what_has_both(self) -> None:
        assert isinstance(an_oracle(), Oracle)
        assert not isinstance(SimpleNamespace(objectives=NAMES), Oracle)

    def test_a_subclass_sets_its_objectives(self) -> None:
        class Mine(Oracle):
            def __init__(self) -> None:
                self.objectives = NAMES

            def solve(self, weights: np.ndarray) -> Iterator[Policy]:
                yield from ()

        check_oracle(Mine())

    @pytest.mark.parametrize("solve", [None, "solve", 3])
    def test_solve_must_be_callable(self, solve: Any) -> None:
        with pytest.raises(InputError, match=r"SimpleNamespace: must have a method solve\(weights"):
            check_oracle(an_oracle(solve=solve))
        with pytest.raises(InputError, match=r"object: must have a method solve\(weights\)"):
            check_oracle(object())

    @pytest.mark.parametrize(
        "objectives",
        [None, (), ("one",), ("a", "a"), ("a", ""), ("a", 1), "ab", {"a", "b"}, ("a", None)],
    )
    def test_objectives_are_two_distinct_names(self, objectives: Any) -> None:
        with pytest.raises(InputError, match=r"oracle\.objectives = .*at least two distinct"):
            check_oracle(an_oracle(objectives=objectives))


class TestClaims:
    def test_silence_claims_nothing(self) -> None:
        assert claims(an_oracle()) == Claims()
        assert Claims() == Claims(epsilon=0.0, delta=0.0, reward_bound=None, regularizer_bound=None)

    @pytest.mark.parametrize(
        ("given", "claimed", "exact"),
        [
            ({}, False, False),
            ({"epsilon": 0.0}, True, True),
            ({"delta": 0}, True, True),
            ({"epsilon": 0.0, "delta": 0.1}, True, False),
            ({"reward_bound": 1.0}, False, False),
            ({"epsilon": None, "delta": None}, False, False),
        ],
    )
    def test_exactness_is_claimed_by_name(
        self, given: dict[str, Any], claimed: bool, exact: bool
    ) -> None:
        found = claims(an_oracle(**given))
        assert (found.slack_claimed, found.exact) == (claimed, exact)

    def test_what_is_claimed_is_read(self) -> None:
        given = {"epsilon": 0.1, "delta": 2, "reward_bound": 3.5, "regularizer_bound": 0}
        assert claims(an_oracle(**given)) == Claims(
            epsilon=0.1, delta=2.0, reward_bound=3.5, regularizer_bound=0.0
        )

    def test_none_claims_nothing(self) -> None:
        nothing = dict.fromkeys(("epsilon", "delta", "reward_bound", "regularizer_bound"))
        assert claims(an_oracle(**nothing)) == Claims()

    @pytest.mark.parametrize("name", ["epsilon", "delta", "reward_bound", "regularizer_bound"])
    @pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), "0.1", True, [0.1]])
    def test_claims_are_numbers_of_at_least_zero(self, name: str, value: Any) -> None:
        with pytest.raises(InputError, match=rf"^oracle\.{name} = "):
            claims(an_oracle(**{name: value}))

    def test_epsilon_is_a_share(self) -> None:
        with pytest.raises(InputError, match=r"oracle\.epsilon = 1\.01: must be in \[0, 1\]"):
            claims(an_oracle(epsilon=1.01))
        assert claims(an_oracle(delta=1.01)).delta == 1.01


class TestCheckAnswer:
    def test_a_good_answer_keeps_every_value(self) -> None:
        kept = check_answer(GOOD, ASKED, NAMES)
        assert (kept.id, kept.artifact, kept.info) == ("p", "runs/p", {"steps": 3})
        assert kept.regularizer == 0.1
        for name in ("weights", "rewards", "reward_errors", "prompt_rewards", "prompt_regularizer"):
            np.testing.assert_array_equal(getattr(kept, name), getattr(GOOD, name))

    def test_a_plain_answer_becomes_arrays(self) -> None:
        plain: Any = Policy(id="p", weights=[0.25, 0.75], rewards=(1, 2), regularizer=np.int64(0))
        kept = check_answer(plain, ASKED, NAMES)
        assert kept.rewards.dtype == kept.weights.dtype == np.float64
        assert type(kept.regularizer) is float
        assert kept.prompt_rewards is kept.reward_errors is kept.prompt_regularizer is None

    def test_the_answer_shares_no_memory_with_the_oracle(self) -> None:
        asked, mine = ASKED.copy(), replace(GOOD, rewards=GOOD.rewards.copy(), info={"a": [1]})
        kept = check_answer(mine, asked, NAMES)
        asked[:] = mine.rewards[:] = -1.0
        mine.info["a"].append(2)
        np.testing.assert_array_equal(kept.weights, ASKED)
        np.testing.assert_array_equal(kept.rewards, GOOD.rewards)
        assert kept.info == {"a": [1]}

    def test_the_weights_kept_are_those_asked_for(self) -> None:
        near = replace(GOOD, weights=ASKED + 1e-10 * TILT)
        np.testing.assert_array_equal(check_answer(near, ASKED, NAMES).weights, ASKED)

    @pytest.mark.parametrize("answer", [None, ("p", [1.0, 0.5]), {"id": "p"}, Policy])
    def test_it_must_be_a_policy(self, answer: Any) -> None:
        assert refused(answer).endswith("must be a palm_core.Policy")

    @pytest.mark.parametrize("name", ["", "  ", None, 3])
    def test_it_must_have_a_name(self, name: Any) -> None:
        assert (
            refused(replace(GOOD, id=name))
            == f"policy id = {name!r}: must be text that is not empty"
        )

    def test_it_must_answer_the_weights_asked_for(self) -> None:
        assert refused(replace(GOOD, weights=ASKED[::-1])) == (
            "policy 'p': weights = (0.75, 0.25): must be (0.25, 0.75)"
        )
        assert "weights = (0.26, 0.74): must be (0.25, 0.75)" in refused(
            replace(GOOD, weights=ASKED + 0.01 * TILT)
        )
        assert "must have shape (2), has (3,)" in refused(replace(GOOD, weights=np.ones(3) / 3))

    @pytest.mark.parametrize(
        ("field", "value", "message"),
        [
            ("rewards", [1.0], "rewards must have shape (2), has (1,)"),
            ("rewards", [[1.0, 0.5]], "rewards must have shape (2), has (1, 2)"),
            ("rewards", 1.0, "rewards must have shape (2), has ()"),
            ("rewards", [1.0, float("nan")], "rewards must be finite numbers, got (1, nan)"),
            ("rewards", [float("-inf"), 0.0], "rewards must be finite numbers, got (-inf, 0)"),
            ("rewards", [1e301, 0.0], "rewards must be finite numbers, got (1e+301, 0)"),
            ("rewards", ["good", "bad"], "rewards must be numbers"),
            ("rewards", [[1.0], [1.0, 2.0]], "rewards must be numbers"),
            ("rewards", None, "rewards must"),
            ("regularizer", [0.1, 0.2], "regularizer must have shape (), has (2,)"),
            ("regularizer", -1e-12, "regularizer = -1e-12: must be at least 0"),
            ("regularizer", float("nan"), "regularizer must be finite numbers, got (nan)"),
            ("reward_errors", [0.1], "reward_errors must have shape (2), has (1,)"),
            ("reward_errors", [0.1, float("nan")], "reward_errors must be finite numbers"),
            ("reward_errors", [0.1, -0.1], "reward_errors must be at least 0, got (0.1, -0.1)"),
            ("prompt_rewards", np.ones((0, 2)), "prompt_rewards must have at least one row"),
            ("prompt_rewards", [1.0, 2.0], "prompt_rewards must have shape (n, 2), has (2,)"),
            ("prompt_rewards", np.ones((3, 3)), "prompt_rewards must have shape (n, 2)"),
            ("prompt_rewards", np.full((3, 2), np.inf), "prompt_rewards must be finite numbers"),
            ("prompt_regularizer", [0.1, 0.2], "prompt_regularizer must have shape (3), has (2,)"),
            ("prompt_regularizer", 0.1, "prompt_regularizer must have shape (3), has ()"),
            ("artifact", 3, "artifact must be a path or URI as a string"),
            ("info", {"array": np.zeros(2)}, "info must be plain JSON"),
            ("info", {"loss": float("nan")}, "info must be plain JSON"),
            ("info", {(1, 2): 3}, "info must be plain JSON"),
            ("info", None, "info must be plain JSON"),
        ],
    )
    def test_a_bad_field_is_named(self, field: str, value: Any, message: str) -> None:
        assert f"policy 'p': {message}" in refused(replace(GOOD, **{field: value}))

    def test_weights_may_come_back_in_single_precision(self) -> None:
        asked = np.array([0.1, 0.9])
        answer = replace(GOOD, weights=asked.astype(np.float32))
        np.testing.assert_array_equal(check_answer(answer, asked, NAMES).weights, asked)

    def test_values_that_do_not_become_arrays_are_told(self) -> None:
        class WithGradient:
            def __array__(self, *_: Any, **__: Any) -> Any:
                raise RuntimeError("call detach() first")

        message = refused(replace(GOOD, rewards=WithGradient()))
        assert message == "policy 'p': rewards must be numbers: call detach() first"

    def test_values_per_prompt_are_optional_one_by_one(self) -> None:
        only = replace(GOOD, prompt_rewards=None)
        assert check_answer(only, ASKED, NAMES).prompt_rewards is None
        only = replace(GOOD, prompt_regularizer=None)
        assert check_answer(only, ASKED, NAMES).prompt_regularizer is None

    def test_info_comes_back_as_the_ledger_will_hold_it(self) -> None:
        kept = check_answer(
            replace(GOOD, info={"pair": (1, 2), "x": np.float64(0.5)}), ASKED, NAMES
        )
        assert kept.info == {"pair": [1, 2], "x": 0.5}
        assert json.loads(json.dumps(kept.info)) == kept.info

    def test_long_values_are_cut_in_the_message(self) -> None:
        message = refused(replace(GOOD, prompt_rewards=np.full((500, 2), np.nan)))
        assert message.endswith("got (nan, nan, nan, nan, nan, nan, …)")

    def test_the_oracle_is_to_blame_not_the_request(self) -> None:
        assert issubclass(OracleAnswerError, WorkError)
        assert not issubclass(OracleAnswerError, InputError)

    @given(
        rewards=arrays(np.float64, 2, elements=st.floats()),
        regularizer=st.floats(),
        shift=st.sampled_from([0.0, 1e-12, 1e-3]),
    )
    def test_what_passes_is_usable(self, rewards: Any, regularizer: float, shift: float) -> None:
        answer = Policy(
            id="p", weights=ASKED + shift * TILT, rewards=rewards, regularizer=regularizer
        )
        usable = (
            bool((np.abs(rewards) <= 1e300).all()) and 0 <= regularizer <= 1e300 and shift < 1e-6
        )
        if usable:
            kept = check_answer(answer, ASKED, NAMES)
            assert np.isfinite(kept.rewards - kept.regularizer).all()
        else:
            refused(answer)


class TestWeightId:
    @pytest.mark.parametrize(
        ("weights", "name"),
        [
            ([1.0, 0.0], "w1-0"),
            ([0.75, 0.25], "w0.75-0.25"),
            ([1 / 3, 2 / 3], "w0.333333-0.666667"),
            ([1e-7, 1 - 1e-7], "w1e-07-1"),
        ],
    )
    def test_it_is_readable(self, weights: list[float], name: str) -> None:
        assert weight_id(np.array(weights)) == name

    @given(seed=st.integers(0, 2**32 - 1), d=st.integers(2, 6))
    def test_weights_apart_have_names_apart(self, seed: int, d: int) -> None:
        one, other = sample_weights(2, d, seed=seed)
        assume(np.abs(one - other).max() > 1e-5)
        assert weight_id(one) != weight_id(other)
        assert weight_id(one) == weight_id(one.copy())
