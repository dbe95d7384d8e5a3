"""Diversity of responses: by hand, against the definitions, and their properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palm_core import InputError
from palm_eval import distinct_n, embedding_distance, self_bleu

texts = st.lists(st.sampled_from("abcde"), min_size=1, max_size=8).map(" ".join)
portfolios = st.integers(1, 3).flatmap(
    lambda n: st.lists(st.lists(texts, min_size=n, max_size=n), min_size=2, max_size=4)
)


def test_distinct_by_hand():
    # Prompt 1: a b, b c | a b, b d: 3 of 4. Prompt 2: x x, x x | none: 1 of 2.
    assert distinct_n([["a b c", "x x x"], ["a b d", "y"]]).tolist() == [0.75, 0.5]
    assert distinct_n([["a b c", "x x x"], ["a b d", "y"]], n=1).tolist() == [4 / 6, 2 / 4]
    assert distinct_n([["a"]], n=2).tolist() == [0.0]
    assert distinct_n([["", "a b"], ["", "c d"]], n=1).tolist() == [0.0, 1.0]
    assert distinct_n([["aab"], ["abb"]], n=2, tokenize=list).tolist() == [3 / 4]


@given(portfolios, st.integers(1, 3))
def test_distinct_agrees_with_the_definition(responses, n):
    found = distinct_n(responses, n)
    for prompt, value in enumerate(found):
        grams: list[str] = []
        for policy in responses:
            tokens = policy[prompt].split()
            grams += [
                " ".join(tokens[i : i + n]) for i in range(len(tokens)) if i + n <= len(tokens)
            ]
        assert value == (len(set(grams)) / len(grams) if grams else 0)


@given(portfolios, st.randoms())
@settings(max_examples=30)
def test_the_order_of_policies_does_not_matter(responses, random):
    shuffled = random.sample(responses, len(responses))
    assert distinct_n(shuffled) == pytest.approx(distinct_n(responses))
    assert self_bleu(shuffled) == pytest.approx(self_bleu(responses))


def test_identical_responses_are_the_least_diverse():
    same = [["one two three four five", "a b"]] * 3
    assert distinct_n(same, 2) == pytest.approx([1 / 3, 1 / 3])
    assert self_bleu(same) == pytest.approx([100, 100])
    assert embedding_distance(same, lambda t: np.eye(2)[: len(t)]).tolist() == [0.0, 0.0]


def test_self_bleu_by_hand():
    # Unigrams only: "a b c d" has 3 of 4 words in "a b c e", and the other way round; same
    # length, no brevity penalty.
    found = self_bleu([["a b c d"], ["a b c e"]], max_order=1, tokenize="none")
    assert found == pytest.approx([75.0])
    # Up to bigrams: √(3/4 · 2/3)
    found = self_bleu([["a b c d"], ["a b c e"]], max_order=2, tokenize="none")
    assert found == pytest.approx([100 * np.sqrt(1 / 2)])
    # Against several references the best match of each n-gram counts: "a b" has both
    # words elsewhere; "a c" and "b d" one of two each.
    found = self_bleu([["a b"], ["a c"], ["b d"]], max_order=1, tokenize="none")
    assert found == pytest.approx([100 * (1 + 0.5 + 0.5) / 3])
    # No word shared.
    assert self_bleu([["a b c d e"], ["f g h i j"]])[0] < 5


def test_self_bleu_of_a_short_answer_penalises_brevity():
    # "a b" against "a b c d": precision 1, penalty exp(1 − 4/2); the other: 2 of 4.
    found = self_bleu([["a b"], ["a b c d"]], max_order=1, tokenize="none")
    assert found == pytest.approx([100 * (np.exp(-1) + 0.5) / 2])


def test_self_bleu_takes_empty_answers():
    assert self_bleu([["", "a"], ["b", "a"]]) == pytest.approx([0.0, 100.0])


def test_embedding_distance_by_hand():
    vectors = {"x": [2.0, 0.0], "y": [0.0, 1.0], "z": [-3.0, 0.0]}
    calls = []

    def embed(batch: list[str]) -> list[list[float]]:
        calls.append(batch)
        return [vectors[text] for text in batch]

    # x–y: 1, x–z: 2, y–z: 1. Prompt 2: x–x: 0, x–y twice: 1.
    found = embedding_distance([["x", "x"], ["y", "x"], ["z", "y"]], embed)
    assert found == pytest.approx([4 / 3, 2 / 3])
    assert calls == [["x", "y", "z"]]


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([[1.0, 0.0]], "must give 2 finite vectors"),
        ([[1.0, 0.0], [np.nan, 0.0]], "must give 2 finite vectors"),
        ([[1.0, 0.0], [0.0, 0.0]], "the vector of 'y' is zero"),
    ],
)
def test_embeddings_that_are_none(vectors, message):
    with pytest.raises(InputError, match=message):
        embedding_distance([["x"], ["y"]], lambda _: vectors)


@pytest.mark.parametrize("score", [distinct_n, self_bleu])
def test_refusals(score):
    with pytest.raises(InputError, match="must have one for each prompt .*, have 1, 2"):
        score([["a"], ["a", "b"]])
    with pytest.raises(InputError, match="responses: of 0 policies, must be"):
        score([])
    with pytest.raises(InputError, match=r"responses\[1\]\[0\] = None: must be text"):
        score([["a"], [None]])
    with pytest.raises(InputError, match="have 0, 0 prompts"):
        score([[], []])


def test_more_refusals():
    with pytest.raises(InputError, match="of 1 policies, must be of at least 2"):
        self_bleu([["a"]])
    with pytest.raises(InputError, match="n = 0: must be at least 1"):
        distinct_n([["a"]], 0)
    with pytest.raises(InputError, match="tokenize = '14a': must be one of"):
        self_bleu([["a"], ["b"]], tokenize="14a")
    with pytest.raises(InputError, match="max_order = 0"):
        self_bleu([["a"], ["b"]], max_order=0)
