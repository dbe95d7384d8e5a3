"""The oracle "mod", which makes its miniature experts first where they are not there yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from minis.make_experts import TASKS, make

from palm_mod.oracle import ModOracle


def mod(prompts: Path, folder: Path, artifact_dir: Path | None = None, **options: Any) -> ModOracle:
    """`name = "mod"` in a task of your own; this one knows how its experts come about."""
    made = Path(prompts).parent
    if made.name in TASKS and not Path(prompts).exists():
        make(made.name, made)
    return ModOracle(prompts=prompts, folder=folder, artifact_dir=artifact_dir, **options)
