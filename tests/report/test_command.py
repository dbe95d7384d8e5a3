"""``palm report`` as it is typed."""

import contextlib
import json
import shutil
from pathlib import Path

import pytest

from palm_core.cli.app import run
from palm_eval import gather_report, render_report

TASK = """
[oracle]
name = "tabular"
objectives = ["kind", "brief"]
beta = 0.1

[grid]
mu = 1.0
alpha = 0.2

[prune]
epsilon = 0.05
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    (folder / "task.toml").write_text(TASK)
    with contextlib.chdir(folder):
        assert run(["build", "task.toml", "--out", "run", "--executor", "here"]) == 0
    return folder


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path / "made")
    monkeypatch.chdir(tmp_path / "made")


def ask(*arguments):
    """The exit code of ``palm report``, in this process."""
    return run(["report", *map(str, arguments)])


@pytest.mark.usefixtures("here")
class TestReport:
    def test_into_the_run(self, capsys):
        assert ask("run") == 0
        said = capsys.readouterr()
        assert said.out == "run/report.html\n"
        assert "have no policy in the run; --task asks its oracle" in said.err
        assert "serve every preference" in Path("run/report.html").read_text()

    def test_with_the_task_baselines_are_asked_for(self, capsys):
        assert ask("run", "--task", "task.toml", "--out", "there.html", "--json") == 0
        found = json.loads(capsys.readouterr().out)
        assert found["report"] == "there.html"
        assert not any("Not compared" in line for line in found["missing"])
        assert "uniform weights" in Path("there.html").read_text()

    def test_a_portfolio_by_itself(self, capsys):
        assert ask("run/portfolio.json") == 0
        assert "the policies it was chosen from" in capsys.readouterr().err
        assert "serve every preference" in Path("run/portfolio.html").read_text()

    def test_open(self, monkeypatch):
        opened = []
        monkeypatch.setattr("webbrowser.open", opened.append)
        assert ask("run", "--open") == 0
        assert opened == [Path("run/report.html").resolve().as_uri()]

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["nowhere"], "nowhere"),
            (["."], "not a run"),
            (["task.toml"], "task.toml"),
            (["run", "--most", "0"], "most = 0"),
            (["run", "--prompts", "-1"], "prompts = -1"),
            (["run", "--seed", "-1"], "seed = -1"),
            (["run", "--task", "absent.toml"], "absent.toml"),
            (["run/portfolio.json", "--task", "task.toml"], "is a portfolio file"),
        ],
    )
    def test_what_cannot_be(self, arguments, said, capsys):
        code = ask(*arguments)
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert (code, said in line, line.startswith("palm: ")) == (2, True, True), line

    def test_the_folder_is_made_where_there_is_none(self):
        assert ask("run", "--out", "absent/there.html") == 0
        assert Path("absent/there.html").exists()

    def test_the_task_of_another_run(self, capsys):
        Path("other.toml").write_text(TASK.replace("0.1", "0.2"))
        assert ask("run", "--task", "other.toml") == 2
        assert "beta" in capsys.readouterr().err

    def test_where_nothing_can_be_written(self, capsys):
        assert ask("run", "--out", "task.toml/there.html") == 1
        assert "there.html" in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_what_fails_is_left_out_and_named(monkeypatch):
    from palm_core import WorkError

    def fail(*_, **__):
        raise WorkError("the solver gave up")

    monkeypatch.setattr("palm_eval.report.contents.run_figures", fail)
    monkeypatch.setattr("palm_eval.report.contents.evaluate_run", fail)
    found = gather_report("run")
    assert found.missing == ("Baselines: the solver gave up.", "Figures: the solver gave up.")
    page = render_report(found)
    assert "The solver gave up" in page or "the solver gave up" in page
    assert "<figure>" not in page


@pytest.mark.usefixtures("here")
def test_the_same_run_makes_the_same_page():
    assert render_report(gather_report("run")) == render_report(gather_report("run"))
