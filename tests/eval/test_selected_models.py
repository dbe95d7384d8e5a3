"""What a saved selection and its table say together: all models, distances, figures."""

from __future__ import annotations

import csv
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from palm_command import run as palm

from palm_core import (
    InputError,
    Portfolio,
    Table,
    build_portfolio,
    gaps,
    load_oracle,
    read_table,
    select_models,
    size_gap_curve,
)
from palm_eval import gather_report, render_report
from palm_eval.analysis.figures import is_selected, models_of, selection_figures

#: Ant and bee serve; cat is worse than both.
ROWS = {"ant": (90.0, 5.0), "bee": (20.0, 1.0), "cat": (15.0, 6.0), "dog": (70.0, 4.5)}


def written(file: Path, rows: dict[str, tuple[float, float]] = ROWS) -> Path:
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(
            [("model", "good", "price"), *((name, *row) for name, row in rows.items())]
        )
    return file


def saved(table: Path, *more: str) -> Path:
    portfolio = table.with_suffix(".portfolio.json")
    options = ["--maximize", "good", "--minimize", "price", "--epsilon", "0.1"]
    assert palm(["select", str(table), *options, *more, "--save", str(portfolio)]) == 0
    return portfolio


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return written(tmp_path / "models.csv")


class TestModelsOf:
    @settings(max_examples=40)
    @given(
        st.integers(0, 2**32 - 1),
        st.integers(2, 9),
        st.lists(st.booleans(), min_size=2, max_size=4),
        st.sampled_from(["minmax", "none"]),
    )
    def test_what_select_saw_is_found_again(
        self, seed: int, m: int, costs: list[bool], normalize: str
    ) -> None:
        rng = np.random.default_rng(seed)
        scores = rng.integers(-3, 4, (m, len(costs))) + rng.uniform(0, 0.01, (m, len(costs)))
        scores[:, rng.integers(len(costs))] *= rng.integers(0, 2, m)  # zeros have no sign
        scores[0], scores[1] = scores.min(axis=0) - 1, scores.max(axis=0) + 1
        columns = {f"c{i}": column.tolist() for i, column in enumerate(scores.T)}
        source = Table({"model": [f"m{i}" for i in range(m)], **columns})
        names = {cost: [f"c{i}" for i, one in enumerate(costs) if one == cost] for cost in (0, 1)}
        candidates = source.policies(maximize=names[0], minimize=names[1])
        found = select_models(candidates, epsilon=0.1, normalize=normalize)
        with tempfile.TemporaryDirectory() as folder:
            portfolio = Portfolio.load(found.portfolio().save(Path(folder, "p.json")))
        again, scaled = models_of(portfolio, source), found.normalization.apply(candidates)
        assert (again.names, again.objectives) == (scaled.names, scaled.objectives)
        np.testing.assert_array_equal(again.vertex_values, scaled.vertex_values)

    def test_a_column_of_zeros_is_told_by_the_others(self) -> None:
        """Free models are selected; whether 0 is the most or the least, only the gap tells."""
        names = {"model": ["a", "b", "c"], "good": [1.0, 3.0, 2.0]}
        source = Table({**names, "price": [0.0, 0.0, 7.0]})
        for options in (
            {"maximize": ["good"], "minimize": ["price"]},
            {"maximize": ["price", "good"]},
        ):
            candidates = source.policies(**options)
            for normalize in ("minmax", "none"):
                found = select_models(candidates, normalize=normalize)
                again = models_of(found.portfolio(), source)
                scaled = found.normalization.apply(candidates)
                np.testing.assert_array_equal(again.vertex_values, scaled.vertex_values)

    def test_a_gap_that_is_no_share_of_anything(self) -> None:
        """Where the best value is negative a loss has no share: ε is infinite, not recorded."""
        names = {"model": ["a", "b", "c"], "x": [-1.0, -2.0, -1.4], "y": [-2.0, -1.0, -1.4]}
        source = Table(names)
        candidates = source.policies(maximize=["x", "y"])
        found = select_models(candidates, delta=0.5, normalize="none").portfolio()
        assert [policy.id for policy in found.policies] == ["c"]
        assert found.gaps is not None
        assert found.gaps.epsilon == np.inf
        assert models_of(found, source).names == ("a", "b", "c")

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"ant": None}, "has no model 'ant', so the portfolio was not selected from it"),
            ({"ant": (91.0, 5.0)}, "column 'good' of model 'ant' is 91, but the portfolio was"),
            ({"ant": (90.0, 5.5)}, "column 'price' of model 'ant' is 5.5, .* where it was 5$"),
            ({"cat": None}, "has 3 models, but the portfolio was selected from 4"),
            ({"cat": (14.0, 6.0)}, "differ from those recorded"),
            ({"dog": (85.0, 2.0)}, "differ from those recorded"),
        ],
    )
    def test_another_table_is_refused(
        self, table: Path, changes: dict[str, Any], said: str
    ) -> None:
        portfolio = Portfolio.load(saved(table))
        rows = {name: row for name, row in {**ROWS, **changes}.items() if row is not None}
        with pytest.raises(InputError, match=said):
            models_of(portfolio, read_table(written(table, rows)))

    def test_a_table_without_the_objectives(self, table: Path, tmp_path: Path) -> None:
        portfolio = Portfolio.load(saved(table))
        (tmp_path / "other.csv").write_text("model,good,cost\nant,1,2\n")
        with pytest.raises(InputError, match="no column 'price'"):
            models_of(portfolio, read_table(tmp_path / "other.csv"))

    def test_a_portfolio_of_a_run_is_none_of_a_table(self, table: Path, tmp_path: Path) -> None:
        oracle = load_oracle("tabular", objectives=["good", "price"], prompts=2, responses=4)
        found = build_portfolio(oracle, mu=1.0, alpha=0.5, prune_mu=0.1)
        assert not is_selected(found)
        with pytest.raises(InputError, match="is of a run, whose folder has the policies"):
            models_of(found, read_table(table))

    def test_what_nobody_recorded_is_not_compared(self, table: Path) -> None:
        found = Portfolio.load(saved(table))
        bare = Portfolio(
            policies=found.policies,
            objectives=found.objectives,
            normalization=found.normalization,
            candidates=4,
        )
        assert models_of(bare, read_table(table)).names == tuple(ROWS)


class TestFigures:
    def test_against_palm_core(self, table: Path) -> None:
        portfolio = Portfolio.load(saved(table))
        models = models_of(portfolio, read_table(table))
        drawn, notes = selection_figures(portfolio, models, most=3)
        assert (list(drawn), notes) == (["usage", "front", "curve"], [])
        (line,) = (
            one for one in drawn["curve"].figure.axes[0].lines if one.get_label() == "_steps"
        )
        curve = size_gap_curve(models, most=3)
        np.testing.assert_array_equal(line.get_xdata(), [point.size for point in curve])
        expected = [100 * point.epsilon for point in curve]
        np.testing.assert_allclose(np.asarray(line.get_ydata(), dtype=float), expected)
        assert "all 4 models of the table" in drawn["curve"].caption
        assert "4 policies" in drawn["front"].description

    def test_a_curve_that_starts_later_is_named(self) -> None:
        """Where the best value is negative no share may be lost, so two are needed at least."""
        source = Table({"model": ["a", "b"], "x": [-1.0, -2.0], "y": [-2.0, -1.0]})
        found = select_models(source.policies(maximize=["x", "y"]), normalize="none").portfolio()
        drawn, notes = selection_figures(found, models_of(found, source), most=1)
        assert list(drawn) == ["usage", "front"]
        assert notes == ["curve: not drawn, no portfolio of 1 is within 100 % at every weight"]

    def test_sizes_are_counted_from_one(self, table: Path) -> None:
        portfolio = Portfolio.load(saved(table))
        with pytest.raises(InputError, match="most = 0"):
            selection_figures(portfolio, models_of(portfolio, read_table(table)), most=0)


class TestReport:
    def test_all_models_and_figures_are_on_it(self, table: Path) -> None:
        file = saved(table)
        found = gather_report(file, models=read_table(table), most=2)
        assert found.missing == ()
        assert found.candidates is not None
        assert found.candidates.names == tuple(ROWS)
        recorded = found.portfolio.gaps
        assert recorded is not None
        exact = gaps(found.portfolio.policy_set, found.candidates)
        assert exact.epsilon == pytest.approx(recorded.epsilon, abs=1e-12)
        page = render_report(found)
        assert page.count("<figure>") == 3
        assert "Why not fewer" in page
        assert "2 is the least number of them that stays within 10" in page
        for absent in ("What they answer", "not recorded", "best policy found", "What is missing"):
            assert absent not in page

    def test_by_itself_it_says_where_the_others_are(self, table: Path) -> None:
        (note,) = gather_report(saved(table)).missing
        assert note.endswith("the table it was selected from has the other models (--models).")


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = palm([str(one) for one in arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


class TestCommands:
    def test_they_take_the_table(
        self, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = saved(table)
        assert f"palm report {file} --models {table}" in capsys.readouterr().err
        assert told(capsys, "report", file, "--models", table)[0] == 0
        code, out, _ = told(
            capsys, "figures", file, "--models", table, "--out", tmp_path / "f", "--most", 2
        )
        assert code == 0
        names = [Path(line).name for line in out.splitlines()]
        assert names == ["usage.svg", "front.svg", "curve.svg"]
        assert all((tmp_path / "f" / name).read_text().startswith("<?xml") for name in names)

    def test_what_does_not_belong_together(
        self, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file, run = saved(table), tmp_path / "run"
        oracle = load_oracle("tabular", objectives=["good", "price"], prompts=2, responses=4)
        build_portfolio(oracle, mu=1.0, alpha=0.5, prune_mu=0.1, run_dir=run)
        (tmp_path / "task.toml").write_text("")
        of_run = shutil.copy(run / "portfolio.json", tmp_path / "copied.json")
        written(tmp_path / "other.csv", {**ROWS, "dog": (85.0, 2.0)})
        out = ("--out", tmp_path / "there")
        capsys.readouterr()
        for arguments, said in (
            (("report", run, "--models", table), f"{run} is a run, which has its policies itself"),
            (("figures", run, "--models", table, *out), "is a run's folder"),
            (("figures", file, *out), "requires --models TABLE"),
            (("figures", of_run, *out), "must be its run's folder"),
            (("figures", of_run, "--models", table, *out), "the portfolio is of a run"),
            (("report", of_run, "--models", table), "the portfolio is of a run"),
            (("figures", file, "--task", tmp_path / "task.toml", *out), "is a portfolio file"),
            (("figures", file, "--models", table, *out, "--cells", "1/3,0"), "--cells: "),
            (("report", file, "--models", tmp_path / "other.csv"), "differ from those recorded"),
            (("report", file, "--models", tmp_path / "absent.csv"), "absent.csv"),
            (("report", file, "--models", file), "model"),
            (("figures", file, "--models", table, *out, "--most", 0), "most = 0"),
        ):
            code, _, err = told(capsys, *arguments)
            line = err.strip().splitlines()[-1]
            assert (code, said in line, line.startswith("palm: ")) == (2, True, True), line
        assert not (tmp_path / "there").exists()
