"""The oracle "grpo", which makes its miniature model and questions first where there are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gsm.make_model import make

from palm_core import Oracle, load_oracle


def grpo(
    task_dir: Path,
    artifact_dir: Path | None = None,
    work_dir: Path | None = None,
    run_seed: int = 0,
    **options: Any,
) -> Oracle:
    """`name = "grpo"` in a task of your own; this one knows how its model comes about."""
    made = Path(__file__).with_name("made")
    if not made.exists():
        make(made)
    return load_oracle(
        "grpo",
        task_dir=task_dir,
        artifact_dir=artifact_dir,
        work_dir=work_dir,
        run_seed=run_seed,
        **options,
    )
