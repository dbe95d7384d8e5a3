"""The paper's experiments done again: studies, claims, pages, simulated tasks."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from palm_command import run as palm

from palm_core import InputError, TabularOracle, answers_at, construct_grid, grid_size
from palm_core.oracles.task_table import make_task
from palm_core.plugin import Ledger
from palm_core.run.config import parse_task
from palm_eval.paper.claims import CLAIMS, PUBLISHED, Numbers, published, verdicts
from palm_eval.paper.page import figures_of, verdict_text
from palm_eval.paper.study import (
    Rate,
    Study,
    claim_rates,
    distinct_weights,
    draw_oracle,
    experiment,
    simulate,
    study_of,
)

NAMES = ("helpful", "safe")
STUDY = Study(
    title="a task", grids=((0.5, 0.2), (0.5, 0.05)), sizes=(2, 3), weights=30, mus=(0.075,), seed=3
)


def share(text):
    above, below = text.split("/")
    return int(above) / int(below)


@pytest.fixture(scope="module")
def oracle():
    table = make_task(NAMES, n_prompts=20, n_responses=50, seed=1)
    return TabularOracle(table.rewards, table.reference, beta=0.05, objectives=NAMES)


@pytest.fixture(scope="module")
def found(oracle):
    answers = answers_at(oracle, distinct_weights(STUDY.everything(2)))
    return experiment(STUDY, NAMES, answers, resamples=100)


class TestPublished:
    def test_the_paper_asked_as_its_grids_say(self):
        """Section 1 of the theory: |W| = n^d − (n − 1)^d, in nine of its ten settings."""
        for name, d in (("safety-alignment", 2), ("helpful-assistants", 3)):
            for row in published(name).prunings:
                assert grid_size(d, share(row.mu), share(row.alpha)) == row.oracle_calls
        assert grid_size(2, 8 / 30, 2 / 10) == 17  # where the paper prints 13

    def test_its_tables_agree_with_one_another(self):
        """What Table 1 shows of PALM stands in Tables 5 and 6."""
        for name in ("safety-alignment", "helpful-assistants"):
            told = published(name)
            rows = {(row.size, row.epsilon, row.delta) for row in told.prunings}
            for size, methods in told.quality.items():
                assert (size, *methods["palm"]) in rows, (name, size)
            for calls, methods in told.budgets.items():
                least = min(
                    (row.epsilon, row.delta)
                    for row in told.prunings
                    if row.oracle_calls == calls and row.prune_mu >= 0.01
                )
                assert methods["palm"] == least, (name, calls)

    def test_what_it_claims_of_its_own_numbers(self):
        """Section 4: "with only a single exception"."""
        told = {name: verdicts(Numbers.printed(published(name))) for name in PUBLISHED}
        exceptions = {
            (name, key): one.exceptions
            for name, all_ in told.items()
            for key, one in all_.items()
            if one.exceptions
        }
        assert exceptions[("rlvr-gsm", "uniform")] == ("size 1: δ 0.2026, Uniform 0.1841",)
        assert exceptions[("helpful-assistants", "monotone")] == (
            "size 6 to 7: δ 0.0092 to 0.0107",
        )
        assert {key for _, key in exceptions} == {
            *("uniform", "random", "monotone", "usage", "budget")
        }
        assert all(one["few"].holds for one in told.values())
        assert told["rlvr-gsm"]["budget"].holds is None


class TestStudies:
    def read(self, **study):
        content = {"oracle": {"name": "tabular"}, "grid": {"mu": 0.5, "alpha": 0.05}}
        return study_of(parse_task(content | {"study": study, "run": {"seed": 7}}), "name")

    def test_what_is_not_said(self):
        made = self.read()
        assert (made.title, made.grids, made.weights) == ("name", ((0.5, 0.05),), 100)
        assert (made.seed, made.ask, made.published) == (7, True, None)

    def test_fractions_as_the_paper_writes_them(self):
        made = self.read(grids=[["14/30", "7/100"], [0.5, 1]], sizes=[3, 2, 3])
        assert made.grids == ((14 / 30, 0.07), (0.5, 1.0))
        assert made.sizes == (2, 3)
        assert made.run_names() == ("μ 0.4667, α 0.07", "μ 0.5, α 1")

    @pytest.mark.parametrize(
        ("study", "said"),
        [
            ({"grid": []}, "[study] grid: unknown key; must be one of title, grids"),
            ({"grids": []}, "[study] grids = []: must have at least one"),
            ({"grids": [0.5]}, "[study] grids[0] = 0.5: must be [mu, alpha]"),
            ({"grids": [[0.5, "1/0"]]}, "[study] grids[0] alpha = '1/0': must be a number"),
            ({"grids": [[2, 0.5]]}, "[study] grids[0] mu = 2: must be"),
            ({"sizes": 3}, "[study] sizes = 3: must be a list"),
            ({"sizes": [0]}, "[study] sizes = 0: must be"),
            ({"mus": [2]}, "[study] mus = 2: must be"),
            ({"weights": 0}, "[study] weights = 0: must be"),
            ({"ask": 1}, "[study] ask = 1: must be true or false"),
            ({"published": "gsm"}, "[study] published = 'gsm': must be one of rlvr-gsm"),
            ({"title": 3}, "[study] title = 3: must be text"),
            ({"prompt": -1}, "[study] prompt = -1: must be"),
        ],
    )
    def test_what_it_refuses(self, study, said):
        with pytest.raises(InputError, match=re.escape(said)):
            self.read(**study)

    def test_an_adaptive_task_says_its_grids(self):
        content = {"oracle": {"name": "tabular"}, "adaptive": {"target_epsilon": 0.1}}
        with pytest.raises(InputError, match="grids: is missing"):
            study_of(parse_task(content), "name")

    def test_a_size_beyond_every_grid(self):
        with pytest.raises(InputError, match="sizes = 99: must be at most 19"):
            replace(STUDY, sizes=(99,)).everything(2)

    def test_all_weights_are_asked_once(self):
        wanted = STUDY.everything(2)
        rows = distinct_weights(wanted)
        keys = {tuple(row) for row in np.round(rows, 9).tolist()}
        assert len(keys) == len(rows)
        for several in wanted.values():
            assert {tuple(row) for row in np.round(several, 9).tolist()} <= keys
        np.testing.assert_allclose(wanted["μ 0.5, α 0.2"], construct_grid(2, 0.5, 0.2))
        assert len(wanted["V"]) == 30
        assert "V" not in replace(STUDY, ask=False).everything(2)


QUALITY = st.tuples(st.floats(0, 1), st.floats(0, 1))


class TestClaims:
    @given(st.lists(QUALITY, min_size=2, max_size=5), st.lists(QUALITY, min_size=2, max_size=5))
    def test_ahead_is_a_comparison_of_each_number(self, palm, uniform):
        sizes = range(2, 2 + min(len(palm), len(uniform)))
        quality = {
            size: {"palm": own, "uniform": other}
            for size, own, other in zip(sizes, palm, uniform, strict=False)
        }
        told = verdicts(Numbers(quality=quality, perplexity={}, budgets={}))
        held = sum(
            round(one, 4) <= round(other, 4)
            for rows in quality.values()
            for one, other in zip(rows["palm"], rows["uniform"], strict=True)
        )
        assert (told["uniform"].held, len(told["uniform"].checks)) == (held, 2 * len(quality))
        assert len(told["uniform"].exceptions) == 2 * len(quality) - held
        assert told["random"].holds is None
        falling = sum(
            round(quality[size + 1]["palm"][i], 4) <= round(quality[size]["palm"][i], 4)
            for size in list(quality)[:-1]
            for i in (0, 1)
        )
        assert told["monotone"].held == falling
        least = min(rows["palm"][0] for rows in quality.values())
        assert told["few"].holds == (least < 0.015)

    def test_more_than_seven_policies_are_not_few(self):
        quality = {8: {"palm": (0.0, 0.0)}}
        told = verdicts(Numbers(quality=quality, perplexity={}, budgets={}))
        assert told["few"].holds is None

    def test_few_policies_are_looked_for_in_every_pruning(self):
        numbers = Numbers(
            quality={3: {"palm": (0.02, 0.0)}},
            perplexity={},
            budgets={},
            prunings=((6, 0.014), (8, 0.001)),
        )
        assert verdicts(numbers)["few"].checks[0].what == "ε 0.0140 with 6 policies"
        assert verdicts(numbers)["few"].holds
        assert not verdicts(replace(numbers, prunings=((8, 0.001),)))["few"].holds

    def test_even_usage_is_against_both(self):
        numbers = Numbers(
            quality={}, perplexity={2: {"palm": 1.9, "uniform": 1.5, "random": 2.0}}, budgets={}
        )
        told = verdicts(numbers)["usage"]
        assert (told.held, told.exceptions) == (1, ("size 2: 1.9000, Random 2.0000",))

    def test_every_claim_has_words(self, found):
        assert list(verdicts(Numbers.of(found.exact))) == list(CLAIMS)


class TestExperiments:
    def test_sampled_gaps_are_never_more(self, found):
        assert (found.sampled.gaps, found.sampled.samples) == ("sampled", 30)
        assert (found.exact.gaps, found.exact.samples) == ("exact", 1000)
        for row, other in zip(found.sampled.sweeps, found.exact.sweeps, strict=True):
            for one, exact in zip(row.rows, other.rows, strict=False):
                if one.portfolio.policies == exact.portfolio.policies:
                    assert one.portfolio.epsilon <= exact.portfolio.epsilon + 1e-12

    def test_opt_is_over_all_that_was_found(self, found, oracle):
        """The policies at V count, though no run has them."""
        ids = {policy.id for policy in found.policies}
        runs = {answer.policy.id for run in found.runs.values() for answer in run.answers}
        assert len(ids - runs) > 10
        assert found.exact.candidates == len(found.policies)
        assert len(found.policies) == len(distinct_weights(STUDY.everything(2)))

    def test_intervals_hold_the_values(self, found):
        assert set(found.intervals) >= {("palm", 2), ("uniform", 3)}
        for (method, size), told in found.intervals.items():
            value = found.exact.methods[method][size].epsilon
            assert told["epsilon"].value == pytest.approx(value)
            assert told["epsilon"].lower <= value <= told["epsilon"].upper

    def test_further_mus_are_pruned_with(self, found):
        for sweep in found.exact.sweeps:
            assert 0.075 in {row.mu for row in sweep.rows}

    def test_what_failed_is_counted(self, oracle):
        wanted = STUDY.everything(2)
        answers = answers_at(oracle, distinct_weights(wanted))
        missing = tuple(wanted["V"][0])
        kept = [one for one in answers if not np.allclose(one.weights, missing)]
        assert experiment(STUDY, NAMES, kept, resamples=None, least=False).missing == 1
        lost = wanted["uniform 3 0"][1]  # (1/2, 1/2): a baseline without it is left out
        kept = [one for one in answers if not np.allclose(one.weights, lost)]
        found = experiment(STUDY, NAMES, kept, resamples=None, least=False)
        assert set(found.exact.methods["uniform"]) == {2}
        assert ("uniform", 3) in found.exact.absent
        with pytest.raises(InputError, match="none of its 11 weights has an answer"):
            experiment(STUDY, NAMES, answers[-3:], resamples=None)

    def test_it_is_drawn(self, found):
        drawn = figures_of(found)
        assert set(drawn) == {"usage", "cells", "grids"}
        assert "PALM" in drawn["usage"].description
        assert "claims of the paper hold here" in verdict_text(found)


class TestSimulations:
    def test_a_seed_is_a_task(self):
        one, kappa = draw_oracle(1, NAMES, prompts=3, responses=5)
        same, again = draw_oracle(1, NAMES, prompts=3, responses=5)
        other, _ = draw_oracle(2, NAMES, prompts=3, responses=5)
        row = np.array([[0.3, 0.7]])
        values = [next(each.solve(row)).rewards for each in (one, same, other)]
        np.testing.assert_array_equal(values[0], values[1])
        assert not np.allclose(values[0], values[2])
        assert kappa == again
        assert 0 <= kappa <= 1
        assert ((values[0] > 0) & (values[0] < 1)).all()

    def test_objectives_compete_where_they_are_pushed_apart(self):
        """The best policy for one objective is not the best for another."""
        oracle, _ = draw_oracle(0, NAMES, prompts=20, responses=100)
        first, second = (policy.rewards for policy in oracle.solve(np.eye(2)))
        assert first[0] > second[0] + 0.05
        assert second[1] > first[1] + 0.05

    def test_rates_count_tasks_and_comparisons(self):
        study = replace(STUDY, weights=10, mus=())
        found = simulate(study, NAMES, seeds=3, prompts=10, responses=30)
        assert [one.seed for one in found] == [0, 1, 2]
        assert len({one.beta for one in found}) == 3
        for gaps in ("exact", "sampled"):
            for key, (tasks, checks) in claim_rates(found, gaps).items():
                told = [getattr(one, gaps)[key] for one in found]
                assert (tasks.held, tasks.of) == (sum(bool(one.holds) for one in told), 3)
                assert checks.held == sum(one.held for one in told)
                assert checks.of == sum(len(one.checks) for one in told)
                lower, upper = tasks.interval
                assert 0 <= lower <= tasks.share <= upper <= 1

    def test_workers_change_nothing(self):
        study = replace(STUDY, weights=5, sizes=(2,), mus=())
        plain = simulate(study, NAMES, seeds=2, prompts=5, responses=10)
        there = simulate(study, NAMES, seeds=2, prompts=5, responses=10, workers=2)
        assert [one.numbers for one in plain] == [one.numbers for one in there]

    def test_wilson(self):
        assert Rate(held=10, of=10).interval == pytest.approx((0.7225, 1.0), abs=1e-4)


TASK = """
[oracle]
name = "tabular"
objectives = ["helpful", "safe"]
prompts = 10
responses = 40
[grid]
mu = 0.5
alpha = 0.05
[study]
title = "Two objectives"
grids = [[0.5, 0.2], [0.5, 0.05]]
sizes = [2, 3]
weights = 20
published = "safety-alignment"
"""


class TestCommand:
    @pytest.fixture
    def task(self, tmp_path):
        path = tmp_path / "task.toml"
        path.write_text(TASK, encoding="utf-8")
        return path

    def test_a_page_and_everything_on_it(self, task, tmp_path, capsys):
        out = tmp_path / "study"
        assert palm(["reproduce", str(task), "--out", str(out), "--simulate", "2",
                     "--prompts", "5", "--responses", "20"]) == 0  # fmt: skip
        said = capsys.readouterr().out
        assert "claims of the paper hold here" in said
        assert "2 simulated tasks" in said
        page = (out / "page" / "index.md").read_text(encoding="utf-8")
        for title in ("Table claims.", "Table 1.", "Table 1-exact.", "Table 3.", "Table 4.",
                      "Table 5/6.", "Table simulated.", "## How this page was made"):  # fmt: skip
            assert title in page
        for picture in re.findall(r"\]\((\w+\.svg)\)", page):
            assert (out / "page" / picture).read_bytes().startswith(b"<?xml")
        assert "PALM, paper" in page

    def test_it_goes_on_where_it_stood(self, task, tmp_path, capsys):
        out = tmp_path / "study"
        assert palm(["reproduce", str(task), "--out", str(out), "--json"]) == 0
        first = json.loads(capsys.readouterr().out)
        with Ledger.read(out) as ledger:
            known = {answer.weights.tobytes(): answer.seconds for answer in ledger.answers()}
        assert palm(["reproduce", str(task), "--out", str(out), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["claims"] == first["claims"]
        with Ledger.read(out) as ledger:
            assert {a.weights.tobytes(): a.seconds for a in ledger.answers()} == known

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--simulate", "-1"], "--simulate = -1: must be"),
            (["--simulate", "3", "--prompts", "0"], "--prompts = 0: must be"),
            (["--simulate", "3", "--responses", "1"], "--responses = 1: must be"),
            (["--workers", "0"], "workers = 0: must be"),
        ],
    )
    def test_a_wrong_request_costs_nothing(self, task, tmp_path, capsys, arguments, said):
        out = tmp_path / "study"
        assert palm(["reproduce", str(task), "--out", str(out), *arguments]) == 2
        assert said in capsys.readouterr().err
        assert not out.exists()

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (("sizes = [2, 3]", "sizes = [2, 300]"), "sizes = 300: must be at most"),
            (("published", "publishd"), "[study] publishd: unknown key"),
            (("[study]", "[studdy]"), "studdy: unknown table; did you mean 'study'?"),
        ],
    )
    def test_a_wrong_study_is_told(self, task, tmp_path, capsys, change, said):
        task.write_text(TASK.replace(*change), encoding="utf-8")
        assert palm(["reproduce", str(task), "--out", str(tmp_path / "study")]) == 2
        err = capsys.readouterr().err
        assert said in err
        assert len(err.strip().splitlines()) == 1
        assert not (tmp_path / "study").exists()
