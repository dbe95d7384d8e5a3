"""Scoring: each different response once, never a wrong score from the cache."""

from __future__ import annotations

import math
import multiprocessing
import sqlite3
import subprocess
import sys
from collections import Counter
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palm_core import InputError, WorkError
from palm_eval import score
from palm_eval.rewards import gsm, length, regex

TALK = [{"role": "assistant", "content": "aa"}]


class Counted:
    """A reward function that counts what it is given."""

    def __init__(self, fingerprint=None, factor=1.0):
        self.seen, self.sizes, self.factor = Counter(), [], factor
        if fingerprint:
            self.fingerprint = fingerprint

    def __call__(self, prompts, completions, truth=None):
        truth = truth or [0] * len(prompts)
        rows = list(zip(prompts, completions, truth, strict=True))
        self.seen.update(rows)
        self.sizes.append(len(rows))
        return [self.factor * value(*row) for row in rows]


def value(prompt, completion, truth):
    return len(prompt) + 10.0 * len(completion) + 100.0 * truth


LETTERS = st.sampled_from(["", "a", "bb", "ccc"])
CASES = st.lists(
    st.tuples(LETTERS, st.lists(LETTERS, min_size=1, max_size=4), st.integers(0, 1)), min_size=1
)


def split(cases):
    return [c[0] for c in cases], [c[1] for c in cases], {"truth": [c[2] for c in cases]}


def expected(cases):
    return [[value(p, y, t) for y in ys] for p, ys, t in cases]


@given(CASES, st.integers(1, 5))
def test_each_once_in_place_and_in_few_calls(cases, size):
    prompts, completions, columns = split(cases)
    reward = Counted()
    scores = score({"r": reward}, prompts, completions, columns=columns, batch_size=size)
    assert set(reward.seen.values()) == {1}
    assert scores.calls["r"] == len(reward.sizes) == math.ceil(len(reward.seen) / size)
    assert scores.scored["r"] == len(reward.seen)
    assert [values[:, 0].tolist() for values in scores.per_completion] == expected(cases)


@settings(max_examples=25, deadline=None)
@given(CASES, CASES, st.integers(1, 5))
def test_cached_scores_are_fresh_scores(first, second, size):
    fresh = [score({"r": Counted()}, *split(c)[:2], columns=split(c)[2]) for c in (first, second)]
    with TemporaryDirectory() as cache:
        seen = Counter()
        for cases, plain in zip((first, second, first), (*fresh, fresh[0]), strict=True):
            prompts, completions, columns = split(cases)
            reward = Counted("r1")
            found = score(
                {"r": reward}, prompts, completions, columns=columns, cache=cache, batch_size=size
            )
            np.testing.assert_array_equal(found.per_prompt, plain.per_prompt)
            np.testing.assert_array_equal(found.mean, plain.mean)
            seen += reward.seen
        assert set(seen.values()) == {1}


def test_hand_computed():
    scores = score(
        {"a": length(), "b": length(sign=-1)}, ["p", "q", "r"], [["1", "123"], "4444", TALK]
    )
    assert scores.objectives == ("a", "b")
    assert scores.per_prompt.tolist() == [[2, -2], [4, -4], [2, -2]]
    assert [len(values) for values in scores.per_completion] == [2, 1, 1]
    assert scores.mean.tolist() == pytest.approx([8 / 3, -8 / 3])
    # variance ((2-8/3)² + (4-8/3)² + (2-8/3)²)/2 = 4/3; its root over √3
    assert scores.standard_error.tolist() == pytest.approx([2 / 3, 2 / 3])


def test_a_prompt_counts_once_however_many_completions():
    scores = score({"a": length()}, ["p", "q"], [["1"] * 9, "333"])
    assert scores.mean.tolist() == [2.0]


def test_one_prompt_has_no_standard_error():
    assert math.isnan(score({"a": length()}, ["p"], [["1", "22"]]).standard_error[0])


class TestCache:
    def run(self, reward, cache, **options):
        return score({"r": reward}, ["q", "r"], ["a", "bb"], cache=cache, **options)

    def test_other_options_are_other_scores(self, tmp_path):
        for made in (
            length(),
            length(sign=-1),
            length(unit="words"),
            regex(pattern="a"),
            regex(pattern="b"),
        ):
            plain = score({"r": made}, ["q", "r"], ["a", "bb"])
            assert self.run(made, tmp_path).per_prompt.tolist() == plain.per_prompt.tolist()
            assert self.run(made, tmp_path).calls == {"r": 0}

    def test_what_nobody_can_tell_apart_is_not_cached(self, tmp_path):
        for factor in (1.0, 2.0):
            found = self.run(Counted(factor=factor), tmp_path)
            assert found.mean[0] == factor * (1 + 15)
            assert found.calls == {"r": 1}

    def test_columns_that_are_read_count_and_others_do_not(self, tmp_path):
        def run(truth, other):
            columns = {"ground_truth": [truth], "other": [other]}
            return score({"r": gsm()}, ["q"], ["4"], columns=columns, cache=tmp_path)

        assert (run("4", 1).mean[0], run("5", 1).mean[0]) == (1.0, 0.0)
        assert run("4", 2).calls == {"r": 0}
        assert run("5", 2).mean[0] == 0.0

    def test_a_number_is_not_its_text_nor_a_string_its_conversation(self, tmp_path):
        def run(prompt, truth):
            reward = Counted("x")
            score(
                {"r": reward},
                [prompt],
                ["4"],
                completion_columns={"truth": [[truth]]},
                cache=tmp_path,
            )
            return len(reward.sizes)

        def typed(prompts, completions, truth):
            return [float(isinstance(t, str)) for t in truth]

        typed.fingerprint = "typed"
        for truth in (1, "1"):
            found = score({"r": typed}, ["q"], ["4"], columns={"truth": [truth]}, cache=tmp_path)
            assert found.mean[0] == float(isinstance(truth, str))
        assert (run("q", 1), run("q", 1), run("qq", 1)) == (1, 0, 1)

    def test_what_is_done_is_kept_when_the_next_batch_fails(self, tmp_path):
        class Fails(Counted):
            def __call__(self, prompts, completions):
                if "r" in prompts:
                    raise RuntimeError("out\nof memory")
                return super().__call__(prompts, completions)

        told = "reward 'r' failed at prompt 'r', completion 'bb': RuntimeError: out.nof memory"
        with pytest.raises(WorkError, match=told):
            self.run(Fails("x"), tmp_path, batch_size=1)
        assert self.run(Counted("x"), tmp_path).scored == {"r": 1}

    def test_a_kill_between_leaves_a_sound_cache(self, tmp_path):
        code = (
            "import os, sys\n"
            "from palm_eval.scoring import score\n"
            "def r(prompts, completions):\n"
            "    if prompts == ['2']: os.kill(os.getpid(), 9)\n"
            "    return [1.0] * len(prompts)\n"
            "r.fingerprint = 'k'\n"
            "score({'r': r}, ['0', '1', '2'], ['a'] * 3, cache=sys.argv[1], batch_size=1)\n"
        )
        assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == -9
        reward = Counted("k")
        score({"r": reward}, ["0", "1", "2"], ["a"] * 3, cache=tmp_path)
        assert list(reward.seen) == [("2", "a", 0)]

    def test_processes_share_it(self, tmp_path):
        context = multiprocessing.get_context("spawn")
        with context.Pool(3) as pool:
            found = pool.starmap(share, [(tmp_path / "shared", start) for start in (0, 5, 10)])
        assert found == [float(sum(range(s + 1, s + 21)) / 20) for s in (0, 5, 10)]
        again = score(
            {"r": length()}, ["q"] * 30, ["x" * n for n in range(1, 31)], cache=tmp_path / "shared"
        )
        assert again.scored == {"r": 0}

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"not a database at all" * 100, "cannot be used"),
            (b"sqlite", "is not a cache of scores"),
        ],
    )
    def test_a_file_that_is_no_cache_is_refused_and_left(self, tmp_path, content, message):
        file = tmp_path / "rewards.sqlite"
        if content == b"sqlite":
            with sqlite3.connect(file) as other:
                other.execute("CREATE TABLE theirs (x)")
            other.close()
        else:
            file.write_bytes(content)
        before = file.read_bytes()
        with pytest.raises(WorkError, match=f"rewards.sqlite: .*{message}"):
            self.run(length(), tmp_path)
        assert file.read_bytes() == before

    def test_a_folder_that_cannot_be(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(WorkError, match="cache of scores cannot be used"):
            self.run(length(), tmp_path / "file")


def share(cache, start):
    """Score twenty texts that overlap with those of the others."""
    completions = ["x" * n for n in range(start + 1, start + 21)]
    return float(score({"r": length()}, ["q"] * 20, completions, cache=cache, batch_size=3).mean[0])


class TestColumns:
    def test_a_function_with_keywords_reads_them_all(self):
        def reward(prompts, completions, **columns):
            assert sorted(columns) == ["ids", "truth"]
            return [float(len(ids)) for ids in columns["ids"]]

        found = score(
            {"r": reward}, ["q"], [["a", "a"]], columns={"truth": ["4"]},
            completion_columns={"ids": [[[1, 2], [1, 2, 3]]]},
        )  # fmt: skip
        assert found.per_completion[0].tolist() == [[2.0], [3.0]]

    def test_one_that_names_them_gets_those(self):
        def reward(prompts, completions, truth, absent=None):
            assert absent is None
            return [float(t) for t in truth]

        columns = {"truth": [4, 5], "other": ["x", "y"]}
        assert score({"r": reward}, ["q", "q"], ["a", "a"], columns=columns).mean[0] == 4.5

    def test_refused(self):
        for options, message in (
            ({}, "reward 'r' needs the column 'ground_truth'; given: none"),
            ({"columns": {"ground_truth": ["4", "5"]}}, "'ground_truth' has 2 values: must be 1"),
            ({"columns": {"ground_truth": [math.nan]}}, "must hold JSON values"),
            ({"completion_columns": {"ids": [[1, 2]]}}, "'ids' of prompt 0 must have 1"),
            ({"columns": {"a": [1]}, "completion_columns": {"a": [[1]]}}, "'a' is in columns and"),
        ):
            with pytest.raises(InputError, match=message):
                score({"r": gsm()}, ["q"], ["4"], **options)


class TestRefused:
    @pytest.mark.parametrize(
        ("rewards", "prompts", "completions", "message"),
        [
            ({}, ["q"], ["a"], "rewards: must be reward functions"),
            ([len], ["q"], ["a"], "rewards: must be reward functions"),
            ({"r": 3}, ["q"], ["a"], "'r' must be the name of an objective, with a function"),
            ({"": len}, ["q"], ["a"], "must be the name of an objective"),
            ({"r": length()}, [], [], "prompts: is empty"),
            ({"r": length()}, ["q"], ["a", "b"], "completions: has 2 entries, must have 1"),
            ({"r": length()}, ["q"], [[]], "prompt 0 has no completion"),
        ],
    )
    def test_requests(self, rewards, prompts, completions, message):
        with pytest.raises(InputError, match=message):
            score(rewards, prompts, completions)

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ([1.0], "returned 1 scores for 2"),
            ([1.0, math.inf], "completion 1, prompt 'second', is inf"),
        ],
    )
    def test_answers(self, values, message):
        with pytest.raises(WorkError, match=message):
            score({"r": lambda prompts, completions: values}, ["first", "second"], ["a", "b"])


def test_progress_comes_to_its_end(tmp_path):
    told = []
    rewards = {"a": Counted("x"), "b": length()}
    for _ in range(2):
        score(rewards, list("pqr"), ["x", "x", "x"], cache=tmp_path, batch_size=2,
              progress=lambda *now: told.append(now))  # fmt: skip
    # b reads prompts too: a reward function of ours may
    assert told == [(0, 6), (2, 6), (3, 6), (3, 6), (5, 6), (6, 6), (3, 6), (6, 6)]
