"""`palm build --executor ray`, as a user types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

TASK = """
[oracle]
name = "tabular"
prompts = 4
responses = 20
[grid]
mu = 0.5
alpha = 0.1
[run]
num_cpus = 0.5
"""


def palm(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "palm_core", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=250)


def test_the_portfolio_is_the_same_byte_for_byte(tmp_path: Path) -> None:
    (tmp_path / "task.toml").write_text(TASK)
    local = palm(tmp_path, "build", "task.toml", "--out", "local")
    assert local.returncode == 0, local
    options = ("--executor", "ray", "--workers", "2", "--json")
    ray = palm(tmp_path, "build", "task.toml", "--out", "ray", *options)
    assert ray.returncode == 0, ray
    assert json.loads(ray.stdout)["oracle_calls"] == 15
    found = {(tmp_path / name / "portfolio.json").read_bytes() for name in ("local", "ray")}
    assert len(found) == 1
    again = palm(tmp_path, "build", "task.toml", "--out", "ray", *options)
    assert json.loads(again.stdout) == json.loads(ray.stdout)


def test_what_cannot_be_had_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "task.toml").write_text(TASK.replace("num_cpus = 0.5", "num_gpus = 64"))
    told = palm(tmp_path, "build", "task.toml", "--out", "run", "--executor", "ray")
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr.count("\n") == 1
    assert "num_gpus = 64" in told.stderr
    options = ("--executor", "ray", "--address", "127.0.0.1:1")
    told = palm(tmp_path, "build", "task.toml", "--out", "run", *options)
    assert told.returncode in (1, 2)
    assert (told.stdout, told.stderr.count("\n")) == ("", 1)
    assert "127.0.0.1:1" in told.stderr
