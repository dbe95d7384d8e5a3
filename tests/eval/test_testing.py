"""The checks pass a sound function and name the rule that a broken one breaks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import numpy as np
import pytest

from palm_core import InputError, PolicySet
from palm_eval.rewards import brevity, gsm, length, math, regex
from palm_eval.testing import check_metric, check_reward

Texts = Sequence[Any]
TALKS = {
    "prompts": ["a", [{"role": "user", "content": "b"}]],
    "completions": [[{"role": "assistant", "content": "It is 4."}], "5"],
}
TRUTH = {"columns": {"ground_truth": ["4", "5"]}}


@pytest.mark.parametrize(
    ("reward", "given"),
    [
        (length(), {}),
        (length(unit="words", sign=-1), {}),
        (regex(pattern="4|b"), {}),
        (length(), TALKS),
        (gsm(), {**TALKS, **TRUTH}),
        (math(), {**TALKS, **TRUTH}),
        (
            brevity(),
            {
                **TALKS,
                "columns": {"ground_truth": ["4", "5"], "completion_ids": [[1, 2], [3]]},
            },
        ),
    ],
)
def test_ours_keep_the_rules(reward: Any, given: Any) -> None:
    report = check_reward(reward, **given)
    assert len(report.checked) == 6
    assert len(report.values) == len(given.get("prompts", range(8)))
    assert report.calls == 3 + len(report.values)


def test_the_scores_are_reported() -> None:
    report = check_reward(length(), prompts=["q", "q"], completions=["a", "abc"])
    assert report.values == (1.0, 3.0)


def noisy(prompts: Texts, completions: Texts) -> list[float]:
    return list(np.random.default_rng().random(len(completions)))


def shared(prompts: Texts, completions: Texts) -> list[float]:
    """Scores relative to the batch."""
    sizes = [float(len(text)) for text in completions]
    return [size - max(sizes) for size in sizes]


def placed(prompts: Texts, completions: Texts) -> list[float]:
    return [len(text) + 0.5 * place for place, text in enumerate(completions)]


def empties(prompts: list[Any], completions: list[Any]) -> list[float]:
    scores = [float(len(text)) for text in completions]
    completions[0] = ""
    return scores


def fussy(prompts: Texts, completions: Texts) -> list[float]:
    if len(completions) == 1:
        raise RuntimeError("one is\nnot enough")
    return [0.0] * len(completions)


def drifting() -> Callable[..., list[float]]:
    calls = count()
    return lambda prompts, completions: [float(next(calls)) for _ in completions]


class Kept:
    """Its fingerprint is no text."""

    fingerprint = 3

    def __call__(self, prompts: Texts, completions: Texts) -> list[float]:
        return [0.0] * len(completions)


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda prompts, completions: [1.0], "scores: reward '<lambda>' returned 1 scores for 8"),
        (
            lambda prompts, completions: [1.0 / len(c) if c else float("inf") for c in completions],
            "scores: reward '<lambda>' of completion 1, prompt 'What is 2 [+] 2[?]', is inf: must",
        ),
        (lambda prompts, completions: None, "scores: reward '<lambda>' returned None: must be a"),
        (lambda completions: [1 / 0], "scores: it raised ZeroDivisionError: "),
        (noisy, "deterministic: completion 0 scores .*, the same batch again "),
        (drifting(), "deterministic: completion 0 scores 0, the same batch again 8"),
        (placed, "order: completion 7 scores 11.5, in a batch in reverse order 8"),
        (shared, "alone: completion 0 scores -2392, by itself 0"),
        (fussy, "alone: it raised RuntimeError: one is not enough"),
        (empties, "unchanged: prompts, completions or columns have changed after a call"),
        (Kept(), "fingerprint: 3: must be a text or None"),
    ],
)
def test_a_broken_reward_is_told_by_the_rule_it_breaks(reward: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=f"^{message}") as found:
        check_reward(reward)
    assert "\n" not in str(found.value)


def test_rules_may_be_left_out() -> None:
    skip = ("deterministic", "order", "alone")
    report = check_reward(noisy, skip=skip)
    assert report.checked == ("scores", "unchanged", "fingerprint")
    assert report.calls == 1
    assert check_reward(empties, skip=("unchanged",)).checked
    assert check_reward(Kept(), skip=("fingerprint",)).checked
    with pytest.raises(InputError, match="skip = 'order': must be names among scores, unchanged"):
        check_reward(noisy, skip="order")
    with pytest.raises(InputError, match="skip = .'lone'"):
        check_reward(noisy, skip=("lone",))


def test_scores_may_differ_within_the_tolerance() -> None:
    rng = np.random.default_rng(0)

    def rounded(prompts: Texts, completions: Texts) -> list[float]:
        return [len(text) * (1 + 1e-4 * rng.random()) for text in completions]

    assert check_reward(rounded, tolerance=1e-3)
    with pytest.raises(AssertionError, match=r"^deterministic"):
        check_reward(rounded)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prompts": ["q"]}, "prompts, completions: must be given together"),
        ({"prompts": ["q"], "completions": []}, "completions: has 0 entries, must have 1"),
        ({"columns": {"a": [1]}}, "column 'a' has 1 values, must be 8"),
        ({"tolerance": -1}, "tolerance = -1"),
    ],
)
def test_a_wrong_request_is_refused(given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_reward(length(), **given)


def size(portfolio: PolicySet, candidates: PolicySet, weights: np.ndarray) -> float:
    return float(len(portfolio))


def first(portfolio: PolicySet, candidates: PolicySet, weights: np.ndarray) -> float:
    return float(portfolio.rewards[0, 0])


def first_weight(portfolio: PolicySet, candidates: PolicySet, weights: np.ndarray) -> float:
    return float(weights[0, 0])


def writes(portfolio: PolicySet, candidates: PolicySet, weights: np.ndarray) -> float:
    weights[0] = weights[1]
    return 1.0


def needs_others(portfolio: PolicySet, candidates: PolicySet, weights: np.ndarray) -> float:
    return 1.0 / (len(candidates) - len(portfolio))


def needs_two(portfolio: PolicySet, candidates: PolicySet, weights: np.ndarray) -> float:
    return float(np.std(portfolio.rewards[:, 0], ddof=1)) if len(portfolio) > 1 else float("nan")


def needs_a_plane(portfolio: PolicySet, candidates: PolicySet, weights: np.ndarray) -> float:
    _, _ = portfolio.rewards[0]
    return float(len(portfolio))


def counting() -> Callable[..., float]:
    calls = count()
    return lambda portfolio, candidates, weights: float(next(calls))


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (lambda p, c, w: float("nan"), "value: d = 2: value = nan: must be a finite number"),
        (lambda p, c, w: "3", "value: d = 2: value = '3': must be"),
        (lambda p, c: 3.0, "value: d = 2: it raised TypeError: "),
        (counting(), "deterministic: d = 2: it is 0, asked again 1"),
        (first, "order: d = 2: it is .*, in reverse order "),
        (first_weight, "order: d = 2: it is .*, in reverse order "),
        (writes, "unchanged: d = 2: the weights have changed after the call"),
        (needs_others, "everything: d = 2: it raised ZeroDivisionError"),
        (needs_two, "single: d = 2: value = nan"),
        (needs_a_plane, "value: d = 3: it raised ValueError: too many values"),
    ],
)
def test_a_broken_metric_is_told_by_the_rule_it_breaks(metric: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=f"^{message}") as found:
        check_metric(metric)
    assert "\n" not in str(found.value)


def test_a_sound_metric_passes() -> None:
    report = check_metric(size)
    assert report.values == (3.0, 3.0)
    assert len(report.checked) == 6
    assert report.calls == 10
    assert check_metric(needs_others, skip=("everything",)).values == pytest.approx((1 / 9, 1 / 9))
    assert check_metric(needs_a_plane, dimensions=(2,)).values == (3.0,)
    assert check_metric(needs_two, skip=("single",)).calls == 8
    assert len(check_metric(size, dimensions=(2, 3, 5)).values) == 3
    with pytest.raises(InputError, match="dimensions = 1"):
        check_metric(size, dimensions=(1,))
    with pytest.raises(InputError, match="must be names among value"):
        check_metric(size, skip=("alone",))
