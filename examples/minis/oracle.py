"""The oracles "mod" and "soup", which make their miniature experts first where there are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from minis.make_experts import TASKS, make

from palm_mod.mod import ModOracle
from palm_mod.soup import SoupOracle


def mod(prompts: Path, folder: Path, artifact_dir: Path | None = None, **options: Any) -> ModOracle:
    """`name = "mod"` in a task of your own; this one knows how its experts come about."""
    made(prompts)
    return ModOracle(prompts=prompts, folder=folder, artifact_dir=artifact_dir, **options)


def soup(
    prompts: Path, folder: Path, artifact_dir: Path | None = None, **options: Any
) -> SoupOracle:
    """`name = "soup"`, likewise."""
    made(prompts)
    return SoupOracle(prompts=prompts, folder=folder, artifact_dir=artifact_dir, **options)


def made(prompts: Path) -> None:
    """Make the experts that the prompts' folder is for, if it is not there."""
    folder = Path(prompts).parent
    if folder.name in TASKS and not Path(prompts).exists():
        make(folder.name, folder)
