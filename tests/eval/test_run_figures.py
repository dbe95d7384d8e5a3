from __future__ import annotations

import json
from pathlib import Path

import pytest

from palm_core import build_portfolio
from palm_core.cli.app import run as palm
from palm_core.runs import Run
from palm_core.tabular import load
from palm_eval.run_figures import run_figures

NAMES = ["helpful", "brief", "safe", "humour"]


def built(folder: Path, d: int) -> Path:
    oracle = load(objectives=NAMES[:d], prompts=4, responses=20)
    build_portfolio(oracle, mu=0.8, alpha=0.4, prune_mu=0.05, run_dir=folder)
    return folder


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = palm([str(argument) for argument in arguments])
    return (code, *capsys.readouterr())


@pytest.mark.parametrize("d", [2, 3, 4])
def test_a_run_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str], d: int) -> None:
    run, out = built(tmp_path / "run", d), tmp_path / "pictures"
    code, printed, told = command(capsys, "figures", run, "--out", out, "--most", 3)
    assert code == 0, told
    names = ["usage", "front", "curve"] + (["weights", "cells", "grids"] if d <= 3 else [])
    assert printed.split() == [str(out / f"{name}.svg") for name in names]
    for name in names:
        assert (out / f"{name}.svg").read_bytes().startswith(b"<?xml")
    assert ("drawn for 2 and 3 objectives, not 4" in told) == (d == 4)
    assert "uniform, pruned: not drawn" in told
    again = command(capsys, "figures", run, "--out", out, "--most", 3, "--json")
    found = json.loads(again[1])
    assert list(found["figures"]) == names
    assert found["notes"] == told.strip().split("\n")
    for name, one in found["figures"].items():
        assert one["file"] == str(out / f"{name}.svg")
        assert all(one[key] for key in ("title", "caption", "description"))


def test_the_figures_show_the_run(tmp_path: Path) -> None:
    made = Run.open(built(tmp_path / "run", 2))
    drawn, _ = run_figures(made, most=4, resamples=100)
    figure = drawn["usage"].figure
    texts = {text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text"))}
    portfolio = made.prune(made.settings)
    assert all(any(policy.id in text for text in texts) for policy in portfolio.policies)


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["none", "--out", "x"], "no such run folder", 2),
        (["RUN"], "out", 2),
        (["RUN", "--out", "x", "--format", "gif"], "gif", 2),
        (["RUN", "--out", "x", "--most", "0"], "most = 0: must be at least 1", 2),
        (["RUN", "--out", "FILE/x"], "cannot be written", 1),
    ],
)
def test_bad_requests_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
    code: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    run = built(tmp_path / "run", 2)
    given = [one.replace("RUN", str(run)).replace("FILE", "file") for one in arguments]
    found, out, told = command(capsys, "figures", *given)
    assert (found, out) == (code, "")
    assert told.startswith("palm: ")
    assert told.count("\n") == 1
    assert message in told
