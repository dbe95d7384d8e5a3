"""What every session of a noxfile would have pip install, without installing anything.

Run in a copy of the repository, since sessions write and delete there; prints JSON: session →
its installations, each with the arguments and the environment that pip would see.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path.cwd()))
noxfile: Any = importlib.import_module("noxfile")
registry: Any = importlib.import_module("nox.registry")
noxfile.side_by_side = lambda *_: None  # each session is recorded by itself


class Recorder:
    """In place of nox's session."""

    def __init__(self, folder: Path) -> None:
        self.env: dict[str, str] = {}
        self.posargs: list[str] = []
        self.cache_dir = folder
        self.installed: list[dict[str, Any]] = []
        folder.mkdir(parents=True, exist_ok=True)

    def install(self, *arguments: str, **options: Any) -> None:
        seen = {**os.environ, **self.env}
        environment = {name: value for name, value in seen.items() if name.startswith("PIP_")}
        self.installed.append({"arguments": list(map(str, arguments)), "environment": environment})

    def run(self, *words: str | Path, **options: Any) -> None:
        command = list(map(str, words))
        if "pip" in command and "install" in command:
            self.install(*command[command.index("install") + 1 :])
        elif "-o" in command:  # uv
            Path(command[command.index("-o") + 1]).write_text("", encoding="utf-8")
        elif "--outdir" in command:  # the wheel and the source package of the last folder
            name = Path(command[-1]).name.replace("-", "_")
            dist = Path(command[command.index("--outdir") + 1])
            dist.mkdir(exist_ok=True)
            (dist / f"{name}-0-py3-none-any.whl").touch()
        elif "wheel" in command:
            folder = Path(command[command.index("--wheel-dir") + 1])
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{folder.name.replace('-', '_')}-0-py3-none-any.whl").touch()

    def create_tmp(self) -> str:
        return str(self.cache_dir)

    def chdir(self, folder: Path) -> Any:
        return contextlib.nullcontext()

    def log(self, *said: str) -> None: ...


def calls(function: Any) -> list[dict[str, Any]]:
    """The arguments of a session, once for each of its parameters' values."""
    given = [call.call_spec for call in getattr(function, "parametrize", None) or []]
    return given or [{}]


found: dict[str, list[dict[str, Any]]] = {}
for name, function in registry.get().items():
    for number, given in enumerate(calls(function)):
        session = Recorder(Path.cwd() / "recorded" / f"{name}-{number}")
        wanted = inspect.signature(function.func).parameters
        function.func(session, **{key: value for key, value in given.items() if key in wanted})
        found.setdefault(name, []).extend(session.installed)
print(json.dumps(found))
