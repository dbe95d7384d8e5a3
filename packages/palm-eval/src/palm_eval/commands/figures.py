"""``palm figures``: the figures of a run."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from palm_core.plugin import (
    Count,
    Flag,
    Folder,
    RunFolder,
    TableOption,
    TaskOption,
    check_output_folder,
    output,
)
from palm_eval.commands.common import oracle_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from palm_eval.figures import Drawn

CELLS = "2/5,1/80"


def figures(
    run: RunFolder,
    /,
    *,
    out: Folder,
    format: Literal["svg", "pdf", "png"] = "svg",  # noqa: A002  as users call it
    task: TaskOption | None = None,
    models: TableOption | None = None,
    most: Count = 8,
    cells: Annotated[str, Parameter(metavar="ε',δ'", allow_leading_hyphen=True)] = CELLS,
    seed: Count = 0,
    json: Flag = False,
) -> None:
    """Plot a run: served weights, the front, the size–gap curve.

        palm figures runs/first --out pictures

    Also the weights asked, and the region that each of them covers.

    Parameters
    ----------
    run
        Folder of a run made by palm build, or with --models a portfolio file.
    out
        Folder for the figures; created if it does not exist.
    format
        File format: vector graphics (svg, pdf) or pixels (png).
    task
        Task file of the run. Its oracle is called for baselines at weights that the run
        has no answer for; without it these baselines are omitted.
    models
        The table that a portfolio file was selected from. Its figures are the served
        weights, the front and the size–gap curve.
    most
        The largest size on the size–gap curve.
    cells
        ε' and δ' of the region that a weight covers (Lemma 3.3), as numbers or fractions.
    seed
        Seed of the random weights, the baselines and the bootstrap.
    json
        Print one JSON document instead.
    """
    from palm_core.plugin import check_count
    from palm_eval.figures import save
    from palm_eval.figures.output import GlyphWarning, missing_note

    check_count(most, name="most", least=1)
    check_output_folder(out)
    reach = _reach(cells)
    draw = _drawing(run, task, models, most=most, cells=reach, seed=seed)
    with output.waiting("drawing", None), warnings.catch_warnings():
        warnings.simplefilter("ignore", GlyphWarning)  # reported below, once for all figures
        drawn, notes = draw()
        files = {name: save(one, out / f"{name}.{format}") for name, one in drawn.items()}
    if format != "svg" and (boxes := missing_note(one.figure for one in drawn.values())):
        notes.append(boxes)
    if json:
        documents = {
            name: {
                "file": str(files[name]),
                "title": one.title,
                "caption": one.caption,
                "description": one.description,
            }
            for name, one in drawn.items()
        }
        output.print_json({"figures": documents, "notes": notes})
        return
    for file in files.values():
        output.say(str(file))
    for note in notes:
        output.note(note)


def _drawing(
    run: Path,
    task: Path | None,
    models: Path | None,
    *,
    most: int,
    cells: tuple[float, float],
    seed: int,
) -> Callable[[], tuple[dict[str, Drawn], list[str]]]:
    """A function that draws a run or a portfolio's file, with its inputs read and validated."""
    from palm_core import InputError, Portfolio, open_run, read_table
    from palm_eval.analysis.figures import is_selected, models_of, run_figures, selection_figures

    if os.path.isfile(run):  # noqa: PTH113  pathlib raises where nothing may be read
        portfolio = Portfolio.load(run)
        if task is not None:
            raise InputError(f"--task {task}: {run} is a portfolio file, must be a run's folder")
        if cells != _reach(CELLS):
            raise InputError(f"--cells: {run} is a portfolio file, must be a run's folder")
        if models is None:
            raise InputError(
                f"{run}: is a portfolio file without its candidates; requires --models TABLE, "
                "the table it was selected from"
                if is_selected(portfolio)
                else f"{run}: is a portfolio file without its candidates, must be its run's folder"
            )
        table = models_of(portfolio, read_table(models))
        return lambda: selection_figures(portfolio, table, most=most)
    made = open_run(run)
    if models is not None:
        raise InputError(f"--models {models}: is for a portfolio file, {run} is a run's folder")
    oracle = None if task is None else oracle_of(made, run, task)
    return lambda: run_figures(made, most=most, oracle=oracle, cells=cells, seed=seed)


def _reach(text: str) -> tuple[float, float]:
    """(ε', δ') from "2/5,1/80"."""
    from palm_core import InputError
    from palm_core.plugin import check_number

    try:
        epsilon, delta = (_number(part) for part in text.split(","))
    except (ValueError, ZeroDivisionError):
        raise InputError(
            f"--cells {text!r}: must be two numbers such as 2/5,1/80 or 0.4,0.0125"
        ) from None
    return (
        check_number(epsilon, name="--cells, ε'", least=0.0),
        check_number(delta, name="--cells, δ'", least=0.0),
    )


def _number(text: str) -> float:
    above, stroke, below = text.partition("/")
    return float(above) / float(below) if stroke else float(above)
