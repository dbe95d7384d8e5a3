"""How differently a portfolio answers: by hand, aligned by prompt, and in palm evaluate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from palm_command import run as palm

from palm_core import InputError, Policy, build_portfolio
from palm_core.plugin import ARTIFACTS, write_artifact
from palm_eval import RunDiversity, bootstrap_mean, portfolio_diversity, write_responses

Answers = dict[str, list[Any]]


def policy(name: str) -> Policy:
    return Policy(id=name, weights=np.array([1.0, 0.0]), rewards=np.ones(2), artifact=name)


def measure(run: Path, **answers: Answers) -> RunDiversity:
    for name, said in answers.items():
        with write_artifact(run / ARTIFACTS, name) as folder:
            write_responses(folder, list(said), list(said.values()))
    found, why = portfolio_diversity(run, [policy(name) for name in answers])
    assert why == ""
    assert found is not None
    return found


def test_by_hand(tmp_path: Path) -> None:
    found = measure(
        tmp_path,
        a={"x": ["one two three"], "y": ["the same thing here"]},
        b={"y": ["the same thing here"], "x": ["one two four"], "z": ["not common"]},
    )
    assert (found.prompts, found.completions) == (2, 1)
    # x: 4 of 6 words, 3 of 4 pairs; y: 4 of 8 words, 3 of 6 pairs
    assert found.together["distinct_1"].value == pytest.approx((4 / 6 + 1 / 2) / 2)
    assert found.together["distinct_2"].value == pytest.approx((3 / 4 + 1 / 2) / 2)
    # Identical answers score 100, those that share the first two of three words less.
    assert 50 < found.together["self_bleu"].value < 100
    for own in found.alone.values():
        assert list(own) == ["distinct_1", "distinct_2"]
        assert own["distinct_1"].value == own["distinct_2"].value == 1
    assert found.missing == {}


def test_policies_that_answer_alike_are_told_from_those_that_do_not(tmp_path: Path) -> None:
    prompts = [f"prompt {i}" for i in range(12)]
    alike = {p: [f"the very same answer to {p}, word for word"] for p in prompts}
    other = {p: [f"quite another reply, number {i * 7}"] for i, p in enumerate(prompts)}
    same = measure(tmp_path / "same", a=alike, b=alike).together
    different = measure(tmp_path / "different", a=alike, b=other).together
    assert same["self_bleu"].value == pytest.approx(100)
    assert same["distinct_2"].value == pytest.approx(0.5)
    assert different["self_bleu"].upper < same["self_bleu"].lower
    assert different["distinct_2"].lower > same["distinct_2"].upper


def test_several_answers_are_compared_round_by_round(tmp_path: Path) -> None:
    found = measure(
        tmp_path,
        a={"x": ["p q", "r s"], "y": ["k l", "m n"]},
        b={"x": ["p q", "t u"], "y": ["k l", "m n", "a third one"]},
    )
    assert found.completions == 2
    # x: the first answers are equal (1/2), the second ones not (1); y: equal twice
    assert found.together["distinct_1"].value == pytest.approx((3 / 4 + 1 / 2) / 2)
    # Alone, the two answers of each policy to a prompt have no word in common.
    for own in found.alone.values():
        assert own["distinct_1"].value == 1
        assert own["self_bleu"].value < 50


def test_intervals_are_over_prompts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(20)]
    answers: list[Answers] = [
        {str(prompt): [" ".join(rng.choice(words, 8))] for prompt in range(30)} for _ in range(2)
    ]
    found = measure(tmp_path, a=answers[0], b=answers[1])
    values = []
    for prompt in map(str, range(30)):
        said = [*answers[0][prompt][0].split(), *answers[1][prompt][0].split()]
        values.append(len(set(said)) / 16)
    expected = bootstrap_mean(values)
    one = found.together["distinct_1"]
    assert (one.value, one.lower, one.upper) == pytest.approx(
        (expected.value, expected.lower, expected.upper)
    )
    assert one.lower < one.value < one.upper
    assert one.n_prompts == 30


def test_conversations_are_compared_by_what_the_assistant_says(tmp_path: Path) -> None:
    talk = [{"role": "assistant", "content": "p q"}]
    tools = [{"role": "tool", "content": "noise"}, *talk]
    found = measure(tmp_path, a={"x": [talk], "y": [talk]}, b={"x": ["p q"], "y": [tools]})
    assert found.together["distinct_1"].value == pytest.approx(0.5)


def test_policies_without_responses_are_left_out_and_told(tmp_path: Path) -> None:
    measure(tmp_path, a={"x": ["p q"], "y": ["r"]}, b={"x": ["s"], "y": [""]})
    found, _ = portfolio_diversity(tmp_path, [policy("a"), policy("gone"), policy("b")])
    assert found is not None
    assert list(found.alone) == ["a", "b"]
    assert list(found.missing) == ["gone"]
    assert found.document()["missing"] == dict(found.missing)


def test_a_single_policy_is_compared_with_none(tmp_path: Path) -> None:
    found = measure(tmp_path, a={"x": ["p p"], "y": ["r"]})
    assert found.together == {}
    assert found.alone["a"]["distinct_1"].value == pytest.approx(0.75)
    assert json.loads(json.dumps(found.document()))["together"] == {}


def test_why_there_is_none(tmp_path: Path) -> None:
    measure(tmp_path, a={"x": ["p"], "y": ["q"]}, b={"z": ["p"], "x": ["q"], "y": ["r"]})
    with write_artifact(tmp_path / ARTIFACTS, "c") as folder:
        write_responses(folder, ["y", "w"], ["p", "q"])
    nothing = portfolio_diversity(tmp_path, [policy("a"), policy("c")])
    assert nothing == (None, "prompts that all 2 policies answered: 1, at least 2 are needed")
    found, why = portfolio_diversity(tmp_path, [policy("gone"), policy("lost")])
    assert found is None
    assert why.startswith(
        "none of the portfolio's policies has responses; 'gone': artifact 'gone': no such"
    )
    with pytest.raises(InputError, match="n_resamples = 9"):
        portfolio_diversity(tmp_path, [policy("a")], n_resamples=9)


class Speaker:
    """Two policies that answer three prompts, one of them in its own words."""

    objectives = ("a", "b")
    epsilon = 1.0  # claims nothing: there is no certificate, which takes seconds to resample

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def solve(self, weights: np.ndarray) -> Iterator[Policy]:
        for row in weights:
            name = "first" if row[0] >= 0.5 else "second"
            artifact = None
            if self.folder is not None:
                with write_artifact(self.folder, name) as place:
                    write_responses(place, ["x", "y", "z"], [f"{name} says {i}" for i in range(3)])
                artifact = name
            rewards = np.array([1.0, 0.3] if name == "first" else [0.2, 1.0])
            yield Policy(
                id=name,
                weights=row,
                rewards=rewards,
                prompt_rewards=np.tile(rewards, (3, 1)),
                artifact=artifact,
            )


def evaluate(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert palm(["evaluate", *map(str, arguments), "--samples", "20"]) == 0
    return capsys.readouterr().out


def test_the_command_shows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build_portfolio(Speaker(tmp_path / "artifacts"), mu=0.5, alpha=0.1, run_dir=tmp_path)
    text = evaluate(capsys, tmp_path)
    assert "one answer from each policy (3 prompts, means with 95% intervals):" in text
    lines = {line.split("  ")[1]: line for line in text.splitlines() if line.startswith("  ")}
    assert "0.6667 (0.6667 to 0.6667)" in lines["all 2 together"]
    assert lines["first alone"].rstrip().endswith("—")
    document = json.loads(evaluate(capsys, tmp_path, "--json"))
    assert document["no_diversity"] is None
    found = document["diversity"]
    assert found["together"]["distinct_1"]["value"] == pytest.approx(4 / 6)
    assert set(found["alone"]) == {"first", "second"}
    assert found["prompts"] == 3
    (tmp_path / "artifacts" / "second" / "responses.jsonl").write_text("damaged")
    text = evaluate(capsys, tmp_path)
    assert "all 2 together" not in text
    assert "No answers of second: " in text
    assert "line 1: must be a record of a response" in text


def test_a_run_without_responses_is_told_so_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_portfolio(Speaker(None), mu=0.5, alpha=0.1, run_dir=tmp_path)
    *_, last = evaluate(capsys, tmp_path).splitlines()
    assert last == (
        "No diversity of answers: none of the portfolio's policies has responses; "
        "'first': it has no artifact"
    )
    document = json.loads(evaluate(capsys, tmp_path, "--json"))
    assert document["diversity"] is None
    assert document["no_diversity"].startswith("none of the portfolio's policies has responses")
