"""What the commands share: flags, names of baselines, the oracle of a run's task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from pathlib import Path

    from palm_core.oracle import Oracle
    from palm_core.runs import Run

Flag = Annotated[bool, Parameter(negative="", show_default=False)]
BASELINES = {
    "uniform": "uniform weights",
    "random": "random weights",
    "uniform_palm": "uniform, pruned",
    "best_single": "best single (δ)",
    "centre_single": "best at the centre",
}


def oracle_of(made: Run, run: Path, file: Path) -> Oracle:
    """The oracle of a task file, which must be the one that the run asked."""
    from palm_core.errors import InputError
    from palm_core.identity import changed_fields, fixed_part, with_fingerprint
    from palm_core.plugins import load_task_oracle
    from palm_core.task import load_task

    task = load_task(file)
    oracle = load_task_oracle(task)
    was, asked = fixed_part(made.task), fixed_part(with_fingerprint(task.resolved(), oracle))
    # The same fingerprint means the same answers, whatever each calls the oracle.
    fingerprint = was.get("oracle", {}).get("fingerprint")
    same = fingerprint is not None and fingerprint == asked["oracle"].get("fingerprint")
    differences = [] if same else changed_fields(was, asked)
    if differences:
        raise InputError(f"--task {file}: is not the task of {run}: {'; '.join(differences)}")
    return oracle
