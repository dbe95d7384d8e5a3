"""PALM beside its baselines: by hand, by the definitions, and by what palm evaluate says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palm_core import (
    InputError,
    Policy,
    PolicySet,
    Run,
    TabularOracle,
    build_portfolio,
    gaps,
    load_oracle,
    prune,
    sample_weights,
    size_gap_curve,
)
from palm_eval import (
    Comparison,
    compare_runs,
    evaluate_run,
    policies_at,
    random_weights,
    sampled_gaps,
    uniform_weights,
)
from palm_eval.baselines import PRUNE_MUS
from palm_eval.comparison import METHODS, Measured
from palm_eval.comparison import runs as comparing

OBJECTIVES = ["helpful", "brief", "safe"]


def oracle() -> TabularOracle:
    return load_oracle("tabular", objectives=OBJECTIVES, prompts=8, responses=30)


def built(folder: Path, source: Any, **settings: Any) -> Run:
    asked = {"mu": 0.5, "alpha": 0.1} | settings
    build_portfolio(source, **asked, run_dir=folder)
    return Run.open(folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    return built(folder, oracle(), mu=0.9, alpha=0.2, prune_mu=0.05, method="greedy")


@pytest.fixture(scope="module")
def found(run: Run) -> Comparison:
    return compare_runs({"run": run}, oracle=oracle(), sizes=(3, 4), samples=300)


class Few:
    """Knows four policies; by symmetry what they lose can be found by hand."""

    objectives = ("a", "b")
    known = np.array([[1.0, 0.1], [0.9, 0.5], [0.5, 0.9], [0.1, 1.0]])

    def solve(self, weights: np.ndarray) -> Iterator[Policy]:
        for row in weights:
            best = int(np.argmax(self.known @ row))
            yield Policy(id=f"p{best}", weights=row, rewards=self.known[best])


def test_by_hand(tmp_path: Path) -> None:
    found = compare_runs({"few": built(tmp_path, Few())}, oracle=Few(), sizes=(1, 2, 3, 4))
    assert (found.candidates, found.normalization, found.gaps) == (4, "none", "exact")
    palm, uniform, least = (found.methods[name] for name in ("palm", "uniform", "least"))
    # {p1, p3}: δ at the first vertex, 0.9 for 1; ε where they cross, w_1 = 5/13: 8.5 for 9.7.
    assert palm[2].policies == ("p1", "p3")
    assert palm[2].quality == pytest.approx((1.2 / 9.7, 0.1))
    # {p1, p2} loses most at the vertices.
    assert least[2].policies == ("p1", "p2")
    assert least[2].quality == pytest.approx((0.1, 0.1))
    # {p0, p3} at (½, ½): 0.55 for 0.7.
    assert uniform[2].policies == ("p3", "p0")
    assert uniform[2].quality == pytest.approx((1 - 0.55 / 0.7, 0.15))
    # {p3, p1, p0} where p3 and p1 cross.
    assert uniform[3].policies == ("p3", "p1", "p0")
    assert uniform[3].quality == pytest.approx((1.2 / 9.7, 1.2 / 13))
    # No three are better than the best two, in ε.
    assert least[3].quality == pytest.approx((0.1, 0.1))
    assert least[4].quality == palm[4].quality == uniform[4].quality == (0, 0)
    assert ("uniform", 1) in found.absent
    assert 1 not in uniform
    assert "no grid" in found.absent["uniform", 1]


def test_perplexity_is_of_the_usage_at_the_sampled_weights(tmp_path: Path) -> None:
    found = compare_runs({"few": built(tmp_path, Few())}, sizes=[2], samples=50, seed=3)
    # p1 and p3 cross at w_1 = 5/13.
    first = (sample_weights(50, 2, seed=3)[:, 0] > 5 / 13).mean()
    assert 0.1 < first < 0.9
    assert found.methods["palm"][2].perplexity == pytest.approx(
        first**-first * (1 - first) ** -(1 - first)
    )


def everyone(run: Run, found: Comparison) -> dict[str, Policy]:
    """All policies of the pool by id, asked for once more."""
    known = {answer.policy.id: answer.policy for answer in run.answers}
    wanted = [
        rows
        for size in found.sizes
        for rows in (uniform_weights(size, 3, seed=0), *random_weights(size, 3, seed=0))
    ]
    wanted.append(uniform_weights(len(run.answers), 3, seed=0))
    asked = policies_at(oracle(), np.vstack(wanted), known=list(known.values()))
    return known | {policy.id: policy for policy in asked.policies}


def test_gaps_are_against_all_policies_together(run: Run, found: Comparison) -> None:
    pool = everyone(run, found)
    assert found.candidates == len(pool)
    assert found.calls_made == len(pool) - len(run.answers)
    candidates = PolicySet.from_policies(list(pool.values()))
    entries = [
        found.methods[name][size] for name in ("palm", "uniform", "least") for size in (3, 4)
    ]
    entries += [row.portfolio for row in found.sweeps[0].rows]
    for entry in entries:
        own = PolicySet.from_policies([pool[name] for name in entry.policies])
        exact = gaps(own, candidates)
        assert entry.quality == pytest.approx((exact.epsilon, exact.delta), abs=1e-12)


def test_random_is_the_mean_of_three_runs(run: Run, found: Comparison) -> None:
    candidates = PolicySet.from_policies(list(everyone(run, found).values()))
    for size in (3, 4):
        one = [
            gaps(PolicySet.from_policies(policies_at(oracle(), rows).policies), candidates)
            for rows in random_weights(size, 3, seed=0)
        ]
        entry = found.methods["random"][size]
        assert entry.epsilon == pytest.approx(np.mean([found.epsilon for found in one]))
        assert entry.delta == pytest.approx(np.mean([found.delta for found in one]))
        assert entry.policies == ()


def test_palm_is_the_best_pruning_of_its_size(run: Run, found: Comparison) -> None:
    policies = PolicySet.from_policies([answer.policy for answer in run.answers])
    weights = np.array([answer.weights for answer in run.answers])
    (sweep,) = found.sweeps
    assert [row.mu for row in sweep.rows] == sorted({row.mu for row in sweep.rows})
    assert set(PRUNE_MUS) < {row.mu for row in sweep.rows}
    for row in sweep.rows:
        kept = prune(policies, weights, mu=row.mu)
        assert row.portfolio.policies == tuple(policies.names[index] for index in kept)
    for size in found.sizes:
        of_size = [row for row in sweep.rows if row.size == size]
        best = found.methods["palm"][size]
        assert best.quality == min(row.portfolio.quality for row in of_size)
        mu = found.chosen[size][1]
        assert mu == min(row.mu for row in of_size if row.portfolio.quality == best.quality)


def test_sizes_that_the_sweep_jumps_over_are_looked_for_between(run: Run) -> None:
    several = compare_runs({"run": run}, sizes=range(2, 9), least=False)
    swept = {row.mu: row.size for row in several.sweeps[0].rows}
    extra = {mu: size for mu, size in swept.items() if round(mu, 2) != mu and mu > 0.01}
    assert extra, "every size has a plain μ': choose another run"
    for size in range(2, 9):
        assert (size in several.methods["palm"]) == (size in swept.values())
    # What is asked for is there, or said to be absent.
    gone = {size for size in range(2, 9) if size not in several.methods["palm"]}
    assert {size for method, size in several.absent if method == "palm"} == gone


def test_the_least_gap_is_that_of_the_curve_or_better(run: Run, found: Comparison) -> None:
    point = size_gap_curve(PolicySet.from_policies([a.policy for a in run.answers]), most=3)[-1]
    assert point.size == 3
    alone = compare_runs({"run": run}, sizes=[3])
    assert alone.methods["least"][3].epsilon == pytest.approx(point.epsilon, abs=1e-8)
    assert alone.methods["least"][3].epsilon < alone.methods["palm"][3].epsilon
    for size in found.sizes:
        assert found.methods["least"][size].quality <= found.methods["palm"][size].quality


def test_the_least_gap_is_looked_for_up_to_a_size(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "LARGEST_LEAST", 1)
    found = compare_runs({"run": run}, sizes=(1, 3))
    assert set(found.methods["least"]) == {1}
    assert found.absent["least", 3] == "not looked for beyond 1, it takes too long"
    two = compare_runs({"few": built(tmp_path, Few())}, sizes=(1, 3))
    assert set(two.methods["least"]) == {1, 3}


def test_the_least_gap_is_not_above_palms_where_gaps_are_sampled(tmp_path: Path) -> None:
    # {p1, p2} has the least exact ε; close to the second vertex {p1, p3} is better.
    seed = next(seed for seed in range(99) if sample_weights(1, 2, seed=seed)[0, 0] < 0.15)
    runs = {"few": built(tmp_path, Few())}
    found = compare_runs(runs, sizes=[2], gaps="sampled", samples=1, seed=seed)
    assert found.methods["palm"][2].policies == found.methods["least"][2].policies == ("p1", "p3")
    assert found.methods["least"][2].quality == (0, 0)


def test_it_agrees_with_palm_evaluate(run: Run) -> None:
    evaluated = evaluate_run(run, samples=200, seed=4)
    for kind, names in (
        ("exact", ("epsilon", "delta")),
        ("sampled", ("sampled_epsilon", "sampled_delta")),
    ):
        compared = compare_runs(
            {"run": run}, sizes=[3], gaps=kind, samples=200, seed=4, least=False
        )
        (row,) = [row for row in compared.sweeps[0].rows if row.mu == 0.05]
        assert set(row.portfolio.policies) == set(evaluated.portfolio)
        assert row.portfolio.quality == tuple(getattr(evaluated.figures, name) for name in names)
        assert row.portfolio.perplexity == pytest.approx(evaluated.figures.perplexity)
        assert compared.candidates <= evaluated.candidates


def test_sampled_gaps_are_those_of_the_paper(run: Run) -> None:
    compared = compare_runs({"run": run}, sizes=[3], gaps="sampled", samples=30, seed=1)
    pool = {answer.policy.id: answer.policy for answer in run.answers}
    weights = sample_weights(30, 3, seed=1)
    for method in ("palm", "least"):
        entry = compared.methods[method][3]
        own = PolicySet.from_policies([pool[name] for name in entry.policies])
        expected = sampled_gaps(own, PolicySet.from_policies(list(pool.values())), weights)
        assert entry.quality == pytest.approx((expected.epsilon, expected.delta))


def test_budgets_are_equal_calls_and_the_best_of_the_papers_prunings(
    run: Run, found: Comparison
) -> None:
    (budget,) = found.budgets
    assert budget.oracle_calls == len(run.answers) == found.sweeps[0].oracle_calls
    rows = [row.portfolio.quality for row in found.sweeps[0].rows if row.mu in PRUNE_MUS]
    assert budget.palm.quality == min(rows)
    assert (
        budget.palm.epsilon > found.sweeps[0].rows[0].portfolio.epsilon
    )  # 0.001 is not among them
    pool = everyone(run, found)
    weights = uniform_weights(len(run.answers), 3, seed=0)
    asked = PolicySet.from_policies(
        policies_at(oracle(), weights, known=list(pool.values())).policies
    )
    candidates = PolicySet.from_policies(list(pool.values()))
    best = min(
        gaps(asked.subset(prune(asked, weights, mu=mu)), candidates).epsilon for mu in PRUNE_MUS
    )
    assert budget.uniform_palm is not None
    assert budget.uniform_palm.epsilon == pytest.approx(best, abs=1e-12)


def test_several_runs_share_one_pool(run: Run, tmp_path: Path) -> None:
    other = built(tmp_path / "b", oracle(), mu=0.6, alpha=0.4)
    same = built(tmp_path / "c", oracle(), mu=0.6, alpha=0.4, prune_mu=0.3)
    adaptive = built(
        tmp_path / "d", oracle(), mu=None, alpha=None, target_epsilon=0.2, method="greedy"
    )
    runs = {"a": run, "b": other, "c": same, "d": adaptive}
    found = compare_runs(runs, sizes=[3, 4], least=False)
    names = {answer.policy.id for one in runs.values() for answer in one.answers}
    assert found.candidates == len(names)
    assert [sweep.run for sweep in found.sweeps] == ["a", "b", "c", "d"]
    assert found.sweeps[1].rows == found.sweeps[2].rows
    last = found.sweeps[3]
    assert (last.mu, last.alpha, last.target_epsilon) == (None, None, 0.2)
    calls = [len(one.answers) for one in runs.values()]
    assert [budget.oracle_calls for budget in found.budgets] == sorted(set(calls))
    for size in (3, 4):
        rows = [
            (sweep.run, row) for sweep in found.sweeps for row in sweep.rows if row.size == size
        ]
        least = min(row.portfolio.quality for _, row in rows)
        assert found.methods["palm"][size].quality == least
        first = next(name for name, row in rows if row.portfolio.quality == least)
        assert found.chosen[size][0] == first


def test_without_an_oracle_entries_are_missing_and_said_to_be(run: Run) -> None:
    many = len(run.answers) - 1
    found = compare_runs({"run": run}, sizes=(3, 4, many), least=False)
    assert found.calls_made == 0
    assert found.methods["random"] == {}
    for method in ("random", "uniform"):
        assert "--task asks its oracle" in found.absent[method, many]
    # Three uniform weights are the vertices, which every grid has.
    assert 3 in found.methods["uniform"]
    assert found.budgets[0].uniform_palm is None
    assert found.absent["palm", many] == "no μ' tried yields so many policies"
    assert found.absent["least", 3] == "not looked for"
    for size in found.sizes:
        for method in METHODS:
            assert (size in found.methods[method]) != ((method, size) in found.absent)


def test_what_a_reward_is_counted_in_makes_no_difference_under_minmax(tmp_path: Path) -> None:
    class Counted:
        """Answers as if the second objective were not counted otherwise."""

        def __init__(self, unit: float) -> None:
            self.oracle, self.unit = load_oracle("tabular", prompts=6, responses=20), unit
            self.objectives = self.oracle.objectives

        def solve(self, weights: np.ndarray) -> Iterator[Policy]:
            for policy in self.oracle.solve(weights):
                yield Policy(
                    id=policy.id, weights=policy.weights, rewards=policy.rewards * [1, self.unit]
                )

    one, two = (
        compare_runs(
            {"run": built(tmp_path / str(unit), Counted(unit), normalize="minmax")},
            sizes=(2, 3, 4),
        )
        for unit in (1.0, 1024.0)
    )
    assert one.normalization == two.normalization == f"minmax over {one.candidates} policies"
    assert one.chosen == two.chosen
    for method in ("palm", "least"):
        assert one.methods[method]
        for size, entry in one.methods[method].items():
            assert two.methods[method][size].quality == pytest.approx(entry.quality, abs=1e-9)
    plain = compare_runs({"run": Run.open(tmp_path / "1024.0")}, sizes=[2], normalize="none")
    assert plain.normalization == "none"
    # In the oracle's units the second objective decides nearly everywhere.
    assert plain.methods["palm"][2].perplexity < 1.1 < 1.5 < two.methods["palm"][2].perplexity


def test_an_id_that_another_run_uses_for_another_policy(tmp_path: Path) -> None:
    class Better(Few):
        known = Few.known + np.array([0.0, 0.2])

    one = built(tmp_path / "a", Few())
    two = replace(built(tmp_path / "b", Better()), task=one.task)  # trained anew, say
    found = compare_runs({"old": one, "new": two}, sizes=[2])
    assert found.candidates == 8
    names = {name for row in found.sweeps[1].rows for name in row.portfolio.policies}
    assert names <= {f"p{index} of new" for index in range(4)}
    # The old ones are worse by 0.2 where only the second objective counts.
    old = found.sweeps[0].rows[0].portfolio
    assert old.delta == pytest.approx(0.2)


def test_runs_of_other_oracles_are_refused_by_name(run: Run, tmp_path: Path) -> None:
    other = built(
        tmp_path / "b",
        load_oracle("tabular", objectives=OBJECTIVES, prompts=8, responses=30, beta=0.3),
    )
    with pytest.raises(InputError, match=r"^there: is not of the same oracle as here: .*"):
        compare_runs({"here": run, "there": other})
    few = built(tmp_path / "c", Few())
    with pytest.raises(InputError, match=r"objectives were helpful, brief, safe, are a, b"):
        compare_runs({"here": run, "there": replace(few, task=run.task)})


def test_runs_of_two_normalisations_need_a_word(tmp_path: Path) -> None:
    plain = built(tmp_path / "a", Few())
    scaled = built(tmp_path / "b", Few(), normalize="minmax")
    runs = {"a": plain, "b": scaled}
    with pytest.raises(InputError, match=r"normalize: differs between the runs \(minmax, none\)"):
        compare_runs(runs, sizes=[2])
    assert compare_runs(runs, sizes=[2], normalize="minmax").normalization.startswith("minmax")


def test_default_sizes(run: Run, tmp_path: Path) -> None:
    size = len(run.prune(run.settings))
    found = compare_runs({"run": run}, least=False)
    assert found.sizes == tuple(range(3, min(size + 1, 8) + 1))
    few = built(tmp_path, Few(), prune_mu=0.12)
    assert compare_runs({"few": few}).sizes == (2, 3)


def test_an_infinite_gap(tmp_path: Path) -> None:
    class Costs(Few):
        known = Few.known - 1.5

    found = compare_runs({"few": built(tmp_path, Costs())}, oracle=Costs(), sizes=[2])
    # Where the best there is is below 0, losing anything is ∞.
    assert found.methods["uniform"][2].epsilon == float("inf")
    assert found.methods["uniform"][2].delta == pytest.approx(0.15)
    document = found.document()
    (size,) = document["sizes"]
    assert size["uniform"]["epsilon"] is None
    assert "no choice of so few has a finite gap" in found.absent.get(("least", 2), "")


def test_the_document_has_all_numbers(found: Comparison) -> None:
    document = found.document()
    assert [row["size"] for row in document["sizes"]] == [3, 4]
    for row in document["sizes"]:
        for method in METHODS:
            entry = found.methods[method].get(row["size"])
            if entry is None:
                assert row[method] is None
                assert row["absent"][method]
            else:
                assert (row[method]["epsilon"], row[method]["delta"]) == entry.quality
    (sweep,) = document["runs"]
    assert len(sweep["prunings"]) == len(found.sweeps[0].rows)
    assert sweep["oracle_calls"] == document["budgets"][0]["oracle_calls"]
    assert isinstance(found.methods["palm"][3], Measured)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sizes": [0]}, "sizes = 0: must be at least 1"),
        ({"sizes": []}, "sizes: at least one is needed"),
        ({"sizes": [3, 10_000]}, "sizes = 10000: must be at most"),
        ({"sizes": [2.5]}, "sizes = 2.5: must be a whole number"),
        ({"gaps": "rough"}, "gaps = 'rough': must be one of exact, sampled"),
        ({"normalize": "z"}, "normalize = 'z': must be one of"),
        ({"samples": 0}, "samples = 0"),
        ({"seed": -1}, "seed = -1"),
        ({"oracle": Few()}, "oracle.objectives"),
    ],
)
def test_bad_requests(run: Run, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        compare_runs({"run": run}, **arguments)


def test_no_run() -> None:
    with pytest.raises(InputError, match="runs: at least one is needed"):
        compare_runs({})


def test_one_run_is_normalized_as_is_asked(tmp_path: Path) -> None:
    runs = {"few": built(tmp_path, Few())}
    assert compare_runs(runs, sizes=[2], least=False).normalization == "none"
    scaled = compare_runs(runs, sizes=[2], normalize="minmax", least=False)
    assert scaled.normalization.startswith("minmax")
    # 0.1 of 0.9: the rewards of the four go from 0.1 to 1
    assert scaled.methods["palm"][2].delta == pytest.approx(0.1 / 0.9)
