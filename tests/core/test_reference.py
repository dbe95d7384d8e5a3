"""What a portfolio is measured against: the best candidates, the hull of a certificate."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from palm_core import (
    InputError,
    PolicySet,
    Portfolio,
    build_portfolio,
    gaps,
    load_oracle,
    sample_weights,
    select_models,
)
from palm_core.guarantees.certificate import Accuracy, Answers, upper_pieces
from palm_core.model.results import Reference


def values_of(seed: int, m: int, d: int, kind: str) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.uniform(-0.2, 1.0, (m, d))
    if kind == "lattice":
        values = rng.integers(-1, 4, (m, d)).astype(float)
    if kind == "scales":
        values = values * 10.0 ** rng.integers(-9, 10, d)
    if kind == "decimals":
        values = values.round(2)
    return values


def exact(values: np.ndarray, weights: np.ndarray) -> list[Fraction]:
    row = [Fraction(x) for x in weights.tolist()]
    return [
        sum((w * Fraction(x) for w, x in zip(row, each, strict=True)), Fraction(0))
        for each in values.tolist()
    ]


INSTANCES = given(
    st.integers(0, 10**6),
    st.integers(2, 12),
    st.integers(2, 5),
    st.sampled_from(["uniform", "lattice", "scales", "decimals"]),
)


class TestCandidates:
    @INSTANCES
    def test_the_best_value_is_that_of_all_candidates(
        self, seed: int, m: int, d: int, kind: str
    ) -> None:
        values = values_of(seed, m, d, kind)
        found = Reference.of_candidates(PolicySet(values))
        assert found is not None
        for row in np.vstack([np.eye(d), sample_weights(20, d, seed=seed)]):
            assert max(exact(found.values, row)) == max(exact(values, row))

    @settings(max_examples=40)
    @INSTANCES
    def test_they_are_those_that_are_best_somewhere(
        self, seed: int, m: int, d: int, kind: str
    ) -> None:
        values = values_of(seed, m, d, kind)
        found = Reference.of_candidates(PolicySet(values))
        assert found is not None
        for place in range(m):
            others = np.delete(values, place, axis=0)
            alone = gaps(others, values).delta
            size = np.abs(values).max()
            if alone > 0:
                assert str(place) in found.names
            if kind == "uniform" and alone < 1e-9 * size:
                assert str(place) not in found.names

    def test_the_best_may_be_equal_in_an_objective(self) -> None:
        found = Reference.of_candidates(PolicySet([[0, 1, 1], [1, 0, 1], [0.4, 0.4, 0]]))
        assert found is not None
        assert found.names == ("0", "1")

    def test_on_a_sphere_all_are_best_somewhere(self) -> None:
        values = np.abs(np.random.default_rng(1).normal(size=(80, 3)))
        values /= np.linalg.norm(values, axis=1)[:, np.newaxis]
        found = Reference.of_candidates(PolicySet(values))
        assert found is not None
        assert len(found.names) == 80

    @INSTANCES
    def test_the_loss_is_never_below_the_true_one(
        self, seed: int, m: int, d: int, kind: str
    ) -> None:
        values = values_of(seed, m, d, kind)
        reference = Reference.of_candidates(PolicySet(values))
        assert reference is not None
        chosen = np.random.default_rng(seed).choice(m, size=max(1, m // 3), replace=False)
        weights = np.vstack([np.eye(d), sample_weights(12, d, seed=seed)])
        epsilon, delta = reference.loss(PolicySet(values[chosen]), weights)
        size = np.abs(values).max()
        for row, share, amount in zip(weights, epsilon, delta, strict=True):
            best, served = max(exact(values, row)), max(exact(values[chosen], row))
            assert Fraction(float(amount)) >= best - served
            assert amount <= float(best - served) + 1e-13 * size
            if best == served and not (exact(values, row).count(best) > 1):
                assert (share, amount) == (0.0, 0.0)
            if np.isfinite(share):
                assert Fraction(float(share)) * max(best, Fraction(0)) >= best - served
            else:
                assert float(best) <= 1e-13 * size
            if served >= 0:
                assert share <= 1.0 + 1e-12

    def test_the_largest_loss_is_the_gap(self) -> None:
        models = PolicySet(values_of(3, 40, 3, "uniform") + 0.2)
        selection = select_models(models, epsilon=0.1)
        portfolio = selection.portfolio()
        worst = portfolio.loss(selection.gaps.epsilon_weights)
        assert worst.epsilon == pytest.approx(selection.gaps.epsilon, rel=1e-12)
        assert worst.epsilon >= selection.gaps.epsilon * (1 - 1e-15)
        many = portfolio.loss(sample_weights(2000, 3, seed=1))
        assert many.epsilon.max() <= selection.gaps.epsilon * (1 + 1e-12)
        assert many.delta.max() <= selection.gaps.delta * (1 + 1e-12)


class TestCertificate:
    @settings(max_examples=60)
    @given(st.integers(0, 10**6), st.integers(0, 25), st.integers(2, 5))
    def test_pieces_are_the_lower_hull_of_the_answers(self, seed: int, k: int, d: int) -> None:
        rng = np.random.default_rng(seed)
        weights = np.vstack([np.eye(d), rng.dirichlet(np.ones(d) * 0.7, k)])
        policies = PolicySet(rng.uniform(0, 1, (len(weights), d)))
        known = Answers(Accuracy(), weights, policies, np.arange(len(weights)))
        pieces = upper_pieces(known, 10_000)
        assert pieces is not None
        for row in np.vstack([weights, rng.dirichlet(np.ones(d), 20)]):
            best = linprog(known.bounds, A_eq=known.weights.T, b_eq=row, method="highs")
            assert (pieces @ row).max() == pytest.approx(best.fun, rel=1e-9, abs=1e-12)
            assert max(exact(pieces, row)) >= Fraction(best.fun) - Fraction(1, 10**8)
        # At the weights asked U is no lower than the bounds, in exact arithmetic.
        for row, bound in zip(known.weights, known.bounds, strict=True):
            if bound <= best_mixture(known, row):
                assert max(exact(pieces, row)) >= Fraction(float(bound))

    def test_pieces_by_the_million_are_not_stored(self) -> None:
        rng = np.random.default_rng(0)
        weights = np.vstack([np.eye(4), rng.dirichlet(np.ones(4), 60)])
        policies = PolicySet(weights / np.linalg.norm(weights, axis=1)[:, None])
        known = Answers(Accuracy(), weights, policies, np.arange(len(weights)))
        assert upper_pieces(known, 20) is None

    def test_a_run_is_measured_against_all_policies_there_are(self, tmp_path: Path) -> None:
        oracle = load_oracle("tabular", objectives=["a", "b", "c"], prompts=3, responses=6)
        portfolio = build_portfolio(oracle, target_epsilon=0.05, run_dir=tmp_path / "run")
        assert portfolio.certificate is not None
        assert portfolio.reference is not None
        assert portfolio.reference.kind == "certificate"
        weights = sample_weights(300, 3, seed=4)
        found = portfolio.loss(weights)
        assert found.epsilon.max() <= portfolio.certificate.epsilon * (1 + 1e-12)
        served = (portfolio.policy_set.vertex_values @ weights.T).max(axis=0)
        best = [oracle_value(oracle, row) for row in weights]
        assert (found.delta >= np.array(best) - served - 1e-12).all()


def best_mixture(known: Answers, row: np.ndarray) -> float:
    return float(linprog(known.bounds, A_eq=known.weights.T, b_eq=row, method="highs").fun)


def oracle_value(oracle: object, weights: np.ndarray) -> float:
    (policy,) = oracle.solve(weights[np.newaxis])
    return float(weights @ policy.rewards - policy.regularizer)


class TestPortfolio:
    @pytest.fixture
    def portfolio(self) -> Portfolio:
        names = ["a", "b", "c", "d"]
        models = PolicySet([[1.0, 0.0], [0.9, 0.6], [0.6, 0.9], [0.0, 1.0]], names=names)
        return select_models(models, epsilon=0.1, normalize="none").portfolio()

    def test_one_weight_vector_or_many(self, portfolio: Portfolio) -> None:
        one = portfolio.loss([1.0, 0.0])
        assert one.delta == pytest.approx(0.1)
        assert one.epsilon == pytest.approx(0.1)
        assert one.kind == "candidates"
        assert one.runner_up.id == "c"
        many = portfolio.loss([[1.0, 0.0], [0.5, 0.5]])
        assert many.delta[1] == 0
        assert [policy.id for policy in many.runner_up] == ["c", "c"]

    def test_it_is_stored(self, portfolio: Portfolio, tmp_path: Path) -> None:
        again = Portfolio.load(portfolio.save(tmp_path / "p.json"))
        assert again.reference is not None
        assert again.reference.names == ("a", "b", "c", "d")
        assert again.loss([0.97, 0.03]).delta == portfolio.loss([0.97, 0.03]).delta > 0

    def test_without_one_the_bound_of_the_portfolio_holds(self, portfolio: Portfolio) -> None:
        old = replace(portfolio, reference=None)
        found = old.loss([0.5, 0.5])
        assert (found.kind, found.epsilon) == ("portfolio", portfolio.gaps.epsilon)
        nothing = replace(portfolio, reference=None, gaps=None).loss([0.5, 0.5])
        assert nothing.epsilon == np.inf

    def test_of_one_policy_there_is_no_second(self, portfolio: Portfolio) -> None:
        assert (
            replace(portfolio, policies=portfolio.policies[:1]).loss([0.5, 0.5]).runner_up is None
        )

    @pytest.mark.parametrize(
        "change",
        [
            {"values": []},
            {"values": [[1.0], [1.0], [1.0], [1.0]]},
            {"values": [[1.0, 2.0]]},
            {"values": [[1.0, 2.0], [1.0]]},
            {"values": [["1", "2"]] * 4},
            {"values": 3},
            {"kind": "all"},
            {"kind": "certificate"},
            {"names": [1, 2, 3, 4]},
        ],
    )
    def test_references_that_no_portfolio_has(
        self, portfolio: Portfolio, tmp_path: Path, change: dict[str, object]
    ) -> None:
        file = portfolio.save(tmp_path / "p.json")
        content = json.loads(file.read_text())
        content["reference"].update(change)
        file.write_text(json.dumps(content))
        with pytest.raises(InputError, match="reference") as caught:
            Portfolio.load(file)
        assert "\n" not in str(caught.value)
