"""The forest is naive decoding, at the price of one row for each distinct prefix."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from fake_models import FakeModels, decode_alone
from hypothesis import given, settings
from hypothesis import strategies as st

from palm_core import InputError, WorkError, sample_weights, uniform_lattice
from palm_mod import Limits, Mixing, PublishedMixing, WeightSplitter, grow
from palm_mod.prefix_tree import contenders

MIXINGS = [
    Mixing("reverse-kl"),
    Mixing("forward-kl"),
    Mixing("alpha", 0.4),
    Mixing("alpha", 2.5),
    Mixing("jensen-shannon"),
    PublishedMixing("forward-kl"),
]


def stop_rule(kind):
    """Stops that depend on the tokens, and on the prompt too."""
    if kind == "none":
        return None
    return lambda prompt, tokens: len(tokens) >= 2 and (sum(tokens) + prompt) % 7 == 0


@st.composite
def cases(draw):
    d = draw(st.integers(2, 4))
    mixing = draw(st.sampled_from(MIXINGS))
    vocabulary = draw(st.integers(1, 9))
    models = FakeModels(
        d,
        vocabulary,
        seed=draw(st.integers(0, 10**6)),
        disagreement=draw(st.sampled_from([0.0, 0.3, 1.0])),
        reference=mixing.needs_reference or draw(st.booleans()),
        digits=draw(st.sampled_from([None, 0, 1])),
        forbidden=draw(st.sampled_from([0.0, 0.0, 0.2])),
        raw=mixing.raw_logits or draw(st.booleans()),
    )
    prompts = draw(
        st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), min_size=1, max_size=4)
    )
    resolution = draw(st.integers(1, 8 if d == 2 else 3))
    weights = np.vstack(
        [uniform_lattice(d, resolution), sample_weights(draw(st.integers(1, 30)), d, seed=1)]
    )
    limits = Limits(
        end_tokens=frozenset(draw(st.sets(st.integers(0, 8), max_size=2))),
        new_tokens=draw(st.integers(1, 6)),
        total=draw(st.sampled_from([None, 6, 8])),
        rows=draw(st.integers(1, 64)),
        stop=stop_rule(draw(st.sampled_from(["none", "sum"]))),
    )
    return models, prompts, weights, mixing, limits


def responses(leaves):
    return {
        (leaf.prompt, one): (leaf.tokens, leaf.log_probs, leaf.ended)
        for leaf in leaves
        for one in leaf.members
    }


@given(cases())
@settings(max_examples=settings().max_examples)
def test_the_forest_is_naive_decoding(case):
    models, prompts, weights, mixing, limits = case
    everyone = tuple(range(len(weights)))
    told = []
    leaves, counts = grow(
        models,
        prompts,
        [everyone] * len(prompts),
        WeightSplitter(weights, mixing),
        limits,
        on_complete=told.append,
    )
    expected, margins, alone = {}, {}, 0
    for number, prompt in enumerate(prompts):
        for one in everyone:
            tokens, sums, ended, leads = decode_alone(
                models, prompt, weights[one], mixing, limits, number=number
            )
            expected[number, one] = (tokens, sums, ended)
            alone += len(tokens)
            for end, lead in enumerate(leads, start=1):
                margins.setdefault((number, tokens[:end]), []).append(lead)
    assert responses(leaves) == expected
    assert sum(len(leaf.members) for leaf in leaves) == len(expected)
    assert [(leaf.prompt, leaf.tokens) for leaf in leaves] == sorted(
        {(number, found[0]) for (number, _), found in expected.items()}
    )
    assert sorted(told, key=lambda leaf: (leaf.prompt, leaf.tokens)) == leaves
    for leaf in leaves:
        ends = range(1, len(leaf.tokens) + 1)
        assert leaf.margin == min(min(margins[leaf.prompt, leaf.tokens[:end]]) for end in ends)
    assert counts.least_margin == min(leaf.margin for leaf in leaves)
    # every prefix of a response but itself is read; the prompt alone is the first of them
    prefixes = {(number, tokens[:-1]) for number, tokens in margins}
    assert counts.rows == len(prefixes) == models.read.total()
    assert counts.alone == alone
    assert counts.most_held == models.most_rows <= limits.rows
    children = min(models.vocabulary, len(weights))
    assert counts.most_waiting <= len(prompts) + (limits.new_tokens - 1) * limits.rows * (
        children - 1
    )
    assert counts.most_waiting <= len(expected)


@given(cases(), st.integers(1, 64), st.randoms())
@settings(max_examples=60)
def test_neither_budget_nor_batch_matters(case, rows, random):
    models, prompts, weights, mixing, limits = case
    splitter = WeightSplitter(weights, mixing)
    rule = limits.stop
    stop = None if rule is None else lambda _, tokens: rule(0, tokens)
    limits = replace(limits, stop=stop)
    other = replace(limits, rows=rows)
    members = [tuple(range(number % len(weights), len(weights))) for number in range(len(prompts))]
    together, counts = grow(models, prompts, members, splitter, limits)
    order = list(range(len(prompts)))
    random.shuffle(order)
    again, recounts = grow(
        models, [prompts[i] for i in order], [members[i] for i in order], splitter, other
    )
    for leaf in again:
        assert any(
            leaf.tokens == one.tokens
            and leaf.members == one.members
            and leaf.log_probs == one.log_probs
            and leaf.margin == one.margin
            and order[leaf.prompt] == one.prompt
            for one in together
        )
    assert len(again) == len(together)
    assert recounts.rows == counts.rows
    alone = [
        leaf
        for number, prompt in enumerate(prompts)
        for leaf in grow(models, [prompt], [members[number]], splitter, other)[0]
    ]
    assert [(leaf.tokens, leaf.members) for leaf in alone] == [
        (leaf.tokens, leaf.members) for leaf in together
    ]


@given(
    st.integers(0, 10**6),
    st.integers(2, 4),
    st.sampled_from(MIXINGS[:5]),
    st.sampled_from([None, 0, 1]),
    st.sampled_from([0.0, 0.3]),
    st.sampled_from([0.0, 40.0, 900.0]),
)
@settings(max_examples=100)
def test_leaving_tokens_out_first_changes_nothing(seed, d, mixing, digits, forbidden, far):
    """Prefixes shared by many take another way to the same tokens and margins."""
    models = FakeModels(
        d, 60, seed=seed, disagreement=0.7, reference=True, digits=digits, forbidden=forbidden
    )
    step = models.predict([1]).unsqueeze(0)
    random = np.random.default_rng(seed)
    sums = torch.from_numpy(-far * random.random((1, d + 1)))
    weights = np.vstack([np.eye(d), sample_weights(40, d, seed=seed)])
    splitter = WeightSplitter(weights, mixing)
    everyone = tuple(range(len(weights)))
    (together,) = splitter.split(step, sums, [everyone])
    left, which = contenders(step, sums, mixing)
    assert left.shape[2] == which.shape[1] < 60 or forbidden or digits is not None
    for token, members, margin in together:
        one_by_one = [splitter.split(step, sums, [(one,)])[0][0] for one in members]
        assert {found[0] for found in one_by_one} == {token}
        assert min(found[2] for found in one_by_one) == margin
    assert sorted(one for _, members, _ in together for one in members) == list(everyone)


def test_what_told_raises_ends_it_and_breaks_nothing():
    models = FakeModels(2, 6, disagreement=1.0)
    weights = uniform_lattice(2, 20)
    arguments = ([[1], [2, 3]], [tuple(range(21))] * 2, WeightSplitter(weights, Mixing()))
    limits = Limits(new_tokens=5, rows=2)
    whole, _ = grow(models, *arguments, limits)
    assert len(whole) > 4
    told = []

    def stop_after_three(leaf):
        told.append(leaf)
        if len(told) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        grow(models, *arguments, limits, on_complete=stop_after_three)
    assert len(told) == 3
    assert all(leaf in whole for leaf in told)
    assert grow(models, *arguments, limits)[0] == whole


@pytest.mark.parametrize(("model", "name"), [(0, "model 0"), (1, "model 1"), (2, "the reference")])
def test_a_prediction_that_is_no_number_is_named(model, name):
    class Broken(FakeModels):
        def _predict(self, prefix):
            found = super()._predict(prefix)
            if len(prefix) == 4:
                found[model, 3] = math.nan
            return found

    with pytest.raises(WorkError, match=f"{name}: .* prompt 1 after 2 tokens is not a number"):
        grow(
            Broken(2, 6, reference=True),
            [[1], [2, 3]],
            [(0,)] * 2,
            WeightSplitter(np.array([[1.0, 0.0]]), Mixing()),
            Limits(new_tokens=3),
        )


def test_put_aside_is_read_again_and_counted():
    models = FakeModels(3, 20, disagreement=1.0, spread=0.7)
    weights = uniform_lattice(3, 12)
    everyone = tuple(range(len(weights)))
    arguments = (models, [[1, 2, 3]], [everyone], WeightSplitter(weights, Mixing()))
    _, free = grow(*arguments, Limits(new_tokens=4, rows=64))
    assert (free.read_again, free.tokens_read_again, free.most_waiting) == (0, 0, 1)
    leaves, counts = grow(*arguments, Limits(new_tokens=4, rows=1))
    # one row: of the children that go on, the first is kept, the others are put aside
    prefixes = {leaf.tokens[:end] for leaf in leaves for end in range(1, 4)}
    parents = {prefix[:-1] for prefix in prefixes}
    kept = {min(one for one in prefixes if one[:-1] == parent) for parent in parents}
    aside = prefixes - kept
    assert counts.read_again == len(aside) > 5
    assert counts.tokens_read_again == sum(3 + len(prefix) for prefix in aside)
    assert 1 < counts.most_waiting <= 1 + 3 * 19
    assert counts.steps == counts.rows == free.rows


class Halves:
    """Half of the members go on with token 0, half with token 1: as many prefixes as can be."""

    def count(self, members):
        return len(members)

    def split(self, log_probs, sums, members):
        middles = [len(group) // 2 for group in members]
        return [
            [(0, group[:middle], 1.0), (1, group[middle:], 1.0)]
            for group, middle in zip(members, middles, strict=True)
        ]


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_few_wait_because_the_deepest_go_first(rows):
    limits = Limits(new_tokens=9, rows=rows)
    everyone = tuple(range(2**9))
    leaves, counts = grow(FakeModels(2, 2), [[1], [2]], [everyone] * 2, Halves(), limits)
    assert len(leaves) == 2 * 2**9
    # a prefix has one child more than it is itself
    assert rows < counts.most_waiting <= 2 + 8 * rows


class Forgetful(FakeModels):
    """Runs out of memory with more than ``room`` rows, when reading, going on or both."""

    def __init__(self, room, where, **options):
        super().__init__(3, 12, disagreement=1.0, spread=1.0, **options)
        self.room, self.where = room, where

    def start(self, prefixes):
        if len(prefixes) > self.room and "start" in self.where:
            raise torch.OutOfMemoryError("out of memory")
        return _Forgetful(self, super().start(prefixes))


class _Forgetful:
    def __init__(self, models, state):
        self._models, self._state = models, state
        self.log_probs = state.log_probs

    def step(self, parents, tokens):
        if len(parents) > self._models.room and "step" in self._models.where:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return _Forgetful(self._models, self._state.step(parents, tokens))


@pytest.mark.parametrize("where", ["start", "step", "start step"])
@pytest.mark.parametrize("room", [1, 3])
def test_out_of_memory_halves_the_rows_and_loses_nothing(room, where):
    weights = uniform_lattice(3, 6)
    members = [tuple(range(len(weights)))] * 5
    arguments = ([[n, 1] for n in range(5)], members, WeightSplitter(weights, Mixing()))
    limits = Limits(new_tokens=4, rows=16)
    whole, free = grow(Forgetful(99, where), *arguments, limits)
    heard = []
    found, counts = grow(Forgetful(room, where), *arguments, limits, on_complete=heard.append)
    assert found == whole
    assert sorted(heard, key=lambda leaf: (leaf.prompt, leaf.tokens)) == whole
    assert counts.halvings >= 1
    assert where == "step" or where == "start" or counts.most_held <= room
    assert (counts.rows, counts.alone) == (free.rows, free.alone)
    assert free.halvings == 0


def test_one_row_that_does_not_fit_is_told():
    splitter = WeightSplitter(np.array([[1.0, 0.0, 0.0]]), Mixing())
    with pytest.raises(WorkError, match="out of memory with a single row"):
        grow(Forgetful(0, "start"), [[1]] * 3, [(0,)] * 3, splitter, Limits())


def test_another_error_is_passed_on():
    class Broken(FakeModels):
        def start(self, prefixes):
            raise RuntimeError("shapes differ")

    splitter = WeightSplitter(np.array([[1.0, 0.0]]), Mixing())
    with pytest.raises(RuntimeError, match="shapes differ"):
        grow(Broken(), [[1]], [(0,)], splitter, Limits())


def test_progress_is_told_after_each_step():
    weights = uniform_lattice(2, 6)
    heard = []
    _, counts = grow(
        FakeModels(2, 6, disagreement=1.0),
        [[1], [2]],
        [tuple(range(7))] * 2,
        WeightSplitter(weights, Mixing()),
        Limits(new_tokens=3, rows=2),
        progress=lambda counts, left: heard.append((counts.rows, left)),
    )
    assert len(heard) == counts.steps
    assert [rows for rows, _ in heard] == sorted(rows for rows, _ in heard)
    assert heard[-1] == (counts.rows, 0)
    assert all(left > 0 for _, left in heard[:-1])


@pytest.mark.parametrize(
    ("prompts", "members", "limits", "words"),
    [
        ([[1]], [], {}, "members: 0 groups, must be 1, one per prompt"),
        ([[1], []], [(0,)] * 2, {}, "prompt 1: has no tokens, must have at least one"),
        ([[1, 2, 3]], [(0,)], {"total": 3}, "prompt 0: 3 tokens leave no room"),
        ([[1]], [(0,)], {"rows": 0}, "rows = 0: must be at least 1"),
        ([[1]], [(0,)], {"new_tokens": 0}, "new_tokens = 0: must be at least 1"),
        ([[1]], [(0,)], {"total": 1}, "total = 1: must be at least 2"),
    ],
)
def test_wrong_requests(prompts, members, limits, words):
    splitter = WeightSplitter(np.array([[1.0, 0.0]]), Mixing())
    with pytest.raises(InputError, match=words):
        grow(FakeModels(), prompts, members, splitter, Limits(**limits))
