from __future__ import annotations

import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from palm_command import run

from palm_core.plugin import Ledger
from palm_core.run.ledger import FILE_NAME
from palm_core.run.run import find_runs

ORACLE = """
import time
from palm_core import load_oracle

class Slow:
    def __init__(self, seconds: float = 0.0, hole: float = -1.0, d: int = 2, once: bool = False):
        names = ["helpful", "brief", "safe"][:d]
        self.oracle = load_oracle("tabular", objectives=names, prompts=4, responses=20)
        self.objectives, self.seconds, self.hole = self.oracle.objectives, seconds, hole
        self.once, self.asked = once, 0

    def solve(self, weights):
        for row in weights:
            print("a word from the oracle")
            self.asked += 1
            time.sleep(3600 if self.once and self.asked > 1 else self.seconds)
            if row[0] == self.hole:
                raise RuntimeError("the loss\\nis NaN")
            yield from self.oracle.solve(row[None])
"""


class Result(NamedTuple):
    code: int
    out: str
    err: str


class Palm:
    """`palm` in this process; the oracle's calls are made by a worker all the same."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: object) -> Result:
        self.capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        return Result(code, *self.capsys.readouterr())

    def json(self, *arguments: object) -> dict[str, Any]:
        result = self(*arguments, "--json")
        assert result.code == 0, result
        return dict(json.loads(result.out))


@pytest.fixture
def palm(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Palm:
    monkeypatch.chdir(tmp_path)
    return Palm(capsys)


@pytest.fixture(autouse=True)
def _modules_forgotten() -> Iterator[None]:
    path = list(sys.path)
    yield
    sys.path[:] = path
    for name in [name for name in sys.modules if name.startswith("slow_for_runs")]:
        del sys.modules[name]


def task(folder: Path, name: str = "task", how: str = "grid", **options: object) -> Path:
    """A task file of its own module, so that no other test's is taken for it."""
    module = f"slow_for_runs_{abs(hash(folder))}"
    (folder / f"{module}.py").write_text(ORACLE)
    lines = ["[oracle]", f'name = "{module}:Slow"']
    run_keys = {key: options.pop(key) for key in list(options) if key in RUN_KEYS}
    lines += [f"{key} = {json.dumps(value)}" for key, value in options.items()]
    asked = {
        "grid": "[grid]\nmu = 0.5\nalpha = 0.1",
        "fine": "[grid]\nmu = 0.25\nalpha = 0.1",
        "target": "[adaptive]\ntarget_epsilon = 0.02",
    }
    lines += [asked[how], "[prune]", "epsilon = 0.05", "[run]"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in run_keys.items()]
    file = folder / f"{name}.toml"
    file.write_text("\n".join(lines) + "\n")
    return file


RUN_KEYS = ("workers", "retries", "timeout", "executor", "threads")


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "palm_core", "build", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition: Any, seconds: float = 60.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.05)


def answered(out: Path) -> int:
    if not (out / FILE_NAME).exists():
        return 0
    try:
        with Ledger.read(out) as ledger:
            return ledger.counts().done
    except ValueError:  # being made
        return 0


def test_the_result_is_the_same_for_every_way_of_calling(palm: Palm, tmp_path: Path) -> None:
    for how in ("grid", "target"):
        file = task(tmp_path, how=how)
        found = set()
        for name, options in {
            "here": ["--executor", "here"],
            "one": [],
            "two": ["--workers", "2"],
        }.items():
            out = f"{how}-{name}"
            result = palm("build", file, "--out", out, *options)
            assert result.code == 0, result
            assert "a word from the oracle" not in result.out or name == "here"
            found.add((tmp_path / out / "portfolio.json").read_bytes())
        assert len(found) == 1
    log = (tmp_path / "grid-one" / "logs" / "worker-1.log").read_text()
    assert "a word from the oracle" in log


def test_status_and_runs_tell_how_far_runs_are(palm: Palm, tmp_path: Path) -> None:
    assert palm.json("runs") == {"runs": []}
    assert "No runs in" in palm("runs").out
    file = task(tmp_path, hole=0.5)
    built = palm("build", file, "--out", "runs/holed")
    assert built.code == 0
    assert "1 weight has no answer" in built.out
    assert "helpful = 0.50: RuntimeError: the loss is NaN (3 attempts)" in built.out
    assert "What is certified above does without them." in built.out
    assert "Theorem 3.4 does not apply: a weight of its grid has no answer" in built.out
    status = palm.json("status", "runs/holed")
    assert (status["done"], status["failed"], status["running"]) == (14, 1, 0)
    assert (status["state"], status["total"], status["failed_attempts"]) == ("finished", 15, 3)
    assert status["certificate"]["epsilon"] >= 0
    assert status["missing"][0]["message"] == "RuntimeError: the loss is NaN"
    assert status["made_with"]["palm-core"]
    assert (
        status["portfolio"]["policies"]
        == palm.json("build", file, "--out", "runs/holed")["portfolio"]
    )
    assert status["portfolio"]["certificate"]["epsilon"] >= status["certificate"]["epsilon"]
    shown = palm("status", "runs/holed")
    assert "14 of 15 done, 1 failed" in shown.out
    assert "failed at helpful = 0.50: RuntimeError: the loss is NaN (3 attempts)" in shown.out

    (tmp_path / "runs" / "odd").mkdir()
    (tmp_path / "runs" / "odd" / FILE_NAME).write_bytes(b"not a ledger, whatever its name says")
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "runs", target_is_directory=True)
    listed = palm.json("runs", ".")["runs"]
    assert [entry["state"] for entry in listed] == ["finished", "unreadable"]
    assert "is not a readable ledger" in palm("runs").out
    assert find_runs(tmp_path / "runs" / "holed") == [tmp_path / "runs" / "holed"]
    again = palm.json("build", file, "--out", "runs/holed")
    assert [item["weights"] for item in again["missing"]] == [[0.5, 0.5]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["status", "none"], "none: no such run folder"),
        (["status", "."], "is not a run"),
        (["runs", "none"], "none: no such folder"),
        (["build", "task.toml", "--out", "r", "--workers", "0"], "workers = 0: must be at least 1"),
        (["build", "task.toml", "--out", "r", "--executor", "slurm"], "slurm"),
        (
            ["build", "task.toml", "--out", "r", "--address", "auto"],
            "address = 'auto': requires executor = 'ray'",
        ),
        (
            ["build", "task.toml", "--out", "r", "--executor", "here", "--workers", "2"],
            "workers = 2: must be 1",
        ),
        (["build", "late.toml", "--out", "r"], "late.toml [run] timeout = 0"),
        (["build", "keys.toml", "--out", "r"], "did you mean 'workers'?"),
    ],
)
def test_bad_requests_cost_nothing(
    palm: Palm, tmp_path: Path, arguments: list[str], message: str
) -> None:
    task(tmp_path)
    task(tmp_path, "late", timeout=0)
    keys = task(tmp_path, "keys")
    keys.write_text(keys.read_text() + "worker = 2\n")
    result = palm(*arguments)
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith("palm: ")
    assert result.err.count("\n") == 1
    assert message in result.err
    assert not (tmp_path / "r").exists()


def test_extend_goes_on_with_another_grid_or_target(palm: Palm, tmp_path: Path) -> None:
    assert palm("build", task(tmp_path), "--out", "run").code == 0
    file = task(tmp_path, how="fine")
    refused = palm("build", file, "--out", "run")
    assert refused.code == 2
    assert "[grid] mu was 0.5, is 0.25. Use another --out, restore it, or add --ext" in refused.err
    portfolio = (tmp_path / "run" / "portfolio.json").read_bytes()
    assert refused.out == ""
    assert portfolio == (tmp_path / "run" / "portfolio.json").read_bytes()
    extended = palm.json("build", file, "--out", "run", "--extend")
    assert extended["oracle_calls"] > 15
    assert palm.json("status", "run")["done"] == extended["oracle_calls"]
    target = palm.json("build", file, "--target", "0.01", "--out", "run", "--extend")
    assert target["certificate"]["stopped"] == "target"
    # More workers are no other task.
    assert palm("build", file, "--target", 0.01, "--out", "run", "--workers", 2).code == 0
    other = task(tmp_path, "other", how="fine", d=3)
    refused = palm("build", other, "--out", "run", "--extend")
    assert refused.code == 2
    assert "objectives were helpful, brief, are helpful, brief, safe" in refused.err


def test_two_at_once_and_a_look_at_it_meanwhile(palm: Palm, tmp_path: Path) -> None:
    file = task(tmp_path, seconds=0.4, workers=2, once=True)  # each worker answers once
    first = start(tmp_path, file.name, "--out", "run")
    try:
        wait_for(lambda: answered(tmp_path / "run") >= 1)
        second = palm("build", file, "--out", "run")
        assert second.code == 2
        assert second.err.startswith(
            f"palm: run: another process is using this run (process {first.pid} on "
        )
        seen = palm.json("status", "run")
        assert seen["state"] == "running"
        assert seen["process"]["pid"] == first.pid
        assert 1 <= seen["done"] < 15
        assert 1 <= seen["running"] <= 2
        assert seen["seconds_left"] > 0
        assert "time left" in palm("status", "run").out
        assert palm.json("runs", ".")["runs"][0]["state"] == "running"
        first.send_signal(signal.SIGINT)
        _, told = first.communicate(timeout=60)
    finally:
        first.kill()
    assert first.returncode == 130
    lines = told.splitlines()
    assert lines[0].startswith("Stopped; ")
    assert f"To resume: palm build {file.name} --out run" in lines[0]
    assert lines[-1] == "palm: stopped"
    status = palm.json("status", "run")
    assert (status["state"], status["running"], status["failed"]) == ("stopped", 0, 0)
    assert status["interrupted_attempts"] >= 1
    assert "To resume: palm build TASK --out run" in palm("status", "run").out


def test_a_stopped_run_goes_on_as_its_last_words_say(tmp_path: Path) -> None:
    file = task(tmp_path, seconds=0.3)
    first = start(tmp_path, file.name, "--out", "run", "--target=0.05", "--workers=2")
    wait_for(lambda: answered(tmp_path / "run") >= 2)
    first.send_signal(signal.SIGTERM)  # as a scheduler does before it kills
    _, told = first.communicate(timeout=60)
    assert first.returncode == 143
    words = told.splitlines()[0].split("To resume: palm ")[1].split()
    kept = answered(tmp_path / "run")
    again = subprocess.run(
        [sys.executable, "-m", "palm_core", *words, "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert again.returncode == 0, again
    assert f"Resuming the run: {kept} call" in again.stderr
    assert json.loads(again.stdout)["certificate"]["epsilon"] <= 0.05


@pytest.fixture
def soak(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("soak")


@pytest.mark.parametrize("most", [2, pytest.param(6, marks=pytest.mark.scheduled)])
@pytest.mark.parametrize("how", ["grid", "adaptive"])
def test_killed_at_random_instants_a_run_ends_the_same(
    tmp_path: Path, how: str, most: int, soak: Any
) -> None:
    module, chance = soak, random.Random(how)
    whole = module.Run(tmp_path / "whole", how, 2, 0.01)
    whole.finish()
    run = module.Run(tmp_path / "killed", how, 2, 0.01)
    for kills in range(most):
        process = run.start()
        while kills and process.poll() is None and not module.workers_of(process.pid):
            time.sleep(0.05)  # the first kill is anywhere, the others are among the calls
        time.sleep(chance.uniform(0.0, 1.0))
        module.kill(process, chance)
        process.wait(60)
        process.stderr.close()
        assert run.check() == (0, 0)
    run.finish()
    assert run.check() == (0, 0)
    assert run.portfolio() == whole.portfolio()
    # A kill costs the calls in flight, one of each worker, and no other.
    assert whole.made() <= run.made() <= whole.made() + most * 2


# Root may write anywhere, unless it gives that up.
UNPRIVILEGED = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []


@pytest.mark.skipif(
    bool(UNPRIVILEGED) and shutil.which("setpriv") is None, reason="root needs setpriv for this"
)
def test_a_read_only_run_can_be_looked_at_and_not_built(palm: Palm, tmp_path: Path) -> None:
    file = task(tmp_path)
    assert palm("build", file, "--out", "run").code == 0
    places = [tmp_path / "run", *(tmp_path / "run").rglob("*")]
    for place in places:
        place.chmod(0o555 if place.is_dir() else 0o444)

    def unprivileged(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [*UNPRIVILEGED, sys.executable, "-m", "palm_core", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    try:
        built = unprivileged("build", file, "--out", "run")
        assert (built.returncode, built.stdout) == (1, "")
        assert built.stderr.count("\n") == 1
        assert "run: cannot be written: Permission denied" in built.stderr
        status = unprivileged("status", "run", "--json")
        assert status.returncode == 0, status
        assert json.loads(status.stdout)["done"] == 15
        (tmp_path / "run").chmod(0o755)
        (tmp_path / "run" / f"{FILE_NAME}-wal").write_bytes(b"left by a kill")
        (tmp_path / "run").chmod(0o555)
        status = unprivileged("status", "run")
        assert (status.returncode, status.stderr.count("\n")) == (1, 1)
        assert "copy the run to read it" in status.stderr
    finally:
        for place in places:
            place.chmod(0o755)


COSTLY = """
from dataclasses import replace
from palm_core import load_oracle

class Costly:
    epsilon = 0.0

    def __init__(self):
        names = ["helpful", "brief"]
        self.oracle = load_oracle("tabular", objectives=names, prompts=4, responses=20)
        self.objectives = self.oracle.objectives

    def solve(self, weights):
        for policy in self.oracle.solve(weights):
            yield replace(policy, rewards=policy.rewards - 1.0)
"""


def test_a_target_that_values_below_0_forbid_says_what_to_do(palm: Palm, tmp_path: Path) -> None:
    (tmp_path / "slow_for_runs_costly.py").write_text(COSTLY)
    task = tmp_path / "costly.toml"
    task.write_text(
        '[oracle]\nname = "slow_for_runs_costly:Costly"\n[adaptive]\ntarget_epsilon = 0.05\n'
        "max_calls = 9\n[run]\nexecutor = 'here'\n"
    )
    made = palm("build", task, "--out", tmp_path / "run")
    assert made.code == 0, made
    assert "below 0" in made.out
    assert "target_delta" in made.out
    assert "slack" not in made.out


LIAR = """
from dataclasses import replace
from palm_core import load_oracle

class Liar:
    def __init__(self, delta: float = 0.0):
        names = ["helpful", "brief"]
        self.oracle = load_oracle("tabular", objectives=names, prompts=4, responses=20)
        self.objectives, self.delta = self.oracle.objectives, delta

    def solve(self, weights):
        for policy in self.oracle.solve(weights):
            loss = 0.05 if 0 < policy.weights[0] < 1 else 0.0
            yield replace(policy, regularizer=policy.regularizer + loss)
"""


@pytest.mark.parametrize(("delta", "refuted"), [(0.0, True), (0.06, False)])
def test_a_refuted_claim_is_a_line_on_standard_error(
    palm: Palm, tmp_path: Path, delta: float, refuted: bool
) -> None:
    module = f"slow_for_runs_liar_{refuted}"
    (tmp_path / f"{module}.py").write_text(LIAR)
    task = tmp_path / "liar.toml"
    task.write_text(
        f'[oracle]\nname = "{module}:Liar"\ndelta = {delta}\n[grid]\nmu = 0.5\nalpha = 0.1\n'
        "[run]\nexecutor = 'here'\n"
    )
    made = palm("build", task, "--out", tmp_path / "run")
    assert made.code == 0, made
    warned = [line for line in made.err.splitlines() if line.startswith("palm: warning: ")]
    assert len(warned) == (1 if refuted else 0)
    found = palm("prune", tmp_path / "run", "--epsilon", "0.2", "--json")
    assert json.loads(found.out)["slack"]["refuted"] is refuted
    assert ("warning: " in found.err) is refuted
    shown = json.loads(palm("status", tmp_path / "run", "--json").out)
    assert shown["certificate"]["refuted"] is refuted
