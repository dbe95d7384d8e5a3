"""The responses of a run: matched by prompt, never from outside, damage told and not raised."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palm_core import Policy
from palm_core.plugin import ARTIFACTS, write_artifact
from palm_eval import Responses, RunResponses, read_responses, responses_of, write_responses
from palm_eval import responses as run_responses
from palm_eval.responses import FILE_NAME


def policy(name: str, artifact: str | None) -> Policy:
    return Policy(id=name, weights=np.array([1.0, 0.0]), rewards=np.ones(2), artifact=artifact)


def write(run: Path, name: str, answers: dict[str, list[str]]) -> None:
    with write_artifact(run / ARTIFACTS, name) as folder:
        write_responses(folder, list(answers), list(answers.values()))


def test_answers_are_matched_by_prompt(tmp_path: Path) -> None:
    write(tmp_path, "a", {"x": ["ax"], "y": ["ay", "ay2"], "z": ["az"]})
    write(tmp_path, "b", {"z": ["bz"], "w": ["bw"], "x": ["bx"]})
    found = responses_of(tmp_path, [policy("A", "a"), policy("B", "b")])
    assert found.missing == {}
    assert found.prompts == ("x", "z")
    assert found.answers == {"A": (("ax",), ("az",)), "B": (("bx",), ("bz",))}
    assert found.n_prompts == 4
    assert not found.same_prompts
    assert found.found["A"].completions[1] == ("ay", "ay2")


def test_the_order_of_prompts_makes_no_difference(tmp_path: Path) -> None:
    write(tmp_path, "a", {"x": ["ax"], "y": ["ay"]})
    write(tmp_path, "b", {"y": ["by"], "x": ["bx"]})
    found = responses_of(tmp_path, [policy("A", "a"), policy("B", "b")])
    assert found.same_prompts
    assert found.answers["B"] == (("bx",), ("by",))


@settings(max_examples=40)
@given(st.lists(st.lists(st.sampled_from("pqr"), min_size=1, max_size=6), min_size=1, max_size=3))
def test_a_prompt_given_n_times_is_n_prompts(
    tmp_path_factory: pytest.TempPathFactory, asked: list[list[str]]
) -> None:
    run = tmp_path_factory.mktemp("run")
    for number, prompts in enumerate(asked):
        with write_artifact(run / ARTIFACTS, str(number)) as folder:
            write_responses(folder, prompts, [f"{number} {place}" for place in range(len(prompts))])
    found = responses_of(run, [policy(str(n), str(n)) for n in range(len(asked))])
    common = {p: min(one.count(p) for one in asked) for p in "pqr"}
    assert {p: found.prompts.count(p) for p in "pqr"} == common
    assert found.n_prompts == sum(max(one.count(p) for one in asked) for p in "pqr")
    for number, prompts in enumerate(asked):
        places = [int(answer.split()[1]) for (answer,) in found.answers[str(number)]]
        assert [prompts[place] for place in places] == list(found.prompts)
        assert len(set(places)) == len(places)


def test_a_text_is_the_conversation_of_that_one_message(tmp_path: Path) -> None:
    talk = [{"content": "x", "role": "user"}]
    for name, prompt in (("a", "x"), ("b", talk), ("c", [{"role": "system", "content": "x"}])):
        with write_artifact(tmp_path / ARTIFACTS, name) as folder:
            write_responses(folder, [prompt], [name])
    both = responses_of(tmp_path, [policy("a", "a"), policy("b", "b")])
    assert both.prompts == ("x",)
    assert responses_of(tmp_path, [policy("b", "b"), policy("a", "a")]).prompts == (talk,)
    assert responses_of(tmp_path, [policy("b", "b"), policy("c", "c")]).prompts == ()


def test_policies_may_share_an_artifact_that_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "a", {"x": ["ax"]})
    calls: list[str] = []

    def read(path: str | Path) -> Responses:
        calls.append(str(path))
        return read_responses(path)

    monkeypatch.setattr(run_responses, "read_responses", read)
    found = responses_of(tmp_path, [policy("A", "a"), policy("B", "a"), policy("C", "gone")])
    assert found.answers["A"] == found.answers["B"] == (("ax",),)
    assert len(calls) == 1
    assert list(found.missing) == ["C"]


def test_without_any_responses_there_are_no_common_prompts(tmp_path: Path) -> None:
    found = responses_of(tmp_path, [policy("A", None)])
    assert found == RunResponses({}, {"A": "it has no artifact"}, (), {}, 0)
    assert responses_of(tmp_path / "gone", []) == RunResponses({}, {}, (), {}, 0)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run beside which there are responses that are none of its own."""
    made = tmp_path / "run"
    write(made, "good", {"x": ["the answer"]})
    write_responses(tmp_path / "outside", ["x"], ["a secret"])
    folder = made / ARTIFACTS
    (folder / "linked").symlink_to(tmp_path / "outside")
    (folder / "half").mkdir()
    (folder / "half" / FILE_NAME).symlink_to(tmp_path / "outside" / FILE_NAME)
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "none").mkdir()
    (folder / "file").write_text("x")
    (folder / "folder" / FILE_NAME).mkdir(parents=True)
    (folder / "folder" / FILE_NAME / FILE_NAME).symlink_to(tmp_path / "outside" / FILE_NAME)
    (folder / "pipe").mkdir()
    os.mkfifo(folder / "pipe" / FILE_NAME)
    for name, content in (
        ("empty", b""),
        ("cut", (folder / "good" / FILE_NAME).read_bytes()[:-9]),
        ("binary", b"\xff\x00\n"),
        ("deep", b'{"prompt_index":0,"prompt":"x","completion":"y","columns":{"a":' + b"[" * 9999),
        ("part", b'{"prompt_index":0,"prompt":[{"role":1}],"completion":"y"}\n'),
    ):
        (folder / name).mkdir()
        (folder / name / FILE_NAME).write_bytes(content)
    return made


@pytest.mark.parametrize(
    ("artifact", "reason"),
    [
        (None, "it has no artifact"),
        ("s3://bucket/a", "its artifact 's3://bucket/a' lies outside the run and is not read"),
        ("{outside}", "lies outside the run and is not read"),
        ("../../outside", "must be a path inside the run's artifacts folder"),
        ("linked", "must be inside"),
        ("half", "its artifact 'half' has no responses.jsonl of its own"),
        ("loop", "no such file in"),
        ("gone", "no such file in"),
        ("a\0b", "must be a path inside the run's artifacts folder"),
        ("none", "its artifact 'none' has no responses.jsonl"),
        ("file", "its artifact 'file' is a file, must be a folder with responses.jsonl in it"),
        ("folder", "its artifact 'folder' has no responses.jsonl of its own"),
        ("pipe", "is a pipe, a socket or a device"),
        ("empty", "its artifact 'empty' has an empty responses.jsonl"),
        ("cut", "responses.jsonl, line 1: must be a record of a response"),
        ("binary", "responses.jsonl, line 1: must be a record of a response"),
        ("deep", "responses.jsonl, line 1: must be a record of a response"),
        ("part", "line 1: prompt has a message"),
    ],
)
def test_what_cannot_be_read_is_told_of_its_policy(
    run: Path, tmp_path: Path, artifact: str | None, reason: str
) -> None:
    given = artifact and artifact.format(outside=tmp_path / "outside")
    found = responses_of(run, [policy("other", "good"), policy("bad", given)])
    assert list(found.missing) == ["bad"]
    assert reason in found.missing["bad"]
    assert "\n" not in found.missing["bad"]
    # The others are none the worse.
    assert found.answers == {"other": (("the answer",),)}
    assert "secret" not in repr(found)


def test_a_run_reached_through_a_link_is_read(run: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(run)
    found = responses_of(tmp_path / "link", [policy("A", "good")])
    assert found.prompts == ("x",)
