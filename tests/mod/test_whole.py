"""All policies of decoding at once: what each weight gives, and exact gaps among them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from palm_core import InputError, PolicySet, gaps, sample_weights, uniform_lattice
from palm_mod import ModOracle

PROMPTS = ["Tell me about green tea.", "Why a lost key?", "Help, the night train!"]
CALLS: list[int] = []


def words(prompts, completions):
    """Up to 1."""
    CALLS.append(len(completions))
    return [min(1.0, len(text.split()) / 20) for text in completions]


def kind(prompts, completions):
    return [float("sorry" in text or "fine" in text) for text in completions]


def vowels(prompts, completions):
    return [sum(text.count(one) for one in "aeiou") / (1 + len(text)) for text in completions]


@pytest.fixture
def asked(families, tmp_path):
    """Options of an oracle with ``d`` experts; keywords replace them."""
    made = families("llama")
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": one}) + "\n" for one in PROMPTS))

    def options(d, **changed):
        rewards = dict(list({"long": words, "kind": kind, "vowels": vowels}.items())[:d])
        return {
            "models": made["models"][:d],
            "rewards": rewards,
            "prompts": file,
            "format": "USER: {prompt} ASSISTANT: ",
            "new_tokens": 16,
            "device": "cpu",
            **changed,
        }

    options.base = made["base"]
    return options


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("beta", [0.0, 0.05])
def test_each_weight_has_the_policy_that_it_is_answered_with(asked, d, beta):
    more = {"reference": asked.base, "beta": beta} if beta else {}
    oracle = ModOracle(**asked(d, **more))
    family = oracle.family()
    assert family.policies.complete
    assert family.policies.exact == pytest.approx(1.0)
    weights = sample_weights(40, d, seed=d)
    answered = list(oracle.solve(weights))
    places = family.policies.at(weights)
    for policy, place in zip(answered, places, strict=True):
        assert policy.rewards == pytest.approx(family.candidates.rewards[place], abs=1e-12)
        assert policy.regularizer == pytest.approx(family.candidates.regularizer[place], rel=1e-4)
        assert (policy.regularizer > 0) == (beta > 0)
    assert len(set(places.tolist())) > 2


def test_gaps_within_the_family_are_never_below_those_of_samples(asked):
    oracle = ModOracle(**asked(2))
    family = oracle.family()
    answered = list(oracle.solve(uniform_lattice(2, 6)))
    found = PolicySet.from_policies(list({one.id: one for one in answered}.values()))
    values = found.vertex_values
    assert gaps(found, family.candidates).epsilon >= gaps(values, values).epsilon
    everyone = gaps(family.candidates, family.candidates)
    assert (everyone.epsilon, everyone.delta) == (0.0, 0.0)
    # each of the lattice's answers is in the family
    for policy in answered:
        apart = np.abs(family.candidates.rewards - policy.rewards).max(axis=1)
        assert apart.min() < 1e-12


def test_each_response_is_scored_once_and_never_again(asked):
    oracle = ModOracle(**asked(2))
    CALLS.clear()
    family = oracle.family()
    assert sum(CALLS) == sum(map(len, family.texts))
    assert all(len(set(several)) == len(several) for several in family.texts)
    list(oracle.solve(uniform_lattice(2, 9)))  # has only responses that are known
    assert sum(CALLS) == sum(map(len, family.texts))


def test_a_budget_of_leaves_is_told(asked):
    family = ModOracle(**asked(2)).family(leaves=1)
    assert [len(several) for several in family.texts] == [1, 1, 1]
    assert family.policies.exact < 1.0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"temperature": 0.5}, "temperature = 0.5: must be 0"),
        ({"divergence": "jensen-shannon"}, "jensen-shannon"),
    ],
)
def test_what_has_no_regions_is_refused(asked, changed, said):
    if "divergence" in changed:
        changed["reference"] = asked.base
    with pytest.raises(InputError, match=said):
        ModOracle(**asked(2, **changed)).family()
