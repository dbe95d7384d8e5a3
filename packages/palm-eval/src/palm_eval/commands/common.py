"""Helpers shared by the commands: opening runs, loading the oracle of a run's task."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from palm_core import Oracle, Run

#: The folder of baselines' artifacts in a run's folder.
BASELINES = "baselines"


def oracle_of(made: Run, run: Path, file: Path) -> Oracle:
    """The oracle of a task file, which must be that of the run.

    Its artifacts for baselines are stored in the run's folder, so that oracles with a cache
    (`grpo`) reuse them.
    """
    from palm_core import InputError
    from palm_core.plugin import ARTIFACTS, load_task, load_task_oracle, with_fingerprint
    from palm_eval.analysis.baselines import oracle_differences

    task = load_task(file)
    oracle = load_task_oracle(task, run.absolute() / BASELINES / ARTIFACTS)
    differences = oracle_differences(made.task, with_fingerprint(task.resolved(), oracle))
    if differences:
        raise InputError(f"--task {file}: must be the task of {run}: {'; '.join(differences)}")
    return oracle


def opened_runs(folders: Sequence[Path]) -> dict[str, Run]:
    """Open finished runs, keyed by the folders as typed; refuse duplicates."""
    from palm_core import InputError, open_run

    runs: dict[str, Run] = {}
    places = set()
    for folder in folders:
        opened = open_run(folder)
        place = folder.resolve()
        if place in places:
            raise InputError(f"{folder}: duplicate run")
        places.add(place)
        runs[str(folder)] = opened
    return runs
