"""The tables of the paper as they are written, and ``palm tables`` from end to end."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from palm_command import run as palm

from palm_core import InputError, Run, build_portfolio, load_oracle
from palm_core.cli import commands as plugin_commands
from palm_eval import Comparison, Table, compare_runs, make_table
from palm_eval.comparison import Budget, Measured, Sweep, Swept
from palm_eval.tables import FORMATS, TABLES, Cell, Column, Section, latex, markdown

AWKWARD = "R&D_50%|*x* #1 {a} ~$^\\ <b>[c]"


def entry(epsilon: float, delta: float, perplexity: float = 1.5, size: int = 2) -> Measured:
    return Measured(
        policies=tuple(map(str, range(size))), epsilon=epsilon, delta=delta, perplexity=perplexity
    )


def comparison(name: str = "", **changes: object) -> Comparison:
    """PALM ahead at size 2, tied with Uniform as written at 3, alone at 4."""
    rows = (
        Swept(mu=0.001, portfolio=entry(0.02, 0.01, 3.1, 4)),
        Swept(mu=0.01, portfolio=entry(0.100004, 0.05, 2.5, 3)),
        Swept(mu=0.02, portfolio=entry(0.11, 0.05, 2.4, 3)),
        Swept(mu=0.1, portfolio=entry(0.2, 0.15, 1.9, 2)),
        Swept(mu=0.5, portfolio=entry(0.9, 0.8, 1.0, 1)),
    )
    grid = Sweep(
        run="runs/one",
        mu=14 / 30,
        alpha=0.07,
        target_epsilon=None,
        oracle_calls=17,
        missing=0,
        rows=rows,
    )
    adaptive = Sweep(
        run="runs/two",
        mu=None,
        alpha=None,
        target_epsilon=0.05,
        oracle_calls=25,
        missing=2,
        rows=(Swept(mu=0.05, portfolio=entry(0.3, 0.2)),),
    )
    plain = Comparison(
        name=name,
        objectives=("helpful", "brief_ly"),
        sizes=(2, 3, 4),
        methods={
            "palm": {2: rows[3].portfolio, 3: rows[1].portfolio, 4: rows[0].portfolio},
            "uniform": {2: entry(float("inf"), 0.14, 1.95), 3: entry(0.1, 0.049996, 2.5)},
            "random": {2: entry(0.3, 0.1, 1.2), 3: entry(0.1001, 0.01, 2.49)},
            "least": {2: entry(0.1, 0.1), 3: entry(0.05, 0.04), 4: entry(0.01, 0.01)},
        },
        absent={("uniform", 4): "why not", ("random", 4): "why not"},
        chosen={2: ("runs/one", 0.1), 3: ("runs/one", 0.01), 4: ("runs/one", 0.001)},
        budgets=(
            Budget(oracle_calls=17, palm=entry(0.1, 0.05, size=3), uniform_palm=None),
            Budget(oracle_calls=25, palm=entry(0.3, 0.2), uniform_palm=entry(0.25, 0.21, size=11)),
        ),
        sweeps=(grid, adaptive),
        gaps="exact",
        normalization="none",
        candidates=40,
        calls_made=12,
        samples=1000,
        seed=7,
    )
    return replace(plain, **changes)


def rows_of(written: str) -> list[list[str]]:
    """The cells of a Markdown table's rows, without heads and rule."""
    lines = [line for line in written.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def test_table_1_in_markdown() -> None:
    written = make_table("1", [comparison()]).render("markdown")
    assert rows_of(written) == [
        # ε decides, as in the paper, even where δ is larger.
        ["2", "**(0.2000, 0.1500)**", "(∞, 0.1400)", "(0.3000, 0.1000)", "(0.1000, 0.1000)"],
        # Written alike, both are the best; the least gap is no rival.
        [
            "3",
            "**(0.1000, 0.0500)**",
            "**(0.1000, 0.0500)**",
            "(0.1001, 0.0100)",
            "(0.0500, 0.0400)",
        ],
        # Nothing to compare with.
        ["4", "(0.0200, 0.0100)", "–", "–", "(0.0100, 0.0100)"],
    ]
    assert "over all weights, exactly" in written
    assert "Objectives helpful, brief\\_ly; against 40 policies, in the oracle's units." in written
    assert "– Uniform at 4: why not." in written
    assert "– Random at 4: why not." in written
    assert written.rstrip().endswith("Bold: the best of its row.")


def test_table_3_has_the_most_balanced_in_bold() -> None:
    table = make_table("3", [comparison()])
    assert rows_of(table.render("markdown")) == [
        ["2", "1.9000", "**1.9500**", "1.2000", "1.5000"],
        ["3", "**2.5000**", "**2.5000**", "2.4900", "1.5000"],
        ["4", "3.1000", "–", "–", "1.5000"],
    ]
    text = table.render("text")
    assert "1000 sampled weights, seed 7" in " ".join(text.split())
    around = [line for line in text.splitlines() if not re.match(r"[\d-]|Size", line)]
    assert len(around) > 5
    assert max(map(len, around)) <= 80


def test_table_4_has_a_row_for_each_budget() -> None:
    table = make_table("4", [comparison()])
    assert rows_of(table.render("markdown")) == [
        ["17", "(0.1000, 0.0500)", "3", "–", "–"],
        ["25", "(0.3000, 0.2000)", "2", "**(0.2500, 0.2100)**", "11"],
    ]
    assert any("--task asks its oracle" in note for note in table.notes)


def test_table_5_shows_the_papers_prunings_and_those_of_table_1() -> None:
    table = make_table("5", [comparison()])
    assert rows_of(table.render("markdown")) == [
        ["0.466667", "0.07", "17", "**0.001**", "**4**", "**0.0200**", "**0.0100**"],
        ["", "", "", "**0.01**", "**3**", "**0.1000**", "**0.0500**"],
        ["", "", "", "0.02", "3", "0.1100", "0.0500"],
        ["", "", "", "**0.1**", "**2**", "**0.2000**", "**0.1500**"],
        ["–", "–", "25", "0.05", "2", "0.3000", "0.2000"],
    ]
    notes = " ".join(table.notes)
    assert "runs/two was asked adaptively, for ε of 0.05: it has no μ and no α." in notes
    assert "runs/two: 2 of its weights have no answer." in notes
    # One star a row is enough in text; a line between runs in LaTeX.
    text = table.render("text")
    assert [line.count("*") for line in text.splitlines() if "0.001" in line] == [1]
    assert "what Table 1 shows" in text
    assert table.render("latex").count(r"\midrule") == 2


def test_text_marks_the_best_and_says_so() -> None:
    text = make_table("1", [comparison()]).render("text")
    assert "*(0.2000, 0.1500)  " in text
    assert "*: the best of its row." in text
    alone = make_table("1", [comparison(sizes=(4,))]).render("text")
    assert "*" not in alone


def test_csv_has_one_value_a_cell_and_loses_no_digit() -> None:
    made = [comparison("a, b"), comparison('"c"')]
    rows = list(csv.DictReader(io.StringIO(make_table("1", made).render("csv"))))
    assert [row["task"] for row in rows] == ["a, b"] * 3 + ['"c"'] * 3
    assert list(rows[0]) == [
        "task",
        "size",
        *(f"{name}_{gap}" for name in made[0].methods for gap in ("epsilon", "delta")),
    ]
    assert float(rows[1]["palm_epsilon"]) == 0.100004
    assert float(rows[0]["uniform_epsilon"]) == float("inf")
    assert rows[2]["uniform_epsilon"] == rows[2]["random_delta"] == ""
    rows = list(csv.DictReader(io.StringIO(make_table("5", made).render("csv"))))
    # What stands once above a block elsewhere is in every row here.
    assert [row["run"] for row in rows[:5]] == ["runs/one"] * 4 + ["runs/two"]
    assert {row["mu"] for row in rows[:4]} == {repr(14 / 30)}
    assert [row["in_table_1"] for row in rows[:5]] == ["yes", "yes", "no", "yes", "no"]


def test_several_tasks_are_sections_of_one_table() -> None:
    made = [comparison("Safety"), comparison(AWKWARD, normalization="minmax over 40 policies")]
    for number in TABLES:
        table = make_table(number, made)
        assert [section.title for section in table.sections] == ["Safety", AWKWARD]
        text = table.render("text").splitlines()
        assert text.index("Safety") < text.index(AWKWARD)
        heads = [row for row in rows_of(table.render("markdown")) if "Safety" in row[0]]
        assert [row[0] for row in heads] == ["**Safety**"]
        assert r"\textbf{Safety}} \\" in table.render("latex")
        assert any("rewards scaled to [0, 1]" in note for note in table.notes)
    notes = make_table("1", made).notes
    assert "– Safety, Uniform at 4: why not." in notes


def test_sampled_gaps_are_said_to_be() -> None:
    table = make_table("4", [comparison(gaps="sampled")])
    assert "over 1000 sampled weights" in table.caption
    assert "exactly" not in table.caption
    assert "seed 7" in table.notes[0]


# What may stand in our LaTeX besides letters, digits and harmless signs.
COMMANDS = (
    r"begin|end|centering|caption|label|toprule|midrule|bottomrule|multicolumn|textbf|par|"
    r"smallskip|footnotesize|varepsilon|delta|alpha|mu|infty|textbackslash|textasciitilde|"
    r"textasciicircum|textless|textgreater|textbar"
)


def check_latex(written: str) -> None:
    """No special character of LaTeX but in a command or an escape, and braces that match."""
    assert written.startswith("% \\usepackage{booktabs}\n")
    body = written.split("\n", 1)[1]
    body = re.sub(r"\\\\$", "", body, flags=re.MULTILINE)
    body = re.sub(rf"\\({COMMANDS})(?![A-Za-z])|\\[{{}}&%$#_]", "", body)
    assert "\\" not in body
    depth = 0
    for char in body:
        depth += {"{": 1, "}": -1}.get(char, 0)
        assert depth >= 0
    assert depth == 0
    assert body.count("$") % 2 == 0
    outside = "".join(body.split("$")[::2])
    assert not re.search(r"[_^%#~<>|\"\x00-\x09\x0b-\x1f]", outside)


@pytest.mark.parametrize("number", TABLES)
def test_latex_is_whole(number: str) -> None:
    made = comparison(
        AWKWARD, objectives=(AWKWARD, "x"), absent={("uniform", 4): AWKWARD}, chosen={}
    )
    table = make_table(number, [made])
    written = table.render("latex")
    check_latex(written)
    columns = len(re.search(r"\\begin{tabular}{([lr]+)}", written)[1])
    inside = written.split(r"\toprule")[1].split(r"\bottomrule")[0]
    rows = [line for line in inside.splitlines() if line.endswith(r"\\")]
    for row in rows:
        if not row.startswith(r"\multicolumn"):
            assert len(re.findall(r"(?<!\\)&", row)) == columns - 1
    assert rf"\label{{{table.label}}}" in written
    assert written.count(r"\begin{table}") == written.count(r"\end{table}") == 1


def test_latex_by_hand() -> None:
    assert latex("ε(P) and μ' of α_1") == r"$\varepsilon(P)$ and $\mu'$ of $\alpha$\_1"
    assert latex("50 % & $3 {x}") == r"50 \% \& \$3 \{x\}"
    assert latex("a\\b") == r"a\textbackslash{}b"
    assert latex("*[x] – ∞") == r"{*}{[}x] -- $\infty$"
    assert latex("a\nb\x1b") == r"a\textbackslash{}nb\textbackslash{}x1b"


@given(st.text(max_size=40))
def test_any_text_can_stand_in_any_table(text: str) -> None:
    made = Table(
        number="1",
        caption=text,
        columns=(Column(title="A", fields=("a",)), Column(title="B", fields=("b",))),
        sections=(
            Section(
                title=text, blocks=((((Cell(values=(text,)), Cell(values=(1,), best=True))),),)
            ),
        ),
        notes=(text,),
    )
    check_latex(made.render("latex"))
    assert all(len(row) == 2 for row in rows_of(made.render("markdown")))
    assert "\x1b" not in made.render("text") + made.render("csv")
    (row,) = csv.DictReader(io.StringIO(made.render("csv")))
    assert row["b"] == "1"


def test_markdown_reads_no_markup() -> None:
    assert markdown("a|b*c_d<e>") == r"a\|b\*c\_d\<e\>"
    assert markdown("1. x") == r"1\. x"
    assert markdown("- x") == r"\- x"
    assert markdown("0.5 - x") == "0.5 - x"


@pytest.mark.parametrize(
    ("number", "made", "message"),
    [
        ("2", [comparison()], "table = '2': must be one of 1, 3, 4, 5"),
        ("1", [], "comparisons: at least one"),
        ("1", [comparison("a"), comparison("b", gaps="sampled")], "exact and sampled gaps"),
        ("1", [comparison("a"), comparison("a")], "duplicate name 'a'"),
    ],
)
def test_bad_requests_in_python(number: str, made: list[Comparison], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_table(number, made)


def test_an_unknown_format() -> None:
    with pytest.raises(InputError, match="format = 'html': must be one of text, markdown"):
        make_table("1", [comparison()]).render("html")


# The command.

TASK = """
[oracle]
name = "tabular"
prompts = 6
responses = 20
[grid]
mu = 0.5
alpha = 0.1
"""


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    # The command itself is under test, not how this package happens to be installed.
    entry = EntryPoint("tables", "palm_eval.commands.tables:tables", plugin_commands.GROUP)
    monkeypatch.setattr(plugin_commands, "_entries", lambda: [entry])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("runs")
    oracle = load_oracle("tabular", prompts=6, responses=20)
    build_portfolio(oracle, mu=0.5, alpha=0.1, prune_mu=0.05, run_dir=made / "one")
    build_portfolio(oracle, mu=0.5, alpha=0.02, prune_mu=0.05, run_dir=made / "two")
    other = load_oracle("tabular", prompts=6, responses=20, beta=0.3)
    build_portfolio(other, mu=0.5, alpha=0.1, prune_mu=0.05, run_dir=made / "other")
    (made / "task.toml").write_text(TASK)
    return made


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = palm(["tables", *map(str, arguments)])
    return (code, *capsys.readouterr())


def test_all_tables_are_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (folder / "one", folder / "two", "--task", folder / "task.toml")
    code, out, told = command(capsys, *arguments, "--samples", 50)
    assert (code, told) == (0, "")
    assert re.findall(r"^Table (\S+)\.", out, re.MULTILINE) == ["1", "3", "4", "5/6"]
    assert "Random at" not in out
    code, out, _ = command(capsys, folder / "one", "--table", "4", "--table", "1")
    assert code == 0
    assert re.findall(r"^Table (\S+)\.", out, re.MULTILINE) == ["1", "4"]
    assert re.search(r"– Random at 2, .*: .*--task asks its oracle\.", " ".join(out.split()))


def test_files_are_written_and_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = {str(folder / name): Run.open(folder / name) for name in ("one", "two")}
    expected = compare_runs(runs, sizes=(2, 3), samples=50, seed=1)
    for form, ending in FORMATS.items():
        out = tmp_path / form / "deep"
        arguments = (*runs, "--sizes", 2, 3, "--samples", 50, "--seed", 1)
        code, said, _ = command(capsys, *arguments, "--out", out, "--format", form)
        assert code == 0
        files = [out / f"table-{number}.{ending}" for number in TABLES]
        assert said.split() == list(map(str, files))
        assert sorted(out.iterdir()) == files
        for number, file in zip(TABLES, files, strict=True):
            assert file.read_text("utf-8") == make_table(number, [expected]).render(form)


def test_csv_is_printed_one_table_at_a_time(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (folder / "one", "--format", "csv", "--sizes", 2, 3)
    code, out, told = command(capsys, *arguments, "--table", 1)
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["size"] for row in rows] == ["2", "3"]
    assert rows[0]["random_epsilon"] == ""
    assert "--task asks its oracle" in told  # notes have no place in the file
    code, out, told = command(capsys, *arguments)
    assert (code, out) == (2, "")
    assert "--format csv: " in told


def test_names_are_printed_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    oracle = load_oracle("tabular", objectives=[":smile:", "[b]x"], prompts=6, responses=20)
    build_portfolio(oracle, mu=0.9, alpha=0.3, run_dir=tmp_path)
    code, out, _ = command(capsys, tmp_path, "--table", 4)
    assert code == 0
    assert "Objectives :smile:, [b]x;" in out


def test_json_has_all_numbers(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (folder / "one", "--json", "--sizes", 2, "--gaps", "sampled", "--samples", 20)
    code, out, _ = command(capsys, *arguments, "--out", tmp_path, "--table", 1)
    assert code == 0
    document = json.loads(out)
    assert document["files"] == {"1": str(tmp_path / "table-1.txt")}
    runs = {str(folder / "one"): Run.open(folder / "one")}
    made = compare_runs(runs, sizes=[2], gaps="sampled", samples=20).document()
    assert {key: document[key] for key in made} == json.loads(json.dumps(made))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "none: no such run folder"),
        (["ONE", "OTHER"], "other: is not of the same oracle as"),
        (["ONE", "ONE"], "duplicate run"),
        (["ONE", "--task", "none.toml"], "none.toml"),
        (["OTHER", "--task", "TASK"], "must be the task of"),
        (["ONE", "--table", "2"], "table"),
        (["ONE", "--sizes", "0"], "sizes = 0: must be at least 1"),
        (["ONE", "--sizes", "2", "x"], "sizes"),
        (["ONE", "--sizes", "999999"], "sizes = 999999: must be at most"),
        (["ONE", "--format", "html"], "format"),
        (["ONE", "--gaps", "rough"], "gaps"),
        (["ONE", "--normalize", "z"], "normalize"),
        (["ONE", "--samples", "0"], "samples = 0"),
        (["ONE", "--seed", "-1"], "seed = -1"),
        (["ONE", "--out", "TASK"], "task.toml: is a file, must be a folder"),
        (["ONE", "--out", "TASK/x"], "task.toml is a file"),
        ([], "RUN"),
    ],
)
def test_bad_requests_are_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    places = {"ONE": folder / "one", "OTHER": folder / "other", "TASK": folder / "task.toml"}
    places["TASK/x"] = folder / "task.toml" / "x"
    code, out, told = command(capsys, *(places.get(word, word) for word in arguments))
    assert (code, out) == (2, "")
    assert told.startswith("palm: ")
    assert told.count("\n") == 1
    assert message in told
