from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palm_core import (
    Certificate,
    Cover,
    Gaps,
    InputError,
    Normalization,
    Policy,
    Portfolio,
    WorkError,
    sample_weights,
)
from palm_core.model.encoding import plain
from palm_core.model.portfolio import portfolio_schema
from palm_core.model.results import Slack, Theorem


def make(seed: int = 0, m: int = 4, d: int = 3, *, scaled: bool = False) -> Portfolio:
    rng = np.random.default_rng(seed)
    policies = tuple(
        Policy(
            id=f"policy {i}",
            weights=rng.dirichlet(np.ones(d)),
            rewards=rng.uniform(0, 1, d),
            regularizer=float(rng.uniform(0, 0.1)),
            reward_errors=rng.uniform(0, 0.01, d),
            artifact=f"policies/{i}",
            info={"steps": i, "curve": [0.5, None]},
        )
        for i in range(m)
    )
    normalization = Normalization.none(d)
    if scaled:
        normalization = Normalization(
            method="minmax", lower=(0.1,) * d, upper=tuple(range(1, d + 1)), over="test"
        )
    return Portfolio(
        policies=policies,
        objectives=tuple(f"objective {i}" for i in range(d)),
        normalization=normalization,
        oracle_calls=9,
        candidates=7,
        slack=Slack(claimed_epsilon=0.01, measured=0.002, measured_at="policy 1"),
        pruning=Cover(
            indices=np.arange(m),
            mu=0.1,
            alpha=0.0,
            method="greedy",
            status="feasible",
            lower_bound=2,
            solver="greedy",
            n_weights=9,
        ),
        gaps=Gaps(epsilon=np.inf, delta=0.1, delta_weights=np.full(d, 1 / d)),
        theorem=Theorem(applies=False, statement="no"),
        certificate=Certificate(epsilon=0.02, delta=0.01, conditional_on="slack"),
        task={"oracle": {"name": "tabular"}, "grid": {"mu": 0.5}},
        task_hash="sha256:0",
        made_with={"palm-core": "0.1.0"},
    )


def same(one: Portfolio, other: Portfolio) -> None:
    assert [p.id for p in one.policies] == [p.id for p in other.policies]
    for ours, theirs in zip(one.policies, other.policies, strict=True):
        for name in ("weights", "rewards", "reward_errors"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
        assert (ours.regularizer, ours.artifact) == (theirs.regularizer, theirs.artifact)
        assert dict(ours.info) == dict(theirs.info)
    for name in (
        "objectives",
        "normalization",
        "oracle_calls",
        "candidates",
        "slack",
        "pruning",
        "gaps",
        "theorem",
        "certificate",
        "task",
        "task_hash",
        "made_with",
    ):
        assert plain(getattr(one, name)) == plain(getattr(other, name)), name


@given(st.integers(0, 1000), st.integers(1, 6), st.integers(2, 5), st.booleans())
@settings(max_examples=25)
def test_what_is_saved_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, seed: int, m: int, d: int, scaled: bool
) -> None:
    portfolio = make(seed, m, d, scaled=scaled)
    file = portfolio.save(tmp_path_factory.mktemp("p") / "portfolio.json")
    same(portfolio, Portfolio.load(file))
    same(portfolio, Portfolio.load(file.parent))
    jsonschema.validate(json.loads(file.read_text()), portfolio_schema())


def test_the_published_schema_is_the_declared_one() -> None:
    published = resources.files("palm_core").joinpath("portfolio.schema.json").read_text()
    assert json.loads(published) == portfolio_schema()
    jsonschema.Draft202012Validator.check_schema(portfolio_schema())


def test_every_key_of_the_schema_is_described() -> None:
    records = portfolio_schema()["$defs"]
    for name, record in records.items():
        assert record["description"], name
        for key, value in record["properties"].items():
            is_record = any("$ref" in one for one in value.get("anyOf", [value]))
            assert is_record or value.get("description"), f"{name}.{key}"


def test_the_schema_refuses_what_is_no_portfolio() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"format": "palm-portfolio", "version": 1}, portfolio_schema())


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 5), st.booleans())
def test_route_is_the_best_policy(seed: int, m: int, d: int, scaled: bool) -> None:
    portfolio = make(seed, m, d, scaled=scaled)
    weights = sample_weights(50, d, seed=seed)
    chosen = portfolio.route(weights)
    assert isinstance(chosen, list)
    low, high = portfolio.normalization.lower, portfolio.normalization.upper
    for row, policy in zip(weights, chosen, strict=True):
        values = [
            sum(
                w * ((r - p.regularizer) - a) / (b - a)
                for w, r, a, b in zip(row, p.rewards, low, high, strict=True)
            )
            for p in portfolio.policies
        ]
        assert values[portfolio.policies.index(policy)] >= max(values) - 1e-12
        assert portfolio.route(row) is policy or np.ptp(values) < 1e-12


def test_a_million_weights_are_routed_as_one_by_one() -> None:
    portfolio = make(3, 5, 3)
    weights = sample_weights(1_000_000, 3, seed=5)
    indices = portfolio.route_indices(weights)
    some = np.random.default_rng(0).integers(0, len(weights), 200)
    assert [portfolio.policies[indices[i]] for i in some] == [
        portfolio.route(weights[i]) for i in some
    ]


def test_ties_go_to_the_first_policy() -> None:
    twins = tuple(
        Policy(id=name, weights=np.array([1.0, 0.0]), rewards=np.array([1.0, 1.0])) for name in "ab"
    )
    portfolio = Portfolio(
        policies=twins, objectives=("x", "y"), normalization=Normalization.none(2)
    )
    assert portfolio.route([0.3, 0.7]).id == "a"


def test_weights_are_checked() -> None:
    with pytest.raises(InputError, match="must add to 1"):
        make().route([0.5, 0.5, 0.5])


@given(st.data())
@settings(max_examples=60)
def test_a_file_cut_short_anywhere_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    file = make().save(tmp_path_factory.mktemp("p") / "portfolio.json")
    content = file.read_bytes().rstrip()
    file.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(InputError, match="incomplete or not JSON") as caught:
        Portfolio.load(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version = 2: must be at most 1; upgrade"),
        ({"version": "1"}, "is not a portfolio"),
        ({"format": "other"}, "format = 'other': must be 'palm-portfolio'"),
        ({"objectives": ["one"]}, "objectives"),
        ({"objectives": ["a", "a", "b"]}, "duplicate name 'a'"),
        ({"objectives": ["a", "b"]}, "must have 2"),
        ({"policies": []}, "policies"),
        (
            {"normalization": {"method": "none", "lower": [0], "upper": [1]}},
            "must have 3 lower and upper limits",
        ),
        (
            {"normalization": {"method": "minmax", "lower": [0, 0, 1], "upper": [1, 1, 1]}},
            "upper limits must be above",
        ),
        ({"oracle_calls": -1}, "oracle_calls"),
        ({"task": [1]}, "task"),
    ],
)
def test_values_that_no_portfolio_has(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    file = make().save(tmp_path / "p.json")
    content = json.loads(file.read_text())
    content.update(change)
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        Portfolio.load(file)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("rewards", [1.0, 2.0], "rewards"),
        ("rewards", [1.0, 2.0, 1e301], "must be a finite number"),
        ("regularizer", -1, "regularizer"),
        ("id", 3, "id"),
    ],
)
def test_policies_that_no_portfolio_has(
    tmp_path: Path, field: str, value: object, message: str
) -> None:
    file = make().save(tmp_path / "p.json")
    content = json.loads(file.read_text())
    content["policies"][1][field] = value
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        Portfolio.load(file)


def test_places_without_a_portfolio(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="folder without a portfolio.json"):
        Portfolio.load(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        Portfolio.load(tmp_path / "none.json")


def test_saving_replaces_or_leaves_the_old_file_whole(tmp_path: Path) -> None:
    file = make(1).save(tmp_path / "sub" / "p.json")
    make(2).save(file)
    same(make(2), Portfolio.load(file))
    assert [f.name for f in file.parent.iterdir()] == ["p.json"]
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(WorkError, match="cannot be written"):
        make().save(blocked / "p.json")
