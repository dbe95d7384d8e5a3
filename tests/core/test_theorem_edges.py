"""Theorem 3.4 at its edges: what a guarantee records, whom a refusal names, zeros."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palm_core import Guarantee, InputError, PolicySet, apply_theorem, lemma_a1, theorem_bounds
from palm_core.guarantees.theorem import NotApplicable, assumptions


@given(
    d=st.integers(2, 5),
    unit=st.tuples(st.floats(0.01, 1.0), st.floats(0.01, 1.0)),
    shares=st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)),
    amounts=st.tuples(*[st.floats(0.0, 9.0)] * 4),
)
def test_a_guarantee_records_what_it_was_computed_from(d, unit, shares, amounts):
    given_values = {
        "n_objectives": d,
        "mu": unit[0],
        "alpha": unit[1],
        "reward_bound": amounts[0],
        "regularizer_bound": amounts[1],
        "prune_mu": shares[0],
        "prune_alpha": amounts[2],
        "oracle_epsilon": shares[1],
        "oracle_delta": amounts[3],
    }
    found = asdict(theorem_bounds(**given_values))
    assert {name: found[name] for name in given_values} == given_values
    assert found["measured"] == ()


@pytest.mark.parametrize("alpha", [0.0, -0.5, 1.5, float("nan")])
def test_the_lemma_refuses_alpha_by_name(alpha):
    with pytest.raises(InputError, match=rf"^alpha = {alpha}: must be in \(0, 1\]$"):
        lemma_a1(2, 0.5, alpha)


def test_a_guarantee_says_all_it_knows_in_one_line():
    found = apply_theorem(PolicySet([[1.0, 0.2], [0.3, 0.9]], [0.1, 0.05]), mu=1.0, alpha=0.5)
    assert isinstance(found, Guarantee)
    assert str(found) == (
        "Theorem 3.4: at most 5 policies serve every weight within ε = 4, δ = 2.6 (sharper: ε = 1, "
        "δ = 0.35), which promises nothing; R_max and f_max as measured on the evaluated policies "
        "only"
    )


def test_all_that_speaks_against_the_theorem_is_told():
    found = NotApplicable(violations=("one thing", "another"))
    assert str(found) == (
        "Theorem 3.4 does not apply: one thing; another. Normalise, or rely on the certificate"
    )


def test_a_refuted_claim_names_the_policy_with_the_largest_rewards():
    # neither the first, nor the one with the largest single reward
    policies = PolicySet([[0.5, 0.5], [0.0, 1.1], [0.8, 0.9]], names=("p", "q", "r"))
    found = apply_theorem(policies, mu=0.2, alpha=0.1, reward_bound=1.6)
    assert isinstance(found, NotApplicable)
    assert "but policy 'r' has Σ|r_i| = 1.7" in str(found)


def test_an_objective_that_is_zero_throughout_is_no_violation():
    # a mixture of both is at least 0 at every weight; at the middle vertex all are 0
    found = assumptions(PolicySet([[1.5, 0.5, 0.0], [0.0, 0.5, 1.5]], [0.5, 0.5]))
    assert found.violations == ()


def test_a_small_negative_number_has_one_long_minus():
    # as in "−1e-05", which reads as a number does
    (line,) = assumptions(PolicySet([[-1e-5, 1e-5]], objectives=("a", "b"))).violations[:1]
    assert line == "reward 'a' has negative means (least −1e-05)"
