"""Mutation testing of the mathematics in palm-core: every mutant has to fail a test.

``python tests/mutation/run.py [group or module …]`` stages the package and its tests in
``runs/mutation/<group>`` (mutmut wants a plain ``src`` folder), runs mutmut there, and
prints a table. The diffs of the survivors are left in ``survivors.txt`` of that folder.
mutmut keeps what it has found: another run tries only what has changed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SOURCE = ROOT / "packages" / "palm-core" / "src" / "palm_core"
# ``mutmut show`` for all of them at once: starting it takes a second.
SHOW = "import sys; from mutmut.__main__ import show; [*map(show.callback, sys.argv[1:])]"
KILLED = {"killed", "timeout", "segfault", "caught by type check"}


def stage(folder: Path, group: dict[str, list[str]], options: dict[str, Any]) -> None:
    """A project that mutmut understands: src/, tests/ and its settings."""
    for place in ("src", "tests"):
        shutil.rmtree(folder / place, ignore_errors=True)
        shutil.rmtree(folder / "mutants" / place / "core", ignore_errors=True)
    # Python remembers, from its start, that a folder on its path was not there.
    (folder / "mutants" / "src").mkdir(parents=True, exist_ok=True)
    no_caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(SOURCE, folder / "src" / "palm_core", ignore=no_caches)
    shutil.copytree(ROOT / "tests" / "core", folder / "tests" / "core", ignore=no_caches)
    shutil.copy2(ROOT / "tests" / "conftest.py", folder / "tests")
    slow = [
        f"--deselect=tests/core/test_{name.replace('::', '.py::', 1)}"
        for name in group.get("slow", [])
    ]
    settings = options | {
        "source_paths": ["src"],
        "only_mutate": [f"src/palm_core/{module}.py" for module in group["modules"]],
        "pytest_add_cli_args": [*options["pytest_add_cli_args"], *slow],
        "pytest_add_cli_args_test_selection": [
            str(path.relative_to(folder))
            for test in group["tests"]
            for path in sorted((folder / "tests" / "core").glob(f"test_{test}.py"))
        ],
    }
    # What JSON writes for strings, numbers and lists of them is TOML as well.
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    text = "\n".join([project, "[tool.mutmut]", *lines, ""])
    (folder / "pyproject.toml").write_text(text, "utf-8")


def mutmut(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Threads do not survive the fork that each mutant is. Tests that start a Python of
    # their own have to find the mutants too.
    alone = {"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    alone["PYTHONPATH"] = str(folder / "mutants" / "src")
    return subprocess.run(
        [str(Path(sys.executable).with_name("mutmut")), *arguments],
        cwd=folder,
        env={**os.environ, **alone},
        check=True,
        text=True,
        stdout=None if arguments[0] == "run" else subprocess.PIPE,
    )


def verdicts(folder: Path) -> dict[str, dict[str, str]]:
    """For each module its mutants and what became of them."""
    found: dict[str, dict[str, str]] = {}
    for line in mutmut(folder, "results", "--all", "true").stdout.splitlines():
        mutant, _, verdict = line.strip().partition(": ")
        module = mutant.split(".x", 1)[0].removeprefix("palm_core.")
        found.setdefault(module, {})[mutant] = verdict
    return found


def alive_of(folder: Path, modules: list[str]) -> list[str]:
    """The mutants of some modules that no test noticed."""
    found = verdicts(folder)
    every = {name: v for module in modules for name, v in found.get(module, {}).items()}
    return [name for name, verdict in every.items() if verdict not in KILLED]


def table(found: dict[str, dict[str, str]]) -> str:
    rows = ["| module | mutants | tried | killed | of these by time | survived | score |"]
    rows.append("|---|---|---|---|---|---|---|")
    for module, mutants in sorted(found.items()):
        count = Counter(mutants.values())
        killed = sum(count[verdict] for verdict in KILLED)
        tried = len(mutants) - count["not checked"]
        if tried:
            rows.append(
                f"| `{module}` | {len(mutants)} | {tried} | {killed} | {count['timeout']} "
                f"| {tried - killed} | {killed / tried:.1%} |"
            )
    return "\n".join(rows)


def main() -> None:
    plan = tomllib.loads((HERE / "groups.toml").read_text("utf-8"))
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    known = [*plan["groups"], *(m for group in plan["groups"].values() for m in group["modules"])]
    parser.add_argument("wanted", nargs="*", metavar="group or module", help=", ".join(known))
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--survivors", action="store_true", help="try again what survived")
    parser.add_argument("--table-only", action="store_true", help="of what has been run")
    asked = parser.parse_args()
    if unknown := set(asked.wanted) - set(known):
        parser.error(f"no such group or module: {', '.join(sorted(unknown))}")
    found: dict[str, dict[str, str]] = {}
    for name, group in plan["groups"].items():
        modules = [m for m in group["modules"] if not asked.wanted or {m, name} & {*asked.wanted}]
        if not modules:
            continue
        folder = ROOT / "runs" / "mutation" / name
        if not asked.table_only:
            stage(folder, group, plan["options"])
            # With names mutmut tries again what it has tried already.
            some = modules != group["modules"]
            names = [f"palm_core.{module}.*" for module in modules] if some else []
            if asked.survivors:
                names = alive_of(folder, modules)
            if names or not asked.survivors:
                mutmut(folder, "run", "--max-children", str(asked.processes), *names)
        elif not folder.exists():
            continue
        found |= {m: mutants for m, mutants in verdicts(folder).items() if m in modules}
        alive = alive_of(folder, modules)
        shown = subprocess.run(
            [sys.executable, "-c", SHOW, *alive], cwd=folder, check=True, text=True, stdout=-1
        )
        (folder / "survivors.txt").write_text(shown.stdout, "utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
