"""Compare machine-readable output of ``palm`` with recorded output.

After an intended change, ``nox -s golden -- tests/golden --record`` rewrites ``expected/``, and
the diff shows the change. Sentences are not compared, nor values that depend on the date, the
machine or installed versions.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
import shlex
import shutil
import sqlite3
import sys
import time
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent

#: Keys whose values depend on the date, the machine or installed versions.
VOLATILE = {"begun", "made_with", "task_hash", "fingerprint"}

#: Cases that take long; `grid` evaluates a smaller run.
LONG = {"readme-evaluate"}

CASES = tomllib.loads((HERE / "cases.toml").read_text(encoding="utf-8"))


def palm(words: list[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run a command line as its console script does, in this process."""
    (script,) = entry_points(group="console_scripts", name="palm")
    while "=" in words[0]:
        monkeypatch.setenv(*words.pop(0).split("=", 1))
    monkeypatch.setattr(sys, "argv", [*words, "--json"])
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as ended:
        script.load()()
    for name in ("GOLDEN_FAIL", "GOLDEN_KILL"):
        monkeypatch.delenv(name, raising=False)
    text = out.getvalue()
    return {"code": ended.value.code or 0, "document": json.loads(text) if text else None}


def ledger(path: Path) -> dict[str, Any]:
    """Version, columns, row counts and settings of a ledger."""
    with contextlib.closing(sqlite3.connect(path)) as opened:
        ask = opened.execute
        tables = [name for (name,) in ask("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            "version": ask("PRAGMA user_version").fetchone()[0],
            "columns": {t: [row[1:3] for row in ask(f"PRAGMA table_info({t})")] for t in tables},
            "rows": {t: ask(f"SELECT count(*) FROM {t}").fetchone()[0] for t in tables},
            "tasks": [json.loads(text) for (text,) in ask("SELECT content FROM task ORDER BY id")],
            "sessions": [json.loads(text) for (text,) in ask("SELECT execution FROM session")],
            "outcomes": ask("SELECT outcome, count(*) FROM attempt GROUP BY outcome").fetchall(),
        }


def read(path: Path) -> Any:
    if not path.exists():
        return None
    if path.suffix == ".sqlite":
        return ledger(path)
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".html":
        (text,) = re.findall(r'<script type="application/json" id="palm-data">(.*?)</script>', text)
    return json.loads(text)


def masked(value: Any, key: str = "") -> Any:
    """``value`` with placeholders for sentences and volatile values."""
    if key in VOLATILE and value is not None:
        return "(left out)"
    if isinstance(value, dict):
        return {name: masked(item, name) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked(item) for item in value]
    # In these cases no name, state or policy id contains a space.
    return "(text)" if isinstance(value, str) and " " in value else value


def differences(old: Any, new: Any, where: str = "") -> list[str]:
    """One line per difference; floats may differ by a relative 1e-9."""
    if isinstance(old, dict) and isinstance(new, dict):
        gone = [f"{where}/{key}: is gone" for key in old if key not in new]
        come = [f"{where}/{key}: is new" for key in new if key not in old]
        shared = [(f"{where}/{key}", old[key], new[key]) for key in old if key in new]
        return gone + come + [x for at, a, b in shared for x in differences(a, b, at)]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [x for n, (a, b) in pairs for x in differences(a, b, f"{where}/{n}")]
    if isinstance(old, float) and isinstance(new, float):
        same = math.isclose(old, new, rel_tol=1e-9, abs_tol=1e-13)
    else:
        same = type(old) is type(new) and old == new
    return [] if same else [f"{where}: was {old!r:.80}, is {new!r:.80}"]


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.scheduled] * (name in LONG)) for name in CASES],
)
def test_same_output(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    for folder in ("tasks", "runs"):
        shutil.copytree(HERE / folder, tmp_path / folder)
    quickstart = Path("examples/quickstart")
    shutil.copytree(HERE.parents[1] / quickstart, tmp_path / quickstart)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "ellipsoid", raising=False)  # of another case's folder
    # A slow machine stays within time limits: the number of resamples depends on one, too.
    monkeypatch.setattr(time, "perf_counter", lambda: 0.0)
    found = {}
    for number, line in enumerate(CASES[name].strip().splitlines(), 1):
        words = shlex.split(line)
        document = palm(words, monkeypatch) if "palm" in words else read(Path(line))
        found[f"{number} {line}"] = masked(document)
    found = json.loads(json.dumps(found, allow_nan=False))
    file = HERE / "expected" / f"{name}.json"
    if request.config.getoption("--record"):
        file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return
    wrong = differences(json.loads(file.read_text(encoding="utf-8")), found)
    assert not wrong, "\n".join(wrong[:40])
