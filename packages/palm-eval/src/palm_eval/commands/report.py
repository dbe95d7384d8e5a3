"""``palm report``: one HTML file that shows a run."""

from __future__ import annotations

import webbrowser

from palm_core.plugin import (
    Count,
    File,
    Flag,
    RunFolder,
    TableOption,
    TaskOption,
    check_new_file,
    output,
)
from palm_eval.commands.common import oracle_of


def report(
    run: RunFolder,
    /,
    *,
    out: File | None = None,
    task: TaskOption | None = None,
    models: TableOption | None = None,
    prompts: Count = 200,
    most: Count = 8,
    seed: Count = 0,
    open: Flag = False,  # noqa: A002  as users call it
    json: Flag = False,
) -> None:
    """Write an interactive HTML page about a run.

        palm report runs/first --task task.toml --open

    One self-contained file: a control for the weights, the policies' answers side by
    side, the guarantees, figures, and how the run was made.

    Parameters
    ----------
    run
        Folder of a run made by palm build, or a portfolio file.
    out
        File to write. By default report.html in the run's folder.
    task
        Task file of the run. Its oracle is called for baselines at weights that the run
        has no answer for; without it these baselines are omitted.
    models
        The table that a portfolio file was selected from, for the loss at each weight
        vector and the figures.
    prompts
        The largest number of prompts whose answers are shown.
    most
        The largest size on the size–gap curve.
    seed
        Seed of the baselines and the bootstrap.
    open
        Open the page in the browser.
    json
        Print one JSON document instead.
    """
    from palm_core import InputError, open_run, read_table
    from palm_core.plugin import is_folder
    from palm_eval.report import gather_report, write_report
    from palm_eval.report.page import report_file

    if out is not None:
        check_new_file(out, "--out", "page", b"<!doctype html>")
    oracle = None
    if task is not None:
        if not is_folder(run):
            raise InputError(f"--task {task}: {run} is a portfolio file, must be a run's folder")
        oracle = oracle_of(open_run(run), run, task)
    table = None if models is None else read_table(models)
    with output.waiting("measuring and drawing", None):
        found = gather_report(
            run, oracle=oracle, models=table, prompts=prompts, most=most, seed=seed
        )
        file = write_report(found, report_file(run) if out is None else out)
    if json:
        output.print_json({"report": str(file), "missing": list(found.missing)})
    else:
        output.say(str(file))
        for line in found.missing:
            output.note(line)
    if open and not webbrowser.open(file.resolve().as_uri()):
        output.note(f"No browser could be started; the page is {file.resolve()}")
