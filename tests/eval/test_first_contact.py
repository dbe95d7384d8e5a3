"""The commands of palm-eval, typed for the first time or typed wrong."""

from __future__ import annotations

from pathlib import Path

import command_rules as rules
import pytest
from command_rules import TASK, palm

COMMANDS = rules.commands_of("palm-eval")


@pytest.fixture(autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    return rules.clean_place(tmp_path_factory, monkeypatch)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("made")
    (place / "task.toml").write_text(TASK)
    assert palm("build", place / "task.toml", "--out", place / "run").code == 0
    return place / "run"


def test_all_of_them_are_here() -> None:
    assert COMMANDS == ["compare", "evaluate", "figures", "report", "reproduce", "tables"]


@pytest.mark.parametrize("name", COMMANDS)
class TestEveryCommand(rules.EveryCommand):
    pass


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (
            ("evaluate",),
            "evaluate needs RUN; for example: palm evaluate runs/first --task task.toml",
        ),
        (
            ("figures", "RUN"),
            "figures needs --out; for example: palm figures runs/first --out pictures",
        ),
        (("evaluate", "task.toml"), "task.toml: is a file, must be a run folder"),
        (("evaluate", "RUN", "--metric", "hypervolum"), "Did you mean 'hypervolume'?"),
        (
            ("evaluate", "RUN", "--task", "m.csv"),
            "--task 'm.csv': must be a task, a .toml file … palm select",
        ),
        (("evaluate", "RUN", "--samples", "1.5"), "--samples '1.5': must be a whole number"),
        (
            ("evaluate", "RUN", "--normalise", "none"),
            "evaluate has no option --normalise; did you mean --normalize?",
        ),
        (("figures", "RUN", "--out", "m.csv"), "--out m.csv: is a file, must be a folder"),
        (
            ("figures", "RUN", "--out", "m.csv/x"),
            "--out m.csv/x: … m.csv is a file",
        ),
        (
            ("figures", "RUN", "--out", "p", "--format", "PNG"),
            "--format 'PNG': must be svg, pdf or png; did you mean 'png'?",
        ),
        (
            ("figures", "RUN", "--out", "p", "--cells", "-1,2"),
            "--cells, ε' = -1.0: must be a finite number of at least 0",
        ),
        (
            ("tables", "RUN", "--sizes", "1,2"),
            "--sizes '1,2': must be whole numbers … 1 2 3",
        ),
        (("tables", "RUN", "--table", "2"), "--table '2': must be 1, 3, 4 or 5"),
        (
            ("report", "RUN", "--out", "m.csv"),
            "--out m.csv: exists … page",
        ),
        (("report", "RUN", "--out", "place"), "--out place: is a folder, must be a file"),
        (
            ("reproduce", "task.toml", "--page", "m.csv"),
            "--page m.csv: is a file, must be a folder",
        ),
        (
            ("reproduce", "m.csv"),
            "TASK 'm.csv': must be a task, a .toml file … palm select",
        ),
    ],
)
def test_mistakes_say_what_to_do(
    typed: tuple[str, ...], told: str, folder: Path, run_folder: Path
) -> None:
    (folder / "task.toml").write_text(TASK)
    (folder / "m.csv").write_text("mine")
    (folder / "place").mkdir()
    result = palm(*(run_folder if word == "RUN" else word for word in typed))
    assert (result.code, result.out) == (2, ""), result
    assert result.err.count("\n") == 1
    assert rules.parts_in_order(told, result.err), result
    assert (folder / "m.csv").read_text() == "mine"


@pytest.mark.parametrize("started", [True, False])
def test_a_page_that_no_browser_shows_is_named(
    started: bool, run_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webbrowser.open", lambda _: started)
    told = palm("report", run_folder, "--most", "2", "--out", "page.html", "--open")
    assert told.code == 0
    line = f"No browser could be started; the page is {(folder / 'page.html').resolve()}"
    assert (line in told.err) is not started
