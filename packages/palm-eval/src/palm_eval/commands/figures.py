"""``palm figures``: the figures of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from palm_core.cli import output
from palm_eval.commands.common import Flag


def figures(
    run: Annotated[Path, Parameter(name="RUN")],
    /,
    *,
    out: Path,
    format: Literal["svg", "pdf", "png"] = "svg",  # noqa: A002  as users call it
    most: int = 8,
    json: Flag = False,
) -> None:
    """Draw a run's portfolio: who serves whom, the reward front, and the gap of each size.

    Example: palm figures runs/first --out pictures

    Parameters
    ----------
    run
        The folder of a run that palm build made.
    out
        The folder for the figures, made where there is none.
    format
        Vectors (svg, pdf) or pixels (png).
    most
        The largest size on the curve.
    json
        Print one JSON document instead.
    """
    from palm_core.runs import Run
    from palm_core.simplex import check_count
    from palm_eval.figures import save
    from palm_eval.run_figures import run_figures

    check_count(most, name="most", least=1)
    with output.waiting("drawing", None):
        drawn, left_out = run_figures(Run.open(run), most=most)
        files = {name: save(figure, out / f"{name}.{format}") for name, figure in drawn.items()}
    if json:
        output.print_json({"figures": {name: str(file) for name, file in files.items()}})
        return
    for file in files.values():
        output.say(str(file))
    if left_out:
        output.note(left_out)
