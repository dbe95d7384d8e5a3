"""What every benchmark states, what was measured of it, and the page made of both."""

from __future__ import annotations

import ast
import importlib
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parents[2] / "benchmarks"
NAMES = sorted(file.stem for file in FOLDER.glob("*.py") if not file.name.startswith("_"))


@pytest.fixture(scope="module", autouse=True)
def on_the_path() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield


@pytest.fixture
def page() -> Any:
    return importlib.import_module("common.page")


@pytest.fixture
def documents() -> Any:
    return importlib.import_module("common.documents")


def about(name: str) -> Any:
    return importlib.import_module(name).ABOUT


def test_all_benchmarks_are_on_the_page(page: Any) -> None:
    assert sorted(page.NAMES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_states_its_question_its_baseline_why_and_its_aims(name: str) -> None:
    one = about(name)
    assert one.question.endswith("?")
    assert one.against
    for text in (one.baseline, one.why, one.quick, one.full):
        assert len(text.split()) >= 2
    assert one.aims
    assert len({figure.name for figure in one.figures}) == len(one.figures)
    for aim in one.aims:
        assert aim.says, aim


@pytest.mark.parametrize("name", NAMES)
def test_help_answers(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "--quick" in shown
    assert "--results" in shown


def test_no_benchmark_loads_what_is_slow_or_missing_before_it_is_run() -> None:
    code = (
        f"import sys, {', '.join(NAMES)}; print({{'torch', 'trl', 'atheris'}} & set(sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": str(FOLDER)}
    shown = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert shown.stdout == "set()\n"


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_does_nothing_when_it_is_imported(name: str) -> None:
    body = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8")).body
    (guard,) = [node for node in body if isinstance(node, ast.If) and "__main__" in str_of(node)]
    (call,) = guard.body
    assert ast.unparse(call).startswith("run(__file__, ABOUT, measure")


def str_of(node: ast.If) -> str:
    return ast.unparse(node.test)


def test_the_page_is_what_the_documents_give(page: Any) -> None:
    made = page.make()
    assert page.PAGE.read_text(encoding="utf-8") == made, "python benchmarks --page makes it anew"


def test_the_picture_shows_what_the_documents_hold(page: Any, documents: Any) -> None:
    drawing = importlib.import_module("common.drawing")
    shown = page.PICTURE.read_text(encoding="utf-8")
    wanted = drawing.digest(page.declared(), documents.load())
    assert f"data {wanted}" in shown, "python benchmarks --page makes it anew"
    assert "<dc:date>" not in shown


def test_documents_hold_declared_figures_only(documents: Any) -> None:
    files = sorted(documents.FOLDER.glob("*.json"))
    assert files
    for file in files:
        document = documents.msgspec.json.decode(file.read_bytes(), type=documents.Document)
        assert file.name in {f"{document.benchmark}.json", f"{document.benchmark}.quick.json"}
        assert ("quick" in file.name) == document.quick
        declared = {figure.name for figure in about(document.benchmark).figures}
        assert document.figures.keys() <= declared, f"{file.name}: run it again"


def test_an_aim_that_is_not_met_is_explained(page: Any) -> None:
    assert page.UNEXPLAINED not in page.PAGE.read_text(encoding="utf-8")


def test_no_place_of_one_machine_is_in_a_document(documents: Any) -> None:
    for file in documents.FOLDER.glob("*.json"):
        assert not re.search(r"/(tmp|home|root|work)/", file.read_text(encoding="utf-8")), file


class TestJudging:
    """Aims on values of which some are only bounds."""

    def judged(self, values: list[Any], **aim: Any) -> tuple[bool | None, int, int]:
        declared = importlib.import_module("common.declared")
        value = importlib.import_module("common.documents").Value
        one = declared.Aim("x", declared.Figure("y"), **aim)
        found = one.judge([value("z", *item) for item in values])
        return found.met, found.within, found.of

    @pytest.mark.parametrize(
        ("values", "aim", "wanted"),
        [
            ([(40.0,), (41.0,)], {"least": 40}, (True, 2, 2)),
            ([(39.9,), (41.0,)], {"least": 40}, (False, 1, 2)),
            ([(50.0, "≥")], {"least": 40}, (True, 1, 1)),
            ([(30.0, "≥")], {"least": 40}, (None, 0, 1)),
            ([(30.0, "≤")], {"least": 40}, (False, 0, 1)),
            ([(50.0, "≤")], {"least": 40}, (None, 0, 1)),
            ([(1.0, "≥")], {"most": 2}, (None, 0, 1)),
            ([(3.0, "≥")], {"most": 2}, (False, 0, 1)),
            ([(1.0, "≤")], {"most": 2}, (True, 1, 1)),
            ([(0.92,), (0.95,), (0.98,)], {"least": 0.93, "most": 0.97}, (False, 1, 3)),
            ([(1.0,), (50.0,), (60.0,)], {"least": 40, "over": "median"}, (True, 1, 1)),
            ([(1.0,), (39.0,), (60.0,)], {"least": 40, "over": "median"}, (False, 0, 1)),
            ([(1.0,), (50.0, "≥"), (60.0,)], {"least": 40, "over": "median"}, (True, 1, 1)),
            ([(1.0,), (99.0,)], {"least": 10, "over": "geometric mean"}, (False, 0, 1)),
            ([(1.0,), (101.0,)], {"least": 10, "over": "geometric mean"}, (True, 1, 1)),
            ([(1.0,), (99.0, "≥")], {"least": 10, "over": "geometric mean"}, (None, 0, 1)),
            ([], {"least": 1}, (None, 0, 0)),
        ],
    )
    def test_a_verdict(self, values: list[Any], aim: dict[str, Any], wanted: Any) -> None:
        assert self.judged(values, **aim) == wanted

    @pytest.mark.parametrize("aim", [{}, {"least": 2, "most": 1}])
    def test_an_aim_without_a_bound_is_refused(self, aim: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="least"):
            self.judged([], **aim)


class TestTheWay:
    """A benchmark that measures nothing much, from its figures to the page's words."""

    SCRIPT = """
from common import Aim, Benchmark, Figure, run

RATIO = Figure("slow / fast", drawn="time")
ABOUT = Benchmark("Is it?", "the other", "the other one", "it is there", "fast", "slow",
                  (RATIO,), (Aim("2 times faster", RATIO, least=2),))

def measure(given, record):
    table = record.table("seconds", "name  ", " time")
    table.row("a|b", "1.0")
    record.value(RATIO, "one", 3.0)
    record.value(RATIO, "two", 1 / 3, "≥")
    record.note("A note.")

if __name__ == "__main__":
    run(__file__, ABOUT, measure)
"""

    def run(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
        script = folder / "small.py"
        script.write_text(self.SCRIPT, encoding="utf-8")
        words = [str(script), *arguments, "--results", str(folder / "results")]
        monkeypatch.setattr(sys, "argv", words)
        runpy.run_path(str(script), run_name="__main__")

    def test_what_is_printed_is_written(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        documents: Any,
    ) -> None:
        self.run(tmp_path, monkeypatch, "--quick")
        shown = capsys.readouterr().out
        assert "a|b       1.0" in shown
        assert "aim not decided (1 of 2): 2 times faster" in shown
        assert [file.name for file in (tmp_path / "results").iterdir()] == ["small.quick.json"]
        found = documents.load(tmp_path / "results")["small"]
        assert found.tables[0].columns == ["name", "time"]
        assert found.tables[0].rows == [["a|b", "1.0"]]
        assert found.figures["slow / fast"][1] == documents.Value("two", 0.333333, "≥")
        assert found.notes == ["A note."]
        assert found.conditions.load[1] >= 0

    def test_a_whole_run_is_shown_even_if_a_quick_one_is_newer(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, documents: Any
    ) -> None:
        self.run(tmp_path, monkeypatch)
        self.run(tmp_path, monkeypatch, "--quick")
        assert not documents.load(tmp_path / "results")["small"].quick

    def test_the_page_tells_verdict_range_and_what_was_not_installed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, documents: Any, page: Any
    ) -> None:
        self.run(tmp_path, monkeypatch)
        found = documents.load(tmp_path / "results")
        monkeypatch.syspath_prepend(str(tmp_path))
        asked = {"small": importlib.import_module("small").ABOUT}
        row = page.summary(asked, found).splitlines()[-1]
        assert row.startswith("| [small](#small) | Is it? | the other | 2 times faster |")
        assert row.endswith("| ≥\u202f1.67× (≥\u202f0.333× to 3×; 2) | not decided (1 of 2) |")
        text = page.section("small", asked["small"], found["small"], found)
        assert "- 2 times faster: not decided (1 of 2)." in text
        assert "| a\\|b | 1.0 |" in text
        assert "A note." in text
        newer = found["small"]
        newer.versions = {**newer.versions, "numpy": "0.1"}
        others = {**found, "b": documents.load(tmp_path / "results")["small"]}
        others["c"] = others["b"]
        assert "Other than above: numpy 0.1." in page.section(
            "small", asked["small"], newer, others
        )
        assert "Not run yet." in page.section("small", asked["small"], None, found)
