"""What somebody meets who types a command for the first time, or types it wrong."""

from __future__ import annotations

import io
import os
import re
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import command_rules as rules
import pytest
from command_rules import TASK, palm, parts_in_order
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palm_core import Portfolio
from palm_core.cli import commands as plugin_commands
from palm_core.cli.app import HELP, OWN, add_completion, make_app
from palm_core.model.files import providers
from palm_core.plugin import ProgressDisplay, output
from palm_core.run.engine import Progress

COMMANDS = [*(function.__name__ for function in OWN), "completion"]
MODELS = "model,helpful,safe,cost\na,40,60,0.1\nb,64,70,2\nc,72,71,6\nd,50,90,3\n"


@pytest.fixture(autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = rules.clean_place(tmp_path_factory, monkeypatch)
    (place / "models.csv").write_text(MODELS)
    (place / "task.toml").write_text(TASK)
    return place


@pytest.mark.parametrize("name", COMMANDS)
class TestEveryCommand(rules.EveryCommand):
    pass


@pytest.mark.parametrize("asked", [(), ("--help",), ("-h",), ("help",)])
def test_orientation_is_one_screen_that_names_every_command(asked: tuple[str, ...]) -> None:
    told = palm(*asked)
    assert (told.code, told.err) == (0, "")
    lines = told.out.splitlines()
    assert len(lines) <= 36
    assert max(map(len, lines)) <= 80
    for name in set(make_app()) - {"-h", "--help", "--version"}:
        listed = [line for line in lines if line.strip("│ ").startswith(f"{name} ")]
        assert len(listed) == 1, name
        assert listed[0].rstrip("│ ").endswith("."), "a line each"
    commands = [line.split()[1] for line in lines if line.startswith("│")]
    assert commands.index("select") < commands.index("build")
    assert "other packages" not in told.out, "ours have a place"


def test_examples_of_the_orientation_are_understood() -> None:
    examples = [line.split()[1:] for line in HELP.splitlines() if line.startswith("    palm ")]
    assert len(examples) == 2
    for words in examples:
        assert make_app(words).parse_args(words, exit_on_error=False)[0].__name__ == words[0]


def test_help_before_a_command_is_its_help() -> None:
    assert palm("help", "select") == palm("select", "--help")


def test_version_tells_what_is_installed() -> None:
    lines = palm("--version").out.splitlines()
    assert re.fullmatch(r"palm-core \d+\.\d+\.\d+", lines[0])
    assert re.fullmatch(r"python 3\.\d+\.\d+\S*", lines[-1])


@pytest.mark.parametrize("force", [True, False])
def test_colours_are_for_terminals(force: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    colour = re.compile(r"\x1b\[[\d;]*3\dm")
    if force:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm-256color")
    assert bool(colour.search(palm("select", "--help").out)) is force
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colour.search(palm("select", "--help").out)


def test_sentences_fit_a_terminal_and_are_lines_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert palm("build", "task.toml", "--out", "run").code == 0
    piped = palm("prune", "run", "--epsilon", "0.05").out
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "70")
    wrapped = re.sub(r"\x1b\[[0-9;]*m", "", palm("prune", "run", "--epsilon", "0.05").out)
    assert wrapped.split() == piped.split()
    lines = wrapped.splitlines()
    assert max(map(len, lines)) <= 70 < max(map(len, piped.splitlines()))
    assert all(line == line.rstrip() for line in lines if "policy" not in line)
    theorem = [line for line in piped.splitlines() if line.startswith("Theorem 3.4: ")]
    assert len(theorem) == 1
    assert len(theorem[0]) > 100


@settings(max_examples=50)
@given(
    st.lists(st.text("abcdefgh", min_size=1, max_size=14), min_size=1, max_size=9),
    st.lists(st.text("klmnopqr", min_size=1, max_size=40), min_size=1, max_size=4, unique=True),
    st.integers(40, 130),
)
def test_a_table_loses_nothing_on_a_narrow_terminal(
    headers: list[str], labels: list[str], width: int
) -> None:
    rows = [[name, *(f"{i}.{j}" for j in range(len(headers)))] for i, name in enumerate(labels)]
    narrow = {"FORCE_COLOR": "1", "COLUMNS": str(width)}
    with patch.dict(os.environ, narrow), redirect_stdout(io.StringIO()) as shown:
        output.table(["", *headers], rows)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown.getvalue()).splitlines()
    assert max(map(len, lines)) <= width
    words = [word for line in lines for word in line.split()]
    numbers = [*headers, *(cell for row in rows for cell in row[1:])]
    assert all(words.count(cell) == numbers.count(cell) for cell in numbers)
    tables = "\n".join(line.rstrip() for line in lines).split("\n\n")
    for one in tables:
        folded = "".join(re.findall(r"^  ([k-r]+)", one, re.MULTILINE))
        assert folded == "".join(labels)
    with redirect_stdout(io.StringIO()) as piped:
        output.table(["", *headers], rows)
    assert len(piped.getvalue().splitlines()) == 1 + len(rows)


def test_words_of_a_table_are_broken_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "70")
    shown = re.sub(r"\x1b\[[0-9;]*m", "", palm("oracles").out).splitlines()
    assert max(map(len, shown[:-1])) <= 70
    monkeypatch.undo()
    told = palm("oracles").out.split()
    assert sorted(" ".join(shown).split()) == sorted(told)


@pytest.mark.parametrize("name", ["task", "[bold]a_task_with_a_long_name\x1b[2J"])
def test_progress_fits_80_columns(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    now = Progress(done=123, total=180, running=16, failed=0, certified=0.5419)
    with redirect_stderr(io.StringIO()) as shown, ProgressDisplay(name) as watch:
        watch(now)
    assert "\x1b[2J" not in shown.getvalue()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.getvalue())
    (line,) = {one for one in plain.splitlines() if "certified" in one}
    assert len(line) <= 80
    assert line.startswith(name[:6])
    for told in (": calls", "123/180", "16 running", "certified ε 54.19 %"):
        assert told in line


@pytest.mark.parametrize("name", sorted(providers("commands")))
def test_a_command_that_is_not_installed_is_known(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin_commands, "entry_points", lambda group: [])
    told = palm(name, "run")
    assert told.code == 2
    package = providers("commands")[name][-1]
    assert told.err.startswith(f"palm: palm {name} comes with {package}, which is not installed; ")
    assert f"./packages/{package}" in told.err


SELECT = ("select", "models.csv", "--maximize", "helpful", "safe")


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (("bild",), "unknown command 'bild'; did you mean 'build'?"),
        (("SELECT",), "unknown command 'SELECT'; did you mean 'select'?"),
        (("zzz",), "unknown command 'zzz' … palm --help"),
        (
            ("models.csv",),
            "unknown command 'models.csv'; for a table of models: palm select models.csv "
            "--maximize COLUMN --minimize COLUMN",
        ),
        (
            ("task.toml",),
            "unknown command 'task.toml'; for a task file: palm build task.toml --out RUN",
        ),
        (("--verzion",), "option --verzion; did you mean --version?"),
        (("-x",), "option -x … palm --help"),
        (
            ("select",),
            "select needs TABLE; for example: palm select models.csv --maximize helpful "
            "--minimize cost --epsilon 0.02",
        ),
        (
            ("build", "task.toml"),
            "build needs --out; for example: palm build task.toml --out runs/first --workers 2",
        ),
        (
            ("completion",),
            "completion needs SHELL (bash, zsh, fish or powershell); for example: palm completion "
            "bash --install",
        ),
        (("build", "task.toml", "-o", "r"), "build has no option -o; did you mean --out?"),
        ((*SELECT, "--max", "cost"), "select has no option --max; did you mean --maximize?"),
        ((*SELECT, "-m", "cost"), "select has no option -m … palm select --help"),
        (
            ("prune", "r", "--epsilom", "0.1"),
            "prune has no option --epsilom; did you mean --epsilon?",
        ),
        ((*SELECT, "--epsilon"), "--epsilon needs a value: NUMBER"),
        ((*SELECT, "--normalize"), "--normalize needs a value: minmax or none"),
        ((*SELECT, "--epsilon", "2%"), "--epsilon '2%': must be a number; 2 % is 0.02"),
        (
            (*SELECT, "--epsilon", "0,02"),
            "--epsilon '0,02': must be a number … 0.02",
        ),
        ((*SELECT, "--epsilon", "1/0"), "--epsilon '1/0': must be a number"),
        ((*SELECT, "--epsilon", "0.1", "--epsilon", "0.2"), "--epsilon: duplicate"),
        (
            (*SELECT, "--json=perhaps"),
            "--json 'perhaps': must … value",
        ),
        (
            (*SELECT, "--normalize", "MinMax"),
            "--normalize 'MinMax': must be minmax or none; did you mean 'minmax'?",
        ),
        ((*SELECT, "--most", "4"), "--most 4: … --curve"),
        ((*SELECT, "--curve", "--epsilon", "0.1"), "--curve … --epsilon"),
        (
            ("build", "task.toml", "--out", "r", "--target", "0.1", "--max-calls", "2.5"),
            "--max-calls '2.5': must be a whole number",
        ),
        (("build", "task.toml", "--out", ""), "--out '': must not be empty"),
        (
            ("build", "models.csv", "--out", "r"),
            "TASK 'models.csv': must be a task, a .toml file … palm select",
        ),
        (("plan", "tsk.toml"), "tsk.toml: no such task file; did you mean 'task.toml'?"),
        (("select", "model.csv"), "model.csv: no such file; did you mean 'models.csv'?"),
        (
            ("select", "MODELS"),
            "MODELS: must be a table file ending in one of .csv, .tsv, .json, .parquet, .npy, .npz",
        ),
        (("select", "no/models.csv"), "no/models.csv: no such file (the folder no does not exist)"),
        (("status", "task.toml"), "task.toml: is a file, must be a run folder"),
        (("runs", "task.toml"), "task.toml: is a file, must be a folder"),
        (
            ("select", "models.csv", "--maximize", "helpful,safe"),
            "--maximize helpful,safe: … --maximize helpful safe",
        ),
        (
            ("select", "models.csv", "--maximize", "HELPFUL", "safe"),
            "models.csv: no column 'HELPFUL'; did you mean 'helpful'?",
        ),
        (
            ("select", "comma.csv", "--maximize", "a", "b"),
            "comma.csv: column 'a', line 2: '1,5' is not a number … 1.5",
        ),
        (
            ("select", "utf16.csv", "--maximize", "a", "b"),
            "utf16.csv: must be UTF-8 text, byte 0 is not (spreadsheets call it 'CSV UTF-8')",
        ),
        (
            ("plan", "utf16.toml"),
            "utf16.toml: is not TOML: must be UTF-8 text, byte 0 is not",
        ),
    ],
)
def test_mistakes_say_what_to_do(typed: tuple[str, ...], told: str, folder: Path) -> None:
    (folder / "comma.csv").write_text('m,a,b\nx,"1,5",2\ny,1,3\n')
    (folder / "utf16.csv").write_text("m,a,b\nx,1,2\n", encoding="utf-16")
    (folder / "utf16.toml").write_text(TASK, encoding="utf-16")
    result = palm(*typed)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert parts_in_order(told, result.err), result


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        (("0.5,0.5",), "0.5,0.5: … '0.5' … must be name=value … helpful=0.5,safe=0.5"),
        (("helpful",), "helpful: … 'helpful' … must be name=value … helpful=0.5,safe=0.5"),
        (("helpfull=1",), "helpfull=1: … 'helpfull' … did you mean 'helpful'?"),
        (("zzz=1",), "zzz=1: … 'zzz' … helpful, safe"),
        (("helpful=1,helpful=0",), "helpful=1,helpful=0: duplicate … 'helpful'"),
        (("helpful=50%",), "helpful=50%: '50%': must be a number"),
        (("helpful=-1,safe=2",), "helpful=-1,safe=2: helpful = -1: must be in [0, 1]"),
        (("helpful=inf",), "helpful=inf: helpful = inf: must be in [0, 1]"),
        (
            ("helpful=7,safe=3",),
            "helpful=7,safe=3: 7 and 3 add to 10, must add to 1 … helpful=0.7,safe=0.3",
        ),
        (
            ("helpful=0.33,safe=0.33",),
            "helpful=0.33,safe=0.33: 0.33 and 0.33 add to 0.66, must add to 1 … "
            "helpful=0.5,safe=0.5",
        ),
        (
            ("helpful=0.5", "safe=0.5"),
            "helpful=0.5: adds to 0.5, must add to 1 … helpful=0.5,safe=0.5",
        ),
        (("helpful=0",), "helpful=0: adds to 0, must add to 1"),
    ],
)
def test_weight_vectors_that_are_none(weights: tuple[str, ...], told: str) -> None:
    assert palm(*SELECT, "--save", "p.json").code == 0
    result = palm("route", "p.json", "--weights", *weights)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert parts_in_order(f"--weights {told}", result.err), result


@given(
    st.lists(st.floats(0, 1e6), min_size=2, max_size=6).filter(lambda row: sum(row) > 1e-3),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_proportion_that_is_suggested_is_accepted(row: list[float]) -> None:
    from palm_core import InputError
    from palm_core.cli.parameters import read_weight_vectors

    names = [f"o{index}" for index in range(len(row))]
    text = ",".join(f"{name}={value!r}" for name, value in zip(names, row, strict=True))
    try:
        found = read_weight_vectors([text], names)
    except InputError as error:
        found = read_weight_vectors([str(error).rpartition(": ")[2]], names)
        for share, value in zip(found[0], row, strict=True):
            assert abs(share - value / sum(row)) < 0.01
    assert abs(sum(found[0]) - 1) < 1e-6


def test_fractions_are_numbers(folder: Path) -> None:
    assert (
        palm(*SELECT, "--epsilon", "1/50", "--json").out
        == palm(*SELECT, "--epsilon", "0.02", "--json").out
    )


def test_nothing_but_a_portfolio_is_written_over(folder: Path) -> None:
    refused = palm(*SELECT, "--save", "models.csv")
    assert (refused.code, refused.out) == (2, "")
    assert parts_in_order("--save models.csv: … exists … portfolio", refused.err)
    assert (folder / "models.csv").read_text() == MODELS
    assert palm(*SELECT, "--save", "p.json").code == 0
    assert palm(*SELECT, "--epsilon", "1", "--save", "p.json").code == 0
    assert len(Portfolio.load("p.json")) == 1
    (folder / "empty.json").touch()
    assert palm(*SELECT, "--save", "empty.json").code == 0
    (folder / "place").mkdir()
    (folder / "place" / "portfolio.json").write_text("mine")
    assert palm(*SELECT, "--save", "place").code == 2
    assert (folder / "place" / "portfolio.json").read_text() == "mine"


def test_no_device_or_pipe_is_replaced_by_a_file(folder: Path) -> None:
    import os

    pipe = folder / "pipe"
    os.mkfifo(pipe)
    told = palm(*SELECT, "--save", pipe)
    assert told.code == 2
    assert "is a pipe, a socket or a device, must be a file" in told.err
    assert pipe.is_fifo()


def test_prune_refuses_what_does_not_go_together() -> None:
    assert palm("build", "task.toml", "--out", "run").code == 0
    for more, told in (
        (("--mu", "2"), "--mu = 2.0: must be in [0, 1]"),
        (("--epsilon", "2"), "--epsilon = 2.0: must be in [0, 1]"),
        (("--epsilon", "0.1", "--mu", "0.1"), "--epsilon and --mu"),
        (("--epsilon", "0.1", "--method", "greedy"), "--epsilon = 0.1"),
        (("--mu", "0.1", "--most", "3"), "--most 3: … --curve"),
        (("--curve", "--solver", "cbc"), "--curve … --solver"),
        (("--mu", "0.1", "--save", "task.toml"), "--save task.toml: exists … portfolio"),
    ):
        result = palm("prune", "run", *more)
        assert (result.code, result.out) == (2, "")
        assert parts_in_order(told, result.err), result
    assert Path("task.toml").read_text() == TASK
    assert palm("prune", "run/portfolio.json", "--epsilon", "0.1").err == (
        "palm: run/portfolio.json: is a file, must be a run folder\n"
    )
    assert palm("prune", "rum", "--epsilon", "0.1").err == (
        "palm: rum: no such run folder; did you mean 'run'?\n"
    )


def test_completion_knows_its_commands_only_once() -> None:
    app = make_app(["completion"])
    with pytest.raises(Exception, match="completion"):
        add_completion(app)
