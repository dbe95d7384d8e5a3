"""``palm export``: what was trained, ready to be served or published."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from palm_core.plugin import Flag, Folder, RunFolder, TaskOption, output, percent_text


def export(
    run: RunFolder,
    /,
    *,
    to: Literal["vllm", "hf"],
    out: Folder | None = None,
    task: TaskOption | None = None,
    base: Annotated[str | None, Parameter(metavar="MODEL")] = None,
    json: Flag = False,
) -> None:
    """Copy a portfolio's models to be served or published.

        palm export runs/first --to vllm --out served

    Every model is held against the hash that the run recorded: what is exported is what
    was measured.

    Parameters
    ----------
    run
        The folder of a run that palm build made, or its portfolio.json.
    to
        vllm: adapters or models, the command that serves them, and a routing table from
        weights to model names. hf: a folder for each model, with a model card.
    out
        The folder to write, which may be an earlier export; by default export/vllm or
        export/hf in the run's folder.
    task
        The task file of the run: adapters of a model in a folder beside it need it, and then
        that model, too, is held against what the run recorded.
    base
        The model that adapters are for, where it is elsewhere now: a folder, or a name on
        the hub, "name@revision". Nothing checks that it is the same.
    json
        Print one JSON document instead.
    """
    from palm_core import open_run
    from palm_core.plugin import is_folder
    from palm_eval.commands.common import oracle_of
    from palm_trl.export.folder import write_export

    with output.waiting("checking and copying", None):
        if task is not None:
            home = run if is_folder(run) else run.parent
            oracle_of(open_run(home), home, task)
        place = None if task is None else task.parent
        made = write_export(run, to, out, task_dir=place, base=base)
    models = made.routing.models
    if json:
        output.print_json(
            {
                "export": str(made.folder),
                "to": to,
                "models": [
                    {
                        "name": model.name,
                        "policy": model.policy,
                        "path": str(made.folder / model.path),
                        "share": model.share,
                        "serves": model.serves,
                        "port": model.port,
                    }
                    for model in models
                ],
                "missing": list(made.missing),
            }
        )
        return
    output.say(str(made.folder))
    two = len(made.routing.objectives) == 2
    rows = [
        [
            model.name,
            percent_text(model.share, 1)
            if model.serves is None
            else f"{model.serves.least:.2f} ─ {model.serves.most:.2f}",
        ]
        for model in models
    ]
    first = made.routing.objectives[0]
    what = f"serves weight on {first}" if two else "serves share of weights"
    output.table(["model", what], rows)
    for line in made.missing:
        output.note(line)
    if to == "vllm":
        output.note(f"Serve it: bash {made.folder / 'serve.sh'}")
