"""examples/reranking: what it claims, from its oracle to the responses in a run."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from palm_command import run as palm

from palm_core import Run, build_portfolio, sample_weights
from palm_core.plugin import Ledger
from palm_core.testing import check_conformance
from palm_eval import read_responses, responses_of
from palm_eval.testing import check_reward

EXAMPLE = Path(__file__).parents[2] / "examples" / "reranking"
CANDIDATES = EXAMPLE / "candidates.jsonl"


@pytest.fixture(scope="module")
def example() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("rerank", EXAMPLE / "rerank.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get("rerank")
    sys.modules["rerank"] = module
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("rerank")
    if before is not None:
        sys.modules["rerank"] = before


@pytest.fixture(scope="module")
def folder(example: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of the task file."""
    made = tmp_path_factory.mktemp("reranking") / "run"
    assert palm(["build", str(EXAMPLE / "task.toml"), "--out", str(made)]) == 0
    return made


def test_it_keeps_the_rules(example: ModuleType, tmp_path: Path) -> None:
    report = check_conformance(lambda: example.Reranking(CANDIDATES, tmp_path / "artifacts"))
    assert report.skipped == {}
    assert report.measured_epsilon == report.measured_delta == 0
    for reward in (example.brief, example.friendly, example.practical):
        values = check_reward(reward).values
        assert 0 <= min(values) <= max(values) <= 1


def test_no_pick_is_better_than_the_one_it_makes(example: ModuleType) -> None:
    oracle = example.Reranking(CANDIDATES)
    rng = np.random.default_rng(0)
    weights = sample_weights(50, 3, seed=1)
    for row, policy in zip(weights, oracle.solve(weights), strict=True):
        assert policy.artifact is None
        value = policy.rewards @ row
        assert value == pytest.approx(np.mean([(r @ row).max() for r in oracle.rewards]))
        for _ in range(20):
            picks = [r[rng.integers(len(r))] for r in oracle.rewards]
            assert np.mean(picks, axis=0) @ row <= value + 1e-12
            assert np.abs(np.mean(picks, axis=0)).sum() <= oracle.reward_bound + 1e-12


def test_the_same_picks_are_one_policy(example: ModuleType) -> None:
    oracle = example.Reranking(CANDIDATES)
    policies = list(oracle.solve(sample_weights(400, 3, seed=2)))
    by_id: dict[str, np.ndarray] = {}
    for policy in policies:
        known = by_id.setdefault(policy.id, policy.prompt_rewards)
        assert np.array_equal(known, policy.prompt_rewards)
    assert len(by_id) < len(policies)
    one, two = oracle.solve(np.array([[1.0, 0.0, 0.0], [0.999, 0.0005, 0.0005]]))
    assert one.id == two.id


def test_the_candidates_are_small_and_all_different() -> None:
    read = read_responses(CANDIDATES)
    assert CANDIDATES.stat().st_size < 30_000
    assert len(set(read.prompts)) == len(read.prompts) == 12
    assert all(len(set(several)) == len(several) == 7 for several in read.completions)


def test_the_fingerprint_is_of_the_candidates(example: ModuleType, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_bytes(CANDIDATES.read_bytes().replace(b"salt", b"wine", 1))
    prints = {example.Reranking(file).fingerprint for file in (CANDIDATES, other)}
    assert len(prints) == 2
    assert example.Reranking(CANDIDATES).fingerprint in prints


def test_a_run_has_a_few_policies_that_answer_otherwise(folder: Path) -> None:
    run = Run.open(folder)
    policies = run.prune(run.settings).policies
    assert 3 <= len(policies) <= 6
    found = responses_of(folder, policies)
    assert found.missing == {}
    assert found.same_prompts
    assert len(found.prompts) == 12
    candidates = read_responses(CANDIDATES)
    for policy in policies:
        picks = [int(pick) for pick in policy.id.removeprefix("picks-")]
        said = [answer for (answer,) in found.answers[policy.id]]
        assert said == [
            several[i] for several, i in zip(candidates.completions, picks, strict=True)
        ]
    answers = [found.answers[policy.id] for policy in policies]
    different = [len({answer[prompt] for answer in answers}) for prompt in range(12)]
    assert np.mean(different) >= 3


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    code = palm([str(argument) for argument in arguments])
    out, told = capsys.readouterr()
    assert code == 0, told
    return out


@pytest.mark.scheduled  # each part of it is tested alone, and the tutorials evaluate runs
def test_it_is_evaluated_with_intervals_and_drawn(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = command(capsys, "evaluate", folder, "--task", EXAMPLE / "task.toml", "--json")
    document: dict[str, Any] = json.loads(out)
    assert set(document["intervals"]) == {"epsilon", "delta", "perplexity", "utility"}
    assert document["intervals"]["delta"]["prompts"] == 12
    assert document["not_asked"] == {}
    assert 0 < document["epsilon"] < 0.05
    assert document["perplexity"] > 2
    assert document["diversity"]["prompts"] == 12
    assert document["diversity"]["missing"] == {}
    assert document["diversity"]["together"]["distinct_2"]["lower"] > 0.8
    command(capsys, "figures", folder, "--out", tmp_path / "pictures")
    assert {"curve.svg", "front.svg", "usage.svg"} <= {
        file.name for file in (tmp_path / "pictures").iterdir()
    }


def test_an_interrupted_run_ends_as_a_straight_one(
    example: ModuleType, folder: Path, tmp_path: Path
) -> None:
    stopped = example.Reranking(CANDIDATES, tmp_path / "artifacts")
    write, calls = stopped.write, count()

    def interrupted(name: str, picks: list[int]) -> str:
        if next(calls) == 70:
            raise KeyboardInterrupt
        return str(write(name, picks))

    stopped.write = interrupted
    settings: dict[str, Any] = {"mu": 0.5, "alpha": 0.1, "prune_mu": 0.05, "run_dir": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        build_portfolio(stopped, **settings)
    with Ledger.read(tmp_path) as ledger:
        assert len(ledger.artifacts()) == 70
    build_portfolio(example.Reranking(CANDIDATES, tmp_path / "artifacts"), **settings)
    answers = [
        [(answer.weights.tolist(), answer.policy.id) for answer in Run.open(run).answers]
        for run in (tmp_path, folder)
    ]
    assert answers[0] == answers[1]
    with Ledger.read(tmp_path) as resumed, Ledger.read(folder) as whole:
        assert set(resumed.artifacts()) == set(whole.artifacts())
        assert len(whole.artifacts()) == 169
