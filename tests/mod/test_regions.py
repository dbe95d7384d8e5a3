"""The whole simplex decoded: every response with exactly the weights that give it."""

from __future__ import annotations

import numpy as np
import pytest
from fake_models import FakeModels
from hypothesis import given, settings
from hypothesis import strategies as st

import palm_core
from palm_core import InputError, sample_weights
from palm_eval.polygons import sides
from palm_mod import (
    Limits,
    Mixing,
    PublishedMixing,
    Sampling,
    WeightSplitter,
    decode_regions,
    grow,
    policies_of_regions,
    reward_pieces,
    whole_simplex,
)

MIXINGS = [
    Mixing("reverse-kl"),
    Mixing("forward-kl"),
    Mixing("alpha", 0.4),
    Mixing("alpha", 2.5),
    PublishedMixing("forward-kl"),
]


# How near to a border, in weights, tokens are held to be sure. For forward KL and α an expert
# with next to no weight can decide near a vertex, by factors that take all digits.
PRECISION = {2: 1e-8, 3: 1e-7}


def naive(models, prompt, weights, mixing, limits):
    """Decoding at one weight vector in float64, with the formulas written out once more."""
    w, tokens = np.array(weights)[:, np.newaxis], ()
    sums = np.zeros(models.n_experts)
    with np.errstate(divide="ignore"):
        logs = np.log(w)
    while True:
        step = models.predict((*prompt, *tokens)).double().numpy()[: models.n_experts]
        totals = sums[:, np.newaxis] + step
        if mixing.power == 0:
            scores = (w * totals).sum(axis=0)
        else:
            scores = -np.logaddexp.reduce(logs - mixing.power * totals, axis=0) / mixing.power
        tokens = (*tokens, int(np.argmax(scores)))
        sums = totals[:, tokens[-1]]
        if tokens[-1] in limits.end_tokens or len(tokens) >= limits.new_tokens:
            return tokens


@st.composite
def cases(draw, d=None):
    d = draw(st.integers(2, 3)) if d is None else d
    mixing = draw(st.sampled_from(MIXINGS))
    models = FakeModels(
        d,
        draw(st.integers(1, 8)),
        seed=draw(st.integers(0, 10**6)),
        disagreement=draw(st.sampled_from([0.3, 1.0])),
        reference=draw(st.booleans()),
        raw=mixing.raw_logits,
        spread=draw(st.sampled_from([0.5, 2.0])),
    )
    prompts = draw(
        st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=3), min_size=1, max_size=3)
    )
    limits = Limits(
        end_tokens=frozenset(draw(st.sets(st.integers(0, 8), max_size=1))),
        new_tokens=draw(st.integers(1, 5)),
        rows=draw(st.integers(1, 9)),
    )
    return models, prompts, mixing, limits


def depth(region, points):
    """How far inside, at least: positive in the open region."""
    return -(points @ sides(region.polygon).T).max(axis=1)


@given(cases(d=2))
@settings(max_examples=150)
def test_intervals_end_where_the_response_changes(case):
    models, prompts, mixing, limits = case
    leaves, counts = decode_regions(models, prompts, mixing, limits)
    assert counts.alone == sum(len(leaf.tokens) for leaf in leaves)
    for number, prompt in enumerate(prompts):
        own = sorted((leaf.members.interval, leaf) for leaf in leaves if leaf.prompt == number)
        ends = [0.0] + [interval[1] for interval, _ in own]
        assert ends[-1] == 1.0
        assert [interval[0] for interval, _ in own] == ends[:-1]
        for (low, high), leaf in own:
            assert leaf.members.exact
            for w in (low, (low + high) / 2, high):
                inside = min(max(w, low + PRECISION[2]), high - PRECISION[2])
                if low < inside < high:
                    found = naive(models, prompt, (inside, 1 - inside), mixing, limits)
                    assert found == leaf.tokens
        tokens = [leaf.tokens for _, leaf in own]
        assert len(set(tokens)) == len(tokens)


@given(cases(d=2), st.integers(0, 2))
@settings(max_examples=40)
def test_bisection_finds_the_same_ends(case, which):
    models, prompts, mixing, limits = case
    leaves, _ = decode_regions(models, prompts[:1], mixing, limits)
    own = sorted(leaves, key=lambda leaf: leaf.members.interval)
    if len(own) < 2:
        return
    leaf = own[which % (len(own) - 1)]
    low, high = leaf.members.centre[0], own[-1].members.centre[0]
    for _ in range(60):
        middle = (low + high) / 2
        if naive(models, prompts[0], (middle, 1 - middle), mixing, limits) == leaf.tokens:
            low = middle
        else:
            high = middle
    assert low == pytest.approx(leaf.members.interval[1], abs=PRECISION[2])


@given(cases(d=3), st.integers(0, 1000))
@settings(max_examples=100)
def test_polygons_hold_the_weights_that_give_the_response(case, seed):
    models, prompts, mixing, limits = case
    leaves, _ = decode_regions(models, prompts, mixing, limits)
    points = sample_weights(40, 3, seed=seed)
    for number, prompt in enumerate(prompts):
        own = [leaf for leaf in leaves if leaf.prompt == number]
        assert sum(leaf.members.share for leaf in own) == pytest.approx(1, abs=1e-9)
        assert len({leaf.tokens for leaf in own}) == len(own)
        inside = np.array([depth(leaf.members, points) for leaf in own]) > PRECISION[3]
        assert (inside.sum(axis=0) <= 1).all()
        assert inside.any(axis=0).mean() > 0.9
        for leaf, here in zip(own, inside, strict=True):
            for point in [*points[here][:6], leaf.members.centre]:
                if depth(leaf.members, point[np.newaxis])[0] > PRECISION[3]:
                    assert naive(models, prompt, point, mixing, limits) == leaf.tokens
            # and just inside of each corner
            for corner in leaf.members.polygon:
                point = 0.999 * corner + 0.001 * leaf.members.centre
                if depth(leaf.members, point[np.newaxis])[0] > PRECISION[3]:
                    assert naive(models, prompt, point, mixing, limits) == leaf.tokens


@given(cases(), st.integers(1, 64))
@settings(max_examples=40)
def test_neither_budget_of_rows_nor_batch_matters(case, rows):
    models, prompts, mixing, limits = case
    whole, _ = decode_regions(models, prompts, mixing, limits)
    other = Limits(limits.end_tokens, limits.new_tokens, rows=rows)
    again = [
        (number, leaf.tokens, leaf.members.corners)
        for number, prompt in enumerate(prompts)
        for leaf in decode_regions(models, [prompt], mixing, other)[0]
    ]
    assert again == [(leaf.prompt, leaf.tokens, leaf.members.corners) for leaf in whole]


@given(cases(), st.integers(1, 6))
@settings(max_examples=80)
def test_a_budget_of_leaves_holds_and_says_what_is_not_exact(case, most):
    models, prompts, mixing, limits = case
    free, _ = decode_regions(models, prompts, mixing, limits)
    leaves, _ = decode_regions(models, prompts, mixing, limits, leaves=most)
    for number, prompt in enumerate(prompts):
        own = [leaf for leaf in leaves if leaf.prompt == number]
        assert 1 <= len(own) <= most
        assert sum(leaf.members.share for leaf in own) == pytest.approx(1, abs=1e-9)
        for leaf in own:
            assert naive(models, prompt, leaf.members.centre, mixing, limits) == leaf.tokens
        exact = {(leaf.tokens, leaf.members.corners) for leaf in own if leaf.members.exact}
        assert exact <= {(one.tokens, one.members.corners) for one in free if one.prompt == number}
        assert len(exact) < len(own) or len(own) == sum(one.prompt == number for one in free)


@given(st.integers(0, 10**6), st.integers(2, 3))
@settings(max_examples=40)
def test_regions_of_sampled_responses(seed, d):
    models = FakeModels(d, 6, disagreement=1.0, seed=seed)
    prompts, noise = Sampling(temperature=1.0, seed=seed, samples=2).noise(6, [[1], [2, 3]])
    limits = Limits(new_tokens=3, rows=3)
    leaves, _ = decode_regions(models, prompts, Mixing(), limits, noise=noise)
    weights = sample_weights(25, d, seed=seed)
    members = [tuple(range(25))] * len(prompts)
    single, _ = grow(
        models, prompts, members, WeightSplitter(weights, Mixing()), limits, noise=noise
    )
    regions = {(leaf.prompt, leaf.tokens): leaf.members for leaf in leaves}
    for leaf in single:
        assert depth(regions[leaf.prompt, leaf.tokens], weights[list(leaf.members)]).min() > -1e-4


def test_what_is_forbidden_wins_nowhere_inside():
    models = FakeModels(2, 6, disagreement=1.0, forbidden=0.4, seed=3)
    limits = Limits(new_tokens=4)
    leaves, _ = decode_regions(models, [[n] for n in range(60)], Mixing(), limits)
    # where experts allow no token together, any is as good
    possible = [leaf for leaf in leaves if np.isfinite(leaf.log_probs).all()]
    assert len(possible) > len(leaves) / 2
    for leaf in possible:
        assert naive(models, [leaf.prompt], leaf.members.centre, Mixing(), limits) == leaf.tokens


def test_equal_tokens_are_the_lowest():
    class Doubled(FakeModels):
        def _predict(self, prefix):
            found = super()._predict(prefix)
            found[:, 4:] = found[:, :4]
            return found

    leaves, _ = decode_regions(
        Doubled(3, 8, disagreement=1.0), [[1]], Mixing(), Limits(new_tokens=3)
    )
    assert max(max(leaf.tokens) for leaf in leaves) < 4


def table(d, n_prompts, seed, **options):
    """Leaves of some prompts, and rewards that are a function of the response."""
    models = FakeModels(d, 6, disagreement=1.0, seed=seed)
    prompts = [[n, seed % 5] for n in range(n_prompts)]
    limits = Limits(new_tokens=3, rows=8)
    leaves, _ = decode_regions(models, prompts, Mixing(), limits, **options)
    rewards = [np.random.default_rng([leaf.prompt, *leaf.tokens]).random(d) for leaf in leaves]
    return models, prompts, limits, leaves, np.array(rewards)


@given(st.integers(0, 10**6), st.integers(2, 3), st.integers(1, 4))
@settings(max_examples=60)
def test_policies_are_what_the_weights_decode(seed, d, n_prompts):
    models, prompts, limits, leaves, rewards = table(d, n_prompts, seed)
    found = policies_of_regions(leaves, rewards)
    assert found.complete
    assert found.exact == pytest.approx(1)
    assert found.shares.sum() == pytest.approx(1, abs=1e-9)
    assert len(np.unique(found.responses, axis=0)) == len(found.responses)
    place_of = {(leaf.prompt, leaf.tokens): place for place, leaf in enumerate(leaves)}
    for weights, responses in zip(found.weights, found.responses, strict=True):
        expected = [
            place_of[n, naive(models, prompt, weights, Mixing(), limits)]
            for n, prompt in enumerate(prompts)
        ]
        assert responses.tolist() == expected
    # any weights at all have a policy among them
    points = sample_weights(20, d, seed=seed)
    for point, at in zip(points, found.at(points), strict=True):
        responses = [
            place_of[n, naive(models, prompt, point, Mixing(), limits)]
            for n, prompt in enumerate(prompts)
        ]
        assert found.responses[at].tolist() == responses
        assert found.rewards[at] == pytest.approx(rewards[responses].mean(axis=0))


def test_gaps_within_the_family_are_exact():
    _, _, _, leaves, rewards = table(2, 6, 11)
    found = policies_of_regions(leaves, rewards)
    assert len(found.rewards) > 8
    chosen = found.rewards[[0, len(found.rewards) - 1]]
    exact = palm_core.gaps(chosen, found.rewards)
    grid = np.column_stack([np.linspace(0, 1, 20_001), 1 - np.linspace(0, 1, 20_001)])
    opt = (grid @ found.rewards.T).max(axis=1)
    lost = opt - (grid @ chosen.T).max(axis=1)
    assert exact.delta > 0
    assert exact.delta == pytest.approx(lost.max(), abs=1e-4)
    assert exact.delta >= lost.max() - 1e-12


def test_too_many_cells_are_said_to_be():
    _, _, _, leaves, rewards = table(3, 4, 5)
    whole = policies_of_regions(leaves, rewards)
    some = policies_of_regions(leaves, rewards, most_cells=5)
    assert whole.complete
    assert not some.complete
    assert 5 < len(some.responses) < len(whole.responses)
    every = {tuple(one) for one in whole.responses}
    assert {tuple(one) for one in some.responses} <= every
    assert np.isnan(some.shares).all()
    assert some.exact == 1
    with pytest.raises(InputError, match="policies: must be complete"):
        some.at([1 / 3, 1 / 3, 1 / 3])


@pytest.mark.parametrize("d", [2, 3])
def test_what_is_not_exact_is_counted(d):
    _, _, _, leaves, rewards = table(d, 3, 5, leaves=3)
    found = policies_of_regions(leaves, rewards)
    vague = [leaf for leaf in leaves if not leaf.members.exact]
    assert vague
    assert 0 <= found.exact < 1
    assert found.exact <= 1 - max(leaf.members.share for leaf in vague) + 1e-9
    some = policies_of_regions(leaves, rewards, most_cells=1)
    assert some.exact <= found.exact + 1e-9


def test_reward_pieces_are_functions_of_the_weights():
    _, _, _, leaves, rewards = table(2, 3, 8)
    pieces = reward_pieces(leaves, rewards)
    assert list(pieces) == [0, 1, 2]
    assert sum(len(own) for own in pieces.values()) == len(leaves)
    for prompt, own in pieces.items():
        ends = [region.interval for region, _ in own]
        assert ends == sorted(ends)
        for region, earned in own:
            (at,) = [
                n
                for n, leaf in enumerate(leaves)
                if leaf.prompt == prompt and leaf.members == region
            ]
            assert earned.tolist() == rewards[at].tolist()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda leaves, rewards: ([], []), "leaves: must be at least one, got none"),
        (
            lambda leaves, rewards: (leaves, rewards[:-1]),
            r"rewards: have shape \(\d+, 2\), must be",
        ),
        (lambda leaves, rewards: (leaves, rewards * np.nan), "rewards row 0: must be finite"),
        (lambda leaves, rewards: (leaves, "many"), "rewards: must be numbers"),
        (lambda leaves, rewards: (leaves[1:], rewards[1:]), "the regions of prompt 0 cover 0"),
    ],
)
def test_rewards_that_do_not_fit_are_refused(change, words):
    _, _, _, leaves, rewards = table(2, 2, 8)
    with pytest.raises(InputError, match=words):
        policies_of_regions(*change(leaves, rewards))


def test_what_regions_cannot_do_is_refused():
    limits = Limits(new_tokens=1)
    with pytest.raises(InputError, match="experts: has 4, must have 2 or 3"):
        decode_regions(FakeModels(4), [[1]], Mixing(), limits)
    with pytest.raises(InputError, match="divergence = 'jensen-shannon': regions need"):
        decode_regions(FakeModels(2, reference=True), [[1]], Mixing("jensen-shannon"), limits)
    with pytest.raises(InputError, match="leaves = 0: must be at least 1"):
        decode_regions(FakeModels(2), [[1]], Mixing(), limits, leaves=0)
    with pytest.raises(InputError, match="interval: 3 objectives, must be 2"):
        assert whole_simplex(3).interval
