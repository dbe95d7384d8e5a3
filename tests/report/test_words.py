"""What a report says of a portfolio, whatever is known or not known of it."""

import math
from dataclasses import replace

import numpy as np
import pytest

from palm_core import Certificate, Cover, Gaps, Normalization, Policy, Portfolio
from palm_core.model.results import Missing, Slack
from palm_core.plugin import bound_text
from palm_eval.plugin import headline, lead, proof
from palm_eval.report.sentences import promise


def portfolio(size=2, **known):
    policies = tuple(
        Policy(id=f"p{i}", weights=[0.5, 0.5], rewards=[float(i), float(size - i)])
        for i in range(size)
    )
    objectives = ("kind", "brief")
    plain = Normalization(method="none", lower=(0.0, 0.0), upper=(1.0, 1.0), over="")
    known = {"candidates": 9, "oracle_calls": 9, **known}
    return Portfolio(policies=policies, objectives=objectives, normalization=plain, **known)


def gaps(epsilon=0.02):
    return Gaps(
        epsilon=epsilon,
        delta=0.0123,
        epsilon_weights=[0.25, 0.75],
        delta_weights=[0.25, 0.75],
    )


CERTIFICATE = Certificate(epsilon=0.03001, delta=0.02)


class TestHeadline:
    def test_without_a_claim(self):
        record = Certificate(epsilon=0.03, delta=0.02, conditional_on="answers being best")
        found = portfolio(certificate=record, gaps=gaps())
        assert headline(found).endswith("which it does not claim")

    def test_refuted(self):
        record = Certificate(epsilon=0.03, delta=0.02, conditional_on="so", refuted=True)
        slack = Slack(
            claimed_delta=0.01, claimed=True, refuted=True, measured=0.02, measured_at="p1"
        )
        found = portfolio(certificate=record, gaps=gaps(), slack=slack)
        assert "as it claims" not in headline(found)
        assert any("refutes its claim" in text for _, text in proof(found, None))

    def test_certified(self):
        found = portfolio(certificate=CERTIFICATE, gaps=gaps())
        assert headline(found) == "2 policies serve every preference within 3.01\xa0%"

    def test_conditional(self):
        record = Certificate(epsilon=0.03, delta=0.02, conditional_on="the oracle being so")
        claim = Slack(claimed_delta=0.01, claimed=True)
        found = portfolio(certificate=record, gaps=gaps(), slack=claim)
        assert headline(found).endswith("within 3\xa0% if the oracle is as good as it claims")
        assert "conditional on the oracle being so." in lead(found)[0]
        assert "(conditional, see below)" in promise(found)
        assert "conditional on the oracle being so." in dict(proof(found, None))[TITLE]

    def test_not_certified(self):
        found = portfolio(gaps=gaps())
        assert headline(found).endswith("within 2\xa0% of the best of the 9 policies found")
        assert "nothing is certified" in lead(found)[0]
        assert "best policy found" in promise(found)
        assert dict(proof(found, None))[TITLE].endswith("comes without a certificate.")

    def test_selected_out_of_a_table_nothing_else_was_to_be_found(self):
        found = portfolio(gaps=gaps(), oracle_calls=0)
        assert headline(found).endswith("within 2\xa0% of the best of the 9 given")
        assert lead(found)[0].endswith("below the best of the 9 there were to choose from.")
        assert "no oracle has said" in dict(proof(found, None))[TITLE]

    def test_why_nothing_is_certified(self):
        slack = Slack(claimed_epsilon=1.0)
        assert "does not claim" in dict(proof(portfolio(gaps=gaps(), slack=slack), None))[TITLE]
        scaled = Normalization(method="minmax", lower=(0.0, 0.0), upper=(2.0, 2.0), over="all")
        found = replace(portfolio(gaps=gaps()), normalization=scaled)
        assert "scaled after the oracle had answered" in dict(proof(found, None))[TITLE]
        vertex = Missing(weights=[0.0, 1.0], attempts=3, kind="error", message="no")
        found = portfolio(gaps=gaps(), missing=(vertex,))
        assert "at kind = 0.00, where it failed" in dict(proof(found, None))[TITLE]

    def test_no_share_of_what_is_not_positive(self):
        found = portfolio(gaps=gaps(math.inf))
        assert headline(found).endswith("within 0.0123 of the best found")
        assert "not positive" in lead(found)[0]
        assert "0.0123" in promise(found)

    def test_a_certificate_without_a_share(self):
        record = Certificate(epsilon=math.inf, delta=0.02, note="below zero at w = (1, 0)")
        found = portfolio(certificate=record, gaps=gaps())
        assert headline(found).endswith("of the best of the 9 policies found")
        assert (
            "No share is certified (below zero at w = (1, 0)), or 0.02 in units"
            in (dict(proof(found, None))[TITLE])
        )

    def test_one_policy(self):
        found = portfolio(size=1, certificate=CERTIFICATE, gaps=gaps())
        assert headline(found).startswith("1 policy serves every")
        assert "the one policy is at most" in lead(found)[0]

    def test_nothing_known(self):
        found = portfolio()
        assert headline(found) == "2 policies serve every preference"
        assert lead(found) == []
        assert promise(found) == ""


TITLE = "Against every policy there is"


class TestProof:
    def test_where_the_oracle_failed(self):
        missing = [
            Missing(weights=[i / 8, 1 - i / 8], attempts=3, kind="error", message=f"m{i}")
            for i in range(7)
        ]
        text = dict(proof(portfolio(missing=tuple(missing)), None))["Where the oracle failed"]
        assert text.startswith("7 weight vectors of those asked have no answer (kind = 0.00: m0;")
        assert "m4; and 2 more)" in text

    @pytest.mark.parametrize(
        ("status", "said"),
        [("optimal", "is the least number"), ("feasible", "at least 1 are needed")],
    )
    def test_why_not_fewer(self, status, said):
        record = Cover(
            indices=np.array([0, 1]),
            mu=0.05,
            alpha=0.01,
            method="greedy",
            status=status,
            lower_bound=1,
            solver="greedy",
            n_weights=4,
        )
        text = dict(proof(portfolio(pruning=record), None))["Why not fewer"]
        assert said in text
        assert "within 5 % plus 0.01 of the best found at every weight vector asked" in text


def test_a_bound_is_never_rounded_down():
    for value in (0.0403, 0.039301, 1e-7, 0.999, 12.345):
        assert value * (1 - 1e-11) <= float(bound_text(value)) <= value * 1.0101
    assert bound_text(math.inf) == "inf"
