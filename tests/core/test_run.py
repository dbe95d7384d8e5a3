"""A finished run: its portfolio and its results are read, not computed again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import palm_core as palm


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    oracle = palm.TabularOracle(np.random.default_rng(0).random((3, 8, 2)), beta=0.1)
    palm.build_portfolio(oracle, mu=0.3, alpha=0.05, method="minimal", run_dir=tmp_path / "run")
    return tmp_path / "run"


def change(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_the_portfolio_is_the_stored_one(folder: Path) -> None:
    file = folder / "portfolio.json"
    kept = palm.open_run(folder).policies[-1]
    policies = json.loads(file.read_text())["policies"]
    change(file, policies=[policies[0] | {"id": kept.id}])
    (found,) = palm.open_run(folder).portfolio.policies
    assert found is not None
    assert found.id == kept.id
    np.testing.assert_array_equal(found.rewards, kept.rewards)


@pytest.mark.parametrize("values", [{"oracle_calls": 3}, {"candidates": 1}, {"task": None}])
def test_a_portfolio_of_other_answers_is_chosen_again(folder: Path, values: dict) -> None:
    whole = palm.open_run(folder).portfolio
    file = folder / "portfolio.json"
    change(file, policies=json.loads(file.read_text())["policies"][:1], **values)
    found = palm.open_run(folder).portfolio
    assert [policy.id for policy in found.policies] == [policy.id for policy in whole.policies]
    file.unlink()
    found = palm.open_run(folder).portfolio
    assert [policy.id for policy in found.policies] == [policy.id for policy in whole.policies]


def test_a_curve_is_computed_once(folder: Path) -> None:
    first = palm.open_run(folder).curve(most=2)
    (file,) = (folder / "results").iterdir()
    points = json.loads(file.read_text())["points"]
    change(file, points=[point | {"epsilon": 0.5} for point in points])
    again = palm.open_run(folder).curve(most=2)
    assert [point.epsilon for point in again] == [0.5] * len(first)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.indices, other.indices)
    # Larger sizes are not stored yet; what is damaged counts as missing.
    assert palm.open_run(folder).curve(most=3)[0].epsilon == first[0].epsilon
    whole = json.loads(file.read_text())
    for damaged in (
        "{",
        "[" * 100_000,
        "[]",
        json.dumps(whole | {"points": []}),
        json.dumps(whole | {"points": [{"size": "x"}]}),
        json.dumps(whole | {"points": [point | {"indices": [999]} for point in whole["points"]]}),
    ):
        file.write_text(damaged)
        assert palm.open_run(folder).curve(most=2)[0].epsilon == first[0].epsilon


def test_why_an_adaptive_run_stopped_is_kept(tmp_path: Path) -> None:
    oracle = palm.TabularOracle(np.random.default_rng(0).random((3, 8, 2)), beta=0.1)
    built = palm.build_portfolio(oracle, target_epsilon=1e-4, max_calls=4, run_dir=tmp_path)
    assert built.certificate is not None
    assert built.certificate.stopped == "calls"
    run = palm.open_run(tmp_path)
    pruned = run.prune(run.settings.with_pruning({"epsilon": 0.2}))
    for found in (run.portfolio, pruned):
        assert found.certificate is not None
        assert found.certificate.stopped == "calls"


@pytest.mark.parametrize("name", ["baselines", "intervals", "diversity"])
def test_analyses_name_the_package_that_has_them(folder: Path, name: str) -> None:
    with pytest.raises(palm.PluginError, match=f"{name} of a run: comes with palm-eval"):
        getattr(palm.open_run(folder), name)
