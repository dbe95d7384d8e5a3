"""What the commands share: the runs they are given, the oracle of a run's task."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from palm_core import Oracle, Run

#: The folder of a run for what baselines are asked for.
BASELINES = "baselines"


def oracle_of(made: Run, run: Path, file: Path) -> Oracle:
    """The oracle of a task file, which must be the one that the run asked.

    What it makes for baselines lies below the run, so that oracles which keep their answers
    (`grpo`) need not find them again.
    """
    from palm_core import InputError
    from palm_core.plugin import ARTIFACTS, load_task, load_task_oracle, with_fingerprint
    from palm_eval.analysis.baselines import oracle_differences

    task = load_task(file)
    oracle = load_task_oracle(task, run.absolute() / BASELINES / ARTIFACTS)
    differences = oracle_differences(made.task, with_fingerprint(task.resolved(), oracle))
    if differences:
        raise InputError(f"--task {file}: is not the task of {run}: {'; '.join(differences)}")
    return oracle


def opened_runs(folders: Sequence[Path]) -> dict[str, Run]:
    """Finished runs by their folders as they were typed, each once."""
    from palm_core import InputError, open_run

    runs: dict[str, Run] = {}
    places = set()
    for folder in folders:
        opened = open_run(folder)
        place = folder.resolve()
        if place in places:
            raise InputError(f"{folder}: was given twice")
        places.add(place)
        runs[str(folder)] = opened
    return runs
