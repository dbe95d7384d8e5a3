from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from palm_command import run

from palm_core import Portfolio
from palm_core.plugin import output

MODELS = """model,helpful,safe,cost
tiny,40,60,0.1
small,55,62,0.5
mid,64,70,2.0
large,72,71,6.0
huge,73,69,20.0
careful,50,90,3.0
worse,45,60,9.0
"""
TASK = """[oracle]
name = "tabular"
prompts = 4
responses = 20
[grid]
mu = 0.5
alpha = 0.2
[prune]
mu = 0.05
method = "exact"
"""


class Result(NamedTuple):
    code: int
    out: str
    err: str

    def json(self) -> dict[str, object]:
        return dict(json.loads(self.out))


Palm = Callable[..., Result]


@pytest.fixture
def palm(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Palm:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "models.csv").write_text(MODELS)
    (tmp_path / "task.toml").write_text(TASK)

    def call(*arguments: object) -> Result:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        return Result(code, *capsys.readouterr())

    return call


SELECT = ("select", "models.csv", "--maximize", "helpful", "safe", "--minimize", "cost")


def test_select_tells_what_it_found(palm: Palm) -> None:
    result = palm(*SELECT, "--epsilon", "0.1")
    assert result.code == 0
    assert result.err == ""
    document = palm(*SELECT, "--epsilon", "0.1", "--json").json()
    kept = document["portfolio"]
    assert isinstance(kept, list)
    assert f"{len(kept)} of 7 models are enough" in result.out
    for name in kept:
        assert name in result.out
    assert "(proven)" in result.out


def test_select_json_has_the_keys_that_others_rely_on(palm: Palm) -> None:
    document = palm(*SELECT, "--epsilon", "0.1", "--json").json()
    assert {"portfolio", "epsilon", "delta", "status", "lower_bound"} <= document.keys()
    assert document["status"] == "optimal"
    assert document["lower_bound"] == len(document["portfolio"])
    assert 0 <= document["epsilon"] <= 0.1


def test_select_takes_columns_in_one_option_or_in_several(palm: Palm) -> None:
    one = palm(*SELECT, "--json")
    two = palm(
        "select",
        "models.csv",
        "--maximize",
        "helpful",
        "--minimize",
        "cost",
        "--maximize",
        "safe",
        "--json",
    )
    assert one.json() == two.json()


def test_select_shows_what_each_model_buys(palm: Palm) -> None:
    points = palm(*SELECT, "--curve", "--json").json()["curve"]
    assert isinstance(points, list)
    sizes = [point["size"] for point in points]
    assert sizes == sorted(set(sizes))
    for point in points:
        document = palm(*SELECT, "--epsilon", point["epsilon"] + 1e-8, "--json").json()
        assert len(document["portfolio"]) == point["size"]
    assert "proven" in palm(*SELECT, "--curve").out


def test_a_selection_is_saved_and_routed(palm: Palm) -> None:
    assert palm(*SELECT, "--epsilon", "0.1", "--save", "p.json").code == 0
    result = palm("route", "p.json", "--weights", "safe=1")
    assert result.out == "careful\n"
    document = palm("route", "p.json", "--weights", "safe=1", "cost=1", "--json").json()
    routes = document["routes"]
    assert isinstance(routes, list)
    assert [route["weights"] for route in routes] == [[0, 1, 0], [0, 0, 1]]


def test_plan_build_prune_route(palm: Palm, tmp_path: Path) -> None:
    plan = palm("plan", "task.toml", "--json").json()
    assert plan["oracle_calls"] == 11
    built = palm("build", "task.toml", "--out", "run")
    assert built.code == 0
    assert "Against all" in built.out
    document = palm("build", "task.toml", "--out", "run", "--json").json()
    assert {"portfolio", "oracle_calls", "certificate"} <= document.keys()
    assert document["oracle_calls"] == 11
    before = (tmp_path / "run" / "portfolio.json").read_bytes()
    pruned = palm("prune", "run", "--mu", "0.5", "--json").json()
    assert len(pruned["portfolio"]) <= len(document["portfolio"])
    assert (tmp_path / "run" / "portfolio.json").read_bytes() == before
    assert palm("prune", "run", "--mu", "0.5", "--save", "other.json").code == 0
    assert [p.id for p in Portfolio.load("other.json").policies] == pruned["portfolio"]
    curve = palm("prune", "run", "--curve", "--most", "3", "--json").json()["curve"]
    assert isinstance(curve, list)
    assert curve[0]["size"] == 1
    assert "least exact ε" in palm("prune", "run", "--curve", "--most", "2").out
    first = Portfolio.load("run").route([1.0, 0.0]).id
    assert palm("route", "run", "--weights", "helpful=1").out.strip() == first


def test_building_to_a_certified_target(palm: Palm, tmp_path: Path) -> None:
    document = palm("build", "task.toml", "--target", "0.1", "--out", "run", "--json").json()
    certificate = document["certificate"]
    assert isinstance(certificate, dict)
    assert certificate["epsilon"] <= 0.1
    assert certificate["delta"] >= 0
    shown = palm("build", "task.toml", "--target", "0.1", "--out", "run")
    assert "Against every policy there is, at every weight:" in shown.out
    early = palm("build", "task.toml", "--target", "0.001", "--max-calls", "3", "--out", "early")
    assert "The target was not reached within the calls allowed" in early.out
    (tmp_path / "adaptive.toml").write_text(
        TASK.replace("[grid]", "[adaptive]").replace(
            "mu = 0.5\nalpha = 0.2", "target_epsilon = 0.1"
        )
    )
    assert "certified" in palm("plan", "adaptive.toml").out
    assert palm("plan", "adaptive.toml", "--json").json()["oracle_calls"] is None


def test_commands_that_are_suggested_work(palm: Palm) -> None:
    shown = palm("build", "task.toml", "--out", "run").out
    saved = palm(*SELECT, "--save", "p.json").err
    missing = palm("route", "p.json").err
    suggested = [
        line[line.index("palm ") + 5 :].split()
        for line in (shown + saved).splitlines()
        if ": palm " in line and ": palm report" not in line  # where palm-eval is installed
    ]
    assert len(suggested) == 3
    suggested.append(["route", "p.json", *missing[missing.index("example ") + 8 :].split()])
    for words in suggested:
        assert palm(*words, *(["--most", "2"] if "--curve" in words else [])).code == 0, words


def test_plan_of_a_huge_grid_answers_and_build_refuses(palm: Palm, tmp_path: Path) -> None:
    huge = TASK.replace("mu = 0.5", "mu = 1e-12").replace("alpha = 0.2", "alpha = 0.001")
    (tmp_path / "huge.toml").write_text(huge)
    plan = palm("plan", "huge.toml", "--json").json()
    assert plan["oracle_calls"] > 10**12
    assert palm("plan", "huge.toml").code == 0
    refused = palm("build", "huge.toml", "--out", "run")
    assert refused.code == 2
    assert "weights, must have at most 1 000 000" in refused.err
    assert not (tmp_path / "run").exists()


def test_an_oracle_of_ones_own_lies_beside_the_task(palm: Palm, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "own_for_cli.py").write_text(
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from palm_core import Policy\n"
        "class Own:\n"
        "    objectives = ('a', 'b')\n"
        "    def __init__(self, table: Path, run_seed: int) -> None:\n"
        "        self.table, self.seed = np.loadtxt(table), run_seed\n"
        "    def solve(self, weights):\n"
        "        for w in weights:\n"
        "            i = int(np.argmax(self.table @ w))\n"
        "            yield Policy(id=f'{i} {self.seed}', weights=w, rewards=self.table[i])\n"
    )
    (folder / "table.txt").write_text("1 0\n0.8 0.8\n0 1\n")
    (folder / "t.toml").write_text(
        '[oracle]\nname = "own_for_cli:Own"\ntable = "table.txt"\n'
        "[grid]\nmu = 0.5\nalpha = 0.2\n[prune]\nepsilon = 0.5\n[run]\nseed = 7\n"
    )
    document = palm("build", "mine/t.toml", "--out", "run", "--json").json()
    assert document["portfolio"] == ["1 7"]


def test_oracles_are_listed_without_being_loaded(palm: Palm) -> None:
    result = palm("oracles")
    assert "tabular" in result.out
    listed = palm("oracles", "--json").json()["oracles"]
    assert isinstance(listed, list)
    assert {"tabular", "mod", "grpo"} <= {info["name"] for info in listed}


def test_routing_a_table_of_weights(palm: Palm, tmp_path: Path) -> None:
    palm(*SELECT, "--epsilon", "0.1", "--save", "p.json")
    (tmp_path / "w.csv").write_text("safe,helpful,cost\n1,0,0\n0,0,1\n")
    lines = palm("route", "p.json", "--table", "w.csv").out.splitlines()
    assert len(lines) == 2
    assert lines[0].endswith("careful")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("select", "none.csv", "--maximize", "a", "b"), "none.csv: no such file"),
        (("select", ".", "--maximize", "a", "b"), ".: is a folder, must be a table: .csv"),
        (("select", "folder.csv", "--maximize", "a", "b"), "is a folder, must be"),
        (("select", "empty.csv", "--maximize", "a", "b"), "the file is empty"),
        (("select", "nan.csv", "--maximize", "a", "b"), "line 3: 'nan' is not finite"),
        (("select", "inf.csv", "--maximize", "a", "b"), "'-inf' is not finite"),
        (("select", "text.csv", "--maximize", "a", "b"), "'n/a' is not a number"),
        (("select", "double.csv", "--maximize", "a"), "duplicate column 'a'"),
        (("select", "one.csv", "--maximize", "a", "b"), "must have at least 2 models, has 1"),
        (("select", "flat.csv", "--maximize", "a", "b"), "'b': all values are 1"),
        (("select", "models.csv", "--maximize", "helpful"), "got 'helpful' only"),
        (("select", "models.csv"), "; for example: palm select models.csv --maximize helpful safe"),
        (
            ("select", "models.csv", "--minimize", "cost"),
            "; for example: palm select models.csv --maximize helpful --minimize cost",
        ),
        (("select", "models.csv", "--maximize", "helpfull", "safe"), "did you mean 'helpful'"),
        (
            ("select", "models.csv", "--maximize", "safe", "safe"),
            "duplicate objective: column 'safe'",
        ),
        ((*SELECT, "--epsilon", "1.5"), "epsilon = 1.5: must be in [0, 1]"),
        ((*SELECT, "--epsilon", "nan"), "epsilon = nan"),
        ((*SELECT, "--epsilon", "two"), "--epsilon"),
        ((*SELECT, "--delta", "-1"), "delta = -1"),
        ((*SELECT, "--time-limit", "0"), "time_limit = 0"),
        ((*SELECT, "--normalize", "zscore"), "zscore"),
        ((*SELECT, "--epsilom", "0.1"), "did you mean --epsilon"),
        (("selct",), "did you mean 'select'"),
        (("select",), "TABLE"),
        (("plan", "none.toml"), "none.toml: no such task file"),
        (("plan", "."), "is a folder, must be"),
        (("plan", "mu0.toml"), "mu0.toml [grid] mu = 0: must be in (0, 1]"),
        (("plan", "mu2.toml"), "mu2.toml [grid] mu = 2: must be in (0, 1]"),
        (("plan", "alpha.toml"), "alpha.toml [grid] alpha = 1.5: must be in (0, 1]"),
        (("plan", "oracle.toml"), "unknown oracle 'tabula'"),
        (("plan", "option.toml"), "[oracle] promts: unknown option of 'tabular'"),
        (("plan", "value.toml"), "beta"),
        (("plan", "mod.toml"), "palm-mod"),
        (("plan", "adaptive.toml"), "adaptive"),
        (("build", "task.toml"), "--out"),
        (("build", "task.toml", "--out", "r", "--target", "2"), "target_epsilon = 2.0: must be in"),
        (("build", "task.toml", "--out", "r", "--max-calls", "9"), "max_calls = 9: requires"),
        (("build", "task.toml", "--out", "models.csv"), "models.csv: is a file"),
        (("prune", "none"), "none: no such run folder"),
        (("prune", "."), "is not a run"),
        (("prune", "run"), "--epsilon, --delta, --mu, --alpha or --method is missing"),
        (("prune", "run", "--mu", "-1"), "mu = -1"),
        (("prune", "run", "--mu", "0.1", "--curve"), "--curve"),
        (("route", "none.json", "--weights", "a=1"), "no such file"),
        (("route", ".", "--weights", "a=1"), "folder without a portfolio.json"),
        (("route", "cut.json", "--weights", "helpful=1"), "incomplete or not JSON"),
        (("route", "newer.json", "--weights", "helpful=1"), "upgrade palm-core"),
        (("route", "run"), "--weights or --table is missing"),
        (("route", "run", "--weights", "helpful=0.5,brief=0.6"), "add to 1.1, must add to 1"),
        (("route", "run", "--weights", "helpfull=1"), "did you mean 'helpful'"),
        (("route", "run", "--weights", "helpful=x"), "'x': must be a number"),
        (("route", "run", "--weights", "helpful"), "must be name=value"),
        (("route", "run", "--weights", "helpful=0.5,helpful=0.5"), "duplicate objective 'helpful'"),
        (("route", "run", "--weights", "helpful=nan,brief=1"), "helpful = nan: must be in [0, 1]"),
    ],
)
def test_bad_requests_get_one_line_and_code_2(
    palm: Palm, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    files = {
        "empty.csv": "",
        "nan.csv": "m,a,b\nx,1,2\ny,nan,1\n",
        "inf.csv": "m,a,b\nx,1,2\ny,-inf,1\n",
        "text.csv": "m,a,b\nx,1,2\ny,n/a,1\n",
        "double.csv": "m,a,a\nx,1,2\n",
        "one.csv": "m,a,b\nx,1,2\n",
        "flat.csv": "m,a,b\nx,1,1\ny,2,1\n",
        "mu0.toml": TASK.replace("mu = 0.5", "mu = 0"),
        "mu2.toml": TASK.replace("mu = 0.5", "mu = 2"),
        "alpha.toml": TASK.replace("alpha = 0.2", "alpha = 1.5"),
        "oracle.toml": TASK.replace('"tabular"', '"tabula"'),
        "option.toml": TASK.replace("prompts", "promts"),
        "value.toml": TASK.replace("prompts = 4", "beta = -1"),
        "mod.toml": '[oracle]\nname = "mod"\n[grid]\nmu = 0.5\nalpha = 0.2\n',
        "adaptive.toml": TASK.replace("[grid]", "[adaptivee]"),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "folder.csv").mkdir()
    if {"run", "cut.json", "newer.json"} & set(arguments):
        assert palm("build", "task.toml", "--out", "run").code == 0
        whole = (tmp_path / "run" / "portfolio.json").read_text()
        (tmp_path / "cut.json").write_text(whole[: len(whole) // 2])
        (tmp_path / "newer.json").write_text(whole.replace('"version": 1', '"version": 99'))
    result = palm(*arguments)
    assert result.code == 2, result
    assert result.out == ""
    assert result.err.startswith("palm: ")
    assert result.err.count("\n") == 1
    assert message in result.err


def test_failing_work_has_code_1_and_keeps_what_was_done(palm: Palm, tmp_path: Path) -> None:
    (tmp_path / "failing_for_cli.py").write_text(
        "import numpy as np\n"
        "from palm_core import Policy\n"
        "class Failing:\n"
        "    objectives = ('a', 'b')\n"
        "    def solve(self, weights):\n"
        "        for w in weights:\n"
        "            if w[0] < 0.6: raise RuntimeError('CUDA out of memory')\n"
        "            yield Policy(id=str(w), weights=w, rewards=w)\n"
    )
    (tmp_path / "f.toml").write_text(
        '[oracle]\nname = "failing_for_cli:Failing"\n[grid]\nmu = 0.5\nalpha = 0.2\n'
    )
    result = palm("build", "f.toml", "--out", "run")
    assert result.code == 1
    assert result.out == ""
    assert result.err == (
        "palm: the oracle failed at 4 weights in a row; last: RuntimeError: CUDA out of memory; "
        "the 4 finished calls are saved\n"
    )


def command(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "palm_core", *arguments], capture_output=True, text=True, **options
    )


def test_help_is_light_and_names_every_command() -> None:
    result = command("--help")
    assert result.returncode == 0
    for name in ("select", "route", "oracles", "plan", "build", "prune"):
        assert name in result.stdout
    heavy = "import sys; sys.argv = ['palm', '--help']\n" + (
        "from palm_core.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('numba', 'scipy', 'torch', 'pulp', 'matplotlib') if m in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True)
    assert loaded.stdout.splitlines()[-1] == "[]", loaded


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "models.csv").write_text(MODELS)
    line = f"{sys.executable} -m palm_core {' '.join(SELECT)} --json | true"
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], cwd=tmp_path, capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_without_the_extra_one_line_says_what_to_install() -> None:
    hidden = (
        "import sys; sys.modules['cyclopts'] = None\nfrom palm_core.__main__ import main\nmain()"
    )
    result = subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert 'python -m pip install "cyclopts' in result.stderr


def test_names_stay_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """No code for a picture, no markup: what a file calls a policy is what is printed."""
    output.say(":smile: [bold]a[/bold]")
    output.note(":smile: [bold]a[/bold]")
    said = capsys.readouterr()
    assert said.out.strip() == said.err.strip() == ":smile: [bold]a[/bold]"
