"""``palm report``: one HTML file that shows a run."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from palm_core.cli import output
from palm_eval.commands.common import Flag, oracle_of


def report(
    run: Annotated[Path, Parameter(name="RUN")],
    /,
    *,
    out: Path | None = None,
    task: Path | None = None,
    prompts: int = 200,
    most: int = 8,
    seed: int = 0,
    open: Flag = False,  # noqa: A002  as users call it
    json: Flag = False,
) -> None:
    """Make one HTML page of a run: move the weights, see who serves them and why.

    Example: palm report runs/first --task task.toml --open

    Parameters
    ----------
    run
        The folder of a run that palm build made, or a portfolio file.
    out
        The file to write; by default report.html in the run's folder.
    task
        The task file of the run: its oracle is asked for the baselines, at weights that
        the run has no policy for. Without it those baselines are left out.
    prompts
        The most prompts whose answers are shown.
    most
        The largest size on the size–gap curve.
    seed
        Of the baselines and the bootstrap.
    open
        Open it in the browser.
    json
        Print one JSON document instead.
    """
    from palm_core.errors import InputError
    from palm_core.files import is_folder
    from palm_core.runs import Run
    from palm_eval.report import gather_report, write_report
    from palm_eval.report.page import report_file

    oracle = None
    if task is not None:
        if not is_folder(run):
            raise InputError(f"--task {task}: {run} is no run, whose oracle could be asked")
        oracle = oracle_of(Run.open(run), run, task)
    with output.waiting("measuring and drawing", None):
        found = gather_report(run, oracle=oracle, prompts=prompts, most=most, seed=seed)
        file = write_report(found, report_file(run) if out is None else out)
    if json:
        output.print_json({"report": str(file), "missing": list(found.missing)})
    else:
        output.say(str(file))
        for line in found.missing:
            output.note(line)
    if open:
        webbrowser.open(file.resolve().as_uri())
