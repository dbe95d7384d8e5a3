"""What ``palm figures`` draws of a run, against palm-core and the run's own policies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.lines import Line2D
from matplotlib.text import Text
from palm_command import run as palm

from palm_core import (
    InputError,
    Policy,
    PolicySet,
    Run,
    TabularOracle,
    build_portfolio,
    construct_grid,
    gaps,
    load_oracle,
    prune_curve,
    sample_weights,
)
from palm_core.run.assembly import evaluate_answers
from palm_eval import evaluate_run, random_weights, uniform_weights
from palm_eval.analysis.baselines import BASELINES
from palm_eval.analysis.figures import run_figures
from palm_eval.analysis.intervals import SAMPLES, gap_intervals
from palm_eval.baselines import SWEEP_MUS
from palm_eval.figures import Drawn, render
from palm_eval.figures.style import CORNERS

NAMES = ["helpful", "brief", "safe", "humour"]
MU, ALPHA, PRUNE = 1.0, 0.5, 0.05
TASK = """
[oracle]
name = "tabular"
objectives = ["helpful", "brief"]
prompts = 4
responses = {responses}
[grid]
mu = 1.0
alpha = 0.5
[prune]
epsilon = 0.05
"""


def oracle(d: int) -> TabularOracle:
    return load_oracle("tabular", objectives=NAMES[:d], prompts=4, responses=20)


def built(folder: Path, d: int, **changes: Any) -> Path:
    settings = {"mu": MU, "alpha": ALPHA, "prune_mu": PRUNE, **changes}
    build_portfolio(oracle(d), run_dir=folder, **settings)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("made") / "run", 2)


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return Run.open(folder)


@pytest.fixture(scope="module")
def triple(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run.open(built(tmp_path_factory.mktemp("made") / "run", 3))


@pytest.fixture(scope="module")
def asked(run: Run) -> tuple[dict[str, Drawn], list[str]]:
    """With the oracle's baselines."""
    return run_figures(run, most=4, oracle=oracle(2), resamples=100)


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = palm([str(argument) for argument in arguments])
    return (code, *capsys.readouterr())


def artists(drawn: Drawn, kind: type, label: str | None = None) -> list[Any]:
    found = drawn.figure.findobj(lambda one: isinstance(one, kind))
    return [one for one in found if label in (None, one.get_label())]


def points(drawn: Drawn, label: str) -> np.ndarray:
    """The data of the line of this label on the axes, not of the one in the key."""
    found = [one for one in artists(drawn, Line2D, label) if one.axes is not None]
    (line,) = [one for one in found if len(one.get_xdata()) and one in one.axes.lines]
    return np.column_stack(line.get_data())


# --- the command --------------------------------------------------------------------


@pytest.mark.parametrize("d", [2, 3, 4])
def test_a_run_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str], d: int) -> None:
    made, out = built(tmp_path / "run", d), tmp_path / "pictures"
    code, printed, told = command(capsys, "figures", made, "--out", out, "--most", 2)
    assert code == 0, told
    names = ["usage", "front", "curve"] + (["weights", "cells", "grids"] if d <= 3 else [])
    assert printed.split() == [str(out / f"{name}.svg") for name in names]
    for name in names:
        assert (out / f"{name}.svg").read_bytes().startswith(b"<?xml")
    assert ("drawn for 2 and 3 objectives, not 4" in told) == (d == 4)
    assert "uniform, pruned: not drawn" in told


def test_json_has_captions_and_descriptions(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "task.toml").write_text(TASK.format(responses=20))
    task = ["--task", tmp_path / "task.toml", "--cells", "1/10, 0.001"]
    shown = command(
        capsys, "figures", folder, "--out", tmp_path, "--json", "--format", "pdf", *task
    )
    assert (shown[0], shown[2]) == (0, "")
    found = json.loads(shown[1])
    assert found["notes"] == []
    for name, one in found["figures"].items():
        file = tmp_path / f"{name}.pdf"
        assert one["file"] == str(file)
        assert file.read_bytes().startswith(b"%PDF")
        assert all(one[key] for key in ("title", "caption", "description"))
    assert found["figures"]["cells"]["description"].startswith("With ε' = 0.1 and δ' = 0.001.")


def test_names_that_no_font_has_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from palm_eval.figures import output

    monkeypatch.setattr(output, "_fonts", list)
    output._families.cache_clear()
    made = load_oracle("tabular", objectives=["有用", "brief"], prompts=2, responses=5)
    build_portfolio(made, mu=1.0, alpha=1.0, run_dir=tmp_path / "run")
    arguments = ["figures", tmp_path / "run", "--out", tmp_path, "--most", 1]
    code, _, told = command(capsys, *arguments, "--format", "png")
    output._families.cache_clear()
    assert code == 0
    assert told.count("no font on this machine has '有', '用': boxes in pdf and png") == 1
    assert "no font" not in command(capsys, *arguments)[2]


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["none", "--out", "x"], "no such run folder", 2),
        (["RUN"], "out", 2),
        (["RUN", "--out", "x", "--format", "gif"], "gif", 2),
        (["RUN", "--out", "x", "--most", "0"], "most = 0: must be at least 1", 2),
        (["RUN", "--out", "x", "--seed", "-1"], "seed = -1: must be at least 0", 2),
        (["RUN", "--out", "x", "--cells", "2/5"], "--cells '2/5': must be two numbers such", 2),
        (["RUN", "--out", "x", "--cells", "1/0,1"], "must be two numbers such as 2/5,1/80", 2),
        (["RUN", "--out", "x", "--cells", "1,2,3"], "must be two numbers such as 2/5,1/80", 2),
        (["RUN", "--out", "x", "--cells", "0.1,nan"], "--cells, δ' = nan: must be a finite", 2),
        (["RUN", "--out", "x", "--cells=-1,0"], "--cells, ε' = -1.0: must be a finite", 2),
        (["RUN", "--out", "x", "--task", "none.toml"], "none.toml", 2),
        (["RUN", "--out", "x", "--task", "other.toml"], "must be the task of", 2),
        (["RUN", "--out", "file/x"], "file is a file", 2),
    ],
)
def test_bad_requests_are_one_line(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
    code: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "other.toml").write_text(TASK.format(responses=19))
    given = [one.replace("RUN", str(folder)) for one in arguments]
    found, out, told = command(capsys, "figures", *given)
    assert (found, out) == (code, "")
    assert told.startswith("palm: ")
    assert told.count("\n") == 1
    assert message in told
    assert not (tmp_path / "x").exists()


# --- what is drawn ------------------------------------------------------------------


def test_the_curve_has_an_interval_for_each_size(
    run: Run, asked: tuple[dict[str, Drawn], list[str]]
) -> None:
    found = evaluate_answers(run.answers, run.objectives, run.settings)
    curve = run.curve(most=4)
    each, _ = gap_intervals(
        found.policies,
        run.objectives,
        [point.indices.tolist() for point in curve],
        space=found.normalization,
        weights=sample_weights(SAMPLES, 2, seed=0),
        gaps=("epsilon",),
        resamples=100,
    )
    assert each is not None
    (bars,) = artists(asked[0]["curve"], LineCollection, "95 % interval over prompts")
    ends = [(100 * one["epsilon"].lower, 100 * one["epsilon"].upper) for one in each]
    drawn = [segment[:, 1] for segment in bars.get_segments()]
    np.testing.assert_allclose(drawn, ends)
    for point, (low, high) in zip(curve, ends, strict=True):
        assert low <= 100 * point.epsilon <= high
    assert "95 % intervals" in asked[0]["curve"].caption


def test_the_curve_has_the_gaps_of_the_baselines(
    run: Run, asked: tuple[dict[str, Drawn], list[str]]
) -> None:
    drawn, notes = asked
    assert notes == []
    candidates = evaluate_answers(run.answers, run.objectives, run.settings).candidates
    size = len(run.prune(run.settings))

    def gap(weights: np.ndarray) -> float:
        policies = {policy.id: policy for policy in oracle(2).solve(weights)}
        group = PolicySet.from_policies(list(policies.values()), run.objectives)
        return 100 * gaps(group, candidates).epsilon

    uniform = points(drawn["curve"], "uniform weights")
    np.testing.assert_allclose(uniform[:, 1], [gap(uniform_weights(size, 2))])
    chance = points(drawn["curve"], "random weights")
    np.testing.assert_allclose(chance[:, 1], [gap(rows) for rows in random_weights(size, 2)])
    np.testing.assert_allclose(chance[:, 0].round(), size)
    rows = uniform_weights(len(run.answers), 2)
    everyone = PolicySet.from_policies(list(oracle(2).solve(rows)), run.objectives)
    least: dict[int, float] = {}
    for one in prune_curve(everyone, rows, SWEEP_MUS, method="greedy"):
        found = 100 * gaps(everyone.subset(one.indices), candidates).epsilon
        count = len(one.indices)
        least[count] = min(found, least.get(count, np.inf))
    assert len(least) > 2
    pruned = points(drawn["curve"], "uniform, pruned")
    np.testing.assert_allclose(pruned[:, 0].round(), sorted(least)[: len(pruned)])
    np.testing.assert_allclose(pruned[:, 1], [least[count] for count in pruned[:, 0].round()])
    assert len(pruned) == sum(count <= 4 for count in least)


def test_usage_stands_beside_that_of_the_baselines(
    run: Run, asked: tuple[dict[str, Drawn], list[str]]
) -> None:
    (axes,) = asked[0]["usage"].figure.axes
    titles = [label.get_text() for label in axes.get_yticklabels()]
    assert titles == ["portfolio", "uniform weights", "random weights"]
    words = {text.get_text() for text in artists(asked[0]["usage"], Text)}
    size = len(run.prune(run.settings))
    wanted = [policy.id for policy in run.prune(run.settings).policies]
    for rows in (uniform_weights(size, 2), random_weights(size, 2)[0]):
        wanted += [policy.id for policy in oracle(2).solve(rows)]
    numbered = {f"{number}  {name}" for number, name in enumerate(dict.fromkeys(wanted), 1)}
    assert numbered <= words
    assert "as many uniform weights and random weights" in asked[0]["usage"].caption


def test_without_the_oracle_what_is_missing_is_told(run: Run) -> None:
    drawn, notes = run_figures(run, most=1, resamples=100)
    assert [note.split(":")[0] for note in notes] == ["random weights", "uniform, pruned"]
    assert all("weights have no policy in the run; --task asks its oracle" in one for one in notes)
    # The uniform weights of this size are among those that the run asked.
    (axes,) = drawn["usage"].figure.axes
    titles = [label.get_text() for label in axes.get_yticklabels()]
    assert titles == ["portfolio", "uniform weights"]
    labels = {line.get_label() for line in artists(drawn["curve"], Line2D)}
    assert labels & set(BASELINES.values()) == {"uniform weights"}


def test_weights_cells_and_grids_are_those_of_the_run(triple: Run) -> None:
    drawn, _ = run_figures(triple, most=1, resamples=100, cells=(0.3, 0.02), seed=4)
    grid = construct_grid(3, MU, ALPHA)
    (marks,) = artists(drawn["weights"], PathCollection, "asked")
    np.testing.assert_allclose(marks.get_offsets(), grid @ CORNERS)
    portfolio = triple.prune(triple.settings)
    for policy in portfolio.policies:
        place = points(drawn["weights"], policy.id)
        np.testing.assert_allclose(place, policy.weights[np.newaxis] @ CORNERS)
    sets = [grid, uniform_weights(len(grid), 3, seed=4), random_weights(len(grid), 3, seed=4)[0]]
    for axes, rows in zip(drawn["cells"].figure.axes, sets, strict=True):
        (found,) = [one for one in axes.collections if one.get_label() == "weights"]
        np.testing.assert_allclose(found.get_offsets(), rows @ CORNERS)
        (cells,) = (each for each in axes.collections if each.get_label() == "cells")
        assert len(cells.get_paths()) == len(rows)
    assert "at most 0.3·v + 0.02" in drawn["cells"].caption
    (combined,) = artists(drawn["grids"], PathCollection, "combined")
    np.testing.assert_allclose(combined.get_offsets(), grid @ CORNERS)


def test_an_adaptive_run_shows_the_order_of_asking_and_has_no_grid(tmp_path: Path) -> None:
    built(tmp_path, 2, mu=None, alpha=None, prune_mu=None, target_epsilon=0.02)
    run = Run.open(tmp_path)
    drawn, notes = run_figures(run, most=1, resamples=100)
    assert "grids" not in drawn
    assert not any("grids" in note for note in notes)
    (marks,) = artists(drawn["weights"], PathCollection, "asked")
    rows = np.array([answer.weights for answer in run.answers])
    calls = np.arange(1, len(rows) + 1)
    np.testing.assert_allclose(marks.get_offsets(), np.column_stack([rows[:, 0], calls]))
    assert "the later the darker" in drawn["weights"].caption


def test_a_normalized_run_is_drawn_in_its_units(tmp_path: Path) -> None:
    run = Run.open(built(tmp_path, 3, normalize="minmax"))
    drawn, _ = run_figures(run, most=1, oracle=oracle(3), resamples=100)
    candidates = evaluate_answers(run.answers, run.objectives, run.settings).candidates
    best = np.vstack([points_of(axes, "best somewhere") for axes in drawn["front"].figure.axes])
    assert best.min() == pytest.approx(0.0)
    assert best.max() == pytest.approx(1.0)
    assert "scaled to [0, 1]" in drawn["front"].caption
    size = len(run.prune(run.settings))
    space = evaluate_answers(run.answers, run.objectives, run.settings).normalization
    # asked as the grid was: whoever asks does not know the scale yet
    rows = uniform_weights(size, 3)
    group = space.apply(PolicySet.from_policies(list(oracle(3).solve(rows)), run.objectives))
    uniform = points(drawn["curve"], "uniform weights")
    np.testing.assert_allclose(uniform[:, 1], [100 * gaps(group, candidates).epsilon])


def points_of(axes: Any, label: str) -> np.ndarray:
    (line,) = [one for one in axes.lines if one.get_label() == label]
    return np.column_stack(line.get_data())


class Plain:
    """Three policies without rewards per prompt."""

    objectives = ("a", "b")
    values = np.array([[1.0, 0.2], [0.8, 0.8], [0.2, 1.0]])

    def solve(self, weights: np.ndarray) -> Iterator[Policy]:
        for row in weights:
            best = int(np.argmax(self.values @ row))
            yield Policy(id=f"p{best}", weights=row, rewards=self.values[best])


def test_a_run_without_rewards_per_prompt_says_so(tmp_path: Path) -> None:
    build_portfolio(Plain(), mu=0.5, alpha=0.2, run_dir=tmp_path)
    drawn, notes = run_figures(Run.open(tmp_path), most=3)
    assert "curve: no intervals, policy 'p0': has no prompt_rewards, cannot resample" in notes
    assert artists(drawn["curve"], LineCollection) == []
    assert "interval" not in drawn["curve"].caption


def test_too_many_weights_are_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palm_eval.analysis.figures._MOST_CELLS", 4)
    monkeypatch.setattr("palm_eval.figures.weights.MOST_POINTS", 4)
    drawn, notes = run_figures(run, most=1, resamples=100)
    assert list(drawn) == ["usage", "front", "curve", "weights"]
    assert notes[-2:] == [
        "cells: not drawn, 5 weights are too many to tell apart, at most 4",
        "grids: not drawn, its grids have too many weights to tell apart",
    ]


def test_requests_are_checked(run: Run) -> None:
    with pytest.raises(InputError, match="most = 0"):
        run_figures(run, most=0)
    with pytest.raises(InputError, match="resamples = 99"):
        run_figures(run, resamples=99)
    with pytest.raises(InputError, match="must be .*'helpful', 'brief'"):
        run_figures(run, oracle=oracle(3))
    with pytest.raises(InputError, match="epsilon = -1"):
        run_figures(run, most=1, resamples=100, cells=(-1, 0.0))


def test_what_was_asked_and_resampled_is_kept_for_the_next_command(tmp_path: Path) -> None:
    built(tmp_path / "run", 3)
    calls = []

    class Counted(TabularOracle):
        def solve(self, weights: np.ndarray) -> Iterator[Policy]:
            calls.append(len(weights))
            return super().solve(weights)

    counted = oracle(3)
    counted.__class__ = Counted
    found = evaluate_run(Run.open(tmp_path / "run"), oracle=counted, resamples=100)
    made = sum(calls)
    assert made > 0
    first = run_figures(Run.open(tmp_path / "run"), most=3, oracle=counted, resamples=100)
    assert sum(calls) == made
    again = run_figures(Run.open(tmp_path / "run"), most=3, oracle=counted, resamples=100)
    assert sum(calls) == made
    assert first[1] == again[1]
    for name, drawn in first[0].items():
        assert render(drawn) == render(again[0][name])
    # Its own calls are still told, and an evaluation with other resamples takes the answers.
    other = evaluate_run(Run.open(tmp_path / "run"), oracle=counted, resamples=101)
    assert sum(calls) == made
    assert other.baselines["uniform"] == found.baselines["uniform"]
    # Other weights are asked.
    evaluate_run(Run.open(tmp_path / "run"), oracle=counted, resamples=100, seed=1)
    assert sum(calls) > made
