"""Runs of different oracles, measured against one another."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from palm_command import run as palm

from palm_core import InputError, Policy, PolicySet, Run, build_portfolio, gaps
from palm_eval import compare_oracles


class Choosing:
    """The best of a few policies; its own answers, under names that others have too."""

    def __init__(self, rewards: list[list[float]], prompts: int = 4, objectives=("a", "b")):
        self.rewards, self.prompts, self.objectives = np.array(rewards), prompts, objectives

    def solve(self, weights):
        for row in weights:
            best = int(np.argmax(self.rewards @ row))
            yield Policy(
                id=f"policy {best}",
                weights=row,
                rewards=self.rewards[best],
                prompt_rewards=np.tile(self.rewards[best], (self.prompts, 1)),
            )


BETTER = [[1.0, 0.1], [0.8, 0.8], [0.1, 1.0]]
WORSE = [[1.0, 0.1], [0.7, 0.6], [0.1, 0.9]]


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, Run]:
    found = {}
    for name, rewards in (("one", BETTER), ("two", WORSE)):
        build_portfolio(Choosing(rewards), mu=0.5, alpha=0.1, prune_mu=0.3, run_dir=tmp_path / name)
        found[name] = Run.open(tmp_path / name)
    return found


def test_against_the_policies_of_all_runs_together(runs: dict[str, Run]) -> None:
    found = compare_oracles(runs)
    everyone = PolicySet(BETTER + WORSE[1:])  # one policy is the same in both
    assert found.candidates == 5
    for name, rewards in (("one", BETTER), ("two", WORSE)):
        exact = gaps(PolicySet(rewards), everyone)
        own = found.runs[name].found
        assert (own.epsilon, own.delta) == pytest.approx((exact.epsilon, exact.delta))
        assert own.size == 3
        kept = runs[name].prune(runs[name].settings)
        less = gaps(PolicySet([policy.rewards for policy in kept.policies]), everyone)
        portfolio = found.runs[name].portfolio
        assert (portfolio.epsilon, portfolio.size) == (pytest.approx(less.epsilon), len(kept))
        assert portfolio.epsilon >= own.epsilon
        assert own.oracle_calls == len(runs[name].answers)
    assert found.runs["one"].found.epsilon == 0.0
    assert found.runs["two"].found.epsilon > 0.1


def test_minmax_is_over_all_runs(runs: dict[str, Run]) -> None:
    found = compare_oracles(runs, normalize="minmax")
    assert found.normalization.startswith("minmax over 5")
    everyone = (np.array(BETTER + WORSE[1:]) - 0.1) / 0.9
    ours = (np.array(WORSE) - 0.1) / 0.9
    assert found.runs["two"].found.delta == pytest.approx(gaps(ours, everyone).delta)


def test_what_cannot_be_compared(runs: dict[str, Run], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="runs: must be at least 2, got 1"):
        compare_oracles({"one": runs["one"]})
    other = Choosing([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]], objectives=("a", "b", "c"))
    build_portfolio(other, mu=1.0, alpha=0.5, prune_mu=0.3, run_dir=tmp_path / "three")
    with pytest.raises(InputError, match="two: is not of the same objectives as one"):
        compare_oracles({"one": Run.open(tmp_path / "three"), "two": runs["two"]})
    build_portfolio(
        Choosing(WORSE, prompts=5), mu=0.5, alpha=0.1, prune_mu=0.3, run_dir=tmp_path / "five"
    )
    with pytest.raises(InputError, match="two: measured on 5 prompts, must be the 4 of one"):
        compare_oracles({"one": runs["one"], "two": Run.open(tmp_path / "five")})
    scaled = replace(
        runs["two"], settings=runs["two"].settings.with_pruning({"normalize": "minmax"})
    )
    with pytest.raises(InputError, match="normalize: differs between the runs"):
        compare_oracles({"one": runs["one"], "two": scaled})


def test_command(runs: dict[str, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [str(tmp_path / name) for name in runs]
    assert palm(["compare", *folders]) == 0
    out = capsys.readouterr().out
    assert "Measured against the 5 policies of all runs together" in out
    assert out.count(", all policies") == 2
    assert palm(["compare", *folders, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["runs"][folders[0]]["found"]["epsilon"] == 0.0
    assert document["runs"][folders[1]]["portfolio"]["size"] >= 1
    assert palm(["compare", folders[0], folders[0]]) == 2
    assert "duplicate" in capsys.readouterr().err
    assert palm(["compare", folders[0], str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert palm(["compare", *folders, "--samples", "0"]) == 2
    assert "samples = 0" in capsys.readouterr().err
